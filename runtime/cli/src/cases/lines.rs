//! The lines of input.jsonl and expected.jsonl. An unknown field is an error with its place, never left out silently.

use super::outcome::{Group, Row};
use super::project::{Project, Topic};
use anyhow::{Result, anyhow, bail};
use driver::{Piped, Record};
use serde_json::{Map, Value, json};
use server::text;
use std::collections::BTreeMap;
use topology::Format;

/// One line of input.jsonl.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Record(Piped),
    Commit,
    Restart,
    /// Milliseconds of wall time.
    Advance(i64),
}

/// What expected.jsonl says, in order; of stores in the order of their keys.
pub type Expected = BTreeMap<Group, Vec<Row>>;

/// A line that is not empty, with its place for messages.
struct Line {
    place: String,
    fields: Map<String, Value>,
}

fn lines(text: &str, file: &str) -> Result<Vec<Line>> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("{file}:{number}");
        match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => found.push(Line { place, fields }),
            Ok(other) => bail!("{place}: a line is an object like {{\"topic\": …}}, not {other}"),
            Err(e) => bail!("{place}: no JSON: {e}"),
        }
    }
    Ok(found)
}

impl Line {
    /// Which of `kinds` it is: a word and the fields that may stand beside it.
    fn kind(&self, kinds: &[(&'static str, &[&'static str])]) -> Result<&'static str> {
        let kind = kinds.iter().find(|(word, _)| self.fields.contains_key(*word));
        let Some((word, fields)) = kind else {
            let words: Vec<String> = kinds.iter().map(|(word, _)| format!("`{word}`")).collect();
            let known: Vec<&str> = kinds.iter().map(|(word, _)| *word).collect();
            let hint = self.fields.keys().find_map(|field| nearest(field, &known));
            bail!(
                "{}: a line has one of {}{}",
                self.place,
                words.join(", "),
                hint.unwrap_or_default()
            );
        };
        for field in self.fields.keys() {
            if field != word && !fields.contains(&field.as_str()) {
                let known: Vec<&str> = fields.iter().copied().chain([*word]).collect();
                let hint = nearest(field, &known)
                    .unwrap_or_else(|| format!("\nhint: beside `{word}` there may be: {}", fields.join(", ")));
                bail!("{}: unknown field `{field}`{hint}", self.place);
            }
        }
        Ok(word)
    }

    fn field(&self, name: &str) -> &Value {
        self.fields.get(name).unwrap_or(&Value::Null)
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.field(name)
            .as_str()
            .ok_or_else(|| anyhow!("{}: `{name}` is a text", self.place))
    }

    fn integer(&self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.fields.get(name) else {
            return Ok(None);
        };
        let milliseconds = || anyhow!("{}: `{name}` is a number of milliseconds, not {value}", self.place);
        value.as_i64().map(Some).ok_or_else(milliseconds)
    }

    fn bytes(&self, name: &str, format: Format) -> Result<Option<Vec<u8>>> {
        text::encode(format, self.field(name)).map_err(|e| anyhow!("{}: `{name}`: {e}", self.place))
    }

    fn headers(&self) -> Result<Vec<(String, Option<Vec<u8>>)>> {
        let headers: Vec<(String, Option<String>)> = match self.fields.get("headers") {
            None => return Ok(Vec::new()),
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|_| anyhow!("{}: `headers` is a list of pairs: [[\"name\", \"value\"]]", self.place))?,
        };
        Ok(headers
            .into_iter()
            .map(|(name, value)| (name, value.map(String::into_bytes)))
            .collect())
    }

    fn topic(&self, project: &Project, word: &str, fits: fn(&Topic) -> bool, what: &str) -> Result<(String, Topic)> {
        let name = self.text(word)?;
        match project.topic(name).filter(fits) {
            Some(topic) => Ok((name.to_owned(), topic)),
            None => {
                let fitting = project.topics().iter().filter(|(_, topic)| fits(topic));
                let known: Vec<&str> = fitting.map(|(name, _)| name.as_str()).collect();
                let hint = nearest(name, &known).unwrap_or_else(|| format!("\nhint: there are: {}", known.join(", ")));
                bail!("{}: the pipeline {what} no topic `{name}`{hint}", self.place)
            }
        }
    }

    fn store<'p>(&self, project: &'p Project) -> Result<super::project::Store<'p>> {
        let name = self.text("store")?;
        let known: Vec<&str> = project.stores().map(|store| store.name).collect();
        let hint = || nearest(name, &known).unwrap_or_else(|| format!("\nhint: there are: {}", known.join(", ")));
        let found = project.stores().find(|store| store.name == name);
        found.ok_or_else(|| anyhow!("{}: the pipeline has no store `{name}`{}", self.place, hint()))
    }
}

fn nearest(word: &str, known: &[&str]) -> Option<String> {
    let distance = |known: &&str| strsim::damerau_levenshtein(word, known);
    let best = known.iter().copied().min_by_key(distance)?;
    (distance(&best) <= 2).then(|| format!("\nhint: did you mean `{best}`?"))
}

/// `file` is how messages call it.
pub fn input(project: &Project, text: &str, file: &str) -> Result<Vec<Step>> {
    const KINDS: &[(&str, &[&str])] = &[
        ("topic", &["key", "value", "timestamp", "headers"]),
        ("commit", &[]),
        ("restart", &[]),
        ("advance", &[]),
    ];
    let mut steps = Vec::new();
    // So that the first record without a timestamp is at 0.
    let mut timestamp = -1_i64;
    for line in lines(text, file)? {
        let word = line.kind(KINDS)?;
        steps.push(match word {
            "topic" => {
                let (topic, formats) = line.topic(project, word, |topic| topic.is_input, "reads")?;
                timestamp = line.integer("timestamp")?.unwrap_or(timestamp.saturating_add(1));
                let record = Record {
                    key: line.bytes("key", formats.key)?,
                    value: line.bytes("value", formats.value)?,
                    timestamp,
                    headers: line.headers()?,
                };
                Step::Record(Piped {
                    topic: topic.into(),
                    record,
                })
            }
            "advance" => Step::Advance(advance(&line)?),
            word => {
                if line.field(word) != &Value::Bool(true) {
                    bail!("{}: say {{\"{word}\": true}}", line.place);
                }
                if word == "commit" { Step::Commit } else { Step::Restart }
            }
        });
    }
    Ok(steps)
}

fn advance(line: &Line) -> Result<i64> {
    let value = line.field("advance");
    let ms = match value {
        Value::String(text) => pipeline::duration_ms(text).and_then(|ms| i64::try_from(ms).ok()),
        other => other.as_i64().filter(|ms| *ms >= 0),
    };
    ms.ok_or_else(|| {
        anyhow!(
            "{}: `advance` takes milliseconds or a text like \"10s\", not {value}",
            line.place
        )
    })
}

/// `file` is how messages call it.
pub fn expected(project: &Project, text: &str, file: &str) -> Result<Expected> {
    const RECORD: &[&str] = &["key", "value", "timestamp", "headers"];
    const LETTER: &[&str] = &[
        "key",
        "value",
        "timestamp",
        "headers",
        "stage",
        "reason",
        "step",
        "module",
        "offset",
    ];
    const KINDS: &[(&str, &[&str])] = &[
        ("topic", RECORD),
        ("store", &["key", "value", "timestamp"]),
        ("dead-letter", LETTER),
        ("stops", &[]),
    ];
    let mut expected = Expected::new();
    let mut stores: BTreeMap<Group, BTreeMap<Vec<u8>, Row>> = BTreeMap::new();
    for line in lines(text, file)? {
        let word = line.kind(KINDS)?;
        match word {
            "topic" => {
                // A topic that is only read holds what the input says.
                let (topic, formats) =
                    line.topic(project, word, |topic| !topic.is_input || topic.is_output, "writes")?;
                let row = row(&line, word, formats.key, formats.value)?;
                expected.entry(Group::Topic(topic)).or_default().push(row);
            }
            "stops" => {
                line.text(word)?;
                expected.insert(Group::Stops, vec![line.fields]);
            }
            "dead-letter" => {
                if project.topology.dead_letters.is_none() {
                    bail!("{}: the pipeline has no `dead-letters` under `[defaults]`", line.place);
                }
                let (_, formats) = line.topic(project, word, |_| true, "has")?;
                let row = row(&line, word, formats.key, formats.value)?;
                expected.entry(Group::DeadLetters).or_default().push(row);
            }
            _ => {
                let store = line.store(project)?;
                let Some(key) = line.bytes("key", store.key)? else {
                    bail!("{}: an entry of a store has a key", line.place);
                };
                let rows = stores.entry(Group::Store(store.name.to_owned())).or_default();
                // Without a value the line says that the key is not there.
                if line.field("value") != &Value::Null {
                    let row = row(&line, word, store.key, store.value)?;
                    if rows.insert(key, row).is_some() {
                        bail!("{}: store `{}` has this key once", line.place, store.name);
                    }
                }
            }
        }
    }
    expected.extend(
        stores
            .into_iter()
            .map(|(group, rows)| (group, rows.into_values().collect())),
    );
    Ok(expected)
}

/// Key and value as they come back from bytes, so that `2` and `2.0` are one number where the format says so.
fn row(line: &Line, word: &str, key: Format, value: Format) -> Result<Row> {
    let mut row = Row::new();
    row.insert(word.to_owned(), line.field(word).clone());
    row.insert("key".to_owned(), text::decode(key, line.bytes("key", key)?.as_deref()));
    row.insert(
        "value".to_owned(),
        text::decode(value, line.bytes("value", value)?.as_deref()),
    );
    line.integer("timestamp")?;
    if line.fields.contains_key("headers") {
        let headers = line.headers()?;
        row.insert("headers".to_owned(), json!(super::outcome::headers(&headers)));
    }
    for (name, value) in &line.fields {
        if !row.contains_key(name) {
            row.insert(name.clone(), value.clone());
        }
    }
    Ok(row)
}
