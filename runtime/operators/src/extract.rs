//! The time of a source's row, out of the row.

use expressions::Row;
use record::Batch;
use serde_json::Value;
use topology::{Format, Selector, Source, TimeForm, TimeOf};

use crate::Error;
use crate::condition::{Evaluated, evaluation, seen};
use crate::select::{field, select};

/// Times before 1970 are none.
#[derive(Clone, Debug)]
pub struct Extractor {
    of: Of,
    form: TimeForm,
}

#[derive(Clone, Debug)]
enum Of {
    Record,
    WallClock,
    /// With the format of its bytes.
    Part(Selector, Format),
    Expression(Evaluated),
}

impl Extractor {
    pub fn new(source: &Source) -> Self {
        let natural = TimeForm::Natural;
        let (of, form) = match &source.timestamps.of {
            TimeOf::Record => (Of::Record, natural),
            TimeOf::WallClock => (Of::WallClock, natural),
            TimeOf::Part { part, form } => {
                let format = match part {
                    Selector::Key => source.key,
                    Selector::Value | Selector::Field(_) => source.value,
                };
                (Of::Part(part.clone(), format), *form)
            }
            TimeOf::Expression { expression, form } => (Of::Expression(Evaluated::new(expression)), *form),
        };
        Self { of, form }
    }

    /// In milliseconds since 1970 UTC; never negative.
    ///
    /// # Errors
    /// Why the row has none.
    pub fn time(&self, batch: &Batch, row: usize, wall_time: i64) -> Result<i64, String> {
        let time = match &self.of {
            Of::Record => batch.timestamps().get(row).copied().unwrap_or(-1),
            Of::WallClock => wall_time,
            Of::Part(part, format) => self.read(&found(part, *format, batch, row)?)?,
            Of::Expression(evaluated) => self.read(&evaluated_at(evaluated, row, &seen(batch, row))?)?,
        };
        if time < 0 {
            return Err(format!("the time {time} lies before 1970"));
        }
        Ok(time)
    }

    fn read(&self, found: &Value) -> Result<i64, String> {
        let whole = |number: &Value| {
            let no_number = || format!("{} is no whole number", excerpt(number));
            number.as_i64().ok_or_else(no_number)
        };
        match (self.form, found) {
            (_, Value::Null) => Err("there is none, or it is null".to_owned()),
            (TimeForm::Natural, Value::String(text)) | (TimeForm::Rfc3339, Value::String(text)) => moment(text),
            (TimeForm::Rfc3339, other) => Err(format!("{} is no text", excerpt(other))),
            (TimeForm::S, number) => {
                let seconds = whole(number)?;
                let ms = seconds.checked_mul(1_000);
                ms.ok_or_else(|| format!("{seconds} s since 1970 are too many"))
            }
            (TimeForm::Natural | TimeForm::Ms, number) => whole(number),
        }
    }
}

/// A part of a row as JSON.
fn found(part: &Selector, format: Format, batch: &Batch, row: usize) -> Result<Value, String> {
    if let Selector::Field(path) = part {
        let bytes = batch.value(row).unwrap_or(b"null");
        return Ok(field(bytes, path)?.unwrap_or_default());
    }
    let Some(bytes) = select(part, batch, row)? else {
        return Ok(Value::Null);
    };
    match format {
        Format::I64 => {
            let eight = <[u8; 8]>::try_from(&*bytes);
            let number = eight.map_err(|_| format!("{} bytes where a number has 8", bytes.len()))?;
            Ok(i64::from_be_bytes(number).into())
        }
        Format::Json => serde_json::from_slice(&bytes).map_err(|e| format!("it is not JSON: {e}")),
        _ => {
            let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            Ok(text.parse::<i64>().map_or_else(|_| text.into(), Value::from))
        }
    }
}

fn evaluated_at(evaluated: &Evaluated, row: usize, seen: &Row<'_>) -> Result<Value, String> {
    let compiled = evaluated.get(row);
    let made = compiled.and_then(|compiled| compiled.json(seen, None).map_err(|error| evaluation(row, error)));
    made.map_err(|error| match error {
        Error::Row { reason, .. } => reason,
        other => other.to_string(),
    })
}

fn moment(text: &str) -> Result<i64, String> {
    let no_moment = |_| {
        let text: String = text.chars().take(40).collect();
        format!("`{text}` is no time with its offset like 2026-01-31T12:00:00Z")
    };
    let moment: jiff::Timestamp = text.parse().map_err(no_moment)?;
    // Down, also before 1970, so that nothing before it becomes 1970.
    Ok(moment.as_nanosecond().div_euclid(1_000_000) as i64)
}

fn excerpt(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use record::BatchBuilder;
    use topology::{Expression, FieldPath, SourceKind, Start, Timestamps};

    use super::*;

    fn time(of: TimeOf, format: Format, value: Option<&[u8]>) -> Result<i64, String> {
        let source = Source {
            topics: vec!["in".to_owned()],
            kind: SourceKind::Stream,
            key: Format::String,
            value: format,
            start: Start::Earliest,
            create: None,
            timestamps: Timestamps {
                of,
                ..Timestamps::default()
            },
        };
        let mut rows = BatchBuilder::default();
        rows.push(Some(b"k"), value, 7);
        Extractor::new(&source).time(&rows.finish(), 0, 99)
    }

    fn at(form: TimeForm, value: &str) -> Result<i64, String> {
        let part = Selector::Field(FieldPath(vec!["at".to_owned()]));
        time(TimeOf::Part { part, form }, Format::Json, Some(value.as_bytes()))
    }

    #[test]
    fn numbers_and_texts() {
        let natural = TimeForm::Natural;
        assert_eq!(at(natural, r#"{"at": 1500}"#), Ok(1_500));
        assert_eq!(at(natural, r#"{"at": "1970-01-01T01:00:01.2509+01:00"}"#), Ok(1_250));
        assert_eq!(at(TimeForm::S, r#"{"at": 3}"#), Ok(3_000));
        for (form, value) in [
            (natural, r#"{"at": null}"#),
            (natural, r#"{"at": 1.5}"#),
            (natural, r#"{"at": -1}"#),
            (natural, r#"{"at": "1969-12-31T23:59:59.9999Z"}"#),
            (natural, r#"{"at": "2026-01-31T12:00:00"}"#),
            (natural, "nonsense"),
            (TimeForm::Ms, r#"{"at": "1970-01-01T00:00:01Z"}"#),
            (TimeForm::Rfc3339, r#"{"at": 1}"#),
            (TimeForm::S, r#"{"at": 9223372036854775807}"#),
        ] {
            assert!(at(form, value).is_err(), "{form:?} {value}");
        }
    }

    #[test]
    fn other_places() {
        let part = |part| TimeOf::Part {
            part,
            form: TimeForm::Natural,
        };
        let five = 5_i64.to_be_bytes();
        assert_eq!(time(part(Selector::Value), Format::I64, Some(&five)), Ok(5));
        assert_eq!(time(part(Selector::Value), Format::String, Some(b"12")), Ok(12));
        assert!(time(part(Selector::Value), Format::String, None).is_err());
        assert!(time(part(Selector::Key), Format::String, Some(b"12")).is_err());
        assert_eq!(time(TimeOf::Record, Format::Bytes, None), Ok(7));
        assert_eq!(time(TimeOf::WallClock, Format::Bytes, None), Ok(99));
        let expression = TimeOf::Expression {
            expression: Expression {
                text: "timestamp * 1000 + value".to_owned(),
                key: Format::String,
                value: Format::I64,
            },
            form: TimeForm::Ms,
        };
        assert_eq!(time(expression, Format::I64, Some(&five)), Ok(7_005));
    }
}
