//! `wasmill test --record`: traffic of a running pipeline becomes a case.
//!
//! The input is what lies in the topics that the pipeline reads. What is expected is what the running version, its very
//! bytes, gives for it beginning with empty stores: that is what a test can repeat. How much of it stands in the
//! pipeline's own output topics is counted and said: all of it where the outputs depend on the recorded records only.

use super::lines;
use super::outcome::{Group, Outcome, Row};
use super::play;
use super::project::Project;
use crate::args::{Format, Global, RecordFrom, TestArgs};
use crate::client::Client;
use crate::failure::{Code, Exit};
use crate::show;
use anyhow::{Context, Result, bail};
use sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};
use server::api::{Consumed, Record, Topic};
use server::text;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use topology::{NodeKind, Topology};

/// Of one request.
const PAGE: usize = 5_000;
/// Records of an output topic that are searched for what the case expects, for each recorded one.
const SEARCHED_PER_RECORD: usize = 50;
const SEARCHED_MIN: usize = 10_000;

pub fn run(global: &Global, client: &Client, args: &TestArgs, pipeline: &str) -> Result<()> {
    if !args.dir.join("pipeline.toml").is_file() {
        bail!(
            "there is no pipeline.toml in `{}`, where the case is to go",
            args.dir.display()
        );
    }
    let running = running(client, pipeline)?;
    let topics: Vec<Topic> = client.get("/v1/topics", &[])?;
    let input = input(client, &running, &topics, args)?;
    if input.is_empty() {
        bail!("there are no records in the topics that `{pipeline}` reads");
    }
    let steps = lines::input(&running, &input.join("\n"), "the recorded input")?;
    let outcome = play::whole(&running, &steps).map_err(anyhow::Error::msg)?;
    if let Some(hint) = running.world().hint() {
        bail!("`{pipeline}` asks web services, whose answers a recording does not have\n{hint}");
    }
    let expected = expected(&outcome, args.stores);
    let live = live(client, &running, &topics, &outcome, input.len())?;
    let folder = new_folder(args)?;
    write(&folder, "input.jsonl", &input)?;
    write(&folder, "expected.jsonl", &expected)?;
    let name = folder
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let checked = lines::expected(&running, &expected.join("\n"), "the recorded outputs")?;
    let report = play::all_ways(&running, &name, &steps, &checked, args.seed);
    let outputs: usize = live.values().map(|(_, all)| all).sum();
    let found: usize = live.values().map(|(found, _)| found).sum();
    match global.format {
        Format::Json => show::json(&json!({
            "case": folder, "inputs": input.len(), "outputs": outputs, "outputs-found-live": found,
            "passes": report.passed,
        }))?,
        Format::Text => {
            show::line(&format!(
                "{}: {} inputs, {outputs} outputs",
                folder.display(),
                input.len()
            ));
            said(&live);
            report.text().iter().for_each(|line| show::line(line));
        }
    }
    if report.passed {
        Ok(())
    } else {
        Err(Exit::silent(Code::CasesFailed))
    }
}

/// The topology that the node runs, with the modules that it runs.
fn running(client: &Client, pipeline: &str) -> Result<Project> {
    let topology: Topology = client.get(&format!("/v1/pipelines/{pipeline}/topology"), &[])?;
    let mut modules = BTreeMap::new();
    let mut sandbox = None;
    for node in &topology.nodes {
        let NodeKind::Module(step) = &node.kind else { continue };
        let path = format!("/v1/modules/{}@{}/component", step.module, step.version);
        let bytes = client.get_bytes(&path)?;
        let sandbox = match &mut sandbox {
            Some(sandbox) => sandbox,
            none => none.insert(Sandbox::new(SandboxOptions::default())?),
        };
        modules.insert(step.digest.clone(), sandbox.load(&bytes)?);
    }
    Ok(Project::new(topology, modules))
}

/// Lines of input.jsonl: records of all partitions in the order of their timestamps, those of one partition in theirs.
fn input(client: &Client, project: &Project, topics: &[Topic], args: &TestArgs) -> Result<Vec<String>> {
    let mut queues: Vec<(String, VecDeque<Record>)> = Vec::new();
    for (name, formats) in project.topics().iter().filter(|(_, topic)| topic.is_input) {
        let formats = (text::name_of(formats.key), text::name_of(formats.value));
        let records = part(client, topics, name, formats, args.limit, args.from)?;
        let mut by_partition: BTreeMap<Option<i32>, VecDeque<Record>> = BTreeMap::new();
        for record in records {
            by_partition.entry(record.partition).or_default().push_back(record);
        }
        queues.extend(by_partition.into_values().map(|queue| (name.clone(), queue)));
    }
    let mut merged = Vec::new();
    let head = |queue: &VecDeque<Record>| queue.front().and_then(|record| record.timestamp);
    while let Some((name, queue)) = queues
        .iter_mut()
        .filter(|(_, queue)| !queue.is_empty())
        .min_by_key(|(_, queue)| head(queue))
    {
        if let Some(record) = queue.pop_front() {
            merged.push(line(name, &record));
        }
    }
    let extra = merged.len().saturating_sub(args.limit);
    match args.from {
        RecordFrom::Earliest => merged.truncate(args.limit),
        RecordFrom::Newest => drop(merged.drain(..extra)),
    }
    Ok(merged)
}

/// At most `limit` records a partition, from the beginning or up to the end of now.
fn part(
    client: &Client,
    topics: &[Topic],
    name: &str,
    (key, value): (&str, &str),
    limit: usize,
    from: RecordFrom,
) -> Result<Vec<Record>> {
    let topic = topics.iter().find(|topic| topic.name == name);
    let topic = topic.with_context(|| format!("there is no topic `{name}`"))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let begin = |(first, next): &(i64, i64)| match from {
        RecordFrom::Earliest => *first,
        RecordFrom::Newest => next.saturating_sub(limit).max(*first),
    };
    let starts = (0..)
        .zip(&topic.offsets)
        .map(|(p, offsets): (i32, _)| format!("{p}:{}", begin(offsets)));
    let mut at = starts.collect::<Vec<_>>().join(",");
    let all = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .saturating_mul(topic.offsets.len());
    let mut records: Vec<Record> = Vec::new();
    while records.len() < all {
        let query = [
            ("from", at.clone()),
            ("limit", PAGE.min(all - records.len()).to_string()),
            ("key-format", key.to_owned()),
            ("value-format", value.to_owned()),
        ];
        let page: Consumed = client.get(&format!("/v1/topics/{name}/records"), &query)?;
        records.extend(page.records);
        at = page.next;
        if page.end {
            break;
        }
    }
    Ok(records)
}

fn line(topic: &str, record: &Record) -> String {
    let mut row = Row::new();
    row.insert("topic".into(), topic.into());
    row.insert("key".into(), record.key.clone());
    row.insert("value".into(), record.value.clone());
    row.extend(
        record
            .timestamp
            .map(|timestamp| ("timestamp".to_owned(), timestamp.into())),
    );
    if !record.headers.is_empty() {
        row.insert("headers".into(), json!(record.headers));
    }
    Value::Object(row).to_string()
}

/// Lines of expected.jsonl. Versions are left out: the case is for the next one.
fn expected(outcome: &Outcome, stores: bool) -> Vec<String> {
    let groups = outcome.groups.iter();
    let wanted = groups.filter(|(group, _)| stores || !matches!(group, Group::Store(_)));
    let rows = wanted.flat_map(|(_, rows)| rows).cloned().map(|mut row| {
        row.shift_remove("module");
        if row.get("headers").is_some_and(|headers| *headers == json!([])) {
            row.shift_remove("headers");
        }
        Value::Object(row).to_string()
    });
    rows.collect()
}

/// By output topic: how many of the expected records stand in it, and how many are expected.
fn live(
    client: &Client,
    project: &Project,
    topics: &[Topic],
    outcome: &Outcome,
    inputs: usize,
) -> Result<BTreeMap<String, (usize, usize)>> {
    let mut counts = BTreeMap::new();
    for (group, rows) in &outcome.groups {
        let Group::Topic(name) = group else { continue };
        let Some(formats) = project.topic(name).filter(|topic| topic.is_output) else {
            continue;
        };
        let formats = (text::name_of(formats.key), text::name_of(formats.value));
        let searched = inputs.saturating_mul(SEARCHED_PER_RECORD).max(SEARCHED_MIN);
        let records = part(client, topics, name, formats, searched, RecordFrom::Newest)?;
        let mut there: BTreeMap<String, usize> = BTreeMap::new();
        for record in &records {
            *there.entry(json!([record.key, record.value]).to_string()).or_default() += 1;
        }
        let mut found = 0;
        for row in rows {
            let field = |name: &str| row.get(name).cloned().unwrap_or_default();
            if let Some(left) = there.get_mut(&json!([field("key"), field("value")]).to_string())
                && *left > 0
            {
                *left -= 1;
                found += 1;
            }
        }
        counts.insert(name.clone(), (found, rows.len()));
    }
    Ok(counts)
}

fn said(live: &BTreeMap<String, (usize, usize)>) {
    for (topic, (found, all)) in live {
        if found == all {
            show::say(&format!(
                "  {topic}: all {all} expected records stand in the topic as the pipeline wrote them"
            ));
        } else {
            show::say(&format!(
                "  {topic}: {found} of {all} expected records stand in the topic; the others depend on state from before \
                 (the case begins with empty stores)\n  hint: --from earliest records from the beginning of the topics"
            ));
        }
    }
}

fn new_folder(args: &TestArgs) -> Result<PathBuf> {
    let cases = args.dir.join("cases");
    let folder = match &args.name {
        Some(name) => cases.join(name),
        None => (1..)
            .map(|number| cases.join(format!("recorded-{number}")))
            .find(|folder| !folder.exists())
            .unwrap_or_else(|| cases.join("recorded")),
    };
    if folder.exists() {
        bail!("`{}` is there already; choose another --name", folder.display());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    Ok(folder)
}

fn write(folder: &std::path::Path, name: &str, lines: &[String]) -> Result<()> {
    let path = folder.join(name);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))
}
