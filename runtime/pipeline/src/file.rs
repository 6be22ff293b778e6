//! The parts of a pipeline file, read from its tree. What they refer to is looked up later, by `wiring`.

use indexmap::IndexMap;
use topology::{
    AggregateFunction, CreateTopic, Emit, Format, Grants, Guarantee, Limits, OnError, Predicate, Retries, Selector,
    Start,
};

use crate::diagnostics::{Code, Diagnostic};
use crate::failures::{self, DeadLettersPart};
use crate::reader::{Reader, Text};
use crate::stateless::Stateless;
use crate::tree::{Kind, Span, Table, Value};
use crate::{selectors, sinks, sources, steps};

/// The only version of the file's language.
const LANGUAGE: i64 = 1;
/// Sources, steps and sinks together: more than people write, few enough for every check here.
pub const PARTS_MAX: usize = 1_000;

/// Each is a whole copy of the state, and reads the whole changelog.
const STANDBYS_MAX: i64 = 8;

#[derive(Debug)]
pub struct File {
    pub name: Text,
    pub guarantee: Guarantee,
    pub max_task_idle_ms: i64,
    pub standbys: u32,
    pub dead_letters: Option<DeadLettersPart>,
    pub sources: Vec<SourcePart>,
    pub steps: Vec<StepPart>,
    pub sinks: Vec<SinkPart>,
}

#[derive(Debug)]
pub struct SourcePart {
    pub name: Text,
    pub topics: Vec<Text>,
    pub key: Format,
    pub value: Format,
    pub start: Start,
    pub table: bool,
    /// A table that every node keeps whole.
    pub global: bool,
    pub rows: crate::tables::RowsPart,
    pub create: Option<CreateTopic>,
    pub timestamp: crate::timestamps::TimestampPart,
    /// Wall time without rows after which time goes on without them.
    pub idle_ms: Option<i64>,
}

#[derive(Debug)]
pub struct StepPart {
    pub name: Text,
    /// The name under which its topics were made.
    pub was: Option<Text>,
    pub inputs: Inputs,
    pub on_error: OnError,
    /// Where `dead-letter` was said, when it was.
    pub dead_letter_span: Option<Span>,
    pub work: Work,
}

/// What `from` says; every text is `NAME` or `NAME.PORT`.
#[derive(Debug)]
pub enum Inputs {
    /// Missing or unreadable, and reported.
    None,
    One(Text),
    Several(Vec<Text>),
    /// Input port and what it is bound to, with the place of the whole table.
    Ports(Vec<(Text, Text)>, Span),
}

impl Inputs {
    pub fn texts(&self) -> Vec<&Text> {
        match self {
            Self::None => Vec::new(),
            Self::One(from) => vec![from],
            Self::Several(from) => from.iter().collect(),
            Self::Ports(ports, _) => ports.iter().map(|(_, from)| from).collect(),
        }
    }
}

#[derive(Debug)]
pub enum Work {
    Aggregate(AggregatePart),
    GroupBy {
        by: Part,
        partitions: Option<i32>,
    },
    SelectKey {
        by: Part,
    },
    Branch {
        branches: Vec<(Text, Predicate, Span)>,
        default: Option<Text>,
    },
    Merge,
    ToTable {
        partitions: Option<i32>,
        rows: crate::tables::RowsPart,
    },
    Module(Box<ModulePart>),
    Join(Box<crate::joins::JoinPart>),
    Suppress(Box<crate::suppress::SuppressPart>),
    Cogroup(Box<crate::cogroup::CogroupPart>),
    Dedup {
        within_ms: i64,
    },
    Stateless(Stateless),
    /// Not supported yet or not readable, and reported: what comes out of it is unknown.
    Unknown,
}

/// A part of a record, and where the file says so.
#[derive(Clone, Debug)]
pub struct Part {
    pub selector: Selector,
    pub span: Span,
}

#[derive(Debug)]
pub struct AggregatePart {
    pub function: AggregateFunction,
    pub of: Option<Part>,
    pub by: Part,
    pub result: Option<(Format, Span)>,
    pub emit: Emit,
    pub partitions: Option<i32>,
    pub window: Option<crate::windows::WindowPart>,
}

#[derive(Debug)]
pub struct ModulePart {
    pub module: Text,
    pub params: Option<Table>,
    pub stores: IndexMap<String, StorePart>,
    pub retries: Retries,
    pub limits: Limits,
    /// `None`: unreadable, and reported.
    pub grants: Option<Grants>,
}

/// What the file may tune of a store that a module declares.
#[derive(Debug)]
pub struct StorePart {
    pub name: Text,
    pub cache_bytes: Option<u64>,
}

#[derive(Debug)]
pub struct SinkPart {
    pub name: Text,
    pub from: Option<Text>,
    pub topic: Option<Text>,
    /// The topic by expression, and all that it may be.
    pub route: Option<(Text, Vec<Text>)>,
    pub key: Option<(Format, Span)>,
    pub value: Option<(Format, Span)>,
    pub create: Option<CreateTopic>,
}

/// `[defaults]`: what a step has that does not say otherwise.
#[derive(Debug, Default)]
pub struct Defaults {
    pub on_error: Option<(OnError, Span)>,
    pub retries: Retries,
    pub limits: Limits,
}

const KEYS: &[&str] = &[
    "wasmill",
    "name",
    "guarantee",
    "max-task-idle",
    "standbys",
    "vars",
    "defaults",
    "sources",
    "steps",
    "sinks",
];
const LATER: &[&str] = &["description", "stores", "connectors", "grants"];
/// Words that people look for here and that stand in the node's file.
const OF_THE_NODE: &[&str] = &[
    "threads",
    "brokers",
    "kafka",
    "commit-interval",
    "data-dir",
    "bootstrap-servers",
    "node",
];

pub fn read(root: &Table, reader: &mut Reader) -> Option<File> {
    let (of_node, others): (Vec<_>, Vec<_>) = root
        .entries
        .iter()
        .cloned()
        .partition(|entry| OF_THE_NODE.contains(&entry.key.as_str()));
    for entry in of_node {
        let message = format!("`{}` is a setting of the node, not of a pipeline", entry.key);
        let hint = "a pipeline file runs unchanged on every node; put it into node.toml";
        reader.report(Diagnostic::at(Code::UnknownKey, &entry.key_span, message).hint(hint));
    }
    reader.keys(
        &Table {
            span: root.span.clone(),
            entries: others,
        },
        "a pipeline file",
        KEYS,
        LATER,
    );
    let top = 0..0;
    match root.get("wasmill") {
        None => reader.missing(&top, "a pipeline file", "wasmill", "say `wasmill = 1` at its top"),
        Some(_) => _ = reader.integer(root, "wasmill", LANGUAGE..=LANGUAGE),
    }
    let name = name(root, reader);
    let guarantees = [
        ("exactly-once", Guarantee::ExactlyOnce),
        ("at-least-once", Guarantee::AtLeastOnce),
    ];
    let guarantee = reader.word(root, "guarantee", &guarantees, &[]).unwrap_or_default();
    let max_task_idle_ms = max_task_idle(root, reader);
    if let Some(vars) = root.get("vars") {
        reader.table(vars, "`vars`");
    }
    let (defaults, dead_letters) = defaults(root, reader);
    let sources: Vec<SourcePart> = parts(root, "sources", reader)
        .into_iter()
        .map(|(name, table)| sources::read(name, table, reader))
        .collect();
    let steps: Vec<StepPart> = parts(root, "steps", reader)
        .into_iter()
        .map(|(name, table)| steps::read(name, table, &defaults, reader))
        .collect();
    let sinks: Vec<SinkPart> = parts(root, "sinks", reader)
        .into_iter()
        .map(|(name, table)| sinks::read(name, table, reader))
        .collect();
    if sources.is_empty() && root.get("sources").is_none() {
        let hint = "say `[sources.NAME]` with `topic = \"…\"`";
        reader.missing(&top, "a pipeline file", "sources", hint);
    }
    if sources.len() + steps.len() + sinks.len() > PARTS_MAX {
        let message = format!("a pipeline has at most {PARTS_MAX} sources, steps and sinks");
        reader.report(Diagnostic::at(Code::TooLarge, &top, message));
        return None;
    }
    Some(File {
        name: name?,
        guarantee,
        max_task_idle_ms,
        standbys: standbys(root, reader),
        dead_letters,
        sources,
        steps,
        sinks,
    })
}

/// How long a task waits for an input: a duration, or `"never"`.
fn max_task_idle(root: &Table, reader: &mut Reader) -> i64 {
    match root.get("max-task-idle").map(|value| &value.kind) {
        Some(Kind::Text(word)) if word == "never" => -1,
        _ => {
            // A day: whoever waits longer for an input does without it.
            let ms = reader.duration(root, "max-task-idle", 0..=86_400_000);
            ms.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(0)
        }
    }
}

fn standbys(root: &Table, reader: &mut Reader) -> u32 {
    let count = reader.integer(root, "standbys", 0..=STANDBYS_MAX);
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

fn name(root: &Table, reader: &mut Reader) -> Option<Text> {
    if root.get("name").is_none() {
        let hint = "the name is the consumer group and the prefix of internal topics";
        reader.missing(&(0..0), "a pipeline file", "name", hint);
    }
    let name = reader.text(root, "name")?;
    check_name(&name, reader);
    Some(name)
}

pub fn check_name(name: &Text, reader: &mut Reader) {
    if let Some(problem) = topology::name_problem(&name.text) {
        let message = format!("`{}` is no name", name.text);
        reader.report(Diagnostic::at(Code::BadName, &name.span, message).hint(problem));
    }
}

/// The tables of `[section.NAME]`, in the order of the file.
fn parts<'t>(root: &'t Table, section: &str, reader: &mut Reader) -> Vec<(Text, &'t Table)> {
    let Some(value) = root.get(section) else {
        return Vec::new();
    };
    let Some(table) = reader.table(value, &format!("`{section}`")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in &table.entries {
        let name = Text {
            text: entry.key.clone(),
            span: entry.key_span.clone(),
        };
        check_name(&name, reader);
        if let Some(part) = reader.table(&entry.value, &format!("`{section}.{}`", entry.key)) {
            found.push((name, part));
        }
    }
    found
}

fn defaults(root: &Table, reader: &mut Reader) -> (Defaults, Option<DeadLettersPart>) {
    let mut defaults = Defaults::default();
    let Some(table) = root.get("defaults").and_then(|value| reader.table(value, "`defaults`")) else {
        return (defaults, None);
    };
    reader.keys(
        table,
        "`[defaults]`",
        &["on-error", "dead-letters", "retries", "limits"],
        &["grants", "standbys"],
    );
    defaults.on_error = failures::on_error(table, reader);
    defaults.retries = failures::retries(table, defaults.retries, reader);
    defaults.limits = limits(table, defaults.limits, reader);
    let letters = failures::dead_letters(table, reader);
    (defaults, letters)
}

/// `limits = { memory = "64MiB", call = "500ms", result = "16MiB", log-lines = 100, recycle = "32MiB", http = "2s" }`.
pub fn limits(table: &Table, mut limits: Limits, reader: &mut Reader) -> Limits {
    let Some(table) = table.get("limits").and_then(|value| reader.table(value, "`limits`")) else {
        return limits;
    };
    reader.keys(
        table,
        "`limits`",
        &["memory", "call", "result", "log-lines", "recycle", "http"],
        &["fuel", "cpu"],
    );
    // 4 GiB is all that a 32-bit guest can address; the instance itself needs some pages.
    limits.memory_bytes = reader
        .size(table, "memory", 1 << 20..=4 << 30)
        .unwrap_or(limits.memory_bytes);
    // Ten minutes: beyond any transaction timeout that a broker grants by default (15 minutes) with its margin.
    limits.call_ms = reader.duration(table, "call", 1..=600_000).unwrap_or(limits.call_ms);
    limits.http_ms = reader.duration(table, "http", 1..=600_000).unwrap_or(limits.http_ms);
    limits.result_bytes = reader
        .size(table, "result", 1 << 10..=1 << 30)
        .unwrap_or(limits.result_bytes);
    if let Some(lines) = reader.integer(table, "log-lines", 0..=1_000_000) {
        limits.log_lines_per_second = u32::try_from(lines).unwrap_or(u32::MAX);
    }
    limits.recycle_bytes = reader.size(table, "recycle", 0..=4 << 30).or(limits.recycle_bytes);
    limits
}

/// `create = { partitions = 4, cleanup = "compact", settings = { "retention.ms" = "-1" } }`.
pub fn create(table: &Table, reader: &mut Reader) -> Option<CreateTopic> {
    let value = table.get("create")?;
    let table = reader.table(value, "`create`")?;
    reader.keys(
        table,
        "`create`",
        &["partitions", "cleanup", "settings"],
        &["replication"],
    );
    if table.get("partitions").is_none() {
        reader.missing(
            &value.span,
            "`create`",
            "partitions",
            "say how many, like `create = { partitions = 4 }`",
        );
    }
    let partitions = partitions(table, reader);
    let words = [
        ("delete", "delete"),
        ("compact", "compact"),
        ("compact,delete", "compact,delete"),
    ];
    let cleanup = reader.word(table, "cleanup", &words, &[]).map(str::to_string);
    let settings = settings(table, reader);
    Some(CreateTopic {
        partitions: partitions?,
        cleanup,
        settings,
    })
}

fn settings(table: &Table, reader: &mut Reader) -> IndexMap<String, String> {
    let mut settings = IndexMap::new();
    let Some(table) = table
        .get("settings")
        .and_then(|value| reader.table(value, "`settings`"))
    else {
        return settings;
    };
    for entry in &table.entries {
        let text = match &entry.value.kind {
            Kind::Text(text) => text.clone(),
            Kind::Integer(integer) => integer.to_string(),
            Kind::Boolean(boolean) => boolean.to_string(),
            Kind::Table(_) => {
                let hint = format!("Kafka's names have dots, so quote them: `\"{}.…\" = …`", entry.key);
                let message = format!("setting `{}` must be a string, an integer or a boolean", entry.key);
                reader.report(Diagnostic::at(Code::WrongType, &entry.key_span, message).hint(hint));
                continue;
            }
            _ => {
                reader.wrong_type(
                    &entry.value,
                    &format!("setting `{}`", entry.key),
                    "a string, an integer or a boolean",
                );
                continue;
            }
        };
        if entry.key == "cleanup.policy" {
            let message = "the clean-up policy of a topic is said with `cleanup`".to_string();
            reader.bad_value(
                &entry.key_span,
                message,
                Some("say `cleanup = \"compact\"` beside `partitions`".into()),
            );
        }
        settings.insert(entry.key.clone(), text);
    }
    settings
}

pub fn partitions(table: &Table, reader: &mut Reader) -> Option<i32> {
    // Far above what a topic of one pipeline has, far below what would bring a broker down.
    reader
        .integer(table, "partitions", 1..=10_000)
        .and_then(|count| i32::try_from(count).ok())
}

/// A format of a source or sink.
pub fn format(table: &Table, key: &str, reader: &mut Reader) -> Option<(Format, Span)> {
    let text = reader.text(table, key)?;
    match parse_format(&text.text) {
        Ok(Format::Any) | Err(FormatWord::Unknown) => {
            let words = ["bytes", "string", "i64", "f64", "json"];
            let hint = crate::diagnostics::meant(&text.text, words);
            reader.bad_value(&text.span, format!("`{}` is no format", text.text), hint);
            None
        }
        Ok(format) => Some((format, text.span)),
        Err(FormatWord::Later) => {
            reader.later(&text.span, &format!("format `{}`", text.text));
            None
        }
    }
}

pub enum FormatWord {
    Later,
    Unknown,
}

pub fn parse_format(word: &str) -> Result<Format, FormatWord> {
    if let Some(format) = Format::from_word(word) {
        return Ok(format);
    }
    let later = ["avro", "protobuf", "json-schema", "i32", "uuid"].contains(&word);
    Err(if later { FormatWord::Later } else { FormatWord::Unknown })
}

/// `key`, `value` or `value.FIELD`.
pub fn selector(value: &Value, what: &str, reader: &mut Reader) -> Option<Part> {
    selectors::read(reader.as_text(value, what)?, reader)
}
