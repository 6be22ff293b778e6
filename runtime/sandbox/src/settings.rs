//! Checked settings of a pipeline as the module receives them.

use serde_json::Value;
use topology::description::ModuleDescription;

use crate::bindings::wasmill::streams::description as wit;
use crate::error::Error;

/// A setting that owns its text; the bindings borrow from it at every `open`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Setting {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Texts(Vec<String>),
    Json(String),
}

/// By the kind of the parameter, so that `json` may hold any JSON value and `number` a whole number.
///
/// # Errors
/// [`Error::Setting`] for a name that the module does not know or a value that is not of its kind: `pipeline` checks
/// both, so this is the last line and not the first.
pub(crate) fn check(
    description: &ModuleDescription,
    settings: Vec<(String, Value)>,
) -> Result<Vec<(String, Setting)>, Error> {
    settings
        .into_iter()
        .map(|(name, value)| {
            let parameter = description.parameters.iter().find(|parameter| parameter.name == name);
            let setting = match parameter {
                None => Err("the module has no such parameter".into()),
                Some(parameter) => of_kind(&parameter.kind, value),
            };
            match setting {
                Ok(setting) => Ok((name, setting)),
                Err(cause) => Err(Error::Setting { name, cause }),
            }
        })
        .collect()
}

fn of_kind(kind: &str, value: Value) -> Result<Setting, String> {
    let misfit = |value: &Value| format!("{value} is not of the kind `{kind}`");
    match (kind, value) {
        ("json", value) => Ok(Setting::Json(value.to_string())),
        ("string", Value::String(text)) => Ok(Setting::Text(text)),
        ("boolean", Value::Bool(truth)) => Ok(Setting::Boolean(truth)),
        ("integer" | "duration" | "bytes", value) => value.as_i64().map(Setting::Integer).ok_or_else(|| misfit(&value)),
        ("number", value) => value.as_f64().map(Setting::Number).ok_or_else(|| misfit(&value)),
        ("list", Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(format!("{other} in it is not a string")),
            })
            .collect::<Result<_, _>>()
            .map(Setting::Texts),
        (_, value) => Err(misfit(&value)),
    }
}

impl Setting {
    /// `texts` are those of [`Setting::Texts`], borrowed.
    fn view<'a>(&'a self, texts: &'a [&'a str]) -> wit::Value<'a> {
        match self {
            Self::Text(text) => wit::Value::Text(text),
            Self::Integer(integer) => wit::Value::Integer(*integer),
            Self::Number(number) => wit::Value::Number(*number),
            Self::Boolean(truth) => wit::Value::Boolean(*truth),
            Self::Texts(_) => wit::Value::Texts(texts),
            Self::Json(json) => wit::Value::Json(json),
        }
    }
}

/// Calls `then` with the settings in the contract's form.
pub(crate) fn with_views<R>(settings: &[(String, Setting)], then: impl FnOnce(&[wit::Setting<'_>]) -> R) -> R {
    let lists: Vec<Vec<&str>> = settings
        .iter()
        .map(|(_, setting)| match setting {
            Setting::Texts(texts) => texts.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        })
        .collect();
    let views: Vec<wit::Setting<'_>> = settings
        .iter()
        .zip(&lists)
        .map(|((name, setting), list)| wit::Setting {
            name,
            value: setting.view(list),
        })
        .collect();
    then(&views)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_kind_chooses_the_case() {
        let cases = [
            ("string", json!("a"), Some(Setting::Text("a".into()))),
            ("duration", json!(1500), Some(Setting::Integer(1500))),
            ("bytes", json!(1024), Some(Setting::Integer(1024))),
            ("number", json!(2), Some(Setting::Number(2.0))),
            (
                "list",
                json!(["a", "b"]),
                Some(Setting::Texts(vec!["a".into(), "b".into()])),
            ),
            ("json", json!("a"), Some(Setting::Json("\"a\"".into()))),
            ("integer", json!(1.5), None),
            ("list", json!([1]), None),
            ("boolean", json!("true"), None),
        ];
        for (kind, value, expected) in cases {
            assert_eq!(of_kind(kind, value.clone()).ok(), expected, "{kind} {value}");
        }
    }
}
