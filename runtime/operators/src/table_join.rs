//! Joins with tables: a stream with a table, a table with a table.
//!
//! Both sides come as one batch, in the order in which their records would have come one by one. A table's store holds
//! what the table has at the end of the batch; what it had where a row stands is what the next row of its key in the
//! batch replaces, so that row brings it along. Which rows of the table come after a row is the caller's to say: a row
//! that was made of a row of the table comes after it, wherever the table's row stands in the batch.

use std::collections::{HashMap, VecDeque};

use arrow_array::builder::BinaryBuilder;
use record::{Batch, OldsBuilder};
use state::{Stores, split};
use topology::{JoinKind, TableJoin};

use crate::projection::Projector;
use crate::versioned::Versions;
use crate::{Applied, Error, Stage};

#[derive(Clone, Debug)]
pub struct TableJoiner {
    kind: JoinKind,
    /// `None`: the left side is a stream.
    left: Option<usize>,
    right: usize,
    /// How long rows of the tables live.
    left_ttl_ms: Option<i64>,
    right_ttl_ms: Option<i64>,
    /// The right table is looked up at the time of the stream's row.
    versions: Option<Versions>,
    projector: Projector,
    /// Whether something downstream needs what the results replace.
    olds: bool,
}

/// A value with its time.
pub(crate) type Timed<'a> = Option<(i64, &'a [u8])>;

impl TableJoiner {
    /// `left`, `right` and `history` are the task's numbers of the tables' stores.
    pub fn new(join: &TableJoin, left: Option<usize>, right: usize, history: Option<usize>, olds: bool) -> Self {
        Self {
            kind: join.kind,
            left,
            right,
            left_ttl_ms: join.left_ttl_ms,
            right_ttl_ms: join.right_ttl_ms,
            versions: join.versions.zip(history).map(|(table, history)| Versions {
                store: right,
                history,
                history_ms: table.history_ms,
            }),
            projector: Projector::new(join.value.clone(), join.key, join.left_value, join.right_value),
            olds,
        }
    }

    /// The tables' stores.
    pub fn tables(&self) -> impl Iterator<Item = usize> {
        self.left.into_iter().chain([self.right])
    }

    /// `ports` says which side a row is of, 0 (left) or 1 (right); empty: all left. `is_past(t, r)`: whether the table
    /// had taken row `t`, one of its own, when row `r` came; as `r` grows it stays so.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row that cannot be joined because it, or its partner, is not what its format says;
    /// those of the stores.
    pub fn apply(
        &self,
        batch: &Batch,
        ports: &[u8],
        is_past: &dyn Fn(usize, usize) -> bool,
        stream_times: &[i64],
        stores: &mut Stores,
    ) -> Result<Applied, Error> {
        let mut left = self.left.map(|store| Past::new(batch, ports, 0, store, is_past));
        let mut right = Past::new(batch, ports, 1, self.right, is_past);
        let mut made = Made::default();
        for row in 0..batch.len() {
            let now = stream_times.get(row).copied().unwrap_or(-1);
            let lives = |ttl: Option<i64>| ttl.map_or(i64::MIN, |ttl| now.saturating_sub(ttl));
            right.dead = lives(self.right_ttl_ms);
            if let Some(left) = &mut left {
                left.dead = lives(self.left_ttl_ms);
            }
            let of_right = ports.get(row).is_some_and(|port| *port == 1);
            let result = match (&mut left, of_right) {
                (None, true) => Ok(()),
                (None, false) => self.stream_row(batch, row, &mut right, stores, &mut made)?,
                (Some(left), true) => self.table_row(batch, row, left, true, stores, &mut made)?,
                (Some(_), false) => self.table_row(batch, row, &mut right, false, stores, &mut made)?,
            };
            result.map_err(|reason| Error::Row {
                row: row as u32,
                stage: Stage::Deserialization,
                reason,
            })?;
        }
        made.finish(batch, self.olds)
    }

    /// A null value is left out; so is a null key where no row goes on without a match.
    fn stream_row(
        &self,
        batch: &Batch,
        row: usize,
        right: &mut Past<'_>,
        stores: &mut Stores,
        made: &mut Made,
    ) -> Result<Result<(), String>, Error> {
        let Some(value) = batch.value(row) else {
            made.dropped += 1;
            return Ok(Ok(()));
        };
        let time = batch.timestamps().get(row).copied().unwrap_or_default();
        let mut join = |key, found: Timed<'_>| {
            if found.is_some() || self.kind != JoinKind::Inner {
                let joined = self.projector.value(key, Some(value), found.map(|(_, value)| value))?;
                made.push(row, Some(&joined), time, None);
            }
            Ok(())
        };
        match batch.key(row) {
            Some(key) => match &self.versions {
                Some(versions) => versions.as_of(key, time, stores, |found| join(Some(key), found)),
                None => right.read(row, key, stores, |found| join(Some(key), found)),
            },
            None if self.kind == JoinKind::Inner => {
                made.dropped += 1;
                Ok(Ok(()))
            }
            None => Ok(join(None, None)),
        }
    }

    /// A change of one table meets what the other one has.
    fn table_row(
        &self,
        batch: &Batch,
        row: usize,
        other: &mut Past<'_>,
        of_right: bool,
        stores: &mut Stores,
        made: &mut Made,
    ) -> Result<Result<(), String>, Error> {
        let Some(key) = batch.key(row) else {
            made.dropped += 1;
            return Ok(Ok(()));
        };
        let (new, old) = (batch.value(row), batch.old(row).map(|(_, value)| value));
        let time = batch.timestamps().get(row).copied().unwrap_or_default();
        other.read(row, key, stores, |theirs| {
            let is_silent = match (self.kind, of_right) {
                (JoinKind::Inner, _) | (JoinKind::Left, true) => theirs.is_none(),
                (JoinKind::Left, false) | (JoinKind::Outer, _) => theirs.is_none() && new.is_none() && old.is_none(),
            };
            if is_silent {
                return Ok(());
            }
            let time = theirs.map_or(time, |(theirs, _)| time.max(theirs));
            let theirs = theirs.map(|(_, value)| value);
            let joined = |mine| match of_right {
                true => self.joined(key, theirs, mine),
                false => self.joined(key, mine, theirs),
            };
            let result = joined(new)?;
            let replaced = if self.olds { joined(old)? } else { None };
            made.push(row, result.as_deref(), time, replaced.as_deref().map(|old| (time, old)));
            Ok(())
        })
    }

    /// The result for a key with these values; `None`: there is none.
    fn joined(&self, key: &[u8], left: Option<&[u8]>, right: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        let exists = match self.kind {
            JoinKind::Inner => left.is_some() && right.is_some(),
            JoinKind::Left => left.is_some(),
            JoinKind::Outer => left.is_some() || right.is_some(),
        };
        exists.then(|| self.projector.value(Some(key), left, right)).transpose()
    }
}

/// What a table had where a row of the batch stands.
pub(crate) struct Past<'b> {
    batch: &'b Batch,
    is_past: &'b dyn Fn(usize, usize) -> bool,
    store: usize,
    /// What is of this time or before has lived its time.
    dead: i64,
    /// Rows of the table in the batch, by key.
    rows: HashMap<&'b [u8], VecDeque<usize>>,
}

impl<'b> Past<'b> {
    pub(crate) fn new(
        batch: &'b Batch,
        ports: &[u8],
        port: u8,
        store: usize,
        is_past: &'b dyn Fn(usize, usize) -> bool,
    ) -> Self {
        let mut rows: HashMap<&[u8], VecDeque<usize>> = HashMap::new();
        // No ports: all rows are of port 0, and a batch of one table only has nobody that looks at it.
        for (row, _) in ports.iter().enumerate().filter(|(_, p)| **p == port) {
            if let Some(key) = batch.key(row) {
                rows.entry(key).or_default().push_back(row);
            }
        }
        Self {
            batch,
            is_past,
            store,
            dead: i64::MIN,
            rows,
        }
    }

    /// Rows are asked for in their order.
    pub(crate) fn read<R>(
        &mut self,
        row: usize,
        key: &[u8],
        stores: &mut Stores,
        read: impl FnOnce(Timed<'_>) -> R,
    ) -> Result<R, Error> {
        let dead = self.dead;
        let read = |found: Timed<'_>| read(found.filter(|(time, _)| *time > dead));
        if !self.rows.is_empty()
            && let Some(later) = self.rows.get_mut(key)
        {
            while later.front().is_some_and(|at| (self.is_past)(*at, row)) {
                later.pop_front();
            }
            if let Some(next) = later.front() {
                return Ok(read(self.batch.old(*next)));
            }
        }
        Ok(stores.read(self.store, key, |stored| read(stored.map(split)))?)
    }
}

/// Rows made, each from one row of the batch.
#[derive(Default)]
pub(crate) struct Made {
    values: BinaryBuilder,
    timestamps: Vec<i64>,
    olds: OldsBuilder,
    causes: Vec<u32>,
    pub(crate) dropped: u64,
}

impl Made {
    pub(crate) fn push(&mut self, row: usize, value: Option<&[u8]>, time: i64, old: Timed<'_>) {
        self.values.append_option(value);
        self.timestamps.push(time);
        self.olds.push(old);
        self.causes.push(row as u32);
    }

    /// Keys and headers are those of the causes.
    pub(crate) fn finish(mut self, batch: &Batch, olds: bool) -> Result<Applied, Error> {
        let causes = (self.causes.len() < batch.len()).then_some(self.causes);
        let (keys, headers) = match &causes {
            None => (batch.keys().clone(), batch.headers().cloned()),
            Some(causes) => {
                let kept = batch.take(causes)?;
                (kept.keys().clone(), kept.headers().cloned())
            }
        };
        let mut rows = Batch::new(keys, self.values.finish(), self.timestamps.into(), headers)?;
        if olds {
            rows = rows.with_olds(self.olds.finish())?;
        }
        Ok(Applied {
            rows,
            causes,
            dropped: self.dropped,
        })
    }
}
