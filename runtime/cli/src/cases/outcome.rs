//! What a pipeline did in one run of a case, as rows that can be compared with expected.jsonl and shown.

use super::project::Project;
use driver::{Driver, Record};
use serde_json::{Map, Value, json};
use server::text;
use std::collections::BTreeMap;
use topology::Format;

/// Rows that are compared together, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Topic(String),
    DeadLetters,
    Store(String),
    /// One row when the pipeline stopped.
    Stops,
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::DeadLetters => f.write_str("dead letters"),
            Self::Store(store) => write!(f, "store {store}"),
            Self::Stops => f.write_str("the end"),
        }
    }
}

/// A line of expected.jsonl, or what one would have to say.
pub type Row = Map<String, Value>;

/// Everything that can be seen from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub groups: BTreeMap<Group, Vec<Row>>,
}

impl Outcome {
    /// `stopped`: why the pipeline did; then nothing is said of the stores, which are as they were at some commit before.
    pub fn of(project: &Project, driver: &Driver, stopped: Option<&str>) -> Self {
        let mut groups = BTreeMap::new();
        let stops = stopped.map(|why| [("stops".to_owned(), Value::from(why))].into_iter().collect());
        groups.insert(Group::Stops, stops.into_iter().collect());
        let letters_topic = project
            .topology
            .dead_letters
            .as_ref()
            .map(|letters| letters.topic.as_str());
        for (name, topic) in project.topics() {
            if topic.is_input && !topic.is_output {
                continue;
            }
            let records = driver.topic(name).iter();
            let own = records.filter(|record| letters_topic != Some(name.as_str()) || cause(record, "stage").is_none());
            let rows = own.map(|record| shown("topic", name, record, topic.key, topic.value));
            groups.insert(Group::Topic(name.clone()), rows.collect());
        }
        if let Some(topic) = letters_topic {
            let letters = driver
                .topic(topic)
                .iter()
                .filter(|record| cause(record, "stage").is_some());
            groups.insert(
                Group::DeadLetters,
                letters.map(|record| letter(project, record)).collect(),
            );
        }
        for store in project.stores().filter(|_| stopped.is_none()) {
            let entries = driver.store(store.name).unwrap_or_default();
            let rows = entries.into_iter().map(|entry| {
                let mut row = Row::new();
                row.insert("store".into(), store.name.into());
                row.insert("key".into(), text::decode(store.key, Some(&entry.key)));
                row.insert("value".into(), text::decode(store.value, Some(&entry.value)));
                row.extend(
                    entry
                        .timestamp
                        .map(|timestamp| ("timestamp".to_owned(), timestamp.into())),
                );
                row
            });
            groups.insert(Group::Store(store.name.to_owned()), rows.collect());
        }
        Self { groups }
    }
}

fn shown(word: &str, name: &str, record: &Record, key: Format, value: Format) -> Row {
    let mut row = Row::new();
    row.insert(word.into(), name.into());
    row.insert("key".into(), text::decode(key, record.key.as_deref()));
    row.insert("value".into(), text::decode(value, record.value.as_deref()));
    row.insert("timestamp".into(), record.timestamp.into());
    row.insert("headers".into(), json!(headers(&record.headers)));
    row
}

pub fn headers(headers: &[(String, Option<Vec<u8>>)]) -> Vec<Value> {
    headers
        .iter()
        .map(|(name, value)| json!([name, text::decode(Format::Bytes, value.as_deref())]))
        .collect()
}

/// A dead letter in the formats of the topic that its record came from, the cause taken out of its headers.
fn letter(project: &Project, record: &Record) -> Row {
    let topic = cause(record, "topic").unwrap_or_default();
    let formats = project
        .topic(&topic)
        .map_or((Format::Bytes, Format::Bytes), |t| (t.key, t.value));
    let (cause_headers, own): (Vec<_>, Vec<_>) = record
        .headers
        .iter()
        .cloned()
        .partition(|(name, _)| name.starts_with(CAUSE));
    let mut row = shown(
        "dead-letter",
        &topic,
        &Record {
            headers: own,
            ..record.clone()
        },
        formats.0,
        formats.1,
    );
    for (name, value) in cause_headers {
        let name = name.trim_start_matches(CAUSE);
        let text = String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
        match name {
            // Of where and when it ran, not of what came of it.
            "topic" | "partition" | "pipeline" | "task" | "at" | "backtrace" => {}
            "offset" => _ = row.insert("offset".into(), text.parse::<i64>().map_or(Value::Null, Value::from)),
            name => _ = row.insert(name.to_owned(), text.into()),
        }
    }
    row
}

/// What a task puts in front of the names of the headers that say why a record is a dead letter.
const CAUSE: &str = "wasmill.error.";

fn cause(record: &Record, name: &str) -> Option<String> {
    let found = record
        .headers
        .iter()
        .find(|(header, _)| header.strip_prefix(CAUSE) == Some(name))?;
    Some(String::from_utf8_lossy(found.1.as_deref().unwrap_or_default()).into_owned())
}
