//! A stream joined with a table of versions, after a wait: a row of the stream is held until it is as old as the grace,
//! and meets what the table had at its time, with all that came late until then. As Kafka Streams' (KIP-923).
//!
//! The buffer has a row for each that waits: `t`, its time, key and number give its headers and value. They go in this
//! order. Beside them lies what is known of time.

use record::{Batch, BatchBuilder, RowHeaders};
use state::{Bounds, Stores};
use topology::{JoinGrace, JoinKind, TableJoin};

use crate::aggregate::{RowFault, deserialization};
use crate::numbers::Numbers;
use crate::projection::Projector;
use crate::versioned::Versions;
use crate::{Applied, Error};

const WAITS: u8 = b't';
/// Of the time and the number around a waiting row's key.
const TIME_BYTES: usize = 8;
const NUMBER_BYTES: usize = 4;

#[derive(Clone, Debug)]
pub struct BufferedJoiner {
    kind: JoinKind,
    grace_ms: i64,
    buffer: usize,
    /// In the buffer too: it belongs to the join alone.
    times: Numbers,
    versions: Versions,
    projector: Projector,
}

/// -1 where there was nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    /// The largest time of a row that waited.
    observed: i64,
    /// No row that waits is older.
    next: i64,
    /// Tells rows of one key and time apart.
    number: i64,
}

impl Clock {
    fn read(stores: &mut Stores, times: &Numbers) -> Result<Self, state::Error> {
        let [observed, next, number] = times.read(stores, [-1, i64::MAX, 0])?;
        Ok(Self { observed, next, number })
    }

    fn write(&self, stores: &mut Stores, times: &Numbers) -> Result<(), state::Error> {
        times.write(stores, [self.observed, self.next, self.number], self.observed)
    }
}

#[derive(Default)]
struct Outcome {
    rows: BatchBuilder,
    causes: Vec<u32>,
    dropped: u64,
}

/// A row of the stream, at its turn or later.
struct Row<'a> {
    key: Option<&'a [u8]>,
    value: &'a [u8],
    time: i64,
    headers: RowHeaders,
    /// The row of the batch with which it goes.
    cause: usize,
}

impl BufferedJoiner {
    /// `right`, `history` and `buffer` are the task's numbers of the table's stores and of the join's own.
    pub fn new(
        join: &TableJoin,
        grace: &JoinGrace,
        history_ms: i64,
        (right, history, buffer): (usize, usize, usize),
    ) -> Self {
        Self {
            kind: join.kind,
            grace_ms: grace.grace_ms,
            buffer,
            times: Numbers::of(buffer, "rows that wait"),
            versions: Versions {
                store: right,
                history,
                history_ms,
            },
            projector: Projector::new(join.value.clone(), join.key, join.left_value, join.right_value),
        }
    }

    /// `ports`: 0 for a row of the stream, 1 for one of the table, which makes none; empty: all are of the stream.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row that is not what its format says, or with which such a one has its turn; those
    /// of the stores.
    pub fn apply(&self, batch: &Batch, ports: &[u8], stores: &mut Stores) -> Result<Applied, Error> {
        let mut clock = Clock::read(stores, &self.times)?;
        let before = clock;
        let mut outcome = Outcome::default();
        for row in 0..batch.len() {
            if ports.get(row).is_some_and(|port| *port == 1) {
                continue;
            }
            let time = batch.timestamps().get(row).copied().unwrap_or_default();
            let (Some(value), key) = (batch.value(row), batch.key(row)) else {
                outcome.dropped += 1;
                continue;
            };
            if key.is_none() && self.kind == JoinKind::Inner {
                outcome.dropped += 1;
                continue;
            }
            let row = Row {
                key,
                value,
                time,
                headers: batch.headers().map(|h| h.row(row).to_vec()).unwrap_or_default(),
                cause: row,
            };
            self.take(&row, stores, &mut clock, &mut outcome)
                .map_err(|fault| fault.at(row.cause))?;
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

    /// A row that is older than the grace, or has no key to wait for, does not wait.
    fn take(
        &self,
        row: &Row<'_>,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let oldest = clock.observed.saturating_sub(self.grace_ms);
        let Some(key) = row.key.filter(|_| row.time >= oldest) else {
            return self.join(row, stores, outcome);
        };
        // What cannot be joined at all fails now, and not in the turn of another row.
        self.joined(row, None)?;
        clock.number = (clock.number + 1) & i64::from(u32::MAX >> 1);
        let entry = entry(row.time, key, clock.number as u32);
        stores.write(self.buffer, &entry, Some(&encode(&row.headers, row.value)), row.time)?;
        clock.observed = clock.observed.max(row.time);
        clock.next = clock.next.min(row.time);
        self.let_go(row.cause, stores, clock, outcome)
    }

    /// Rows that have waited long enough, in the order of their times.
    fn let_go(
        &self,
        cause: usize,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let due = clock.observed.saturating_sub(self.grace_ms);
        if clock.next > due {
            return Ok(());
        }
        let mut gone = Vec::new();
        let mut next = i64::MAX;
        stores.scan(self.buffer, &Bounds::prefix(&[WAITS]), false, &mut |entry, stored| {
            let Some((time, key)) = parts(entry) else { return true };
            if time > due {
                next = time;
                return false;
            }
            gone.push((entry.to_vec(), time, key.to_vec(), stored.to_vec()));
            true
        })?;
        clock.next = next;
        for (entry, time, key, stored) in &gone {
            let (headers, value) = decode(stored).ok_or_else(|| {
                let nonsense = "a row that waits for its join makes no sense";
                RowFault::State(state::Error::Misuse(nonsense.into()))
            })?;
            stores.write(self.buffer, entry, None, *time)?;
            let row = Row {
                key: Some(key),
                value,
                time: *time,
                headers,
                cause,
            };
            self.join(&row, stores, outcome)?;
        }
        Ok(())
    }

    fn join(&self, row: &Row<'_>, stores: &mut Stores, outcome: &mut Outcome) -> Result<(), RowFault> {
        let found = match row.key {
            Some(key) => self
                .versions
                .as_of(key, row.time, stores, |found| found.map(|(_, value)| value.to_vec())),
            None => Ok(None),
        };
        let found = found.map_err(|error| match error {
            Error::State(error) => RowFault::State(error),
            other => RowFault::State(state::Error::Misuse(other.to_string())),
        })?;
        if found.is_none() && self.kind == JoinKind::Inner {
            return Ok(());
        }
        let value = self.joined(row, found.as_deref())?;
        match row.headers.is_empty() {
            true => outcome.rows.push(row.key, Some(&value), row.time),
            false => {
                let headers = row.headers.clone();
                outcome.rows.push_with_headers(row.key, Some(&value), row.time, headers);
            }
        }
        outcome.causes.push(row.cause as u32);
        Ok(())
    }

    fn joined(&self, row: &Row<'_>, right: Option<&[u8]>) -> Result<Vec<u8>, RowFault> {
        let joined = self.projector.value(row.key, Some(row.value), right);
        joined.map_err(deserialization)
    }
}

fn entry(time: i64, key: &[u8], number: u32) -> Vec<u8> {
    [&[WAITS], time.to_be_bytes().as_slice(), key, &number.to_be_bytes()].concat()
}

/// Time and key of a row that waits.
fn parts(entry: &[u8]) -> Option<(i64, &[u8])> {
    let (time, rest) = entry.get(1..)?.split_first_chunk::<TIME_BYTES>()?;
    let key = rest.get(..rest.len().checked_sub(NUMBER_BYTES)?)?;
    Some((i64::from_be_bytes(*time), key))
}

/// The headers behind their count, each part behind its length; then the value.
fn encode(headers: &RowHeaders, value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    for (name, value) in headers {
        bytes.extend_from_slice(&length(name.as_bytes()));
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(u8::from(value.is_some()));
        if let Some(value) = value {
            bytes.extend_from_slice(&length(value));
            bytes.extend_from_slice(value);
        }
    }
    bytes.extend_from_slice(value);
    bytes
}

fn decode(bytes: &[u8]) -> Option<(RowHeaders, &[u8])> {
    let (count, mut rest) = bytes.split_first_chunk::<4>()?;
    let mut headers = RowHeaders::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let name = String::from_utf8(part(&mut rest)?).ok()?;
        let (is_there, after) = rest.split_first()?;
        rest = after;
        let value = if *is_there == 1 { Some(part(&mut rest)?) } else { None };
        headers.push((name, value));
    }
    Some((headers, rest))
}

/// Takes a part behind its length.
fn part(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(part.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_comes_back() {
        let headers = vec![("a".to_owned(), Some(vec![0, 1])), ("bc".to_owned(), None)];
        for headers in [headers, Vec::new()] {
            let stored = encode(&headers, b"value");
            assert_eq!(decode(&stored), Some((headers, &b"value"[..])));
        }
        assert_eq!(decode(&[0, 0, 0, 1, 0]), None);
        assert_eq!(parts(&entry(7, b"key", 9)), Some((7, &b"key"[..])));
        assert_eq!(parts(b"t"), None);
    }
}
