//! A file as a tree of values with their places, variables put in.
//!
//! Knows TOML, and nothing of pipelines.

use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use crate::diagnostics::{Code, Diagnostic};

pub type Span = Range<usize>;

#[derive(Clone, Debug)]
pub struct Value {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(Datetime),
    List(Vec<Value>),
    Table(Table),
}

#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Where the table is written; for a `[header]` the header.
    pub span: Span,
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Value,
}

impl Table {
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }
}

impl Kind {
    /// As a message says it: "a string".
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads `text`. What cannot be read is left out of the tree and reported.
pub fn read(text: &str, problems: &mut Vec<Diagnostic>) -> Table {
    let (table, errors) = DeTable::parse_recoverable(text);
    // The keys below a header that is there twice are told as duplicates too, each for itself.
    let mut below_duplicate = false;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        if error.message() != "duplicate key" {
            problems.push(Diagnostic::at(Code::Syntax, &span, error.message().replace('\n', ", ")));
            continue;
        }
        let header = text.get(..span.start).is_some_and(|before| {
            before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .trim_start()
                .starts_with('[')
        });
        if header || !below_duplicate {
            let message = format!("`{}` is there twice", text.get(span.clone()).unwrap_or_default());
            problems.push(Diagnostic::at(Code::DuplicateName, &span, message).label("there already"));
        }
        below_duplicate = header || below_duplicate;
    }
    let span = table.span();
    from_table(table.get_ref(), span, problems)
}

fn from_table(table: &DeTable<'_>, span: Span, problems: &mut Vec<Diagnostic>) -> Table {
    let entries = table
        .iter()
        .filter_map(|(key, value)| {
            let value = from_value(value.get_ref(), value.span(), problems)?;
            Some(Entry {
                key: key.get_ref().to_string(),
                key_span: key.span(),
                value,
            })
        })
        .collect();
    Table { span, entries }
}

fn from_value(value: &DeValue<'_>, span: Span, problems: &mut Vec<Diagnostic>) -> Option<Value> {
    let kind = match value {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Kind::Integer(integer),
            Err(_) => {
                problems.push(Diagnostic::at(
                    Code::BadValue,
                    &span,
                    "this integer does not fit 64 bits",
                ));
                return None;
            }
        },
        DeValue::Float(float) => Kind::Float(float.as_str().parse().ok()?),
        DeValue::Boolean(boolean) => Kind::Boolean(*boolean),
        DeValue::Datetime(time) => Kind::Datetime(*time),
        DeValue::Array(list) => Kind::List(
            list.iter()
                .filter_map(|v| from_value(v.get_ref(), v.span(), problems))
                .collect(),
        ),
        DeValue::Table(table) => Kind::Table(from_table(table, span.clone(), problems)),
    };
    Some(Value { span, kind })
}

/// A single value in TOML's syntax, as descriptions have them.
pub fn read_value(text: &str) -> Option<Value> {
    let mut problems = Vec::new();
    let table = read(&format!("v = {text}"), &mut problems);
    match table.entries.into_iter().next() {
        Some(entry) if problems.is_empty() && entry.key == "v" => Some(entry.value),
        _ => None,
    }
}

/// For parameters of kind `json`; `None` for what JSON cannot say (NaN, infinity).
pub fn to_json(value: &Value) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    Some(match &value.kind {
        Kind::Text(text) => Json::String(text.clone()),
        Kind::Integer(integer) => Json::from(*integer),
        Kind::Float(float) => Json::Number(serde_json::Number::from_f64(*float)?),
        Kind::Boolean(boolean) => Json::Bool(*boolean),
        Kind::Datetime(time) => Json::String(time.to_string()),
        Kind::List(list) => Json::Array(list.iter().map(to_json).collect::<Option<_>>()?),
        Kind::Table(table) => Json::Object(
            table
                .entries
                .iter()
                .map(|e| Some((e.key.clone(), to_json(&e.value)?)))
                .collect::<Option<_>>()?,
        ),
    })
}
