//! Joins of two streams: a row meets the rows of its key on the other side that lie within its window.
//!
//! Each side's rows are kept in a store for as long as a match may come. Rows that go on without a match (left, outer)
//! wait in a third store until their window and grace lie behind the time of both sides, and go then, in the order of
//! their times, with the first row that is not late; a row that comes when its window has passed goes at once. A row
//! without a value is dropped, so is one without a key where its side needs a match.

use record::{Batch, BatchBuilder};
use state::{Bounds, Layout, Stores, WindowedKey, join, split};
use topology::{JoinKind, Side, StreamJoin};

use crate::aggregate::{RowFault, deserialization};
use crate::numbers::Numbers;
use crate::windows::{Expiry, layout, remove_expired};
use crate::{Applied, Error, Projector};

#[derive(Clone, Debug)]
struct OneSide {
    side: Side,
    store: usize,
    /// How much older and newer the other row may be.
    before_ms: i64,
    after_ms: i64,
    /// Whether its rows go on without a match.
    lonely: bool,
}

/// A join with its stores.
#[derive(Clone, Debug)]
pub struct StreamJoiner {
    left: OneSide,
    right: OneSide,
    waiting: Option<usize>,
    grace_ms: i64,
    retention_ms: i64,
    layout: Layout,
    projector: Projector,
    times: Numbers,
}

/// Milliseconds; -1 where there was nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    /// The largest time of each side.
    observed: [i64; 2],
    /// No row of each side's store is older.
    oldest: [i64; 2],
    /// No row that waits is older.
    waiting: i64,
    /// Numbers rows, so that equal keys and times stay apart.
    sequence: i64,
}

impl Clock {
    fn stream_time(&self) -> i64 {
        let [left, right] = self.observed;
        left.max(right)
    }

    fn read(stores: &mut Stores, times: &Numbers) -> Result<Self, state::Error> {
        let start = [-1, -1, i64::MAX, i64::MAX, i64::MAX, 0];
        let [left, right, oldest_left, oldest_right, waiting, sequence] = times.read(stores, start)?;
        Ok(Self {
            observed: [left, right],
            oldest: [oldest_left, oldest_right],
            waiting,
            sequence,
        })
    }

    fn write(&self, stores: &mut Stores, times: &Numbers) -> Result<(), state::Error> {
        let ([left, right], [oldest_left, oldest_right]) = (self.observed, self.oldest);
        let numbers = [left, right, oldest_left, oldest_right, self.waiting, self.sequence];
        times.write(stores, numbers, self.stream_time())
    }
}

/// A row of one side.
struct Row<'a> {
    batch: &'a Batch,
    row: usize,
    key: &'a [u8],
    value: &'a [u8],
    timestamp: i64,
}

#[derive(Default)]
struct Outcome {
    rows: BatchBuilder,
    causes: Vec<u32>,
    dropped: u64,
}

impl StreamJoiner {
    /// `left`, `right`, `waiting` and `times` are the task's numbers of the stores; `name` is the node's.
    pub fn new(
        plan: &StreamJoin,
        (left, right, waiting): (usize, usize, Option<usize>),
        times: usize,
        name: &str,
    ) -> Self {
        Self {
            left: OneSide {
                side: Side::Left,
                store: left,
                before_ms: plan.before_ms,
                after_ms: plan.after_ms,
                lonely: plan.kind != JoinKind::Inner,
            },
            right: OneSide {
                side: Side::Right,
                store: right,
                before_ms: plan.after_ms,
                after_ms: plan.before_ms,
                lonely: plan.kind == JoinKind::Outer,
            },
            waiting,
            grace_ms: plan.grace_ms,
            retention_ms: plan.retention_ms(),
            layout: layout(plan.store_kind()).unwrap_or(Layout::Window),
            projector: Projector::new(plan.value.clone(), plan.key, plan.left_value, plan.right_value),
            times: Numbers::of(times, name),
        }
    }

    /// Joins the rows in order. `ports`: 0 for a row of the left side, 1 for one of the right; empty: all are left.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row whose value or match is not what its format says; those of the stores.
    pub fn apply(&self, batch: &Batch, ports: &[u8], stores: &mut Stores) -> Result<Applied, Error> {
        let mut clock = Clock::read(stores, &self.times)?;
        let before = clock;
        let mut outcome = Outcome::default();
        for (row, timestamp) in batch.timestamps().iter().copied().enumerate() {
            let side = ports.get(row).copied().unwrap_or(0) == 0;
            let mine = if side { &self.left } else { &self.right };
            let taken = match (batch.key(row), batch.value(row)) {
                (Some(key), Some(value)) => {
                    let at = Row {
                        batch,
                        row,
                        key,
                        value,
                        timestamp,
                    };
                    self.take(mine, &at, stores, &mut clock, &mut outcome)
                }
                (None, Some(value)) if mine.lonely => {
                    self.lonely(mine.side, (batch, row), None, value, timestamp, &mut outcome)
                }
                _ => {
                    outcome.dropped += 1;
                    Ok(())
                }
            };
            taken.map_err(|fault| fault.at(row))?;
        }
        if clock != before {
            clock.write(stores, &self.times)?;
        }
        Ok(Applied {
            rows: outcome.rows.finish(),
            causes: Some(outcome.causes),
            dropped: outcome.dropped,
        })
    }

    /// Time has come without a row: rows whose windows have closed go on without a match.
    ///
    /// # Errors
    /// [`Error::Row`] for a row that is not what its format says; those of the stores.
    pub fn go_on(&self, time: i64, stores: &mut Stores) -> Result<Batch, Error> {
        let mut clock = Clock::read(stores, &self.times)?;
        if clock.stream_time() < 0 || time <= clock.stream_time() {
            return Ok(Batch::empty());
        }
        // A side without rows knows nothing of time.
        clock.observed = clock.observed.map(|own| if own < 0 { own } else { time });
        let (nothing, mut outcome) = (Batch::empty(), Outcome::default());
        let sent = self.send_waiting((&nothing, 0), stores, &mut clock, &mut outcome);
        sent.map_err(|fault| fault.at(0))?;
        clock.write(stores, &self.times)?;
        Ok(outcome.rows.finish())
    }

    fn take(
        &self,
        mine: &OneSide,
        row: &Row<'_>,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        self.keep(mine, row, stores, clock)?;
        let time = clock.stream_time();
        if row.timestamp == time {
            self.send_waiting((row.batch, row.row), stores, clock, outcome)?;
        }
        let from = row.timestamp.saturating_sub(mine.before_ms).max(0);
        let to = row.timestamp.saturating_add(mine.after_ms).max(0);
        let matches = self.matches(mine, row.key, (from, to), stores, clock)?;
        for (other_time, other) in &matches {
            self.no_longer_waits(mine, row.key, *other_time, stores)?;
            let (left, right) = match mine.side {
                Side::Left => (row.value, other.as_slice()),
                Side::Right => (other.as_slice(), row.value),
            };
            let value = self.projector.value(Some(row.key), Some(left), Some(right));
            let value = value.map_err(deserialization)?;
            outcome.push(
                (row.batch, row.row),
                Some(row.key),
                &value,
                row.timestamp.max(*other_time),
            );
        }
        if !matches.is_empty() || !mine.lonely {
            return Ok(());
        }
        match self.waiting {
            Some(waiting) if to >= time => {
                let key = waiting_key(row.timestamp, mine.side, row.key, clock.sequence as u32);
                stores.write(waiting, &key, Some(row.value), row.timestamp)?;
                clock.waiting = clock.waiting.min(row.timestamp);
                Ok(())
            }
            _ => self.lonely(
                mine.side,
                (row.batch, row.row),
                Some(row.key),
                row.value,
                row.timestamp,
                outcome,
            ),
        }
    }

    /// The row goes into its side's store, unless it has expired already.
    fn keep(&self, mine: &OneSide, row: &Row<'_>, stores: &mut Stores, clock: &mut Clock) -> Result<(), RowFault> {
        let at = usize::from(mine.side == Side::Right);
        let (Some(observed), Some(oldest)) = (clock.observed.get_mut(at), clock.oldest.get_mut(at)) else {
            return Ok(());
        };
        *observed = row.timestamp.max(*observed);
        clock.sequence = (clock.sequence + 1) & i64::from(u32::MAX);
        if row.timestamp <= observed.saturating_sub(self.retention_ms) {
            return Ok(());
        }
        *oldest = row.timestamp.min(*oldest);
        let mut key = Vec::new();
        let parts = WindowedKey {
            sequence: clock.sequence as u32,
            ..WindowedKey::at(row.key, row.timestamp)
        };
        self.layout.write(&parts, &mut key);
        stores.write(mine.store, &key, Some(&join(row.timestamp, row.value)), row.timestamp)?;
        Ok(())
    }

    /// Rows of the other side within `from` and `to`, in the order of their times and then of their coming.
    fn matches(
        &self,
        mine: &OneSide,
        key: &[u8],
        (from, to): (i64, i64),
        stores: &mut Stores,
        clock: &Clock,
    ) -> Result<Vec<(i64, Vec<u8>)>, state::Error> {
        let [left, right] = clock.observed;
        let (other, observed) = match mine.side {
            Side::Left => (&self.right, right),
            Side::Right => (&self.left, left),
        };
        let from = from.max(observed.saturating_sub(self.retention_ms).saturating_add(1));
        let to = to.min(observed);
        let mut found = Vec::new();
        if from > to {
            return Ok(found);
        }
        for segment in self.layout.segment(from)..=self.layout.segment(to) {
            let bounds = self.layout.bounds_from(segment, key, from);
            stores.scan(other.store, &bounds, false, &mut |stored_key, stored| {
                let Some(parts) = self.layout.read(stored_key).filter(|parts| parts.key == key) else {
                    return true;
                };
                if parts.start > to {
                    return false;
                }
                if parts.start >= from {
                    found.push((parts.start, split(stored).1.to_vec()));
                }
                true
            })?;
        }
        Ok(found)
    }

    /// Rows of the other side with this key and time have their match.
    fn no_longer_waits(&self, mine: &OneSide, key: &[u8], time: i64, stores: &mut Stores) -> Result<(), state::Error> {
        let other = match mine.side {
            Side::Left => &self.right,
            Side::Right => &self.left,
        };
        let (Some(waiting), true) = (self.waiting, other.lonely) else {
            return Ok(());
        };
        let mut keys = Vec::new();
        let prefix = waiting_key(time, other.side, key, 0);
        let length = prefix.len();
        let prefix = prefix.get(..length - 4).unwrap_or_default();
        stores.scan(waiting, &Bounds::prefix(prefix), false, &mut |found, _| {
            if found.len() == length {
                keys.push(found.to_vec());
            }
            true
        })?;
        for key in keys {
            stores.write(waiting, &key, None, time)?;
        }
        Ok(())
    }

    /// Rows whose windows have closed without a match, by time, right before left, key.
    fn send_waiting(
        &self,
        cause: (&Batch, usize),
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let Some(waiting) = self.waiting else { return Ok(()) };
        let time = clock.stream_time();
        let closes = |side: Side| match side {
            Side::Left => self.left.after_ms.saturating_add(self.grace_ms),
            Side::Right => self.right.after_ms.saturating_add(self.grace_ms),
        };
        let soonest = closes(Side::Left).min(closes(Side::Right));
        if clock.waiting.saturating_add(soonest) >= time {
            return Ok(());
        }
        let mut gone = Vec::new();
        let mut left_over = i64::MAX;
        let upper = time.saturating_sub(soonest).max(0).to_be_bytes();
        stores.scan(waiting, &Bounds::all(), false, &mut |key, value| {
            let Some((at, side, own)) = read_waiting(key) else {
                return true;
            };
            if at.saturating_add(closes(side)) < time {
                gone.push((key.to_vec(), at, side, own.to_vec(), value.to_vec()));
            } else {
                left_over = left_over.min(at);
            }
            // Nothing later can have closed.
            key < upper.as_slice()
        })?;
        for (key, at, side, own, value) in gone {
            stores.write(waiting, &key, None, at)?;
            self.lonely(side, cause, Some(&own), &value, at, outcome)?;
        }
        clock.waiting = left_over;
        Ok(())
    }

    /// A row goes on without a match.
    fn lonely(
        &self,
        side: Side,
        cause: (&Batch, usize),
        key: Option<&[u8]>,
        value: &[u8],
        timestamp: i64,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let (left, right) = match side {
            Side::Left => (Some(value), None),
            Side::Right => (None, Some(value)),
        };
        let value = self.projector.value(key, left, right).map_err(deserialization)?;
        outcome.push(cause, key, &value, timestamp);
        Ok(())
    }

    /// Removes rows that have expired, before a commit.
    ///
    /// # Errors
    /// Those of the stores.
    pub fn sweep(&self, stores: &mut Stores) -> Result<(), Error> {
        let mut clock = Clock::read(stores, &self.times)?;
        let before = clock;
        let sides = [&self.left, &self.right].into_iter().zip(clock.observed);
        for ((side, observed), oldest) in sides.zip(&mut clock.oldest) {
            let expiry = Expiry {
                store: side.store,
                layout: self.layout,
                expired: observed.saturating_sub(self.retention_ms),
                observed,
            };
            remove_expired(&expiry, oldest, stores)?;
        }
        if clock != before {
            clock.write(stores, &self.times)?;
        }
        Ok(())
    }
}

impl Outcome {
    fn push(&mut self, (batch, row): (&Batch, usize), key: Option<&[u8]>, value: &[u8], timestamp: i64) {
        match batch.headers() {
            Some(headers) => {
                let headers = headers.row(row).to_vec();
                self.rows.push_with_headers(key, Some(value), timestamp, headers);
            }
            None => self.rows.push(key, Some(value), timestamp),
        }
        self.causes.push(row as u32);
    }
}

/// Time, side, key, number: as Kafka Streams orders them.
fn waiting_key(time: i64, side: Side, key: &[u8], sequence: u32) -> Vec<u8> {
    let mut bytes = time.to_be_bytes().to_vec();
    bytes.push(u8::from(side == Side::Left));
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes
}

fn read_waiting(bytes: &[u8]) -> Option<(i64, Side, &[u8])> {
    let (time, rest) = bytes.split_first_chunk::<8>()?;
    let (side, rest) = rest.split_first()?;
    let key = rest.get(..rest.len().checked_sub(4)?)?;
    let side = if *side == 1 { Side::Left } else { Side::Right };
    Some((i64::from_be_bytes(*time), side, key))
}
