//! Parts of a row as bytes and numbers.

use std::borrow::Cow;

use record::Batch;
use serde_json::Value;
use topology::{FieldPath, Format, Selector};

/// The selected part of a row; `None` where it is null or not there. A JSON string gives its characters, every other
/// field its JSON text.
///
/// # Errors
/// Why the value is no JSON document, where a field of it is asked for.
pub fn select<'a>(selector: &Selector, batch: &'a Batch, row: usize) -> Result<Option<Cow<'a, [u8]>>, String> {
    select_of(selector, batch.key(row), batch.value(row))
}

/// As [`select`], of a key and a value.
///
/// # Errors
/// As [`select`].
pub fn select_of<'a>(
    selector: &Selector,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
) -> Result<Option<Cow<'a, [u8]>>, String> {
    match selector {
        Selector::Key => Ok(key.map(Cow::Borrowed)),
        Selector::Value => Ok(value.map(Cow::Borrowed)),
        Selector::Field(path) => {
            let Some(bytes) = value else { return Ok(None) };
            Ok(field(bytes, path)?.map(|value| {
                Cow::Owned(match value {
                    Value::String(text) => text.into_bytes(),
                    other => other.to_string().into_bytes(),
                })
            }))
        }
    }
}

/// A field of a JSON document; `None` where it is null or not there.
pub fn field(bytes: &[u8], path: &FieldPath) -> Result<Option<Value>, String> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| format!("the value is not JSON: {e}"))?;
    for name in &path.0 {
        value = match &mut value {
            Value::Object(fields) => fields.get_mut(name).map(Value::take).unwrap_or_default(),
            _ => Value::Null,
        };
    }
    Ok(Some(value).filter(|v| !v.is_null()))
}

/// A number as the format says: 8 bytes big-endian, or the text of a JSON number.
///
/// # Errors
/// Why these bytes are no such number.
pub fn integer(format: Format, field: bool, bytes: &[u8]) -> Result<i64, String> {
    match (format, field) {
        (Format::I64, false) => eight(bytes).map(i64::from_be_bytes),
        (Format::F64, false) => Err("a floating-point number where an integer is needed".into()),
        _ => {
            let text = text(bytes)?;
            text.parse::<i64>()
                .map_err(|_| format!("`{}` is not an integer of 64 bits", excerpt(text)))
        }
    }
}

/// As [`integer`], for floating-point results.
///
/// # Errors
/// Why these bytes are no such number.
pub fn float(format: Format, field: bool, bytes: &[u8]) -> Result<f64, String> {
    match (format, field) {
        (Format::F64, false) => eight(bytes).map(f64::from_be_bytes),
        (Format::I64, false) => eight(bytes).map(|b| i64::from_be_bytes(b) as f64),
        _ => {
            let text = text(bytes)?;
            let number: serde_json::Number = text
                .parse()
                .map_err(|_| format!("`{}` is not a number", excerpt(text)))?;
            number
                .as_f64()
                .ok_or_else(|| format!("`{}` is not a number", excerpt(text)))
        }
    }
}

fn eight(bytes: &[u8]) -> Result<[u8; 8], String> {
    bytes
        .try_into()
        .map_err(|_| format!("{} bytes where a number has 8", bytes.len()))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes)
        .map(str::trim)
        .map_err(|_| "the value is not UTF-8".to_owned())
}

/// The beginning of a text that may be long.
fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}
