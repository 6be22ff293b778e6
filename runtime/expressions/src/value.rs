//! Bytes of a record as values of an expression, and back.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use topology::Format;

use crate::{Error, RESULT_BYTES_MAX};

/// How deep a result may be nested: what `serde_json` reads.
const DEPTH_MAX: usize = 127;

/// A part of a record; null where it is null.
pub fn decode(format: Format, bytes: Option<&[u8]>, what: &str) -> Result<Value, Error> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    let eight = || {
        <[u8; 8]>::try_from(bytes)
            .map_err(|_| Error::Deserialization(format!("the {what} has {} bytes where a number has 8", bytes.len())))
    };
    Ok(match format {
        Format::String => Value::from(
            std::str::from_utf8(bytes).map_err(|_| Error::Deserialization(format!("the {what} is not UTF-8")))?,
        ),
        Format::I64 => Value::Int(i64::from_be_bytes(eight()?)),
        Format::F64 => Value::Float(f64::from_be_bytes(eight()?)),
        Format::Json => {
            serde_json::from_slice::<Read>(bytes)
                .map_err(|e| Error::Deserialization(format!("the {what} is not JSON: {e}")))?
                .0
        }
        // The keys of windows among them: their parts are no part of an expression.
        _ => Value::Bytes(Arc::new(bytes.to_vec())),
    })
}

/// By name; the last of those with one name. What is no UTF-8 is bytes.
pub fn headers(headers: &[(String, Option<Vec<u8>>)]) -> Value {
    let value = |bytes: &Option<Vec<u8>>| match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => Value::Bytes(Arc::new(bytes.clone())),
        },
    };
    let named: HashMap<Key, Value> = headers
        .iter()
        .map(|(name, bytes)| (Key::String(Arc::new(name.clone())), value(bytes)))
        .collect();
    Value::Map(Map { map: Arc::new(named) })
}

/// As a message says it.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::List(_) => "a list",
        Value::Map(_) | Value::Struct(_) => "an object",
        Value::Int(_) | Value::UInt(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::String(_) => "a text",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
        _ => "something else",
    }
}

/// Objects have their fields in the order of their names, so that the same record always gives the same bytes.
pub fn to_json(value: &Value, depth: usize) -> Result<Json, Error> {
    let fails = |reason: &str| Err(Error::Evaluation(reason.to_owned()));
    if depth > DEPTH_MAX {
        return fails("the result is nested too deeply");
    }
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(boolean) => (*boolean).into(),
        Value::Int(number) => (*number).into(),
        Value::UInt(number) => (*number).into(),
        Value::Float(number) => match serde_json::Number::from_f64(*number) {
            Some(number) => number.into(),
            None => return fails("the result is no number that JSON has"),
        },
        Value::String(text) if text.len() > RESULT_BYTES_MAX => return fails("the result is too large"),
        Value::String(text) => text.as_str().into(),
        Value::List(list) => list
            .iter()
            .map(|element| to_json(element, depth + 1))
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        Value::Map(map) => {
            let mut fields: Vec<(String, &Value)> = map.map.iter().map(|(k, v)| (k.to_string(), v)).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            let mut object = serde_json::Map::new();
            for (name, value) in fields {
                object.insert(name, to_json(value, depth + 1)?);
            }
            Json::Object(object)
        }
        other => {
            return Err(Error::Evaluation(format!(
                "the result is {}, which JSON has not",
                kind(other)
            )));
        }
    })
}

/// A result in the format that it is said to have; null is null.
///
/// # Errors
/// That it is no such thing.
pub fn encode(format: Format, json: &Json) -> Result<Option<Vec<u8>>, Error> {
    let bytes = match (format, json) {
        (_, Json::Null) => return Ok(None),
        (Format::I64, Json::Number(number)) if number.is_i64() => {
            number.as_i64().unwrap_or_default().to_be_bytes().to_vec()
        }
        (Format::F64, Json::Number(number)) => number.as_f64().unwrap_or(f64::NAN).to_be_bytes().to_vec(),
        (Format::I64 | Format::F64, other) => {
            return Err(Error::Evaluation(format!(
                "the result is said to be `{}`, and is {}",
                format.word(),
                json_kind(other)
            )));
        }
        (Format::Json, json) => json.to_string().into_bytes(),
        (_, Json::String(text)) => text.clone().into_bytes(),
        (_, json) => json.to_string().into_bytes(),
    };
    if bytes.len() > RESULT_BYTES_MAX {
        return Err(Error::Evaluation("the result is too large".to_owned()));
    }
    Ok(Some(bytes))
}

fn json_kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(number) if number.is_i64() => "a whole number",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// JSON straight into a value: whole numbers of 64 bits are whole, other numbers are floating-point.
struct Read(Value);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader).map(Read)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Value, E> {
        Ok(Value::Bool(boolean))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Read(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::List(Arc::new(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = HashMap::new();
        while let Some((name, Read(value))) = fields.next_entry::<String, Read>()? {
            map.insert(Key::String(Arc::new(name)), value);
        }
        Ok(Value::Map(Map { map: Arc::new(map) }))
    }
}
