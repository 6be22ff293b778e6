//! Tumbling, hopping and unlimited windows: a row goes into every window that its time lies in.

use state::{Bounds, Stores, Update, WindowedKey, split};

use super::{Clock, Outcome, Row, WindowAggregator};
use crate::aggregate::RowFault;

/// Starts of the windows that `timestamp` lies in; none is negative.
fn starts(timestamp: i64, size_ms: i64, advance_ms: i64) -> impl Iterator<Item = i64> {
    let first = timestamp.saturating_sub(size_ms).saturating_add(advance_ms).max(0) / advance_ms * advance_ms;
    std::iter::successors(Some(first), move |start| start.checked_add(advance_ms)).take_while(move |s| *s <= timestamp)
}

impl WindowAggregator {
    pub(super) fn reduce_windows(
        &self,
        row: &Row<'_>,
        (size_ms, advance_ms): (i64, i64),
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let close = clock.observed - self.windowing.grace_ms;
        let mut missed = 0;
        let mut met = 0;
        for start in starts(row.timestamp, size_ms, advance_ms) {
            if start.saturating_add(size_ms) > close {
                met += 1;
                self.update(row, start, stores, clock, outcome)?;
            } else {
                missed += 1;
            }
        }
        outcome.dropped += missed;
        if met == 0 {
            outcome.too_late(row);
        }
        self.close_windows(row, (size_ms, advance_ms), stores, clock, outcome)
    }

    /// Sends on the windows that have closed.
    pub(super) fn close_windows(
        &self,
        row: &Row<'_>,
        (size_ms, advance_ms): (i64, i64),
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let close = clock.observed - self.windowing.grace_ms;
        if self.windowing.on_close && close >= size_ms {
            // The last window that has closed; the store is asked only when there is another one.
            let last = (close - size_ms) / advance_ms * advance_ms;
            if last > clock.closed {
                self.send_closed(row, clock.closed, last, stores, outcome)?;
                clock.closed = last;
            }
        }
        Ok(())
    }

    fn update(
        &self,
        row: &Row<'_>,
        start: i64,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let window = WindowedKey::at(row.key, start);
        let mut key = std::mem::take(&mut outcome.scratch);
        key.clear();
        self.layout.write(&window, &mut key);
        let updated = stores.modify(self.store, &key, row.timestamp, |stored, new| {
            let before = stored.map(split);
            let old = before.map(|(_, value)| value);
            let time = before.map_or(row.timestamp, |(time, _)| row.timestamp.max(time));
            new.extend_from_slice(&time.to_be_bytes());
            if !self.aggregator.fold(row.batch, row.row, old, new)? {
                outcome.dropped += 1;
                return Ok(Update::Keep);
            }
            if self.emits_updates() {
                let mut wire = Vec::with_capacity(row.key.len() + 8);
                self.layout.write_wire(&window, &mut wire);
                outcome.push(row, &wire, new.get(state::TIMESTAMP_BYTES..), time, before);
            }
            clock.oldest = clock.oldest.min(start);
            Ok(Update::Put)
        });
        outcome.scratch = key;
        updated
    }

    /// Windows that start after `after` and not after `last`, in the order of the store.
    fn send_closed(
        &self,
        row: &Row<'_>,
        after: i64,
        last: i64,
        stores: &mut Stores,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let lower = (after + 1).max(0).to_be_bytes();
        let upper = last.saturating_add(1).to_be_bytes();
        let mut wire = Vec::new();
        stores.scan(
            self.store,
            &Bounds::half_open(Some(&lower), Some(&upper)),
            false,
            &mut |key, stored| {
                if let Some(window) = self.layout.read(key) {
                    wire.clear();
                    self.layout.write_wire(&window, &mut wire);
                    let (time, value) = split(stored);
                    outcome.push(row, &wire, Some(value), time, None);
                }
                true
            },
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_a_time() {
        let of = |time, size, advance| starts(time, size, advance).collect::<Vec<_>>();
        assert_eq!(of(0, 10, 10), [0]);
        assert_eq!(of(9, 10, 10), [0]);
        assert_eq!(of(10, 10, 10), [10]);
        assert_eq!(of(12, 10, 5), [5, 10]);
        assert_eq!(of(3, 10, 5), [0]);
        assert_eq!(of(12, 10, 3), [3, 6, 9, 12]);
        assert_eq!(of(i64::MAX, i64::MAX, i64::MAX), [i64::MAX]);
    }
}
