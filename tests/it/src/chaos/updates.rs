//! All updates while they come: whether those of each key are 1, 2, …, n, and for how long a partition had none.

use crate::fire::{Guarantee, Updates};
use crate::tail::{Tail, Takes};
use record::Fetched;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Seen {
    updates: Updates,
    /// When each partition showed something last, and the longest time that it did not since [`Seen::measure`].
    pauses: BTreeMap<i32, (Instant, Duration)>,
}

pub(crate) type Reader = Tail<Seen>;

impl Takes for Seen {
    fn take(&mut self, fetched: &Fetched, at: Instant) {
        let partition = fetched.partition.partition;
        for (row, offset) in fetched.offsets.iter().enumerate() {
            let key = String::from_utf8_lossy(fetched.records.key(row).unwrap_or_default());
            let value = fetched.records.value(row).unwrap_or_default();
            let count = u64::from_be_bytes(value.try_into().unwrap_or_default());
            self.updates.count(&key, count, || format!("{partition}-{offset}"));
        }
        if !fetched.offsets.is_empty() {
            let (last, pause) = self.pauses.entry(partition).or_insert((at, Duration::ZERO));
            *pause = (*pause).max(at - *last);
            *last = at;
        }
    }
}

impl Seen {
    pub fn records(&self) -> u64 {
        self.updates.records
    }

    /// The last updates of all keys together: the number of records that are counted.
    pub fn counted(&self) -> u64 {
        self.updates.last.values().sum()
    }

    /// Pauses count from now on.
    pub fn measure(&mut self) {
        let now = Instant::now();
        for pause in self.pauses.values_mut() {
            *pause = (now, Duration::ZERO);
        }
    }

    /// The longest pause of any partition since [`Seen::measure`], one that goes on included.
    pub fn longest_pause(&self) -> Duration {
        let pauses = self.pauses.values().map(|(last, pause)| (*pause).max(last.elapsed()));
        pauses.max().unwrap_or_default()
    }

    /// What is wrong with the counts of records 0 to `sent`.
    pub fn wrongs(&self, sent: u64, keys: u64, guarantee: Guarantee) -> Vec<String> {
        let exactly = guarantee == Guarantee::ExactlyOnce;
        let mut wrongs = if exactly {
            self.updates.jumps.clone()
        } else {
            Vec::new()
        };
        for key in 0..keys.min(sent) {
            let expected = (sent - key).div_ceil(keys);
            let last = self.updates.last.get(&format!("k{key}")).copied().unwrap_or(0);
            if last < expected || (exactly && last > expected) {
                wrongs.push(format!("`k{key}`: {expected} records, last update {last}"));
            }
        }
        wrongs
    }
}
