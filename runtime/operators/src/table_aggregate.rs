//! Aggregates of grouped tables: what a row replaces is taken out, then its new value is added.
//!
//! As Kafka Streams' `count` and `aggregate` on a `KGroupedTable`: a value is taken out only where there is an
//! aggregate; the time of a result is the largest that went into it. A half whose selected field is not there is left
//! out. Sums leave 64 bits as in [`crate::Aggregator`]: the row fails.

use record::Batch;
use state::{Stores, Update, split};
use topology::{Aggregate, AggregateFunction, Emit, Format, Selector};

use crate::aggregate::{RowFault, deserialization, stored_float, stored_integer};
use crate::change::decode;
use crate::select::{float, integer, select_of};
use crate::table_join::Made;
use crate::{Applied, Error, Stage};

#[derive(Clone, Debug)]
pub struct TableAggregator {
    counts: bool,
    of: Selector,
    of_format: Format,
    result: Format,
    store: usize,
    emit: Emit,
    /// Whether something downstream needs what its rows replace.
    olds: bool,
}

#[derive(Clone, Copy)]
enum Number {
    Integer(i64),
    Float(f64),
}

impl TableAggregator {
    /// `store` is the task's number of the aggregate's store. Functions other than a count are sums.
    pub fn new(aggregate: &Aggregate, store: usize, olds: bool) -> Self {
        Self {
            counts: aggregate.function == AggregateFunction::Count,
            of: aggregate.of.clone(),
            of_format: aggregate.of_format,
            result: aggregate.result,
            store,
            emit: aggregate.emit,
            olds,
        }
    }

    /// Takes rows of a [`crate::TableGrouper`] and gives each one's result, unless the table emits on commit.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row that does not parse or whose sum overflows; those of the store.
    pub fn apply(&self, batch: &Batch, stores: &mut Stores) -> Result<Applied, Error> {
        let mut made = Made::default();
        for (row, timestamp) in batch.timestamps().iter().copied().enumerate() {
            let (Some(key), Some(value)) = (batch.key(row), batch.value(row)) else {
                made.dropped += 1;
                continue;
            };
            self.row(row, key, value, timestamp, stores, &mut made)
                .map_err(|fault| fault.at(row))?;
        }
        if self.emit == Emit::OnCommit {
            return Ok(Applied::nothing(made.dropped));
        }
        made.finish(batch, self.olds)
    }

    fn row(
        &self,
        row: usize,
        key: &[u8],
        value: &[u8],
        timestamp: i64,
        stores: &mut Stores,
        made: &mut Made,
    ) -> Result<(), RowFault> {
        let change = decode(value).ok_or_else(|| deserialization("no change of a table".to_owned()))?;
        let (taken, added) = (self.number(key, change.old)?, self.number(key, change.new)?);
        if taken.is_none() && added.is_none() {
            made.dropped += 1;
            return Ok(());
        }
        stores.modify(self.store, key, timestamp, |stored, new| {
            let stored = stored.map(split);
            let before = stored.map(|(_, bytes)| self.stored(bytes)).transpose()?;
            let time = stored.map_or(timestamp, |(time, _)| time.max(timestamp));
            let rest = match (before, taken) {
                (Some(before), Some(taken)) => Some(minus(before, taken)?),
                _ => before,
            };
            let after = match added {
                Some(added) => Some(plus(rest.unwrap_or_else(|| self.zero()), added)?),
                None => rest,
            };
            let bytes = after.map(|after| match after {
                Number::Integer(number) => number.to_be_bytes(),
                Number::Float(number) => number.to_be_bytes(),
            });
            if self.emit == Emit::EveryUpdate {
                made.push(row, bytes.as_ref().map(|b| b.as_slice()), time, stored);
            }
            let Some(bytes) = bytes else {
                return Ok(Update::Delete);
            };
            new.extend_from_slice(&time.to_be_bytes());
            new.extend_from_slice(&bytes);
            Ok(Update::Put)
        })
    }

    /// What one half counts for.
    fn number(&self, key: &[u8], half: Option<&[u8]>) -> Result<Option<Number>, RowFault> {
        let Some(half) = half else { return Ok(None) };
        if self.counts {
            return Ok(Some(Number::Integer(1)));
        }
        let selected = select_of(&self.of, Some(key), Some(half)).map_err(deserialization)?;
        let Some(bytes) = selected else { return Ok(None) };
        let field = matches!(self.of, Selector::Field(_));
        let number = match self.result {
            Format::F64 => float(self.of_format, field, &bytes).map(Number::Float),
            _ => integer(self.of_format, field, &bytes).map(Number::Integer),
        };
        number.map(Some).map_err(deserialization)
    }

    fn stored(&self, bytes: &[u8]) -> Result<Number, RowFault> {
        match self.result {
            Format::F64 => stored_float(bytes).map(Number::Float),
            _ => stored_integer(bytes).map(Number::Integer),
        }
    }

    fn zero(&self) -> Number {
        match self.result {
            Format::F64 => Number::Float(0.0),
            _ => Number::Integer(0),
        }
    }
}

fn plus(a: Number, b: Number) -> Result<Number, RowFault> {
    match (a, b) {
        (Number::Integer(a), Number::Integer(b)) => in_64_bits(a.checked_add(b), "sum", a, b),
        (a, b) => Ok(Number::Float(as_float(a) + as_float(b))),
    }
}

fn minus(a: Number, b: Number) -> Result<Number, RowFault> {
    match (a, b) {
        (Number::Integer(a), Number::Integer(b)) => in_64_bits(a.checked_sub(b), "difference", a, b),
        (a, b) => Ok(Number::Float(as_float(a) - as_float(b))),
    }
}

fn in_64_bits(result: Option<i64>, what: &str, a: i64, b: i64) -> Result<Number, RowFault> {
    let reason = || format!("the {what} of {a} and {b} does not fit 64 bits");
    result
        .map(Number::Integer)
        .ok_or_else(|| RowFault::Row(Stage::Processing, reason()))
}

fn as_float(number: Number) -> f64 {
    match number {
        Number::Integer(number) => number as f64,
        Number::Float(number) => number,
    }
}
