//! Reductions per key into a timestamped store: count, sum, min, max, first, last.
//!
//! As Kafka Streams' `count` and `reduce` on a stream: rows with a null key or value are dropped, so are rows whose
//! selected field is not there; the time of a result is the largest time that went into it. A sum that leaves 64 bits
//! is a row that fails (`Stage::Processing`), never a wrapped number; sums of floating-point numbers follow IEEE 754.

use arrow_array::builder::BinaryBuilder;
use record::{Batch, OldsBuilder};
use state::{Stores, Update, split};
use topology::{Aggregate, AggregateFunction, Emit, Format, Selector};

use crate::fold::count;
use crate::select::select;
use crate::{Applied, Error, Stage};

/// Rows whose keys are looked up together: enough to wait for memory together, and few enough for what was found to be
/// in the processor's cache when its row comes.
const LOOKED_UP_ROWS: usize = 256;

/// A reduction with its store.
#[derive(Clone, Debug)]
pub struct Aggregator {
    pub(crate) kernel: Kernel,
    of: Selector,
    pub(crate) of_format: Format,
    store: usize,
    emit: Emit,
    /// Whether something downstream needs what its rows replace.
    olds: bool,
}

/// The function for one type of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    Count,
    Integer(AggregateFunction),
    Float(AggregateFunction),
    /// Compared or kept as bytes.
    Bytes(AggregateFunction),
}

impl Aggregator {
    /// `store` is the task's number of the aggregate's store.
    pub fn new(aggregate: &Aggregate, store: usize, olds: bool) -> Self {
        use AggregateFunction::{Count, First, Last, Sum};
        let kernel = match (aggregate.function, aggregate.result) {
            (Count, _) => Kernel::Count,
            (First | Last, _) => Kernel::Bytes(aggregate.function),
            (function, Format::F64) => Kernel::Float(function),
            (function, Format::I64) => Kernel::Integer(function),
            (Sum, _) => Kernel::Integer(Sum),
            (function, _) => Kernel::Bytes(function),
        };
        let (of, of_format) = (aggregate.of.clone(), aggregate.of_format);
        Self {
            kernel,
            of,
            of_format,
            store,
            emit: aggregate.emit,
            olds,
        }
    }

    /// Reduces the rows in order and gives each one's result, unless the table emits on commit.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row that does not parse or whose sum overflows; those of the store.
    pub fn apply(&self, batch: &Batch, stores: &mut Stores) -> Result<Applied, Error> {
        // A count looks at no row; a loop of its own spares 22 of its 740 instructions.
        if self.kernel == Kernel::Count {
            return self.reduce(batch, stores, |_, old, new| count(old, new));
        }
        self.reduce(batch, stores, |row, old, new| self.fold(batch, row, old, new))
    }

    pub(crate) fn is_field(&self) -> bool {
        matches!(self.of, Selector::Field(_))
    }

    pub(crate) fn selected<'a>(
        &self,
        batch: &'a Batch,
        row: usize,
    ) -> Result<Option<std::borrow::Cow<'a, [u8]>>, RowFault> {
        select(&self.of, batch, row).map_err(deserialization)
    }

    /// `step` gets the row and the old result, appends the new one, and says `false` for a row that is left out.
    fn reduce(
        &self,
        batch: &Batch,
        stores: &mut Stores,
        step: impl Fn(usize, Option<&[u8]>, &mut Vec<u8>) -> Result<bool, RowFault>,
    ) -> Result<Applied, Error> {
        let every_update = self.emit == Emit::EveryUpdate;
        let rows = if every_update { batch.len() } else { 0 };
        let mut values = BinaryBuilder::with_capacity(rows, 8 * rows);
        let mut timestamps = Vec::with_capacity(rows);
        let mut left_out: Vec<u32> = Vec::new();
        let mut olds = OldsBuilder::default();
        let mut guesses = Vec::new();
        for (row, timestamp) in batch.timestamps().iter().copied().enumerate() {
            if row % LOOKED_UP_ROWS == 0 {
                let rows = row..batch.len().min(row + LOOKED_UP_ROWS);
                stores.guesses(self.store, rows.map(|row| batch.key(row)), &mut guesses);
            }
            let guess = guesses.get(row % LOOKED_UP_ROWS).copied().unwrap_or_default();
            let (Some(key), Some(_)) = (batch.key(row), batch.value(row)) else {
                left_out.push(row as u32);
                continue;
            };
            stores
                .modify_at(self.store, key, guess, timestamp, |stored, new| {
                    let (old_time, old) = stored.map(split).map_or((i64::MIN, None), |(t, v)| (t, Some(v)));
                    let time = timestamp.max(old_time);
                    new.extend_from_slice(&time.to_be_bytes());
                    if !step(row, old, new)? {
                        left_out.push(row as u32);
                        return Ok(Update::Keep);
                    }
                    if every_update {
                        values.append_value(new.get(state::TIMESTAMP_BYTES..).unwrap_or_default());
                        timestamps.push(time);
                        if self.olds {
                            olds.push(old.map(|old| (old_time, old)));
                        }
                    }
                    Ok(Update::Put)
                })
                .map_err(|fault: RowFault| fault.at(row))?;
        }
        let dropped = left_out.len() as u64;
        if !every_update {
            return Ok(Applied::nothing(dropped));
        }
        let causes = (!left_out.is_empty()).then(|| {
            let mut skipped = left_out.iter().copied().peekable();
            let rows = 0..batch.len() as u32;
            rows.filter(|row| skipped.next_if_eq(row).is_none())
                .collect::<Vec<u32>>()
        });
        let kept = match &causes {
            None => batch.clone(),
            Some(causes) => batch.take(causes)?,
        };
        let rows = Batch::new(
            kept.keys().clone(),
            values.finish(),
            timestamps.into(),
            kept.headers().cloned(),
        )?;
        Ok(Applied {
            rows: self.with_olds(rows, olds)?,
            causes,
            dropped,
        })
    }

    fn with_olds(&self, rows: Batch, mut olds: OldsBuilder) -> Result<Batch, Error> {
        Ok(if self.olds {
            rows.with_olds(olds.finish())?
        } else {
            rows
        })
    }
}

/// Why a row, or the store under it, failed.
pub(crate) enum RowFault {
    Row(Stage, String),
    State(state::Error),
}

impl From<state::Error> for RowFault {
    fn from(error: state::Error) -> Self {
        Self::State(error)
    }
}

impl RowFault {
    pub(crate) fn at(self, row: usize) -> Error {
        match self {
            Self::Row(stage, reason) => Error::Row {
                row: row as u32,
                stage,
                reason,
            },
            Self::State(error) => Error::State(error),
        }
    }
}

pub(crate) fn deserialization(reason: String) -> RowFault {
    RowFault::Row(Stage::Deserialization, reason)
}

fn stored(bytes: &[u8]) -> Result<[u8; 8], RowFault> {
    bytes.try_into().map_err(|_| {
        RowFault::State(state::Error::Misuse(format!(
            "an aggregate of {} bytes where a number has 8",
            bytes.len()
        )))
    })
}

pub(crate) fn stored_integer(bytes: &[u8]) -> Result<i64, RowFault> {
    stored(bytes).map(i64::from_be_bytes)
}

pub(crate) fn stored_float(bytes: &[u8]) -> Result<f64, RowFault> {
    stored(bytes).map(f64::from_be_bytes)
}

pub(crate) fn reduce_integer(function: AggregateFunction, old: i64, number: i64) -> Result<i64, RowFault> {
    match function {
        AggregateFunction::Min => Ok(old.min(number)),
        AggregateFunction::Max => Ok(old.max(number)),
        _ => old.checked_add(number).ok_or_else(|| {
            RowFault::Row(
                Stage::Processing,
                format!("the sum of {old} and {number} does not fit 64 bits"),
            )
        }),
    }
}

/// A `NaN` never becomes a minimum or maximum as long as there is a number.
pub(crate) fn reduce_float(function: AggregateFunction, old: f64, number: f64) -> f64 {
    match function {
        AggregateFunction::Min => old.min(number),
        AggregateFunction::Max => old.max(number),
        _ => old + number,
    }
}
