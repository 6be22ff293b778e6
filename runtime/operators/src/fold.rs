//! The reduction of one row into an aggregate, and of two aggregates into one.

use record::Batch;
use topology::AggregateFunction;

use crate::aggregate::{
    Aggregator, Kernel, RowFault, deserialization, reduce_float, reduce_integer, stored_float, stored_integer,
};
use crate::select::{float, integer};

/// One more.
#[inline]
pub(crate) fn count(old: Option<&[u8]>, new: &mut Vec<u8>) -> Result<bool, RowFault> {
    let count = old.map_or(Ok(0), stored_integer)?;
    new.extend_from_slice(&(count + 1).to_be_bytes());
    Ok(true)
}

impl Aggregator {
    /// Appends what `old` becomes with a row; `false`: the row has nothing to reduce. A count counts every row.
    pub(crate) fn fold(
        &self,
        batch: &Batch,
        row: usize,
        old: Option<&[u8]>,
        new: &mut Vec<u8>,
    ) -> Result<bool, RowFault> {
        if self.kernel == Kernel::Count {
            return count(old, new);
        }
        let Some(bytes) = self.selected(batch, row)?.filter(|_| batch.value(row).is_some()) else {
            return Ok(false);
        };
        match self.kernel {
            Kernel::Count => {}
            Kernel::Integer(_) => {
                let number = integer(self.of_format, self.is_field(), &bytes).map_err(deserialization)?;
                self.combine(old, &number.to_be_bytes(), new)?;
            }
            Kernel::Float(_) => {
                let number = float(self.of_format, self.is_field(), &bytes).map_err(deserialization)?;
                self.combine(old, &number.to_be_bytes(), new)?;
            }
            Kernel::Bytes(_) => self.combine(old, &bytes, new)?,
        }
        Ok(true)
    }

    /// Appends the result of an older and a newer aggregate.
    pub(crate) fn combine(&self, old: Option<&[u8]>, newer: &[u8], new: &mut Vec<u8>) -> Result<(), RowFault> {
        let Some(old) = old else {
            new.extend_from_slice(newer);
            return Ok(());
        };
        match self.kernel {
            Kernel::Count => {
                let count = reduce_integer(AggregateFunction::Sum, stored_integer(old)?, stored_integer(newer)?)?;
                new.extend_from_slice(&count.to_be_bytes());
            }
            Kernel::Integer(function) => {
                let number = reduce_integer(function, stored_integer(old)?, stored_integer(newer)?)?;
                new.extend_from_slice(&number.to_be_bytes());
            }
            Kernel::Float(function) => {
                let number = reduce_float(function, stored_float(old)?, stored_float(newer)?);
                new.extend_from_slice(&number.to_be_bytes());
            }
            Kernel::Bytes(function) => {
                let keep_old = match function {
                    AggregateFunction::First => true,
                    AggregateFunction::Min => old <= newer,
                    AggregateFunction::Max => old >= newer,
                    _ => false,
                };
                new.extend_from_slice(if keep_old { old } else { newer });
            }
        }
        Ok(())
    }
}
