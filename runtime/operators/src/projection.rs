//! The values of joined rows.

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use topology::{Format, Projection, Selector, Side};

/// Makes the value of a joined row from the values of its sides.
#[derive(Clone, Debug)]
pub struct Projector {
    projection: Projection,
    key: Format,
    left: Format,
    right: Format,
}

impl Projector {
    /// The formats say how keys and values become JSON.
    pub fn new(projection: Projection, key: Format, left: Format, right: Format) -> Self {
        Self {
            projection,
            key,
            left,
            right,
        }
    }

    /// # Errors
    /// Why a side is not what its format says.
    pub fn value(&self, key: Option<&[u8]>, left: Option<&[u8]>, right: Option<&[u8]>) -> Result<Vec<u8>, String> {
        match &self.projection {
            Projection::Both => self.both(left, right),
            Projection::Fields(fields) => self.fields(fields, key, left, right),
        }
    }

    /// JSON documents go on as they were written.
    fn both(&self, left: Option<&[u8]>, right: Option<&[u8]>) -> Result<Vec<u8>, String> {
        let (left, right) = (document(self.left, left)?, document(self.right, right)?);
        Ok(format!(r#"{{"left":{},"right":{}}}"#, left.get(), right.get()).into_bytes())
    }

    fn fields(
        &self,
        fields: &[(String, Side, Selector)],
        key: Option<&[u8]>,
        left: Option<&[u8]>,
        right: Option<&[u8]>,
    ) -> Result<Vec<u8>, String> {
        let uses = |wanted: Side| {
            let of = |(_, side, selector): &(String, Side, Selector)| *side == wanted && *selector != Selector::Key;
            fields.iter().any(of)
        };
        let read = |side, format, bytes| {
            if uses(side) {
                json(format, bytes)
            } else {
                Ok(Value::Null)
            }
        };
        let left = read(Side::Left, self.left, left)?;
        let right = read(Side::Right, self.right, right)?;
        let mut made = Map::with_capacity(fields.len());
        for (name, side, selector) in fields {
            let whole = match side {
                Side::Left => &left,
                Side::Right => &right,
            };
            let value = match selector {
                Selector::Key => json(self.key, key)?,
                Selector::Value => whole.clone(),
                Selector::Field(path) => path
                    .0
                    .iter()
                    .try_fold(whole, |value, field| value.get(field))
                    .cloned()
                    .unwrap_or_default(),
            };
            made.insert(name.clone(), value);
        }
        serde_json::to_vec(&made).map_err(|e| e.to_string())
    }
}

fn document(format: Format, bytes: Option<&[u8]>) -> Result<Box<RawValue>, String> {
    let raw = |text: String| RawValue::from_string(text).map_err(|e| format!("the value is not JSON: {e}"));
    match (format, bytes) {
        (Format::Json, Some(bytes)) => raw(text(bytes)?.to_owned()),
        _ => raw(json(format, bytes)?.to_string()),
    }
}

/// Bytes of a format as JSON: what is neither a number nor JSON is text.
pub(crate) fn json(format: Format, bytes: Option<&[u8]>) -> Result<Value, String> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    let eight = || <[u8; 8]>::try_from(bytes).map_err(|_| format!("{} bytes where a number has 8", bytes.len()));
    Ok(match format {
        Format::Json => serde_json::from_slice(bytes).map_err(|e| format!("the value is not JSON: {e}"))?,
        Format::I64 => Value::from(i64::from_be_bytes(eight()?)),
        Format::F64 => Value::from(f64::from_be_bytes(eight()?)),
        _ => Value::from(text(bytes)?),
    })
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "the value is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn made(projection: Projection, left: Option<&str>, right: Option<&str>) -> String {
        let projector = Projector::new(projection, Format::String, Format::Json, Format::String);
        let value = projector.value(Some(b"k"), left.map(str::as_bytes), right.map(str::as_bytes));
        String::from_utf8(value.unwrap()).unwrap()
    }

    #[test]
    fn both_sides_as_they_were_written() {
        let both = |left, right| made(Projection::Both, left, right);
        assert_eq!(
            both(Some(r#"{"n": 1.50}"#), Some("x")),
            r#"{"left":{"n": 1.50},"right":"x"}"#
        );
        assert_eq!(both(Some("1"), None), r#"{"left":1,"right":null}"#);
    }

    #[test]
    fn fields_in_their_order() {
        let field = |path: &str| Selector::Field(topology::FieldPath(path.split('.').map(str::to_owned).collect()));
        let fields = vec![
            ("z".to_owned(), Side::Left, field("a.b")),
            ("k".to_owned(), Side::Left, Selector::Key),
            ("r".to_owned(), Side::Right, Selector::Value),
            ("none".to_owned(), Side::Left, field("no.where")),
        ];
        let value = made(Projection::Fields(fields), Some(r#"{"a":{"b":[1]}}"#), Some("x"));
        assert_eq!(value, r#"{"z":[1],"k":"k","r":"x","none":null}"#);
    }
}
