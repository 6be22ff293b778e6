//! Columns of the contract: reading rows out of them and building them row by row.

use crate::bindings::wasmill::data::columns::{Batch, Column};

/// Reads rows of a column that the host made (and therefore well-formed).
impl Column {
    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The bytes of a row; `None` is null, as is a row that is not there.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> Option<&[u8]> {
        let (start, end) = (*self.offsets.get(row)?, *self.offsets.get(row + 1)?);
        match &self.validity {
            Some(bits) if !bit(bits, row) => None,
            _ => self.data.get(start as usize..end as usize),
        }
    }

    /// All rows in order.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (0..self.rows()).map(|row| self.row(row))
    }
}

/// What a call was given, with the port of every row.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) batch: Batch,
    /// Empty when the module has one input.
    pub(crate) ports: Vec<u8>,
}

impl Given {
    pub(crate) fn rows(&self) -> usize {
        self.batch.timestamps.len()
    }

    pub(crate) fn port(&self, row: usize) -> u8 {
        self.ports.get(row).copied().unwrap_or(0)
    }

    /// For a call without rows.
    pub(crate) fn nothing() -> Self {
        let column = || ColumnBuilder::default().finish();
        let batch = Batch {
            keys: column(),
            values: column(),
            timestamps: Vec::new(),
            stream_times: None,
            headers: None,
            origin: None,
        };
        Given {
            batch,
            ports: Vec::new(),
        }
    }
}

/// Bit `row` of a bitmap, least significant first; a row beyond its end is 0.
#[inline]
pub(crate) fn bit(bits: &[u8], row: usize) -> bool {
    bits.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
}

/// A bitmap of `rows` bits, all 0.
pub(crate) fn bitmap(rows: usize) -> Vec<u8> {
    vec![0; rows.div_ceil(8)]
}

/// Sets bit `row`.
#[inline]
pub(crate) fn set_bit(bits: &mut [u8], row: usize) {
    if let Some(byte) = bits.get_mut(row / 8) {
        *byte |= 1 << (row % 8);
    }
}

/// A column under construction.
#[derive(Debug)]
pub(crate) struct ColumnBuilder {
    data: Vec<u8>,
    offsets: Vec<u32>,
    /// The rows that are null, rising: few or none, so they are listed and the bitmap is made at the end.
    nulls: Vec<u32>,
}

impl Default for ColumnBuilder {
    fn default() -> Self {
        Self::with_capacity(0, 0)
    }
}

impl ColumnBuilder {
    pub(crate) fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        ColumnBuilder {
            data: Vec::with_capacity(bytes),
            offsets,
            nulls: Vec::new(),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Adds a row that `write` appends to the bytes; `write` answers whether the row has a value. On an error nothing
    /// is added.
    #[inline]
    pub(crate) fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>) -> Result<(), E> {
        let before = self.data.len();
        let written = write(&mut self.data);
        if !matches!(written, Ok(true)) {
            self.data.truncate(before);
        }
        if !written? {
            self.nulls.push(self.rows() as u32);
        }
        self.offsets.push(self.data.len() as u32);
        Ok(())
    }

    #[inline]
    pub(crate) fn push(&mut self, value: Option<&[u8]>) {
        match value {
            Some(bytes) => self.data.extend_from_slice(bytes),
            None => self.nulls.push(self.rows() as u32),
        }
        self.offsets.push(self.data.len() as u32);
    }

    /// Forgets all rows after the first `rows`.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.data.truncate(self.offsets.last().copied().unwrap_or(0) as usize);
        while self.nulls.last().is_some_and(|row| *row as usize >= rows) {
            self.nulls.pop();
        }
    }

    pub(crate) fn finish(self) -> Column {
        let rows = self.rows();
        let validity = (!self.nulls.is_empty()).then(|| {
            let mut bits = vec![0xff; rows.div_ceil(8)];
            for row in &self.nulls {
                if let Some(byte) = bits.get_mut(*row as usize / 8) {
                    *byte &= !(1 << (row % 8));
                }
            }
            if let (Some(last), used @ 1..) = (bits.last_mut(), rows % 8) {
                *last &= (1 << used) - 1;
            }
            bits
        });
        Column {
            data: self.data,
            offsets: self.offsets,
            validity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_empty_rows_differ_and_truncate_forgets_both() {
        let mut builder = ColumnBuilder::default();
        for value in [Some(&b"a"[..]), None, Some(b""), None] {
            builder.push(value);
        }
        builder.truncate(3);
        builder.push(Some(b"bc"));
        let column = builder.finish();
        assert_eq!(
            column.iter().collect::<Vec<_>>(),
            [Some(&b"a"[..]), None, Some(b""), Some(b"bc")]
        );
        assert_eq!(column.offsets, [0, 1, 1, 1, 3]);
        assert_eq!(column.validity, Some(vec![0b1101]));
    }

    #[test]
    fn a_row_that_could_not_be_written_leaves_no_bytes() {
        let mut builder = ColumnBuilder::default();
        let failed = builder.push_with(|out| {
            out.extend_from_slice(b"half");
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        builder.push(Some(b"x"));
        let column = builder.finish();
        assert_eq!((column.data, column.offsets), (b"x".to_vec(), vec![0, 1]));
    }
}
