//! Tables whose rows live for a time: what stream time has left behind is deleted, and sent on as a tombstone.
//!
//! Beside the table there is an index of its rows by time (time, key). Its first entry is looked for only when stream
//! time has reached the earliest time at which a row may be due, which the index keeps under a key of its own.

use record::{Batch, BatchBuilder, OldsBuilder};
use state::{Bounds, Stores, join, split};
use topology::TtlTable;

use crate::{Applied, Error};

/// Shorter than any key of an entry.
const MARK: &[u8] = b"m";

#[derive(Clone, Debug)]
pub struct ExpiringTable {
    ttl_ms: i64,
    store: usize,
    index: usize,
    /// Whether something downstream needs what its rows replace.
    olds: bool,
}

/// What goes on.
#[derive(Default)]
struct Rows {
    rows: BatchBuilder,
    olds: OldsBuilder,
    causes: Vec<u32>,
    dropped: u64,
}

impl Rows {
    fn push(&mut self, cause: usize, key: &[u8], value: Option<&[u8]>, time: i64, old: Option<(i64, &[u8])>) {
        self.rows.push(Some(key), value, time);
        self.olds.push(old);
        self.causes.push(cause as u32);
    }
}

impl ExpiringTable {
    /// `store` and `index` are the task's numbers of the table's store and of its index.
    pub fn new(table: &TtlTable, store: usize, index: usize, olds: bool) -> Self {
        Self {
            ttl_ms: table.ttl_ms,
            store,
            index,
            olds,
        }
    }

    /// `stream_times`: the task's at each row. A row comes after the tombstones of all that was due by then, which have
    /// the time at which they fell due; it is left out where it is due itself, or has no key.
    ///
    /// # Errors
    /// Those of the stores.
    pub fn apply(&self, batch: &Batch, stream_times: &[i64], stores: &mut Stores) -> Result<Applied, Error> {
        let mut made = Rows::default();
        for (row, (time, stream_time)) in batch.timestamps().iter().zip(stream_times).enumerate() {
            let until = stream_time.saturating_sub(self.ttl_ms);
            self.expire(row, until, stores, &mut made)?;
            match batch.key(row) {
                Some(key) if *time > until => self.put(row, key, batch, *time, stores, &mut made)?,
                _ => made.dropped += 1,
            }
        }
        let mut rows = made.rows.finish();
        if self.olds {
            rows = rows.with_olds(made.olds.finish())?;
        }
        Ok(Applied {
            rows,
            causes: Some(made.causes),
            dropped: made.dropped,
        })
    }

    fn put(
        &self,
        row: usize,
        key: &[u8],
        batch: &Batch,
        time: i64,
        stores: &mut Stores,
        made: &mut Rows,
    ) -> Result<(), Error> {
        let value = batch.value(row);
        let replaced = stores.read(self.store, key, |stored| {
            let old = stored.map(split);
            made.push(row, key, value, time, old);
            old.map(|(time, _)| time)
        })?;
        if let Some(replaced) = replaced {
            stores.write(self.index, &entry(replaced, key), None, time)?;
        }
        stores.write(self.store, key, value.map(|value| join(time, value)).as_deref(), time)?;
        if value.is_none() {
            return Ok(());
        }
        stores.write(self.index, &entry(time, key), Some(&[]), time)?;
        let mark = stores.read(self.index, MARK, |stored| stored.map(time_of))?;
        if mark.is_none_or(|mark| time < mark) {
            stores.write(self.index, MARK, Some(&time.to_be_bytes()), time)?;
        }
        Ok(())
    }

    /// Rows of `until` and before are gone, the oldest first.
    fn expire(&self, row: usize, until: i64, stores: &mut Stores, made: &mut Rows) -> Result<(), Error> {
        let mark = stores.read(self.index, MARK, |stored| stored.map(time_of))?;
        if mark.is_none_or(|mark| until < mark) {
            return Ok(());
        }
        let (mut due, mut next) = (Vec::new(), i64::MAX);
        stores.scan(self.index, &Bounds::all(), false, &mut |entry, _| {
            let Some((time, key)) = entry.split_first_chunk::<8>() else {
                return true;
            };
            let time = i64::from_be_bytes(*time);
            match time <= until {
                true => due.push((time, key.to_vec())),
                false => next = time,
            }
            time <= until
        })?;
        for (time, key) in due {
            let gone = time.saturating_add(self.ttl_ms);
            stores.read(self.store, &key, |stored| {
                made.push(row, &key, None, gone, stored.map(split));
            })?;
            stores.write(self.store, &key, None, gone)?;
            stores.write(self.index, &entry(time, &key), None, gone)?;
        }
        stores.write(self.index, MARK, Some(&next.to_be_bytes()), until.max(0))?;
        Ok(())
    }
}

/// Times are never negative, so their bytes are in their order.
fn entry(time: i64, key: &[u8]) -> Vec<u8> {
    [time.to_be_bytes().as_slice(), key].concat()
}

fn time_of(stored: &[u8]) -> i64 {
    stored.try_into().map_or(0, i64::from_be_bytes)
}
