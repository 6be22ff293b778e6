//! Reads typed values out of tables and reports what is not as it should be.

use std::ops::RangeInclusive;

use crate::diagnostics::{Code, Diagnostic, meant, nearest};
use crate::tree::{Kind, Span, Table, Value};
use crate::units;

/// A string with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub span: Span,
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub struct Reader {
    pub problems: Vec<Diagnostic>,
}

impl Reader {
    pub fn report(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// Reports keys of `table` that are neither `known` nor to come (`later`). `what`: "a source".
    pub fn keys(&mut self, table: &Table, what: &str, known: &[&str], later: &[&str]) {
        for entry in &table.entries {
            if known.contains(&entry.key.as_str()) {
                continue;
            }
            if later.contains(&entry.key.as_str()) {
                self.later(&entry.key_span, &format!("`{}` in {what}", entry.key));
                continue;
            }
            let message = format!("{what} has no key `{}`", entry.key);
            let near = nearest(&entry.key, known.iter().chain(later).copied());
            let problem = Diagnostic::at(Code::UnknownKey, &entry.key_span, message).label("unknown key");
            self.report(match near {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem.maybe_hint(meant(&entry.key, known.iter().copied())),
            });
        }
    }

    /// What the design has and this version does not.
    pub fn later(&mut self, span: &Span, what: &str) {
        let problem = Diagnostic::at(Code::NotSupportedYet, span, format!("{what} is not supported yet"));
        self.report(problem.label("not supported yet"));
    }

    pub fn wrong_type(&mut self, value: &Value, what: &str, expected: &str) {
        let message = format!("{what} must be {expected}, not {}", value.kind.name());
        self.report(Diagnostic::at(Code::WrongType, &value.span, message).label(format!("expected {expected}")));
    }

    pub fn bad_value(&mut self, span: &Span, message: String, hint: Option<String>) {
        self.report(Diagnostic::at(Code::BadValue, span, message).maybe_hint(hint));
    }

    /// `span`: the table that lacks it.
    pub fn missing(&mut self, span: &Span, what: &str, key: &str, hint: &str) {
        let message = format!("{what} needs `{key}`");
        self.report(
            Diagnostic::at(Code::MissingKey, span, message)
                .label(format!("`{key}` is missing"))
                .hint(hint),
        );
    }

    pub fn table<'v>(&mut self, value: &'v Value, what: &str) -> Option<&'v Table> {
        match &value.kind {
            Kind::Table(table) => Some(table),
            _ => {
                self.wrong_type(value, what, "a table");
                None
            }
        }
    }

    pub fn as_text(&mut self, value: &Value, what: &str) -> Option<Text> {
        match &value.kind {
            Kind::Text(text) => Some(Text {
                text: text.clone(),
                span: value.span.clone(),
            }),
            _ => {
                self.wrong_type(value, what, "a string");
                None
            }
        }
    }

    pub fn text(&mut self, table: &Table, key: &str) -> Option<Text> {
        self.as_text(table.get(key)?, &format!("`{key}`"))
    }

    pub fn list<'v>(&mut self, table: &'v Table, key: &str) -> Option<&'v [Value]> {
        let value = table.get(key)?;
        match &value.kind {
            Kind::List(list) => Some(list),
            _ => {
                self.wrong_type(value, &format!("`{key}`"), "a list");
                None
            }
        }
    }

    pub fn boolean(&mut self, table: &Table, key: &str) -> Option<bool> {
        let value = table.get(key)?;
        match &value.kind {
            Kind::Boolean(boolean) => Some(*boolean),
            _ => {
                self.wrong_type(value, &format!("`{key}`"), "true or false");
                None
            }
        }
    }

    pub fn integer(&mut self, table: &Table, key: &str, bounds: RangeInclusive<i64>) -> Option<i64> {
        let value = table.get(key)?;
        let Kind::Integer(integer) = value.kind else {
            self.wrong_type(value, &format!("`{key}`"), "an integer");
            return None;
        };
        if bounds.contains(&integer) {
            return Some(integer);
        }
        let message = format!("`{key}` must be {} to {}, not {integer}", bounds.start(), bounds.end());
        self.bad_value(&value.span, message, None);
        None
    }

    /// A duration in milliseconds.
    pub fn duration(&mut self, table: &Table, key: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let text = self.text(table, key)?;
        let Some(ms) = units::duration_ms(&text.text) else {
            let hint = "a duration is written like \"250ms\", \"10s\", \"5m\", \"1h30m\" or \"7d\"".to_string();
            self.bad_value(&text.span, format!("`{}` is no duration", text.text), Some(hint));
            return None;
        };
        if bounds.contains(&ms) {
            return Some(ms);
        }
        let message = format!(
            "`{key}` must be {} ms to {} ms, not {ms} ms",
            bounds.start(),
            bounds.end()
        );
        self.bad_value(&text.span, message, None);
        None
    }

    /// A size in bytes; an integer counts bytes.
    pub fn size(&mut self, table: &Table, key: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let value = table.get(key)?;
        let bytes = match &value.kind {
            Kind::Integer(bytes) => u64::try_from(*bytes).ok(),
            Kind::Text(text) => units::size_bytes(text),
            _ => {
                self.wrong_type(value, &format!("`{key}`"), "a size");
                return None;
            }
        };
        let hint = "a size is written like \"64MiB\", \"512KiB\" or \"1GiB\"".to_string();
        match bytes {
            None => self.bad_value(&value.span, format!("`{key}` is no size"), Some(hint)),
            Some(bytes) if bounds.contains(&bytes) => return Some(bytes),
            Some(bytes) => {
                let message = format!(
                    "`{key}` must be {} to {} bytes, not {bytes}",
                    bounds.start(),
                    bounds.end()
                );
                self.bad_value(&value.span, message, None);
            }
        }
        None
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, table: &Table, key: &str, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = self.text(table, key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.text) {
            return Some(*value);
        }
        if later.contains(&text.text.as_str()) {
            self.later(&text.span, &format!("`{key} = \"{}\"`", text.text));
            return None;
        }
        let hint = meant(&text.text, words.iter().map(|(word, _)| *word));
        self.bad_value(&text.span, format!("`{}` is no value of `{key}`", text.text), hint);
        None
    }
}
