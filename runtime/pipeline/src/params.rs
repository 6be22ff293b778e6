//! Parameters of a module: what it declares, and what a step gives.

use indexmap::IndexMap;
use serde_json::Value as Json;
use topology::description::ParameterDescription;

use crate::diagnostics::{Code, Diagnostic, meant};
use crate::modules::option;
use crate::reader::{Reader, Text};
use crate::tree::{Kind, Table, Value, read_value, to_json};
use crate::units;

#[derive(Clone, Debug)]
pub struct Declared {
    pub name: String,
    pub kind: ParamKind,
    /// `None`: the step must give it.
    pub default: Option<Json>,
    /// In the parameter's own unit: milliseconds, bytes.
    min: Option<f64>,
    max: Option<f64>,
    one_of: Vec<Json>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    String,
    Integer,
    Number,
    Boolean,
    /// Milliseconds, an integer.
    Duration,
    /// A size, an integer.
    Bytes,
    /// Of strings.
    List,
    Json,
}

impl ParamKind {
    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            "duration" => Self::Duration,
            "bytes" => Self::Bytes,
            "list" => Self::List,
            "json" => Self::Json,
            _ => return None,
        })
    }

    /// What a user writes.
    fn form(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Duration => "a duration like \"10s\"",
            Self::Bytes => "a size like \"64MiB\"",
            Self::List => "a list of strings",
            Self::Json => "any value that JSON can say",
        }
    }

    fn read(self, value: &Value) -> Option<Json> {
        match (self, &value.kind) {
            (Self::String, Kind::Text(text)) => Some(Json::from(text.as_str())),
            (Self::Integer, Kind::Integer(integer)) => Some(Json::from(*integer)),
            (Self::Number, Kind::Integer(integer)) => Some(Json::from(*integer as f64)),
            (Self::Number, Kind::Float(float)) => serde_json::Number::from_f64(*float).map(Json::Number),
            (Self::Boolean, Kind::Boolean(boolean)) => Some(Json::from(*boolean)),
            (Self::Duration, Kind::Text(text)) => units::duration_ms(text)
                .and_then(|ms| i64::try_from(ms).ok())
                .map(Json::from),
            // Without a unit: milliseconds would be a guess.
            (Self::Duration, _) => None,
            (Self::Bytes, Kind::Text(text)) => units::size_bytes(text)
                .and_then(|bytes| i64::try_from(bytes).ok())
                .map(Json::from),
            (Self::Bytes, Kind::Integer(bytes)) if *bytes >= 0 => Some(Json::from(*bytes)),
            (Self::List, Kind::List(list)) => list
                .iter()
                .map(|item| match &item.kind {
                    Kind::Text(text) => Some(Json::from(text.as_str())),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>()
                .map(Json::Array),
            (Self::Json, _) => to_json(value),
            _ => None,
        }
    }
}

/// Reads a declaration; `None` and a problem where it cannot be.
pub fn declared(parameter: &ParameterDescription, problems: &mut Vec<String>) -> Option<Declared> {
    let what = format!("parameter `{}`", parameter.name);
    let Some(kind) = ParamKind::from_word(&parameter.kind) else {
        problems.push(format!(
            "{what} is of the kind `{}`, which this host does not know",
            parameter.kind
        ));
        return None;
    };
    let read = |text: &str| read_value(text).and_then(|value| kind.read(&value));
    let mut declared = Declared {
        name: parameter.name.clone(),
        kind,
        default: None,
        min: None,
        max: None,
        one_of: Vec::new(),
    };
    for attribute in &parameter.options {
        let bound = || read(&attribute.value).and_then(|value| value.as_f64());
        let ok = match attribute.name.as_str() {
            "min" => {
                declared.min = bound();
                declared.min.is_some()
            }
            "max" => {
                declared.max = bound();
                declared.max.is_some()
            }
            "one-of" => match option(&parameter.options, "one-of") {
                Some(Kind::List(list)) => {
                    declared.one_of = list.iter().filter_map(|value| kind.read(value)).collect();
                    !list.is_empty() && declared.one_of.len() == list.len()
                }
                _ => false,
            },
            "pattern" | "secret-name" => {
                problems.push(format!("{what} has `{}`, which is not supported yet", attribute.name));
                true
            }
            _ => false,
        };
        if !ok {
            problems.push(format!(
                "{what} has the option `{} = {}`, which makes no sense",
                attribute.name, attribute.value
            ));
        }
    }
    if let Some(default) = &parameter.default {
        match read(default) {
            Some(value) => match declared.complaint(&value) {
                None => declared.default = Some(value),
                Some(complaint) => problems.push(format!("the default of {what} {complaint}")),
            },
            None => problems.push(format!(
                "the default of {what} is {default}, which is not {}",
                kind.form()
            )),
        }
    }
    Some(declared)
}

impl Declared {
    /// Why a value of the right kind is outside what is allowed; completes "`x` …".
    fn complaint(&self, value: &Json) -> Option<String> {
        if let Some(number) = value.as_f64() {
            if let Some(min) = self.min.filter(|min| number < *min) {
                return Some(format!("must be at least {}", self.show(min)));
            }
            if let Some(max) = self.max.filter(|max| number > *max) {
                return Some(format!("must be at most {}", self.show(max)));
            }
        }
        if !self.one_of.is_empty() && !self.one_of.contains(value) {
            let list: Vec<String> = self.one_of.iter().map(ToString::to_string).collect();
            return Some(format!("must be one of {}", list.join(", ")));
        }
        None
    }

    fn show(&self, bound: f64) -> String {
        match self.kind {
            ParamKind::Duration => format!("{bound} ms"),
            ParamKind::Bytes => format!("{bound} bytes"),
            _ => bound.to_string(),
        }
    }
}

/// Values of all parameters, in the order of the description. `at`: the step's `module`, for what is missing.
pub fn check(
    module: &str,
    declared: &[Declared],
    given: Option<&Table>,
    at: &Text,
    reader: &mut Reader,
) -> IndexMap<String, Json> {
    let empty = Table::default();
    let given = given.unwrap_or(&empty);
    for entry in given
        .entries
        .iter()
        .filter(|entry| !declared.iter().any(|d| d.name == entry.key))
    {
        let message = format!("module `{module}` has no parameter `{}`", entry.key);
        let hint = meant(&entry.key, declared.iter().map(|d| d.name.as_str()));
        let problem = Diagnostic::at(Code::UnknownParameter, &entry.key_span, message).label("unknown parameter");
        reader.report(problem.hint(hint.unwrap_or_else(|| "it has none".to_string())));
    }
    let mut values = IndexMap::new();
    for parameter in declared {
        let name = &parameter.name;
        let Some(value) = given.get(name) else {
            match &parameter.default {
                Some(default) => _ = values.insert(name.clone(), default.clone()),
                None => {
                    let message = format!("module `{module}` needs the parameter `{name}`");
                    let hint = format!("say `params = {{ {name} = … }}`, {}", parameter.kind.form());
                    reader.report(Diagnostic::at(Code::MissingParameter, &at.span, message).hint(hint));
                }
            }
            continue;
        };
        match parameter.kind.read(value) {
            None => {
                let form = parameter.kind.form();
                let message = format!("parameter `{name}` must be {form}, not {}", shown(value));
                reader
                    .report(Diagnostic::at(Code::BadParameter, &value.span, message).label(format!("expected {form}")));
            }
            Some(json) => match parameter.complaint(&json) {
                Some(complaint) => {
                    let message = format!("parameter `{name}` {complaint}");
                    reader.report(Diagnostic::at(Code::BadParameter, &value.span, message).label("out of bounds"));
                }
                None => _ = values.insert(name.clone(), json),
            },
        }
    }
    values
}

fn shown(value: &Value) -> String {
    match &value.kind {
        Kind::Text(text) => format!("{text:?}"),
        Kind::Integer(integer) => integer.to_string(),
        other => other.name().to_string(),
    }
}
