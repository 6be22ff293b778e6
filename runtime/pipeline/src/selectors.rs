//! Parts of a record as the file names them: `key`, `value`, `value.FIELD`.

use topology::{FieldPath, Selector};

use crate::file::Part;
use crate::reader::{Reader, Text};

/// `None`: the text is no part of a record, which is reported.
pub fn read(text: Text, reader: &mut Reader) -> Option<Part> {
    let Some(selector) = plain(&text.text) else {
        let hint = "say `key`, `value` or `value.FIELD`, a field of a JSON value; what an expression gives becomes the key \
                    by a `select-key` step with `key = \"…\"`";
        let hint = Some(hint.to_string());
        reader.bad_value(&text.span, format!("`{}` is no part of a record", text.text), hint);
        return None;
    };
    Some(Part {
        selector,
        span: text.span,
    })
}

/// `None`: the text is something else, perhaps an expression. A field's name has letters, digits, `_` and `-`.
pub fn plain_field(text: &str) -> Option<Selector> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    plain(text).filter(|_| text.chars().all(is_name))
}

fn plain(text: &str) -> Option<Selector> {
    let fields: Option<Vec<String>> = text
        .strip_prefix("value.")
        .map(|path| path.split('.').map(str::to_string).collect());
    match (text, fields) {
        ("key", _) => Some(Selector::Key),
        ("value", _) => Some(Selector::Value),
        (_, Some(path)) if path.iter().all(|field| is_field(field)) => Some(Selector::Field(FieldPath(path))),
        _ => None,
    }
}

/// Whether it may be a field's name in a path, and is no piece of an expression, which would be a field that no value has.
fn is_field(name: &str) -> bool {
    let of_expressions = |c: char| c.is_whitespace() || "()[]{}\"'<>=!&|?*+,%".contains(c);
    !name.is_empty() && !name.contains(of_expressions)
}
