//! `top`: the cluster on one screen of 80 columns, again and again.

use super::status::{PROCESSED, clear_screen};
use super::swap as swaps;
use crate::args::{Global, TopArgs};
use crate::client::Client;
use crate::show;
use anyhow::Result;
use comfy_table::ContentArrangement;
use server::api::{Cluster, ClusterNode, Pipeline, Restored, Task};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const COLUMNS: usize = 80;
/// Names longer than this are cut, so that the numbers beside them stay on the line.
const NAME: usize = 24;
const BAR: usize = 16;
/// Tasks that restore, and lines of one message, that are shown at most; how many more there are is said.
const LINES_MAX: usize = 8;

/// What was seen the time before, and when.
type Before = Option<(Instant, Cluster)>;

pub fn run(global: &Global, client: &Client, args: &TopArgs) -> Result<()> {
    let mut before: Before = None;
    for look in 1_u64.. {
        let cluster: Result<Cluster> = client.get("/v1/cluster", &[]);
        clear_screen();
        match cluster {
            Ok(cluster) => {
                let now = Instant::now();
                let earlier = before.as_ref().map(|(then, earlier)| (earlier, now - *then));
                show::either(global.format, &cluster, |cluster| {
                    screen(cluster, earlier).iter().for_each(|line| show::line(line));
                })?;
                before = Some((now, cluster));
            }
            // A node that does not answer now may do so the next time.
            Err(error) if args.count.is_none_or(|count| look < count) => show::say(&format!("{error:#}")),
            Err(error) => return Err(error),
        }
        if args.count.is_some_and(|count| look >= count) {
            break;
        }
        std::thread::sleep(args.every);
    }
    Ok(())
}

fn screen(cluster: &Cluster, earlier: Option<(&Cluster, Duration)>) -> Vec<String> {
    let rates = Rates::new(cluster, earlier);
    let answering = cluster.nodes.iter().filter(|node| node.status.is_some()).count();
    let nodes = match cluster.nodes.len() {
        1 => "1 node".to_owned(),
        n if n == answering => format!("{n} nodes"),
        n => format!("{n} nodes, {} without an answer", n - answering),
    };
    let total = rates.sum(|_, _| true);
    let mut lines = vec![format!("cluster {}  {nodes}  {total} records/s", cluster.cluster)];
    lines.push(String::new());
    lines.extend(nodes_table(cluster, &rates));
    lines.push(String::new());
    lines.extend(pipelines_table(cluster, &rates));
    lines.extend(restores(cluster, earlier));
    lines.extend(words(cluster));
    lines.iter().map(|line| show::cut(line, COLUMNS)).collect()
}

fn pipelines(node: &ClusterNode) -> &[Pipeline] {
    node.status.as_ref().map_or(&[], |status| &status.pipelines)
}

/// `running/all`.
fn tasks<'a>(tasks: impl Iterator<Item = &'a Task>) -> String {
    let (mut running, mut all) = (0, 0);
    for task in tasks {
        running += usize::from(task.state == "running");
        all += 1;
    }
    format!("{running}/{all}")
}

fn nodes_table(cluster: &Cluster, rates: &Rates) -> Vec<String> {
    let row = |node: &ClusterNode| {
        let mut cells = vec![show::cut(&node.node, NAME)];
        match &node.status {
            Some(status) => cells.extend([
                show::duration(status.uptime_ms),
                tasks(pipelines(node).iter().flat_map(|p| &p.tasks)),
                rates.sum(|name, _| name == node.node),
                status.version.clone(),
            ]),
            None => cells.extend(["", "", "", "no answer"].map(str::to_owned)),
        }
        cells
    };
    let rows = cluster.nodes.iter().map(row).collect();
    let head = ["node", "up", "tasks", "records/s", "version"];
    show::table_lines(&head, &["up", "tasks", "records/s"], rows, ContentArrangement::Disabled)
}

/// One row for each pipeline of any node, and its modules below it.
fn pipelines_table(cluster: &Cluster, rates: &Rates) -> Vec<String> {
    let mut by_name: BTreeMap<&str, Vec<&Pipeline>> = BTreeMap::new();
    for pipeline in cluster.nodes.iter().flat_map(pipelines) {
        by_name.entry(&pipeline.name).or_default().push(pipeline);
    }
    if by_name.is_empty() {
        return vec!["no pipelines; `wasmill apply pipeline.toml` brings one".into()];
    }
    let row = |(name, parts): (&&str, &Vec<&Pipeline>)| {
        let mut states: Vec<&str> = parts.iter().map(|p| p.state.as_str()).collect();
        states.sort_unstable();
        states.dedup();
        let lag = parts.iter().map(|p| p.lag).sum::<Option<i64>>();
        vec![
            show::cut(name, NAME),
            states.join("/"),
            tasks(parts.iter().flat_map(|p| &p.tasks)),
            lag.map_or_else(|| "?".into(), show::number),
            rates.sum(|_, pipeline| pipeline == *name),
        ]
    };
    let head = ["pipeline", "state", "tasks", "lag", "records/s"];
    let right = ["tasks", "lag", "records/s"];
    let rows = by_name.iter().map(row).collect();
    let mut table = show::table_lines(&head, &right, rows, ContentArrangement::Disabled).into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (row, parts) in table.zip(by_name.values()) {
        lines.push(row);
        let modules = parts.first().into_iter().flat_map(|p| &p.modules);
        let modules: Vec<String> = modules.map(|(step, id)| format!("{step}={id}")).collect();
        if !modules.is_empty() {
            lines.push(format!("  {}", modules.join(" ")));
        }
    }
    lines
}

/// A bar for each task that restores, with its rate and the time left where a look before this one tells them.
fn restores(cluster: &Cluster, earlier: Option<(&Cluster, Duration)>) -> Vec<String> {
    let before = earlier.map(|(cluster, passed)| (restoring(cluster), passed));
    let now = restoring(cluster);
    let mut lines = Vec::new();
    for (place, restored) in now.iter().take(LINES_MAX) {
        let (node, pipeline, task) = place;
        let done = restored.records as f64 / restored.total.max(1) as f64;
        let full = ((done * BAR as f64) as usize).min(BAR);
        let rate = before.as_ref().and_then(|(before, passed)| {
            let more = restored.records.checked_sub(before.get(place)?.records)?;
            Some(more as f64 / passed.as_secs_f64())
        });
        let rate = rate.filter(|rate| *rate >= 1.0).map_or_else(String::new, |rate| {
            let left_ms = restored.total.saturating_sub(restored.records) as f64 / rate * 1e3;
            let left = show::duration(left_ms as u64);
            format!("  {}/s  {left} left", show::number(rate as i64))
        });
        let name = show::cut(&format!("{node} {pipeline} {task}"), NAME);
        lines.push(format!(
            "{name}  [{}{}] {:.0} %  of {}{rate}",
            "#".repeat(full),
            ".".repeat(BAR - full),
            done * 100.0,
            show::number(i64::try_from(restored.total).unwrap_or(i64::MAX)),
        ));
    }
    if now.len() > LINES_MAX {
        lines.push(format!("and {} more tasks restore", now.len() - LINES_MAX));
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

type PlaceOf<'a> = (&'a str, &'a str, &'a str);

fn restoring(cluster: &Cluster) -> BTreeMap<PlaceOf<'_>, Restored> {
    let mut found = BTreeMap::new();
    for node in &cluster.nodes {
        for pipeline in pipelines(node) {
            for task in &pipeline.tasks {
                if let Some(restored) = task.restored {
                    found.insert((&*node.node, &*pipeline.name, &*task.task), restored);
                }
            }
        }
    }
    found
}

/// Nodes without an answer, swaps under way, tasks and pipelines that do not run as they should.
fn words(cluster: &Cluster) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut say = |who: &str, text: &str| {
        let mut text = text.lines();
        lines.extend(text.next().map(|first| format!("{who}: {first}")));
        lines.extend(text.take(LINES_MAX).map(|more| format!("  {more}")));
    };
    for node in &cluster.nodes {
        if let Some(problem) = &node.problem {
            say(&node.node, problem);
        }
    }
    // All nodes tell of a swap.
    let mut swaps: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pipeline in cluster.nodes.iter().flat_map(pipelines) {
        if let Some(swap) = &pipeline.swap {
            swaps.entry(&pipeline.name).or_insert_with(|| swaps::standing(swap));
        }
    }
    for (pipeline, standing) in &swaps {
        say(pipeline, &standing.join("\n"));
    }
    for node in &cluster.nodes {
        for pipeline in pipelines(node) {
            let who = format!("{} {}", node.node, pipeline.name);
            for task in &pipeline.tasks {
                if let Some(reason) = &task.reason {
                    say(&format!("{who} {}", task.task), &format!("{}: {reason}", task.state));
                }
            }
            pipeline.problems.iter().for_each(|problem| say(&who, problem));
        }
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// Records a second by node and pipeline. None of a node that was started anew since the look before.
struct Rates(Option<BTreeMap<(String, String), f64>>);

impl Rates {
    fn new(now: &Cluster, earlier: Option<(&Cluster, Duration)>) -> Self {
        let Some((before, passed)) = earlier else {
            return Self(None);
        };
        let before = processed(before);
        let rate = |(place, now): ((String, String), u64)| {
            let more = now.checked_sub(*before.get(&place)?)?;
            Some((place, more as f64 / passed.as_secs_f64()))
        };
        Self(Some(processed(now).into_iter().filter_map(rate).collect()))
    }

    /// Of those that `which` takes by node and pipeline; `?` at the first look.
    fn sum(&self, which: impl Fn(&str, &str) -> bool) -> String {
        let Some(rates) = &self.0 else { return "?".into() };
        let taken = rates.iter().filter(|((node, pipeline), _)| which(node, pipeline));
        show::number(taken.map(|(_, rate)| rate).sum::<f64>().round() as i64)
    }
}

fn processed(cluster: &Cluster) -> BTreeMap<(String, String), u64> {
    let mut found = BTreeMap::new();
    for node in &cluster.nodes {
        for pipeline in pipelines(node) {
            if let Some(records) = pipeline.counters.get(PROCESSED) {
                found.insert((node.node.clone(), pipeline.name.clone()), *records);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use serde_json::json;

    fn cluster(processed: u64, restored: u64) -> Cluster {
        let task = |task: &str, state: &str, restored: serde_json::Value| json!({"task": task, "thread": "n1-0", "state": state, "lag": 5, "restored": restored, "reason": null});
        let pipeline = |tasks: Vec<serde_json::Value>, processed: u64| {
            json!({
                "name": "word-counts", "state": "running", "guarantee": "exactly-once", "epoch": 1, "incarnation": "1",
                "applied-at": 0, "modules": {"split": "tokenize@1.0.0"}, "stores": [], "tasks": tasks, "lag": 1_005,
                "counters": {PROCESSED: processed}, "problems": []
            })
        };
        let status = |node: &str, pipeline: serde_json::Value| {
            json!({
                "node": node, "cluster": "demo", "version": "0.1.0", "log": "b:9092", "data-dir": "/d",
                "uptime-ms": 61_000, "pipelines": [pipeline], "modules": 1
            })
        };
        let restoring = task("1_1", "restoring", json!({"records": restored, "total": 1_000_000}));
        let n1 = status("n1", pipeline(vec![task("0_0", "running", json!(null))], 2 * processed));
        let n2 = status("n2", pipeline(vec![restoring], processed));
        serde_json::from_value(json!({"cluster": "demo", "nodes": [
            {"node": "n1", "status": n1},
            {"node": "n2", "address": "h:1", "status": n2},
            {"node": "n3", "address": "h:2", "problem": "does not answer: timeout"}
        ]}))
        .unwrap()
    }

    #[test]
    fn a_screen() {
        let (before, now) = (cluster(1_000, 100_000), cluster(21_000, 340_000));
        let lines = screen(&now, Some((&before, Duration::from_secs(2))));
        let expected = "\
cluster demo  3 nodes, 1 without an answer  30,000 records/s

NODE         UP  TASKS  RECORDS/S  VERSION
n1    1 min 1 s    1/1     20,000  0.1.0
n2    1 min 1 s    0/1     10,000  0.1.0
n3                                 no answer

PIPELINE     STATE    TASKS    LAG  RECORDS/S
word-counts  running    1/2  2,010     30,000
  split=tokenize@1.0.0

n2 word-counts 1_1  [#####...........] 34 %  of 1,000,000  120,000/s  5.5 s left

n3: does not answer: timeout";
        assert_eq!(lines.join("\n"), expected);
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn the_first_look_knows_no_rates_and_long_names_are_cut() {
        let mut cluster = cluster(1_000, 100_000);
        for node in &mut cluster.nodes {
            node.node = node.node.repeat(30);
        }
        let lines = screen(&cluster, None);
        assert_eq!(lines[0], "cluster demo  3 nodes, 1 without an answer  ? records/s");
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:#?}");
    }
}
