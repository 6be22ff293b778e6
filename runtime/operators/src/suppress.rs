//! Updates of a table that are held back: the last one of each key goes on when its time has come.
//!
//! Two rows of one store for each key that waits: `k` and the key give the time it waits by, `t`, that time and the key
//! give the update. A key keeps the time of its first update that waits; updates go in the order of these times, then
//! of keys, each with its own timestamp.

use record::{Batch, BatchBuilder};
use state::{Bounds, Layout, Stores, Update, join, split};
use topology::{Suppress, SuppressedWindow, Until, WhenFull};

use crate::aggregate::RowFault;
use crate::numbers::Numbers;
use crate::{Applied, Error, Stage};

#[derive(Clone, Debug)]
pub struct Suppressor {
    until: Until,
    records_max: i64,
    bytes_max: i64,
    when_full: WhenFull,
    store: usize,
    times: Numbers,
}

/// -1 and 0 where there was nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    observed: i64,
    /// No update waits by an earlier time.
    next: i64,
    records: i64,
    bytes: i64,
}

impl Clock {
    fn read(stores: &mut Stores, times: &Numbers) -> Result<Self, state::Error> {
        let [observed, next, records, bytes] = times.read(stores, [-1, i64::MAX, 0, 0])?;
        Ok(Self {
            observed,
            next,
            records,
            bytes,
        })
    }

    fn write(&self, stores: &mut Stores, times: &Numbers) -> Result<(), state::Error> {
        times.write(
            stores,
            [self.observed, self.next, self.records, self.bytes],
            self.observed,
        )
    }
}

#[derive(Default)]
struct Outcome {
    rows: BatchBuilder,
    causes: Vec<u32>,
}

fn bound(max: Option<u64>) -> i64 {
    max.and_then(|max| i64::try_from(max).ok()).unwrap_or(i64::MAX)
}

fn waits_by(key: &[u8]) -> Vec<u8> {
    [b"k", key].concat()
}

fn update_of(time: i64, key: &[u8]) -> Vec<u8> {
    [b"t", &time.to_be_bytes()[..], key].concat()
}

impl Suppressor {
    /// `store` and `times` are the task's numbers of the buffer and of the store of times; `name` is the node's.
    pub fn new(suppress: &Suppress, store: usize, times: usize, name: &str) -> Self {
        Self {
            until: suppress.until,
            records_max: bound(suppress.records_max),
            bytes_max: bound(suppress.bytes_max),
            when_full: suppress.when_full,
            store,
            times: Numbers::of(times, name),
        }
    }

    /// # Errors
    /// [`Error::Row`] for a row that finds a full buffer that is to stop then; those of the stores.
    pub fn apply(&self, batch: &Batch, stores: &mut Stores) -> Result<Applied, Error> {
        let mut clock = Clock::read(stores, &self.times)?;
        let before = clock;
        let mut outcome = Outcome::default();
        let mut dropped = 0;
        for (row, timestamp) in batch.timestamps().iter().copied().enumerate() {
            let Some(key) = batch.key(row) else {
                dropped += 1;
                continue;
            };
            clock.observed = clock.observed.max(timestamp);
            self.hold(key, batch.value(row), timestamp, stores, &mut clock)
                .and_then(|()| self.let_go(row, stores, &mut clock, &mut outcome))
                .map_err(|fault| fault.at(row))?;
        }
        if clock != before {
            clock.write(stores, &self.times)?;
        }
        Ok(Applied {
            rows: outcome.rows.finish(),
            causes: Some(outcome.causes),
            dropped,
        })
    }

    /// Time has come without a row: what has waited long enough goes on.
    ///
    /// # Errors
    /// Those of the stores.
    pub fn go_on(&self, time: i64, stores: &mut Stores) -> Result<Batch, Error> {
        let mut clock = Clock::read(stores, &self.times)?;
        if clock.observed < 0 || time <= clock.observed {
            return Ok(Batch::empty());
        }
        clock.observed = time;
        let mut outcome = Outcome::default();
        let gone = self.let_go(0, stores, &mut clock, &mut outcome);
        gone.map_err(|fault| fault.at(0))?;
        clock.write(stores, &self.times)?;
        Ok(outcome.rows.finish())
    }

    /// The time that an update waits by.
    fn time(&self, key: &[u8], timestamp: i64) -> i64 {
        let Until::WindowCloses { kind, .. } = self.until else {
            return timestamp;
        };
        match kind {
            SuppressedWindow::Time { size_ms } => Layout::Window
                .read_wire(key)
                .map_or(timestamp, |window| window.start.saturating_add(size_ms)),
            SuppressedWindow::Session => Layout::Session { segment_ms: 1 }
                .read_wire(key)
                .map_or(timestamp, |window| window.end),
        }
    }

    fn hold(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: i64,
        stores: &mut Stores,
        clock: &mut Clock,
    ) -> Result<(), RowFault> {
        let mut time = self.time(key, timestamp);
        stores.modify(self.store, &waits_by(key), timestamp, |known, new| {
            if let Some(known) = known.and_then(|known| known.try_into().ok()) {
                time = i64::from_be_bytes(known);
                return Ok::<Update, state::Error>(Update::Keep);
            }
            new.extend_from_slice(&time.to_be_bytes());
            Ok(Update::Put)
        })?;
        let held = update_of(time, key);
        // One byte tells a tombstone from an empty value.
        let mut update = vec![u8::from(value.is_some())];
        update.extend_from_slice(value.unwrap_or_default());
        let old = stores.read(self.store, &held, |old| old.map(|old| weight(key, old)))?;
        let stored = join(timestamp, &update);
        clock.records += i64::from(old.is_none());
        clock.bytes += weight(key, &stored) - old.unwrap_or(0);
        clock.next = clock.next.min(time);
        stores.write(self.store, &held, Some(&stored), timestamp)?;
        Ok(())
    }

    fn is_full(&self, clock: &Clock) -> bool {
        clock.records > self.records_max || clock.bytes > self.bytes_max
    }

    fn let_go(
        &self,
        row: usize,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let wait = match self.until {
            Until::WindowCloses { grace_ms, .. } => grace_ms,
            Until::TimeLimit { ms } => ms,
        };
        let due = clock.observed.saturating_sub(wait);
        if clock.next > due && !self.is_full(clock) {
            return Ok(());
        }
        loop {
            let mut first = None;
            stores.scan(self.store, &Bounds::prefix(b"t"), false, &mut |key, stored| {
                first = Some((key.to_vec(), stored.to_vec()));
                false
            })?;
            let Some((held, stored)) = first else {
                clock.next = i64::MAX;
                return Ok(());
            };
            let (time, key) = held.get(1..).map(split).unwrap_or_default();
            clock.next = time;
            if time > due {
                if !self.is_full(clock) {
                    return Ok(());
                }
                if self.when_full == WhenFull::Stop {
                    let reason = format!("{} updates wait, and there is no room for more", clock.records - 1);
                    return Err(RowFault::Row(Stage::Processing, reason));
                }
            }
            stores.write(self.store, &held, None, clock.observed)?;
            stores.write(self.store, &waits_by(key), None, clock.observed)?;
            clock.records -= 1;
            clock.bytes -= weight(key, &stored);
            self.push(row, key, &stored, outcome);
        }
    }

    fn push(&self, row: usize, key: &[u8], stored: &[u8], outcome: &mut Outcome) {
        let (timestamp, update) = split(stored);
        let value = update
            .split_first()
            .filter(|(there, _)| **there == 1)
            .map(|(_, value)| value);
        // Nothing was sent on of a window that has not closed, so there is nothing to delete.
        if value.is_none() && matches!(self.until, Until::WindowCloses { .. }) {
            return;
        }
        outcome.rows.push(Some(key), value, timestamp);
        outcome.causes.push(row as u32);
    }
}

/// Bytes of an update that waits.
fn weight(key: &[u8], stored: &[u8]) -> i64 {
    (key.len() + stored.len()) as i64
}
