//! `[sources.NAME]`.

use topology::Start;

use crate::diagnostics::{Code, Diagnostic};
use crate::file::{self, SourcePart};
use crate::joins::TIME_MS_MAX;
use crate::reader::{Reader, Text};
use crate::sinks::check_topic;
use crate::tree::{Kind, Table};
use crate::units;

const KEYS: &[&str] = &[
    "topic",
    "topics",
    "key",
    "value",
    "start",
    "as",
    "create",
    "ttl",
    "versioned",
    "timestamp",
    "idle",
];
const LATER: &[&str] = &["pattern", "window", "grants", "connector", "headers"];

pub fn read(name: Text, table: &Table, reader: &mut Reader) -> SourcePart {
    reader.keys(table, "a source", KEYS, LATER);
    let key = file::format(table, "key", reader).map_or_else(Default::default, |(format, _)| format);
    let value = file::format(table, "value", reader).map_or_else(Default::default, |(format, _)| format);
    let kinds = [
        ("stream", (false, false)),
        ("table", (true, false)),
        ("global-table", (false, true)),
    ];
    let (table_source, global) = reader.word(table, "as", &kinds, &[]).unwrap_or_default();
    if global {
        crate::globals::check_source(table, reader);
    }
    SourcePart {
        topics: topics(&name, table, reader),
        key,
        value,
        start: start(table, reader).unwrap_or_default(),
        table: table_source,
        global,
        rows: crate::tables::read_rows(table, table_source, reader),
        create: file::create(table, reader),
        timestamp: crate::timestamps::read(table, reader),
        idle_ms: idle_ms(table, reader),
        name,
    }
}

/// `idle = "30s"`. Time goes on in steps of a second.
fn idle_ms(table: &Table, reader: &mut Reader) -> Option<i64> {
    let ms = reader.duration(table, "idle", 1_000..=TIME_MS_MAX)?;
    i64::try_from(ms).ok()
}

fn topics(name: &Text, table: &Table, reader: &mut Reader) -> Vec<Text> {
    let mut topics = Vec::new();
    match (table.entry("topic"), table.entry("topics")) {
        (None, None) => {
            let hint = "say `topic = \"…\"`, or `topics = [\"…\", \"…\"]`";
            reader.missing(&name.span, &format!("source `{}`", name.text), "topic", hint);
        }
        (Some(_), Some(both)) => {
            let message = "a source has `topic` or `topics`, not both";
            reader.report(Diagnostic::at(Code::BadValue, &both.key_span, message));
        }
        (Some(_), None) => topics.extend(reader.text(table, "topic")),
        (None, Some(entry)) => {
            let list = reader.list(table, "topics").unwrap_or_default();
            topics.extend(list.iter().filter_map(|value| reader.as_text(value, "a topic")));
            if matches!(&entry.value.kind, Kind::List(list) if list.is_empty()) {
                reader.bad_value(&entry.value.span, "a source reads one topic at least".to_string(), None);
            }
        }
    }
    topics.retain(|topic| check_topic(topic, reader));
    topics
}

/// `earliest`, `latest`, or a time with its offset from UTC.
pub fn start_of(text: &str) -> Option<Start> {
    match text {
        "earliest" => Some(Start::Earliest),
        "latest" => Some(Start::Latest),
        _ => text
            .parse()
            .ok()
            .and_then(|time| units::epoch_ms(&time))
            .map(Start::Time),
    }
}

fn start(table: &Table, reader: &mut Reader) -> Option<Start> {
    let value = table.get("start")?;
    let hint = "say \"earliest\", \"latest\", or a time with its offset like 2026-01-31T12:00:00Z".to_string();
    match &value.kind {
        Kind::Text(text) => {
            let start = start_of(text);
            if start.is_none() {
                reader.bad_value(&value.span, format!("`{text}` is no start"), Some(hint));
            }
            start
        }
        Kind::Datetime(time) => {
            let start = units::epoch_ms(time).map(Start::Time);
            if start.is_none() {
                reader.bad_value(&value.span, "this time has no offset from UTC".to_string(), Some(hint));
            }
            start
        }
        _ => {
            reader.wrong_type(value, "`start`", "a word or a time");
            None
        }
    }
}
