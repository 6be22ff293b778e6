//! Variables: declared with a default in `[vars]`, set from outside, put into parsed strings and never into text.

use indexmap::IndexMap;

use crate::diagnostics::{Code, Diagnostic, Diagnostics, meant};
use crate::tree::{self, Kind, Span, Table, Value};

/// Values given from outside, later ones first. A name that the file does not declare is refused.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    given: IndexMap<String, Given>,
}

#[derive(Clone, Debug)]
enum Given {
    /// From `--set`: text, read as the default's type.
    Text(String),
    /// From a file: a TOML value.
    Value(Kind),
}

impl Vars {
    /// `--set NAME=VALUE`.
    ///
    /// # Errors
    /// There is no `=`.
    pub fn set(&mut self, assignment: &str) -> Result<(), String> {
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(format!("`{assignment}` sets no variable; hint: say NAME=VALUE"));
        };
        self.given
            .insert(name.trim().to_string(), Given::Text(value.to_string()));
        Ok(())
    }

    /// `--vars FILE`: names and values.
    ///
    /// # Errors
    /// It is no TOML, or has values that are no scalars.
    pub fn file(&mut self, text: &str, file_name: &str) -> Result<(), Diagnostics> {
        let mut problems = Vec::new();
        let table = tree::read(text, &mut problems);
        for entry in table.entries {
            if scalar(&entry.value.kind) {
                self.given.insert(entry.key, Given::Value(entry.value.kind));
            } else {
                problems.push(not_scalar(&entry.key, &entry.value));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Diagnostics::new(file_name, text, problems))
        }
    }
}

fn scalar(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Text(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Boolean(_)
    )
}

fn not_scalar(name: &str, value: &Value) -> Diagnostic {
    let message = format!(
        "variable `{name}` must be a string, a number or a boolean, not {}",
        value.kind.name()
    );
    Diagnostic::at(Code::WrongType, &value.span, message)
}

/// Values of all declared variables.
pub fn resolve(declared: Option<&Value>, vars: &Vars, problems: &mut Vec<Diagnostic>) -> IndexMap<String, Kind> {
    let empty = Table::default();
    let table = match declared.map(|value| &value.kind) {
        None => &empty,
        Some(Kind::Table(table)) => table,
        // `file` reports what is no table.
        Some(_) => return IndexMap::new(),
    };
    let mut values = IndexMap::new();
    for entry in &table.entries {
        if !scalar(&entry.value.kind) {
            problems.push(not_scalar(&entry.key, &entry.value));
            continue;
        }
        let value = match vars.given.get(&entry.key) {
            None => entry.value.kind.clone(),
            Some(given) => match typed(given, &entry.value.kind) {
                Some(value) => value,
                None => {
                    let message = format!(
                        "variable `{}` is {} by its default, and was given something else",
                        entry.key,
                        entry.value.kind.name()
                    );
                    problems.push(Diagnostic::at(Code::WrongType, &entry.value.span, message));
                    entry.value.kind.clone()
                }
            },
        };
        values.insert(entry.key.clone(), value);
    }
    for name in vars.given.keys().filter(|name| table.entry(name).is_none()) {
        let known = table.entries.iter().map(|entry| entry.key.as_str());
        let message = format!("variable `{name}` was given, but the file does not declare it in `[vars]`");
        problems.push(Diagnostic::nowhere(Code::UnknownVariable, message).maybe_hint(meant(name, known)));
    }
    values
}

fn typed(given: &Given, default: &Kind) -> Option<Kind> {
    match (given, default) {
        (Given::Text(text), Kind::Text(_)) => Some(Kind::Text(text.clone())),
        (Given::Text(text), Kind::Integer(_)) => text.trim().parse().ok().map(Kind::Integer),
        (Given::Text(text), Kind::Float(_)) => text.trim().parse().ok().map(Kind::Float),
        (Given::Text(text), Kind::Boolean(_)) => text.trim().parse().ok().map(Kind::Boolean),
        (Given::Value(value), default) => {
            (std::mem::discriminant(value) == std::mem::discriminant(default)).then(|| value.clone())
        }
        _ => None,
    }
}

/// Puts variables into every string below `table`, except in `[vars]` itself and below a `grants` key, whose secrets
/// are the node's.
pub fn substitute(table: &mut Table, values: &IndexMap<String, Kind>, problems: &mut Vec<Diagnostic>) {
    for entry in &mut table.entries {
        if entry.key != "grants" {
            into_value(&mut entry.value, values, problems);
        }
    }
}

fn into_value(value: &mut Value, values: &IndexMap<String, Kind>, problems: &mut Vec<Diagnostic>) {
    match &mut value.kind {
        Kind::Text(text) if text.contains("${") => {
            if let Some(kind) = expand(text, &value.span, values, problems) {
                value.kind = kind;
            }
        }
        Kind::List(list) => list.iter_mut().for_each(|value| into_value(value, values, problems)),
        Kind::Table(table) => substitute(table, values, problems),
        _ => {}
    }
}

/// A string that is one variable and nothing else takes the variable's type. `$${` stands for `${`.
fn expand(text: &str, span: &Span, values: &IndexMap<String, Kind>, problems: &mut Vec<Diagnostic>) -> Option<Kind> {
    let whole = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|name| !name.contains("${"));
    if let Some(found) = whole.and_then(|name| values.get(name)) {
        return Some(found.clone());
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            let hint = "write `$${` for a literal `${`";
            problems.push(Diagnostic::at(Code::UnknownVariable, span, "`${` is not closed by `}`").hint(hint));
            return None;
        };
        match values.get(name) {
            Some(Kind::Text(text)) => out.push_str(text),
            Some(Kind::Integer(integer)) => out.push_str(&integer.to_string()),
            Some(Kind::Float(float)) => out.push_str(&float.to_string()),
            Some(Kind::Boolean(boolean)) => out.push_str(&boolean.to_string()),
            _ => {
                problems.push(unknown(name, span, values));
                return None;
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Some(Kind::Text(out))
}

fn unknown(name: &str, span: &Span, values: &IndexMap<String, Kind>) -> Diagnostic {
    if name.starts_with("secret:") {
        let message = format!("`${{{name}}}` is a secret, and secrets may stand in grants only");
        return Diagnostic::at(Code::UnknownVariable, span, message);
    }
    let hint = meant(name, values.keys().map(String::as_str))
        .unwrap_or_else(|| format!("declare it: `[vars]` with `{name} = \"…\"`"));
    Diagnostic::at(
        Code::UnknownVariable,
        span,
        format!("variable `{name}` is not declared in `[vars]`"),
    )
    .hint(hint)
}
