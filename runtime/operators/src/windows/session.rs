//! Sessions: a row joins those of its key that are not further away than the gap, and may make one of several.

use state::{Stores, WindowedKey, join, split};

use super::{Clock, Outcome, Row, WindowAggregator};
use crate::aggregate::RowFault;

/// A session that was found: start, end, aggregate.
type Found = (i64, i64, Vec<u8>);

impl WindowAggregator {
    pub(super) fn reduce_session(
        &self,
        row: &Row<'_>,
        (gap_ms, before): (i64, i64),
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let close = clock.observed - self.windowing.grace_ms - gap_ms;
        let found = self.sessions(row, gap_ms, stores, (before, clock.observed))?;
        let mut merged: Option<Vec<u8>> = None;
        let (mut start, mut end) = (row.timestamp, row.timestamp);
        for (from, to, value) in &found {
            let mut combined = Vec::new();
            self.aggregator.combine(merged.as_deref(), value, &mut combined)?;
            merged = Some(combined);
            (start, end) = (start.min(*from), end.max(*to));
        }
        if end < close {
            outcome.dropped += 1;
            outcome.too_late(row);
        } else {
            let mut value = Vec::new();
            if self
                .aggregator
                .fold(row.batch, row.row, merged.as_deref(), &mut value)?
            {
                self.replace(row, &found, (start, end, value), stores, outcome)?;
                clock.oldest = clock.oldest.min(end);
                clock.next = clock.next.min(end);
            } else {
                outcome.dropped += 1;
            }
        }
        if self.windowing.on_close && close > clock.next {
            self.send_ended(row, close, stores, clock, outcome)?;
        }
        Ok(())
    }

    /// Sessions of the row's key that lie within the gap, by end and start.
    fn sessions(
        &self,
        row: &Row<'_>,
        gap_ms: i64,
        stores: &mut Stores,
        (before, observed): (i64, i64),
    ) -> Result<Vec<Found>, state::Error> {
        let (from, to) = (
            row.timestamp.saturating_sub(gap_ms),
            row.timestamp.saturating_add(gap_ms),
        );
        // What has expired is masked, as of the time before the row.
        let expired = before.saturating_sub(self.windowing.retention_ms);
        let mut found = Vec::new();
        // No session ends after the operator's stream time.
        for segment in self.layout.segment(from.max(expired))..=self.layout.segment(observed) {
            let bounds = self.layout.bounds_from(segment, row.key, from);
            stores.scan(self.store, &bounds, false, &mut |key, stored| {
                if let Some(session) = self.layout.read(key)
                    && session.key == row.key
                    && session.start <= to
                    && session.end >= from
                    && session.end > expired
                {
                    found.push((session.start, session.end, split(stored).1.to_vec()));
                }
                true
            })?;
        }
        Ok(found)
    }

    /// The sessions that were found make room for the one that they and the row became.
    fn replace(
        &self,
        row: &Row<'_>,
        found: &[Found],
        (start, end, value): (i64, i64, Vec<u8>),
        stores: &mut Stores,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let session = |start, end| WindowedKey {
            key: row.key,
            start,
            end,
            sequence: 0,
        };
        let mut key = Vec::new();
        let mut wire = Vec::new();
        // A row that falls into a session of one moment changes nothing but its value.
        if (start, end) != (row.timestamp, row.timestamp) {
            for (from, to, value) in found {
                key.clear();
                self.layout.write(&session(*from, *to), &mut key);
                stores.write(self.store, &key, None, *to)?;
                if self.emits_updates() {
                    wire.clear();
                    self.layout.write_wire(&session(*from, *to), &mut wire);
                    outcome.push(row, &wire, None, *to, Some((*to, value)));
                }
            }
        }
        key.clear();
        self.layout.write(&session(start, end), &mut key);
        stores.write(self.store, &key, Some(&join(end, &value)), end)?;
        if self.emits_updates() {
            wire.clear();
            self.layout.write_wire(&session(start, end), &mut wire);
            outcome.push(row, &wire, Some(&value), end, None);
        }
        Ok(())
    }

    /// Sessions that ended before `close` and were not sent on yet, by end, start and key.
    pub(super) fn send_ended(
        &self,
        row: &Row<'_>,
        close: i64,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let mut ended = Vec::new();
        let mut next = i64::MAX;
        let lower = self.layout.segment(clock.next).to_be_bytes();
        stores.scan(
            self.store,
            &state::Bounds::half_open(Some(&lower), None),
            false,
            &mut |key, stored| {
                if let Some(session) = self.layout.read(key) {
                    if session.end >= close {
                        next = next.min(session.end);
                    } else if session.end > clock.closed {
                        ended.push((
                            session.end,
                            session.start,
                            session.key.to_vec(),
                            split(stored).1.to_vec(),
                        ));
                    }
                }
                true
            },
        )?;
        ended.sort();
        for (end, start, key, value) in ended {
            let mut wire = Vec::new();
            let session = WindowedKey {
                key: &key,
                start,
                end,
                sequence: 0,
            };
            self.layout.write_wire(&session, &mut wire);
            outcome.push(row, &wire, Some(&value), end, None);
        }
        clock.closed = close - 1;
        clock.next = next;
        Ok(())
    }
}
