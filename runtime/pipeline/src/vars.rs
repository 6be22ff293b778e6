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

    /// What was given, as `--set` would give it: for those who send it on as text.
    pub fn texts(&self) -> impl Iterator<Item = (String, String)> {
        self.given.iter().map(|(name, given)| {
            let text = match given {
                Given::Text(text) | Given::Value(Kind::Text(text)) => text.clone(),
                Given::Value(Kind::Integer(integer)) => integer.to_string(),
                Given::Value(Kind::Float(float)) => float.to_string(),
                Given::Value(Kind::Boolean(boolean)) => boolean.to_string(),
                // `file` takes scalars only.
                Given::Value(_) => String::new(),
            };
            (name.clone(), text)
        })
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

/// Stands before the name of a secret in the headers of a grant, once variables are put in, and [`SECRET_END`] after it.
/// No header can hold these characters, and no value of a variable keeps them: so none can name a secret.
pub const SECRET: char = '\u{1}';
pub const SECRET_END: char = '\u{2}';

/// Puts variables into every string below `table`, except in `[vars]` itself. In the `headers` of `grants` secrets stay,
/// between [`SECRET`] and [`SECRET_END`].
pub fn substitute(table: &mut Table, values: &IndexMap<String, Kind>, problems: &mut Vec<Diagnostic>) {
    Substitution { values, problems }.table(table, Place::Elsewhere);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Elsewhere,
    Grants,
    /// Of a grant: where secrets may stand.
    Headers,
}

struct Substitution<'a> {
    values: &'a IndexMap<String, Kind>,
    problems: &'a mut Vec<Diagnostic>,
}

impl Substitution<'_> {
    fn table(&mut self, table: &mut Table, place: Place) {
        for entry in &mut table.entries {
            let place = match (place, entry.key.as_str()) {
                (Place::Elsewhere, "grants") => Place::Grants,
                (Place::Grants, "headers") => Place::Headers,
                _ => place,
            };
            self.value(&mut entry.value, place);
        }
    }

    fn value(&mut self, value: &mut Value, place: Place) {
        match &mut value.kind {
            Kind::Text(text) => {
                if place == Place::Headers {
                    *text = without_marks(text);
                }
                if text.contains("${")
                    && let Some(kind) = self.expand(text, &value.span, place)
                {
                    value.kind = kind;
                }
            }
            Kind::List(list) => list.iter_mut().for_each(|value| self.value(value, place)),
            Kind::Table(table) => self.table(table, place),
            _ => {}
        }
    }

    /// A string that is one variable and nothing else takes the variable's type. `$${` stands for `${`.
    fn expand(&mut self, text: &str, span: &Span, place: Place) -> Option<Kind> {
        let whole = text
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
            .filter(|name| !name.contains("${"));
        match whole.and_then(|name| self.values.get(name)) {
            Some(Kind::Text(text)) => return Some(Kind::Text(without_marks(text))),
            Some(found) => return Some(found.clone()),
            None => {}
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
                let problem = Diagnostic::at(Code::UnknownVariable, span, "`${` is not closed by `}`");
                self.problems.push(problem.hint(hint));
                return None;
            };
            match (self.values.get(name), name.strip_prefix("secret:")) {
                (Some(Kind::Text(text)), _) => out.push_str(&without_marks(text)),
                (Some(Kind::Integer(integer)), _) => out.push_str(&integer.to_string()),
                (Some(Kind::Float(float)), _) => out.push_str(&float.to_string()),
                (Some(Kind::Boolean(boolean)), _) => out.push_str(&boolean.to_string()),
                (_, Some(secret)) if place == Place::Headers => {
                    out.push(SECRET);
                    out.push_str(secret);
                    out.push(SECRET_END);
                }
                _ => {
                    self.problems.push(unknown(name, span, self.values, place));
                    return None;
                }
            }
            rest = after;
        }
        out.push_str(rest);
        Some(Kind::Text(out))
    }
}

fn without_marks(text: &str) -> String {
    text.replace([SECRET, SECRET_END], "\u{fffd}")
}

fn unknown(name: &str, span: &Span, values: &IndexMap<String, Kind>, place: Place) -> Diagnostic {
    if name.starts_with("secret:") {
        let (message, hint) = if place == Place::Elsewhere {
            (
                format!("`${{{name}}}` is a secret, and secrets may stand in grants only"),
                "the host adds it to requests: `[[steps.NAME.grants.http]]` with `headers = { authorization = \"…\" }`",
            )
        } else {
            (
                format!("`${{{name}}}` is a secret, and secrets may stand in the `headers` of a grant only"),
                "say `headers = { authorization = \"Bearer ${secret:NAME}\" }`",
            )
        };
        return Diagnostic::at(Code::UnknownVariable, span, message).hint(hint);
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
