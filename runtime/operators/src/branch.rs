//! Which output port each row goes to: the first branch whose condition it meets.

use record::Batch;
use serde_json::Value;
use topology::{Branch, Predicate, Selector};

use crate::Error;
use crate::condition::Condition;
use crate::select::{field, select};

#[derive(Clone, Debug)]
pub struct Branching {
    conditions: Vec<Condition>,
    /// Port of the default branch.
    default: Option<u32>,
}

impl Branching {
    pub fn new(branch: &Branch) -> Self {
        Self {
            conditions: branch
                .branches
                .iter()
                .map(|(_, predicate)| Condition::new(predicate))
                .collect(),
            default: branch.default.as_ref().map(|_| branch.branches.len() as u32),
        }
    }

    /// The port of each row; `None`: it matches nothing and there is no default branch.
    ///
    /// # Errors
    /// [`Error::Row`] for a value that is not JSON where a field of it is asked for, or a condition that fails.
    pub fn ports(&self, batch: &Batch) -> Result<Vec<Option<u32>>, Error> {
        (0..batch.len())
            .map(|row| {
                for (port, condition) in self.conditions.iter().enumerate() {
                    if condition.holds(batch, row)? {
                        return Ok(Some(port as u32));
                    }
                }
                Ok(self.default)
            })
            .collect()
    }
}

/// What needs no expression.
pub fn holds(predicate: &Predicate, batch: &Batch, row: usize) -> Result<bool, String> {
    match predicate {
        Predicate::Where(expression) => Err(format!("`{}` was not compiled", expression.text)),
        Predicate::Exists { of } => Ok(select(of, batch, row)?.is_some()),
        Predicate::StartsWith { of, prefix } => {
            Ok(select(of, batch, row)?.is_some_and(|bytes| bytes.starts_with(prefix.as_bytes())))
        }
        Predicate::Equals {
            of: Selector::Field(path),
            value,
        } => {
            let Some(bytes) = batch.value(row) else {
                return Ok(value.is_null());
            };
            Ok(field(bytes, path)?.map_or(value.is_null(), |found| same(&found, value)))
        }
        Predicate::Equals { of, value } => Ok(match select(of, batch, row)? {
            None => value.is_null(),
            Some(bytes) => equals_bytes(value, &bytes),
        }),
    }
}

/// A text equals its characters; anything else the same JSON value, or the same number in 8 bytes big-endian.
fn equals_bytes(value: &Value, bytes: &[u8]) -> bool {
    if let Value::String(text) = value
        && text.as_bytes() == bytes
    {
        return true;
    }
    let eight: Option<[u8; 8]> = bytes.try_into().ok();
    if let (Value::Number(number), Some(eight)) = (value, eight) {
        let integer = number.as_i64().is_some_and(|n| n.to_be_bytes() == eight);
        if integer || number.as_f64().is_some_and(|n| n.to_be_bytes() == eight) {
            return true;
        }
    }
    serde_json::from_slice::<Value>(bytes).is_ok_and(|found| same(&found, value))
}

/// `1` and `1.0` are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}
