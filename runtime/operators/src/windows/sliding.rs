//! Sliding windows: a window for each set of rows of a key that lie no further apart than the difference.
//!
//! Every row has a window that ends with it, and one that begins just after it as soon as another row falls in there.
//! So a row goes into the windows that its time lies in, begins the window after the row before it, and its own two, of
//! which the later one has the rows that came earlier but lie after it. A window that would begin before 1970 begins
//! with it. Which of these a row makes, and in which order they go on, is Kafka Streams'.

use state::{Bounds, Stores, WindowedKey, join, split};

use super::{Clock, Outcome, Row, WindowAggregator};
use crate::aggregate::RowFault;

/// A window that was found, or made.
#[derive(Clone)]
struct Found {
    start: i64,
    /// Of its last row.
    time: i64,
    aggregate: Vec<u8>,
}

/// What a row finds of its key.
#[derive(Default)]
struct Around {
    /// Of all windows that were found.
    starts: Vec<i64>,
    /// Has the rows after this one.
    right: Option<Found>,
    right_exists: bool,
    /// Has the rows before this one.
    left: Option<Found>,
    /// When the last row before this one came, where its own windows do not say that already.
    previous: Option<i64>,
}

impl Around {
    fn of(found: &[Found]) -> Self {
        Self {
            starts: found.iter().map(|found| found.start).collect(),
            ..Self::default()
        }
    }

    /// The start of the window after the row before this one, where there is no such window.
    fn after_previous(&self) -> Option<i64> {
        let start = self.previous? + 1;
        (!self.starts.contains(&start)).then_some(start)
    }

    /// What the window after the row begins with, where there is none and it has rows.
    fn after(&self, timestamp: i64) -> Option<&Found> {
        let rows = self.right.as_ref().filter(|right| right.time > timestamp);
        rows.filter(|_| !self.right_exists)
    }
}

/// One row with what is known of its time.
struct Slide<'r, 'b> {
    row: &'r Row<'b>,
    difference_ms: i64,
    /// Windows that end before are closed.
    close: i64,
}

impl WindowAggregator {
    pub(super) fn reduce_sliding(
        &self,
        row: &Row<'_>,
        difference_ms: i64,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let close = clock.observed - self.windowing.grace_ms;
        let slide = Slide {
            row,
            difference_ms,
            close,
        };
        if row.timestamp.saturating_add(difference_ms) < close {
            outcome.dropped += 1;
            outcome.too_late(row);
        } else if !self.aggregator.fold(row.batch, row.row, None, &mut Vec::new())? {
            // It has nothing to reduce.
            outcome.dropped += 1;
        } else if row.timestamp < difference_ms {
            self.early(&slide, stores, clock, outcome)?;
        } else {
            self.slide(&slide, stores, clock, outcome)?;
        }
        if self.windowing.on_close {
            self.send_slid(row, close - difference_ms - 1, stores, clock, outcome)?;
        }
        Ok(())
    }

    fn slide(
        &self,
        at: &Slide<'_, '_>,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let (timestamp, difference) = (at.row.timestamp, at.difference_ms);
        let found = self.around(at, stores, clock)?;
        let mut around = Around::of(&found);
        let mut left_exists = false;
        for found in found.into_iter().rev() {
            let end = found.start.saturating_add(difference);
            if found.start > timestamp {
                around.right_exists = true;
            } else if end >= timestamp {
                self.put(at, found.start, Some(&found), stores, clock, outcome)?;
                if end > timestamp {
                    around.right = around.right.or(Some(found));
                    continue;
                }
                left_exists = true;
                if found.time >= timestamp {
                    // A row of this very moment has made all windows already.
                    return Ok(());
                }
                around.previous = Some(found.time);
            } else {
                around.previous = Some(found.time);
                around.left = Some(found);
                break;
            }
        }
        if let Some(next) = around.after_previous()
            && next.saturating_add(difference) >= timestamp
        {
            self.put(at, next, None, stores, clock, outcome)?;
        }
        let start = timestamp - difference;
        if !left_exists {
            let before = around.left.as_ref();
            let before = before.filter(|_| around.previous.is_some_and(|previous| previous >= start));
            self.put(at, start, before, stores, clock, outcome)?;
        }
        match around.after(timestamp) {
            Some(right) => self.begin_after(at, right, stores, clock, outcome),
            None => Ok(()),
        }
    }

    /// A row that is younger than its window is long: that window begins with 1970, and holds all such rows.
    fn early(
        &self,
        at: &Slide<'_, '_>,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let timestamp = at.row.timestamp;
        let found = self.around(at, stores, clock)?;
        let mut around = Around::of(&found);
        let mut first = None;
        for found in found {
            if found.start == 0 {
                around.previous = Some(found.time).filter(|time| *time < timestamp);
                first = Some(found);
            } else if found.start <= timestamp {
                self.put(at, found.start, Some(&found), stores, clock, outcome)?;
                around.right = Some(found);
            } else {
                around.right_exists = true;
            }
        }
        if around.right.is_none() {
            around.right = first.clone();
        }
        if let Some(right) = around.after(timestamp) {
            self.begin_after(at, right, stores, clock, outcome)?;
        }
        if let Some(next) = around.after_previous() {
            self.put(at, next, None, stores, clock, outcome)?;
        }
        self.put(at, 0, first.as_ref(), stores, clock, outcome)
    }

    /// Windows of the row's key that may tell of the rows around it, by start. What has expired is masked, as of the
    /// time before the row.
    fn around(&self, at: &Slide<'_, '_>, stores: &mut Stores, clock: &Clock) -> Result<Vec<Found>, state::Error> {
        let timestamp = at.row.timestamp;
        let alive = clock
            .started
            .saturating_sub(self.windowing.retention_ms)
            .saturating_add(1);
        let from = timestamp.saturating_sub(at.difference_ms.saturating_mul(2));
        let (from, to) = (from.max(alive).max(0), timestamp.saturating_add(1));
        let mut windows = Vec::new();
        for segment in self.layout.segment(from)..=self.layout.segment(to) {
            let bounds = self.layout.bounds_from(segment, at.row.key, from);
            stores.scan(self.store, &bounds, false, &mut |key, stored| {
                let window = self.layout.read(key).filter(|window| window.key == at.row.key);
                if let Some(window) = window.filter(|window| (from..=to).contains(&window.start)) {
                    let (time, aggregate) = split(stored);
                    windows.push(Found {
                        start: window.start,
                        time,
                        aggregate: aggregate.to_vec(),
                    });
                }
                true
            })?;
        }
        Ok(windows)
    }

    /// The row goes into the window at `start`, which has come to `before`.
    fn put(
        &self,
        at: &Slide<'_, '_>,
        start: i64,
        before: Option<&Found>,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        if start.saturating_add(at.difference_ms) < at.close {
            outcome.dropped += 1;
            return Ok(());
        }
        let mut aggregate = Vec::new();
        let old = before.map(|before| before.aggregate.as_slice());
        self.aggregator.fold(at.row.batch, at.row.row, old, &mut aggregate)?;
        let made = Found {
            start,
            time: before.map_or(at.row.timestamp, |before| before.time.max(at.row.timestamp)),
            aggregate,
        };
        self.keep_window(at, (&made, before), stores, clock, outcome)
    }

    /// The window after the row begins with the rows that came before it.
    fn begin_after(
        &self,
        at: &Slide<'_, '_>,
        right: &Found,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let made = Found {
            start: at.row.timestamp.saturating_add(1),
            ..right.clone()
        };
        self.keep_window(at, (&made, None), stores, clock, outcome)
    }

    fn keep_window(
        &self,
        at: &Slide<'_, '_>,
        (made, before): (&Found, Option<&Found>),
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        let window = WindowedKey::at(at.row.key, made.start);
        let mut key = Vec::new();
        self.layout.write(&window, &mut key);
        let stored = join(made.time, &made.aggregate);
        stores.write(self.store, &key, Some(&stored), made.time)?;
        clock.oldest = clock.oldest.min(made.start);
        clock.next = clock.next.min(made.start);
        clock.started = clock.started.max(made.start);
        if self.emits_updates() {
            let mut wire = Vec::with_capacity(at.row.key.len() + 8);
            self.layout.write_wire(&window, &mut wire);
            let old = before.map(|before| (before.time, before.aggregate.as_slice()));
            outcome.push(at.row, &wire, Some(&made.aggregate), made.time, old);
        }
        Ok(())
    }

    /// Windows that start at `last` or before and were not sent on yet, by start and key.
    pub(super) fn send_slid(
        &self,
        row: &Row<'_>,
        last: i64,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        if last < clock.next {
            return Ok(());
        }
        // Nothing is known of later segments, but that no window of theirs begins before them.
        let after = self.layout.segment(last) + 1;
        let mut next = self.layout.begins(after);
        let lower = self.layout.segment(clock.next).to_be_bytes();
        let mut closed = Vec::new();
        let bounds = Bounds::half_open(Some(&lower), Some(&after.to_be_bytes()));
        stores.scan(self.store, &bounds, false, &mut |key, stored| {
            if let Some(window) = self.layout.read(key) {
                if window.start > last {
                    next = next.min(window.start);
                } else if window.start > clock.closed {
                    let (time, aggregate) = split(stored);
                    closed.push((window.start, window.key.to_vec(), time, aggregate.to_vec()));
                }
            }
            true
        })?;
        closed.sort();
        for (start, own, time, aggregate) in &closed {
            let mut wire = Vec::with_capacity(own.len() + 8);
            self.layout.write_wire(&WindowedKey::at(own, *start), &mut wire);
            outcome.push(row, &wire, Some(aggregate), *time, None);
        }
        (clock.closed, clock.next) = (last, next);
        Ok(())
    }
}
