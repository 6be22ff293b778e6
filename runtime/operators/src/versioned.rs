//! Tables that remember what their rows were: for each key its latest row, and all rows of a time before.
//!
//! As Kafka Streams' versioned stores: a row goes where its time says, however late it comes, as long as it is not older
//! than the history; such a one is left out. What the history no longer reaches is deleted when its key gets a new row,
//! and is not seen before that either.

use std::ops::Bound;

use record::{Batch, OldsBuilder};
use state::{Bounds, Stores, join, split};
use topology::VersionedTable;

use crate::{Applied, Error};

/// The largest time of the table's rows. Shorter than any key of an entry.
const OBSERVED: &[u8] = b"m";
/// First byte of an entry's value.
const GONE: u8 = 0;
const THERE: u8 = 1;

#[derive(Clone, Debug)]
pub struct VersionedWriter {
    versions: Versions,
    /// Whether something downstream needs what its rows replace.
    olds: bool,
}

/// The stores of a versioned table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Versions {
    pub(crate) store: usize,
    pub(crate) history: usize,
    pub(crate) history_ms: i64,
}

/// The time of a version, and its value; without one it is a tombstone.
type Version = (i64, Option<Vec<u8>>);

/// Rows that a versioned table took.
#[derive(Debug)]
pub struct Taken {
    pub all: Applied,
    /// Those that are the latest of their key, with what they replace.
    pub latest: Applied,
}

impl VersionedWriter {
    /// `store` and `history` are the task's numbers of the table's stores.
    pub fn new(table: &VersionedTable, store: usize, history: usize, olds: bool) -> Self {
        let history_ms = table.history_ms;
        Self {
            versions: Versions {
                store,
                history,
                history_ms,
            },
            olds,
        }
    }

    /// Rows without a key, and those older than the history, are left out.
    ///
    /// # Errors
    /// Those of the stores.
    pub fn apply(&self, batch: &Batch, stores: &mut Stores) -> Result<Taken, Error> {
        let (mut all, mut latest, mut olds) = (Vec::new(), Vec::new(), OldsBuilder::default());
        for (row, time) in batch.timestamps().iter().enumerate() {
            let Some(key) = batch.key(row) else { continue };
            let from = self.versions.observe(*time, stores)?;
            if *time < from {
                continue;
            }
            all.push(row as u32);
            let newest = self.versions.newest(key, i64::MAX, stores)?.map(|(time, _)| time);
            self.versions.put(key, batch.value(row), *time, stores)?;
            self.versions.forget(key, from, *time, stores)?;
            if newest.is_some_and(|newest| newest > *time) {
                continue;
            }
            latest.push(row as u32);
            stores.read(self.versions.store, key, |stored| olds.push(stored.map(split)))?;
            let stored = batch.value(row).map(|value| join(*time, value));
            stores.write(self.versions.store, key, stored.as_deref(), *time)?;
        }
        let mut rows = batch.take(&latest)?;
        if self.olds {
            rows = rows.with_olds(olds.finish())?;
        }
        let dropped = (batch.len() - all.len()) as u64;
        Ok(Taken {
            all: applied(batch.take(&all)?, all, dropped),
            latest: applied(rows, latest, 0),
        })
    }
}

fn applied(rows: Batch, causes: Vec<u32>, dropped: u64) -> Applied {
    Applied {
        rows,
        causes: Some(causes),
        dropped,
    }
}

impl Versions {
    /// What the table had at `time`; nothing where the history does not reach back that far, unless it is the latest.
    pub(crate) fn as_of<R>(
        &self,
        key: &[u8],
        time: i64,
        stores: &mut Stores,
        read: impl FnOnce(Option<(i64, &[u8])>) -> R,
    ) -> Result<R, Error> {
        let latest = stores.read(self.store, key, |stored| {
            stored
                .map(split)
                .filter(|(at, _)| *at <= time)
                .map(|(at, value)| (at, value.to_vec()))
        })?;
        let mut found = latest;
        if found.is_none() && time >= self.from(stores)? {
            let version = self.newest(key, time, stores)?;
            found = version.and_then(|(at, value)| Some((at, value?)));
        }
        Ok(read(found.as_ref().map(|(at, value)| (*at, value.as_slice()))))
    }

    /// The earliest time of the history.
    fn from(&self, stores: &mut Stores) -> Result<i64, Error> {
        let observed = stores.read(self.history, OBSERVED, |stored| stored.map(time_of))?;
        Ok(observed.map_or(i64::MIN, |observed| observed.saturating_sub(self.history_ms)))
    }

    fn observe(&self, time: i64, stores: &mut Stores) -> Result<i64, Error> {
        let observed = stores.read(self.history, OBSERVED, |stored| stored.map(time_of))?;
        let now = observed.map_or(time, |observed| observed.max(time));
        if observed != Some(now) {
            stores.write(self.history, OBSERVED, Some(&now.to_be_bytes()), time)?;
        }
        Ok(now.saturating_sub(self.history_ms))
    }

    fn put(&self, key: &[u8], value: Option<&[u8]>, time: i64, stores: &mut Stores) -> Result<(), Error> {
        let stored = match value {
            Some(value) => [&[THERE], value].concat(),
            None => vec![GONE],
        };
        stores.write(self.history, &entry(key, time), Some(&stored), time)?;
        Ok(())
    }

    /// The newest version of `until` or before; a version without a value is a tombstone.
    fn newest(&self, key: &[u8], until: i64, stores: &mut Stores) -> Result<Option<Version>, Error> {
        let bounds = Bounds {
            lower: Bound::Included(entry(key, 0)),
            upper: Bound::Included(entry(key, until)),
        };
        let mut found = None;
        stores.scan(self.history, &bounds, true, &mut |entry, stored| {
            let time = entry
                .split_last_chunk::<8>()
                .map_or(0, |(_, time)| i64::from_be_bytes(*time));
            let value = stored.split_first().filter(|(flag, _)| **flag == THERE);
            found = Some((time, value.map(|(_, value)| value.to_vec())));
            false
        })?;
        Ok(found)
    }

    /// Deletes what lies before the version that was there at `from`.
    fn forget(&self, key: &[u8], from: i64, time: i64, stores: &mut Stores) -> Result<(), Error> {
        let Some((first, _)) = self.newest(key, from, stores)? else {
            return Ok(());
        };
        let (lower, upper) = (entry(key, 0), entry(key, first));
        let bounds = Bounds::half_open(Some(&lower), Some(&upper));
        Ok(stores.delete_bounds(self.history, &bounds, time)?)
    }
}

/// The key behind its length, so that no key begins with another one; times are never negative.
fn entry(key: &[u8], time: i64) -> Vec<u8> {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), key, &time.to_be_bytes()].concat()
}

fn time_of(stored: &[u8]) -> i64 {
    stored.try_into().map_or(0, i64::from_be_bytes)
}
