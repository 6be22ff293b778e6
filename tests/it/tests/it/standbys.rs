//! Three nodes on one Kafka, each task with a standby: the node that dies is answered for at once where that is allowed,
//! and its tasks run where their standbys were, without reading their changelogs again.
#![allow(clippy::print_stderr)]

use it::fire::{self, Updates};
use it::node::{Broker, Node, Setup, TASKS};
use it::place::{kafka, unique};
use it::until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const PARTITIONS: usize = 6;
const KEYS: u64 = 300;
/// Longer than all that is asked of a dead node's tasks before others have them.
const SESSION: &str = "session-timeout = \"10s\"\n";

struct Story {
    name: String,
    topic: String,
    cluster: String,
    produced: u64,
}

/// Of one node's status.
#[derive(Debug, Default)]
struct Held {
    tasks: Vec<String>,
    /// Standbys that have everything.
    standbys: Vec<String>,
}

impl Story {
    fn new() -> Self {
        let name = unique("standbys");
        Self {
            topic: format!("{name}-in"),
            cluster: unique("it"),
            name,
            produced: 0,
        }
    }

    fn start(&self, dir: &Path, node: &str) -> Node {
        let address = kafka().unwrap();
        let folder = dir.join(node);
        fs::create_dir_all(&folder).unwrap();
        let setup = Setup {
            cluster: self.cluster.clone(),
            node: node.into(),
            // Tasks are evened out by thread.
            threads: 1,
            ..Setup::new(&folder, &Broker::Kafka(address))
        };
        setup.settings(SESSION).start()
    }

    fn apply(&self, dir: &Path, node: &Node, standbys: u32) {
        let count = PARTITIONS.to_string();
        node.ask(&["topics", "create", &self.topic, "--partitions", &count])
            .done();
        let file = dir.join("pipeline.toml");
        let text = format!(
            "wasmill = 1\nname = \"{}\"\nstandbys = {standbys}\n\
             [sources.in]\ntopic = \"{topic}\"\nkey = \"string\"\nvalue = \"string\"\n\
             [steps.counts]\nop = \"count\"\nfrom = \"in\"\nemit = \"every-update\"\n\
             [sinks.out]\nfrom = \"counts\"\ntopic = \"{topic}-out\"\ncreate = {{ partitions = {PARTITIONS} }}\n",
            self.name,
            topic = self.topic,
        );
        fs::write(&file, text).unwrap();
        node.ask(&["apply", "--yes", file.to_str().unwrap()]).done();
    }

    /// So many more of every key.
    fn produce(&mut self, dir: &Path, node: &Node, times: u64) {
        let line = |n: u64| format!("{{\"key\":\"k{}\",\"value\":\"v\"}}", n % KEYS);
        let lines: Vec<String> = (0..KEYS * times).map(line).collect();
        let file = dir.join("records.jsonl");
        fs::write(&file, lines.join("\n")).unwrap();
        node.ask(&["produce", &self.topic, file.to_str().unwrap()]).done();
        self.produced += times;
    }

    fn held(&self, node: &Node) -> Held {
        let Some(status) = node.pipeline(&self.name) else {
            return Held::default();
        };
        let names = |list: &str, fits: &dyn Fn(&Value) -> bool| -> Vec<String> {
            let all = status[list].as_array().cloned().unwrap_or_default();
            let fitting = all.iter().filter(|entry| fits(entry));
            fitting
                .map(|entry| entry["task"].as_str().unwrap().to_owned())
                .collect()
        };
        Held {
            tasks: names("tasks", &|task| task["state"] == "running"),
            standbys: names("standbys", &|s| s["state"] == "following" && s["lag"] == 0),
        }
    }

    /// Waits until all that was produced is counted, and every task runs and has its standby, on some of `nodes`.
    fn rests(&self, nodes: &[&Node], standbys: usize) -> Vec<Held> {
        let mut held = Vec::new();
        until("all tasks run, all standbys have everything", TASKS, || {
            held = nodes.iter().map(|node| self.held(node)).collect();
            let count = |of: fn(&Held) -> usize| held.iter().map(of).sum::<usize>();
            let whole = count(|h| h.tasks.len()) == PARTITIONS && count(|h| h.standbys.len()) == standbys;
            let counts = || node_counts(nodes[0], &self.name);
            (whole && counts().is_some_and(|counts| counts.values().sum::<u64>() == KEYS * self.produced)).then_some(())
        });
        held
    }

    /// Every update of every key is there once, and in order. The last ones become visible partition by partition.
    fn updates(&self, node: &Node) {
        let output = format!("{}-out", self.topic);
        until("all updates are there", TASKS, || {
            let seen: Updates = fire::read(node, &output);
            assert!(seen.jumps.is_empty(), "{:?}", seen.jumps);
            let all = seen.last.len() as u64 == KEYS && seen.last.values().all(|last| *last >= self.produced);
            assert!(seen.last.values().all(|last| *last <= self.produced), "{:?}", seen.last);
            all.then_some(())
        });
    }

    fn restored(&self, nodes: &[&Node]) -> u64 {
        nodes.iter().map(|n| n.counter(&self.name, "records-restored")).sum()
    }
}

/// The whole store, while it is answered for.
fn node_counts(node: &Node, pipeline: &str) -> Option<BTreeMap<String, u64>> {
    let told = node.ask(&["query", pipeline, "counts", "--limit", "0", "--format", "json"]);
    let entry = |e: &Value| (e["key"].as_str().unwrap().to_owned(), e["value"].as_u64().unwrap());
    (told.code == 0).then(|| told.json().as_array().unwrap().iter().map(entry).collect())
}

#[test]
fn a_dead_node_is_answered_for_and_taken_over_by_its_standbys() {
    if kafka().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut story = Story::new();
    let nodes = ["a", "b", "c"].map(|name| story.start(dir.path(), name));
    story.apply(dir.path(), &nodes[0], 1);
    story.produce(dir.path(), &nodes[0], 3);
    let held = until("tasks and standbys lie on all nodes", TASKS, || {
        let held = story.rests(&[&nodes[0], &nodes[1], &nodes[2]], PARTITIONS);
        held.iter()
            .all(|h| !h.tasks.is_empty() && !h.standbys.is_empty())
            .then_some(held)
    });
    for held in &held {
        let both = held.tasks.iter().find(|task| held.standbys.contains(task));
        assert!(both.is_none(), "a standby lies beside its task: {held:?}");
    }
    let text = nodes[0].ask(&["status"]).done();
    assert!(text.out.contains("standbys here"), "{}", text.out);
    let mut metrics = ureq::get(format!("{}/metrics", nodes[0].address)).call().unwrap();
    let metrics = metrics.body_mut().read_to_string().unwrap();
    assert!(metrics.contains("wasmill_standby_lag_records{"), "{metrics}");

    let [a, b, c] = nodes;
    let (dead, [held_a, held_b, held_c]) = (c, <[Held; 3]>::try_from(held).unwrap());
    let before = story.restored(&[&a, &b]);
    dead.kill();
    let killed = Instant::now();
    answered_for(&story, &a, &held_c, killed);

    story.rests(&[&a, &b], PARTITIONS);
    eprintln!("all tasks and standbys after {:?}", killed.elapsed());
    let restored = story.restored(&[&a, &b]) - before;
    assert_eq!(restored, 0, "its standbys lacked nothing");
    for (node, held) in [(&a, &held_a), (&b, &held_b)] {
        let now = story.held(node).tasks;
        let lost = held_c.tasks.iter().filter(|task| held.standbys.contains(task));
        let elsewhere: Vec<_> = lost.filter(|task| !now.contains(task)).collect();
        assert!(
            elsewhere.is_empty(),
            "{elsewhere:?} do not run where their standbys were"
        );
    }
    story.produce(dir.path(), &a, 2);
    story.rests(&[&a, &b], PARTITIONS);
    story.updates(&a);
    a.end();
    b.end();
}

/// Until others have its tasks: refused, or, where that is allowed, as the standbys know it.
fn answered_for(story: &Story, node: &Node, dead: &Held, killed: Instant) {
    let path = format!("/v1/pipelines/{}/stores/counts/entries?limit=10000", story.name);
    let refused = node.get(&path);
    assert!(refused.is_none(), "answered without its owner: {refused:?}");
    let asked = Instant::now();
    let answer = node.get(&format!("{path}&stale-ok=true"));
    let answer = answer.unwrap_or_else(|| panic!("no standby answers:\n{}", node.log()));
    eprintln!("answered by standbys after {:?}", asked.elapsed());
    let entries = answer["entries"].as_array().unwrap();
    assert_eq!(entries.len() as u64, KEYS);
    assert!(entries.iter().all(|entry| entry["value"] == story.produced));
    let stale = answer["stale"].as_array().unwrap();
    let mut tasks: Vec<&str> = stale.iter().map(|one| one["task"].as_str().unwrap()).collect();
    tasks.sort_unstable();
    assert_eq!(tasks, dead.tasks, "{answer}");
    for one in stale {
        assert_eq!(one["lag"], 0, "{one}");
        assert!(!one["positions"].as_object().unwrap().is_empty(), "{one}");
    }
    // One key of a dead task, by the command line.
    let of_dead = |entry: &&Value| dead.tasks.contains(&format!("0_{}", entry["partition"]));
    let key = entries.iter().find(of_dead).unwrap()["key"].as_str().unwrap();
    let words = ["query", &story.name, "counts", "--key", key, "--format", "json"];
    node.ask(&words).exits(3);
    let told = node.ask(&[&words[..], &["--stale-ok"]].concat()).done();
    let told = told.says(&["from the standby on node", "lacks 0 changelog records"]);
    assert_eq!(told.json()[0]["value"], story.produced);
    let bounded = [&words[..], &["--stale-ok", "--at-least", "x-0:1"]].concat();
    node.ask(&bounded).exits(2);
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "others may have had the tasks before all was asked"
    );
}

/// A node that comes gets tasks when it has their state, and nothing is read for them then.
#[test]
fn a_task_moves_to_a_new_node_when_its_state_is_there() {
    if kafka().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut story = Story::new();
    let a = story.start(dir.path(), "a");
    story.apply(dir.path(), &a, 0);
    story.produce(dir.path(), &a, 3);
    story.rests(&[&a], 0);
    let b = story.start(dir.path(), "b");
    let held = until("both have as many tasks", TASKS, || {
        let held = story.rests(&[&a, &b], 0);
        (held[0].tasks.len() == held[1].tasks.len()).then_some(held)
    });
    assert_eq!(held[1].tasks.len(), PARTITIONS / 2);
    assert_eq!(story.restored(&[&b]), 0, "all of it was there before the tasks were");
    story.produce(dir.path(), &b, 1);
    story.rests(&[&a, &b], 0);
    story.updates(&b);
    a.end();
    b.end();
}
