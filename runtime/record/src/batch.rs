//! The batch itself, its builder and the few operations that the engine needs on it.

use arrow_array::builder::BinaryBuilder;
use arrow_array::{Array, BinaryArray, BooleanArray, UInt32Array};
use arrow_buffer::ScalarBuffer;

use crate::Olds;

/// What is wrong with columns that were to become a batch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("column `{column}` has {found} rows where the keys have {expected}")]
    Length {
        column: &'static str,
        expected: usize,
        found: usize,
    },
    #[error("columns larger than 2 GiB")]
    TooLarge,
    #[error("{0}")]
    Arrow(String),
}

/// The headers of one record, in their order: name and value; a name may repeat.
pub type RowHeaders = Vec<(String, Option<Vec<u8>>)>;

/// Headers of a batch: those of row i are entries `offsets[i]..offsets[i + 1]`, in their order; a name may repeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers {
    rows: Vec<RowHeaders>,
}

impl Headers {
    pub fn from_rows(rows: Vec<RowHeaders>) -> Self {
        Self { rows }
    }

    pub fn row(&self, row: usize) -> &[(String, Option<Vec<u8>>)] {
        self.rows.get(row).map_or(&[], Vec::as_slice)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Records in columns. All columns have the same number of rows.
#[derive(Clone, Debug)]
pub struct Batch {
    keys: BinaryArray,
    values: BinaryArray,
    timestamps: ScalarBuffer<i64>,
    headers: Option<Headers>,
    olds: Option<Olds>,
}

impl Batch {
    /// # Errors
    /// [`Error::Length`] when the columns differ in length.
    pub fn new(
        keys: BinaryArray,
        values: BinaryArray,
        timestamps: ScalarBuffer<i64>,
        headers: Option<Headers>,
    ) -> Result<Self, Error> {
        let expected = keys.len();
        let lengths = [
            ("values", values.len()),
            ("timestamps", timestamps.len()),
            ("headers", headers.as_ref().map_or(expected, Headers::len)),
        ];
        for (column, found) in lengths {
            if found != expected {
                return Err(Error::Length {
                    column,
                    expected,
                    found,
                });
            }
        }
        Ok(Self {
            keys,
            values,
            timestamps,
            headers,
            olds: None,
        })
    }

    /// These rows as changes of a table: each with what it replaces.
    ///
    /// # Errors
    /// [`Error::Length`] when there are not as many.
    pub fn with_olds(mut self, olds: Olds) -> Result<Self, Error> {
        if olds.len() != self.len() {
            return Err(Error::Length {
                column: "olds",
                expected: self.len(),
                found: olds.len(),
            });
        }
        self.olds = Some(olds);
        Ok(self)
    }

    /// The same rows with these times; what they replace is forgotten.
    ///
    /// # Errors
    /// [`Error::Length`] when there are not as many.
    pub fn with_timestamps(&self, timestamps: ScalarBuffer<i64>) -> Result<Self, Error> {
        Self::new(self.keys.clone(), self.values.clone(), timestamps, self.headers.clone())
    }

    pub fn without_olds(mut self) -> Self {
        self.olds = None;
        self
    }

    pub fn empty() -> Self {
        BatchBuilder::default().finish()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn keys(&self) -> &BinaryArray {
        &self.keys
    }

    pub fn values(&self) -> &BinaryArray {
        &self.values
    }

    pub fn timestamps(&self) -> &[i64] {
        &self.timestamps
    }

    pub fn timestamp_buffer(&self) -> &ScalarBuffer<i64> {
        &self.timestamps
    }

    pub fn headers(&self) -> Option<&Headers> {
        self.headers.as_ref()
    }

    /// `None` is a null key, and also what a row that is not there gives.
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        (row < self.keys.len() && self.keys.is_valid(row)).then(|| self.keys.value(row))
    }

    /// `None` is a tombstone, and also what a row that is not there gives.
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        (row < self.values.len() && self.values.is_valid(row)).then(|| self.values.value(row))
    }

    /// What the rows replace; `None` where nobody asked for it.
    pub fn olds(&self) -> Option<&Olds> {
        self.olds.as_ref()
    }

    /// The value that row `row` of a table replaces, with its time; `None`: there was none.
    pub fn old(&self, row: usize) -> Option<(i64, &[u8])> {
        self.olds.as_ref()?.get(row)
    }

    /// Bytes of keys and values; what bounds on queues and batches count.
    pub fn bytes(&self) -> usize {
        let of = |a: &BinaryArray| {
            let offsets = a.value_offsets();
            offsets
                .last()
                .zip(offsets.first())
                .map_or(0, |(end, start)| (end - start) as usize)
        };
        of(&self.keys) + of(&self.values)
    }

    /// Rows `offset..offset + length` (cut to what is there), sharing the bytes.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let offset = offset.min(self.len());
        let length = length.min(self.len() - offset);
        Self {
            keys: self.keys.slice(offset, length),
            values: self.values.slice(offset, length),
            timestamps: self.timestamps.slice(offset, length),
            headers: self
                .headers
                .as_ref()
                .map(|h| Headers::from_rows((offset..offset + length).map(|i| h.row(i).to_vec()).collect())),
            olds: self.olds.as_ref().map(|olds| olds.slice(offset, length)),
        }
    }

    /// The rows for which `keep` is true, in order. `keep` has one entry a row.
    ///
    /// # Errors
    /// [`Error::Arrow`] when the lengths differ.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self, Error> {
        let rows: Vec<u32> = keep.values().set_indices().map(|i| i as u32).collect();
        if keep.len() != self.len() {
            return Err(Error::Length {
                column: "filter",
                expected: self.len(),
                found: keep.len(),
            });
        }
        self.take(&rows)
    }

    /// The rows named by `rows`, in that order; a row may occur more than once.
    ///
    /// # Errors
    /// [`Error::Arrow`] when a row is out of bounds.
    pub fn take(&self, rows: &[u32]) -> Result<Self, Error> {
        let indices = UInt32Array::from(rows.to_vec());
        let column = |a: &BinaryArray| take_column(a, &indices);
        let keys = column(&self.keys)?;
        let timestamps = rows
            .iter()
            .filter_map(|r| self.timestamps.get(*r as usize).copied())
            .collect();
        Ok(Self {
            keys,
            values: column(&self.values)?,
            timestamps,
            headers: self
                .headers
                .as_ref()
                .map(|h| Headers::from_rows(rows.iter().map(|r| h.row(*r as usize).to_vec()).collect())),
            olds: self.olds.as_ref().map(|olds| olds.take(&indices)).transpose()?,
        })
    }

    /// All rows of all batches in order. Headers are kept when any of them has some.
    ///
    /// # Errors
    /// [`Error::Arrow`] when the result does not fit 32-bit offsets.
    pub fn concat(batches: &[&Batch]) -> Result<Self, Error> {
        if let [only] = batches {
            return Ok((*only).clone());
        }
        let column = |pick: fn(&Batch) -> &BinaryArray| -> Result<BinaryArray, Error> {
            let parts: Vec<&dyn Array> = batches.iter().map(|b| pick(b) as &dyn Array).collect();
            if parts.is_empty() {
                return Ok(BinaryBuilder::new().finish());
            }
            let joined = arrow_select::concat::concat(&parts).map_err(|e| Error::Arrow(e.to_string()))?;
            joined
                .as_any()
                .downcast_ref::<BinaryArray>()
                .cloned()
                .ok_or(Error::TooLarge)
        };
        let headers = batches.iter().any(|b| b.headers.is_some()).then(|| {
            let rows = batches
                .iter()
                .flat_map(|b| (0..b.len()).map(|i| b.headers.as_ref().map_or_else(Vec::new, |h| h.row(i).to_vec())));
            Headers::from_rows(rows.collect())
        });
        Ok(Self {
            keys: column(Batch::keys)?,
            values: column(Batch::values)?,
            timestamps: batches.iter().flat_map(|b| b.timestamps.iter().copied()).collect(),
            headers,
            olds: Olds::of_all(batches),
        })
    }
}

pub(crate) fn take_column(column: &BinaryArray, rows: &UInt32Array) -> Result<BinaryArray, Error> {
    let options = arrow_select::take::TakeOptions { check_bounds: true };
    let taken = arrow_select::take::take(column, rows, Some(options)).map_err(|e| Error::Arrow(e.to_string()))?;
    taken
        .as_any()
        .downcast_ref::<BinaryArray>()
        .cloned()
        .ok_or(Error::TooLarge)
}

/// Builds a batch row by row. Headers cost only when a row has some.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    keys: BinaryBuilder,
    values: BinaryBuilder,
    timestamps: Vec<i64>,
    headers: Option<Vec<RowHeaders>>,
}

impl BatchBuilder {
    pub fn with_capacity(rows: usize, key_bytes: usize, value_bytes: usize) -> Self {
        Self {
            keys: BinaryBuilder::with_capacity(rows, key_bytes),
            values: BinaryBuilder::with_capacity(rows, value_bytes),
            timestamps: Vec::with_capacity(rows),
            headers: None,
        }
    }

    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) {
        self.keys.append_option(key);
        self.values.append_option(value);
        self.timestamps.push(timestamp);
        if let Some(headers) = &mut self.headers {
            headers.push(Vec::new());
        }
    }

    pub fn push_with_headers(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64, headers: RowHeaders) {
        let before = self.timestamps.len();
        self.push(key, value, timestamp);
        if headers.is_empty() {
            return;
        }
        let rows = self.headers.get_or_insert_with(|| vec![Vec::new(); before + 1]);
        if let Some(last) = rows.last_mut() {
            *last = headers;
        }
    }

    /// The batch; the builder is empty afterwards.
    pub fn finish(&mut self) -> Batch {
        Batch {
            keys: self.keys.finish(),
            values: self.values.finish(),
            timestamps: std::mem::take(&mut self.timestamps).into(),
            headers: self.headers.take().map(Headers::from_rows),
            olds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn sample() -> Batch {
        let mut b = BatchBuilder::default();
        b.push(Some(b"a"), Some(b"1"), 10);
        b.push_with_headers(None, Some(b"2"), 20, vec![("h".into(), None)]);
        b.push(Some(b"c"), None, 30);
        b.finish()
    }

    #[test]
    fn null_and_empty_differ() {
        let mut b = BatchBuilder::default();
        b.push(Some(b""), None, 0);
        let b = b.finish();
        assert_eq!((b.key(0), b.value(0)), (Some(&b""[..]), None));
    }

    #[test]
    fn slices_takes_and_joins_keep_every_column() {
        let b = sample();
        let t = b.take(&[2, 1]).unwrap();
        assert_eq!((t.key(0), t.value(0), t.timestamps()[0]), (Some(&b"c"[..]), None, 30));
        assert_eq!(t.headers().unwrap().row(1).len(), 1);
        let s = b.slice(1, 9);
        assert_eq!((s.len(), s.key(0), s.bytes()), (2, None, 2));
        let c = Batch::concat(&[&s, &b]).unwrap();
        assert_eq!((c.len(), c.timestamps()), (5, &[20, 30, 10, 20, 30][..]));
        assert!(b.take(&[3]).is_err());
    }
}
