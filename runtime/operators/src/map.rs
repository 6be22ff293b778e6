//! New keys and values by expressions; one row for each element of a list.

use arrow_array::BinaryArray;
use arrow_array::builder::BinaryBuilder;
use expressions::{Item, Row, encode};
use record::Batch;
use serde_json::Value;
use topology::{Format, Map, Shape};

use crate::condition::{Evaluated, evaluation, seen};
use crate::{Applied, Error};

#[derive(Clone, Debug)]
enum Made {
    Expression(Evaluated),
    Object(Vec<(String, Made)>),
}

impl Made {
    fn new(shape: &Shape) -> Self {
        match shape {
            Shape::Expression(expression) => Self::Expression(Evaluated::new(expression)),
            Shape::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(name, shape)| (name.clone(), Self::new(shape)))
                    .collect(),
            ),
        }
    }

    fn json(&self, number: usize, row: &Row<'_>, item: Option<&Item>) -> Result<Value, Error> {
        match self {
            Self::Expression(evaluated) => {
                let made = evaluated.get(number)?.json(row, item);
                made.map_err(|error| evaluation(number, error))
            }
            Self::Object(fields) => {
                let mut object = serde_json::Map::new();
                for (name, made) in fields {
                    object.insert(name.clone(), made.json(number, row, item)?);
                }
                Ok(Value::Object(object))
            }
        }
    }
}

/// `map`, `map-values`, `flat-map`, `flat-map-values`, and a key by expression.
#[derive(Clone, Debug)]
pub struct Mapping {
    each: Option<Evaluated>,
    key: Option<Made>,
    value: Option<Made>,
    key_format: Format,
    value_format: Format,
}

impl Mapping {
    pub fn new(map: &Map) -> Self {
        Self {
            each: map.each.as_ref().map(Evaluated::new),
            key: map.key.as_ref().map(Made::new),
            value: map.value.as_ref().map(Made::new),
            key_format: map.key_format,
            value_format: map.value_format,
        }
    }

    /// Rows keep their times and headers; what `each` makes of one row has all those of it.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row that cannot be evaluated.
    pub fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        let mut keys = Column::of(self.key.as_ref(), self.key_format, batch);
        let mut values = Column::of(self.value.as_ref(), self.value_format, batch);
        let mut causes: Vec<u32> = Vec::with_capacity(batch.len());
        for number in 0..batch.len() {
            let row = seen(batch, number);
            let Some(each) = &self.each else {
                keys.push(number, &row, None)?;
                values.push(number, &row, None)?;
                continue;
            };
            let items = each.get(number)?.list(&row);
            for item in items.map_err(|error| evaluation(number, error))? {
                keys.push(number, &row, Some(&item))?;
                values.push(number, &row, Some(&item))?;
                causes.push(number as u32);
            }
        }
        let given = if self.each.is_some() {
            batch.take(&causes)?
        } else {
            batch.clone()
        };
        let rows = Batch::new(
            keys.finish().unwrap_or_else(|| given.keys().clone()),
            values.finish().unwrap_or_else(|| given.values().clone()),
            given.timestamp_buffer().clone(),
            given.headers().cloned(),
        )?;
        Ok(Applied {
            rows,
            causes: self.each.is_some().then_some(causes),
            dropped: 0,
        })
    }
}

/// A column that is made anew, or stays.
struct Column<'m> {
    made: Option<(&'m Made, BinaryBuilder)>,
    format: Format,
}

impl<'m> Column<'m> {
    fn of(made: Option<&'m Made>, format: Format, batch: &Batch) -> Self {
        Self {
            made: made.map(|made| (made, BinaryBuilder::with_capacity(batch.len(), 16 * batch.len()))),
            format,
        }
    }

    fn push(&mut self, number: usize, row: &Row<'_>, item: Option<&Item>) -> Result<(), Error> {
        if let Some((made, column)) = &mut self.made {
            let json = made.json(number, row, item)?;
            column.append_option(encode(self.format, &json).map_err(|error| evaluation(number, error))?);
        }
        Ok(())
    }

    fn finish(self) -> Option<BinaryArray> {
        self.made.map(|(_, mut column)| column.finish())
    }
}
