//! Tables: the last value of each key, and what is sent on of their changes.

use arrow_array::{Array, BooleanArray};
use record::{Batch, BatchBuilder, OldsBuilder};
use state::{Stores, TIMESTAMP_BYTES, split};
use topology::Emit;

use crate::{Applied, Error};

/// Upserts rows into a store and sends them on.
#[derive(Clone, Debug)]
pub struct Table {
    store: usize,
    emit: Emit,
    /// Whether something downstream needs what its rows replace.
    olds: bool,
}

impl Table {
    /// `store` is the task's number of it.
    pub fn new(store: usize, emit: Emit, olds: bool) -> Self {
        Self { store, emit, olds }
    }

    /// A null key is dropped, a null value deletes. A row older than what the table has is applied all the same, as in
    /// Kafka Streams' tables without versions.
    ///
    /// # Errors
    /// Those of the store.
    pub fn apply(&self, batch: &Batch, stores: &mut Stores) -> Result<Applied, Error> {
        let timestamped = stores.spec(self.store)?.timestamped;
        let mut stored = Vec::new();
        let mut olds = OldsBuilder::default();
        let olds_wanted = self.olds && self.emit == Emit::EveryUpdate;
        for (row, timestamp) in batch.timestamps().iter().enumerate() {
            let Some(key) = batch.key(row) else { continue };
            if olds_wanted {
                let old =
                    |stored: Option<&[u8]>| olds.push(stored.map(|s| if timestamped { split(s) } else { (0, s) }));
                stores.read(self.store, key, old)?;
            }
            let value = batch.value(row).map(|value| {
                stored.clear();
                if timestamped {
                    stored.extend_from_slice(&timestamp.to_be_bytes());
                }
                stored.extend_from_slice(value);
                stored.as_slice()
            });
            stores.write(self.store, key, value, *timestamp)?;
        }
        let dropped = batch.keys().null_count() as u64;
        let mut applied = match (self.emit, dropped) {
            (Emit::OnCommit, _) => Applied::nothing(dropped),
            (Emit::EveryUpdate, 0) => Applied {
                rows: batch.clone(),
                causes: None,
                dropped,
            },
            (Emit::EveryUpdate, _) => {
                let kept: Vec<u32> = (0..batch.len() as u32)
                    .filter(|r| batch.keys().is_valid(*r as usize))
                    .collect();
                let keep: BooleanArray = (0..batch.len()).map(|r| Some(batch.keys().is_valid(r))).collect();
                Applied {
                    rows: batch.filter(&keep)?,
                    causes: Some(kept),
                    dropped,
                }
            }
        };
        if olds_wanted {
            applied.rows = applied.rows.with_olds(olds.finish())?;
        }
        Ok(applied)
    }
}

/// What an on-commit table sends on at a commit: the last value of every key changed since the last one, in the order of
/// first change; a deleted key is a tombstone. What was written without a time gets `stream_time`. `olds`: each with what
/// was committed before.
///
/// # Errors
/// [`state::Error::Misuse`] when there is no such store; with `olds`, those of the backend.
pub fn changed_rows(stores: &Stores, store: usize, stream_time: i64, olds: bool) -> Result<Batch, Error> {
    let timestamped = stores.spec(store)?.timestamped;
    let slots = stores.uncommitted(store);
    let mut rows = BatchBuilder::with_capacity(slots.len(), 16 * slots.len(), (16 + TIMESTAMP_BYTES) * slots.len());
    for slot in slots {
        let timestamp = if slot.timestamp == state::NO_TIME {
            stream_time.max(0)
        } else {
            slot.timestamp
        };
        let key = Some(slot.key.as_slice());
        match &slot.value {
            Some(stored) if timestamped => {
                let (timestamp, value) = split(stored.as_slice());
                rows.push(key, Some(value), timestamp);
            }
            Some(value) => rows.push(key, Some(value.as_slice()), timestamp),
            None => rows.push(key, None, timestamp),
        }
    }
    let rows = rows.finish();
    if !olds {
        return Ok(rows);
    }
    let mut replaced = OldsBuilder::default();
    for slot in slots {
        let old = stores.committed(store, slot.key.as_slice())?;
        let split = |stored| if timestamped { split(stored) } else { (0, stored) };
        replaced.push(old.as_ref().map(|old| split(old.as_slice())));
    }
    Ok(rows.with_olds(replaced.finish())?)
}
