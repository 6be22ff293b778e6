//! A key of a megabyte on a node: what fits into its topics is counted, in windows and without.

use it::node::{Broker, Setup, TASKS};
use it::{place, until};
use std::fs;

/// What a topic takes is `max.message.bytes`, 1,048,588 unless it says otherwise, and Kafka's client 1,048,576.
const FITS: usize = 1_000_000;

fn is_a_key(broker: &Broker) {
    let dir = tempfile::tempdir().unwrap();
    let prefix = place::unique("absurd");
    let text = format!(
        r#"wasmill = 1
name = "{prefix}"

[sources.in]
topic = "{prefix}-in"
key = "string"
value = "string"
create = {{ partitions = 2 }}

[steps.counts]
op = "count"
from = "in"

[steps.windows]
op = "count"
from = "in"
window = {{ tumbling = "10ms", grace = "0ms" }}

[sinks.counts]
from = "counts"
topic = "{prefix}-counts"
create = {{ partitions = 2 }}

[sinks.windows]
from = "windows"
topic = "{prefix}-windows"
create = {{ partitions = 2 }}
"#
    );
    let pipeline = dir.path().join("pipeline.toml");
    fs::write(&pipeline, text).unwrap();
    let node = Setup::new(dir.path(), broker).start();
    node.ask(&["apply", "--yes", &pipeline.display().to_string()]).done();
    let key = "k".repeat(FITS);
    let rows: String = [("x", 1), ("x", 2), ("y", 3), ("x", 15)]
        .map(|(end, time)| format!("{{\"key\": \"{key}{end}\", \"value\": \"v\", \"timestamp\": {time}}}\n"))
        .concat();
    let file = dir.path().join("in.jsonl");
    fs::write(&file, rows).unwrap();
    node.ask(&["produce", &format!("{prefix}-in"), &file.display().to_string()])
        .done();
    let read = |topic: &str| {
        let told = node.ask(&["consume", topic, "--as", "jsonl"]).done();
        let rows = told.out.lines().map(|line| serde_json::from_str(line).unwrap());
        rows.collect::<Vec<serde_json::Value>>()
    };
    let counts = until("every count", TASKS, || {
        Some(read(&format!("{prefix}-counts"))).filter(|rows| rows.len() == 4)
    });
    let last = |end: &str| {
        let of = |row: &&serde_json::Value| {
            row["key"]
                .as_str()
                .is_some_and(|k| k.len() == FITS + 1 && k.ends_with(end))
        };
        counts.iter().filter(of).filter_map(|row| row["value"].as_i64()).max()
    };
    assert_eq!((last("x"), last("y")), (Some(3), Some(1)));
    assert_eq!(read(&format!("{prefix}-windows")).len(), 4);
    node.stop(&["Failed to acquire transactional PID"]);
}

#[test]
fn on_the_embedded_log() {
    is_a_key(&Broker::Embedded);
}

#[test]
fn on_kafka() {
    if let Some(address) = place::kafka() {
        is_a_key(&Broker::Kafka(address));
    }
}
