//! What rows of a table replace: Kafka Streams' `Change`, as a column beside the values.

use arrow_array::builder::BinaryBuilder;
use arrow_array::{Array, BinaryArray, UInt32Array};
use arrow_buffer::ScalarBuffer;

use crate::batch::take_column;
use crate::{Batch, Error};

/// The value that each row replaces, with the time it had. Null: there was none.
#[derive(Clone, Debug)]
pub struct Olds {
    values: BinaryArray,
    timestamps: ScalarBuffer<i64>,
}

impl Olds {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn get(&self, row: usize) -> Option<(i64, &[u8])> {
        let there = row < self.values.len() && self.values.is_valid(row);
        there.then(|| (self.timestamps.get(row).copied().unwrap_or(0), self.values.value(row)))
    }

    pub(crate) fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            values: self.values.slice(offset, length),
            timestamps: self.timestamps.slice(offset, length),
        }
    }

    pub(crate) fn take(&self, rows: &UInt32Array) -> Result<Self, Error> {
        let time = |row: &u32| self.timestamps.get(*row as usize).copied();
        Ok(Self {
            values: take_column(&self.values, rows)?,
            timestamps: rows.values().iter().filter_map(time).collect(),
        })
    }

    /// Those of all batches; rows of a batch that has none replace nothing.
    pub(crate) fn of_all(batches: &[&Batch]) -> Option<Self> {
        if batches.iter().all(|batch| batch.olds().is_none()) {
            return None;
        }
        let mut olds = OldsBuilder::default();
        for batch in batches {
            for row in 0..batch.len() {
                olds.push(batch.old(row));
            }
        }
        Some(olds.finish())
    }
}

#[derive(Debug, Default)]
pub struct OldsBuilder {
    values: BinaryBuilder,
    timestamps: Vec<i64>,
}

impl OldsBuilder {
    pub fn push(&mut self, old: Option<(i64, &[u8])>) {
        self.values.append_option(old.map(|(_, value)| value));
        self.timestamps.push(old.map_or(0, |(time, _)| time));
    }

    /// The column; the builder is empty afterwards.
    pub fn finish(&mut self) -> Olds {
        Olds {
            values: self.values.finish(),
            timestamps: std::mem::take(&mut self.timestamps).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::BatchBuilder;

    #[test]
    fn slices_takes_and_joins_keep_what_rows_replace() {
        let mut rows = BatchBuilder::default();
        let mut olds = OldsBuilder::default();
        for (value, old) in [("1", None), ("2", Some((10, &b"1"[..]))), ("3", Some((20, &b"2"[..])))] {
            rows.push(Some(b"k"), Some(value.as_bytes()), 30);
            olds.push(old);
        }
        let plain = rows.finish();
        let batch = plain.clone().with_olds(olds.finish()).unwrap();
        assert_eq!(batch.slice(1, 2).old(1), Some((20, &b"2"[..])));
        assert_eq!(batch.take(&[2, 0]).unwrap().old(0), Some((20, &b"2"[..])));
        let joined = Batch::concat(&[&plain, &batch]).unwrap();
        assert_eq!((joined.old(2), joined.old(4)), (None, Some((10, &b"1"[..]))));
        assert!(Batch::concat(&[&plain, &plain]).unwrap().olds().is_none());
        assert!(plain.with_olds(batch.slice(0, 2).olds().unwrap().clone()).is_err());
    }
}
