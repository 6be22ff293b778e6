//! An aggregate by a closure: the rows of a call as steps over the values that the node's store has of their keys.
//!
//! As Kafka Streams' `aggregate` and `reduce` on a stream: rows with a null key or value are left out, each other row
//! gives the new value of its key, and the time of a value is the largest that went into it. A value that becomes null
//! leaves the store, and goes on as a tombstone.

use std::collections::HashMap;

use arrow_array::{Array, BinaryArray};
use record::Batch;
use state::{Stores, split};
use task::processor::{Answer, Emission, Emitted, Failure, RowOutcome};

use crate::host::size;

/// Key, time and value of an entry together: a record of the changelog, which a default broker takes up to 1,048,588
/// bytes.
const ENTRY_BYTES_MAX: usize = 1_000_000;

/// The work of one call.
pub(crate) struct Steps {
    /// Rows of the call that have a key and a value: step i adds row `kept[i]` to slot `slots[i]`.
    kept: Vec<u32>,
    pub slots: Vec<u32>,
    /// Of each step: the row that it adds, in `rows`.
    pub operands: Vec<u32>,
    pub rows: Batch,
    /// Of each slot.
    pub keys: BinaryArray,
    pub aggregates: BinaryArray,
    times: Vec<i64>,
    /// Rows of the call that have no key or no value.
    left_out: Vec<u32>,
}

impl Steps {
    /// # Errors
    /// [`Failure::Host`] where the store cannot be read.
    pub(crate) fn new(batch: &Batch, stores: &mut Stores, store: usize) -> Result<Self, Failure> {
        let whole = |row: &u32| batch.key(*row as usize).is_some() && batch.value(*row as usize).is_some();
        let (kept, left_out): (Vec<u32>, Vec<u32>) = (0..batch.len() as u32).partition(whole);
        let mut slot_of: HashMap<&[u8], u32> = HashMap::new();
        let mut keys: Vec<&[u8]> = Vec::new();
        let mut slots = Vec::with_capacity(kept.len());
        for key in kept.iter().filter_map(|row| batch.key(*row as usize)) {
            let slot = *slot_of.entry(key).or_insert_with(|| {
                keys.push(key);
                (keys.len() - 1) as u32
            });
            slots.push(slot);
        }
        let (mut aggregates, mut times) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
        for key in &keys {
            let stored = stores.read(store, key, |stored| {
                stored.map(split).map(|(time, value)| (time, value.to_vec()))
            });
            let stored = stored.map_err(suffered)?;
            times.push(stored.as_ref().map_or(i64::MIN, |(time, _)| *time));
            aggregates.push(stored.map(|(_, value)| value));
        }
        Ok(Self {
            operands: (0..kept.len() as u32).collect(),
            rows: match kept.len() == batch.len() {
                true => batch.clone(),
                false => batch.take(&kept).map_err(|e| Failure::Host(e.to_string()))?,
            },
            keys: keys.iter().map(|key| Some(*key)).collect(),
            aggregates: aggregates.iter().map(Option::as_deref).collect(),
            kept,
            slots,
            times,
            left_out,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Writes what the steps came to, `values` after each of them. `outcomes` are of rows of [`Steps::rows`].
    ///
    /// # Errors
    /// [`Failure::Contract`] where the answer breaks a rule.
    pub(crate) fn settle(
        mut self,
        values: &BinaryArray,
        outcomes: Vec<(u32, RowOutcome)>,
        stores: &mut Stores,
        store: usize,
    ) -> Result<Answer, Failure> {
        let broken = |cause: String| Failure::Contract(format!("the answer of `aggregate` {cause}"));
        if values.len() != self.kept.len() {
            let (found, steps) = (values.len(), self.kept.len());
            return Err(broken(format!("has {found} values for {steps} steps")));
        }
        let mut last: Vec<Option<(usize, i64)>> = vec![None; self.times.len()];
        let (mut causes, mut good, mut timestamps) = (Vec::new(), Vec::new(), Vec::new());
        for (step, (row, slot)) in self.kept.iter().zip(&self.slots).enumerate() {
            if outcomes.binary_search_by_key(&(step as u32), |(row, _)| *row).is_ok() {
                continue;
            }
            let (Some(time), Some(last)) = (self.times.get_mut(*slot as usize), last.get_mut(*slot as usize)) else {
                continue;
            };
            let value = (!values.is_null(step)).then(|| values.value(step));
            let reached = (*time).max(self.rows.timestamps().get(step).copied().unwrap_or_default());
            // What is gone leaves no time behind: the next row of the key finds nothing, in this call or in another.
            *time = if value.is_some() { reached } else { i64::MIN };
            *last = Some((step, reached));
            causes.push(*row);
            good.push(value);
            timestamps.push(reached);
        }
        for (slot, step) in last.iter().enumerate() {
            let Some((step, time)) = step else { continue };
            let (key, value) = (
                self.keys.value(slot),
                (!values.is_null(*step)).then(|| values.value(*step)),
            );
            let entry = value.map(|value| [&time.to_be_bytes()[..], value].concat());
            let bytes = key.len() + entry.as_ref().map_or(0, Vec::len);
            if bytes > ENTRY_BYTES_MAX {
                let (bytes, most) = (size(bytes as u64), size(ENTRY_BYTES_MAX as u64));
                return Err(broken(format!("has an aggregate of {bytes}, and a store takes {most}")));
            }
            stores.write(store, key, entry.as_deref(), *time).map_err(suffered)?;
        }
        let emission = Emission {
            causes: Some(causes),
            values: Some(good.into_iter().collect()),
            timestamps: Some(timestamps.into()),
            ..Emission::default()
        };
        Ok(Answer {
            emitted: Emitted::Rows(emission),
            outcomes: self.outcomes(outcomes),
        })
    }

    /// Outcomes of rows of the call: of those that were left out, and what the guest said of the others.
    fn outcomes(&self, said: Vec<(u32, RowOutcome)>) -> Vec<(u32, RowOutcome)> {
        let said = said
            .into_iter()
            .filter_map(|(step, outcome)| Some((*self.kept.get(step as usize)?, outcome)));
        let dropped = |row: &u32| (*row, RowOutcome::Drop("it has no key or no value".to_owned()));
        let mut all: Vec<(u32, RowOutcome)> = said.chain(self.left_out.iter().map(dropped)).collect();
        all.sort_by_key(|(row, _)| *row);
        all
    }
}

fn suffered(error: state::Error) -> Failure {
    Failure::Host(error.to_string())
}
