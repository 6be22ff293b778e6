//! The first row of each key within a time goes on, the others do not.
//!
//! The store holds, per key, the time of its first row (`k`, key), and in the order of those times what can be
//! forgotten (`t`, time, key). A row whose time lies as far behind stream time as the time of memory is late: whether
//! it came before is no longer known, so it is left out, as late rows of windows are.

use record::Batch;
use state::{Bounds, Stores};
use topology::Dedup;

use crate::{Applied, Error};

const KEYS: u8 = b'k';
const TIMES: u8 = b't';
/// When there may be something to forget again.
const MARK: &[u8] = b"m";
/// How often within the time of memory there is a look for what can be forgotten, at most: it is a scan.
const LOOKS_PER_TIME: i64 = 16;

#[derive(Clone, Debug)]
pub struct Deduplicator {
    within_ms: i64,
    store: usize,
}

impl Deduplicator {
    /// `store` is the task's number of its store.
    pub fn new(dedup: &Dedup, store: usize) -> Self {
        Self {
            within_ms: dedup.within_ms,
            store,
        }
    }

    /// `stream_times`: the task's at each row. Rows with a null key are left out.
    ///
    /// # Errors
    /// Those of the store.
    pub fn apply(&self, batch: &Batch, stream_times: &[i64], stores: &mut Stores) -> Result<Applied, Error> {
        let mut kept = Vec::with_capacity(batch.len());
        let mut dropped = 0;
        for (row, (time, stream_time)) in batch.timestamps().iter().zip(stream_times).enumerate() {
            let known_from = stream_time.saturating_sub(self.within_ms);
            let Some(key) = batch.key(row).filter(|_| *time > known_from) else {
                dropped += 1;
                continue;
            };
            self.forget(known_from.saturating_sub(self.within_ms), *stream_time, stores)?;
            let of_key = [&[KEYS], key].concat();
            let first = stores.read(self.store, &of_key, |stored| stored.map(time_of))?;
            if first.is_some_and(|first| time.abs_diff(first) < self.within_ms.unsigned_abs()) {
                continue;
            }
            if let Some(first) = first {
                stores.write(self.store, &of_time(first, key), None, *time)?;
            }
            stores.write(self.store, &of_key, Some(&time.to_be_bytes()), *time)?;
            stores.write(self.store, &of_time(*time, key), Some(&[]), *time)?;
            kept.push(row as u32);
        }
        let all = kept.len() == batch.len();
        Ok(Applied {
            rows: if all { batch.clone() } else { batch.take(&kept)? },
            causes: (!all).then_some(kept),
            dropped,
        })
    }

    /// Forgets what is of `until` or before: no row that is not late can meet it.
    fn forget(&self, until: i64, stream_time: i64, stores: &mut Stores) -> Result<(), Error> {
        // Without a mark, every row would look for something to forget.
        let mark = stores.read(self.store, MARK, |stored| stored.map(time_of))?;
        if until < mark.unwrap_or(0) {
            return Ok(());
        }
        let mut gone = Vec::new();
        let mut next = stream_time;
        stores.scan(self.store, &Bounds::prefix(&[TIMES]), false, &mut |entry, _| {
            let Some((time, key)) = entry.get(1..).and_then(|rest| rest.split_first_chunk::<8>()) else {
                return true;
            };
            let time = i64::from_be_bytes(*time);
            match time <= until {
                true => gone.push((entry.to_vec(), [&[KEYS], key].concat())),
                false => next = time,
            }
            time <= until
        })?;
        for (of_time, of_key) in gone {
            stores.write(self.store, &of_time, None, stream_time)?;
            stores.write(self.store, &of_key, None, stream_time)?;
        }
        let mark = next.max(until.saturating_add(self.within_ms / LOOKS_PER_TIME));
        stores.write(self.store, MARK, Some(&mark.to_be_bytes()), stream_time)?;
        Ok(())
    }
}

fn of_time(time: i64, key: &[u8]) -> Vec<u8> {
    [&[TIMES], time.to_be_bytes().as_slice(), key].concat()
}

fn time_of(stored: &[u8]) -> i64 {
    stored.try_into().map_or(0, i64::from_be_bytes)
}
