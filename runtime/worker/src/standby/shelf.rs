//! Who on a node has a task's stores open: the stream thread that runs it, or the thread of the standbys.

use crate::options::MakeError;
use record::{Batch, TopicPartition};
use state::Snapshot;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use task::{Standby, TaskId};

/// Changelog records that a standby may lack and is warm (Kafka Streams' `acceptable.recovery.lag`). One that is warm
/// stays so up to twice as many, so that it does not come and go.
const ACCEPTABLE_LAG: i64 = 10_000;
/// One that had everything so short a while ago is warm as well: of a busy task more records lie in one commit.
const ACCEPTABLE_MS: i64 = 2_000;

/// See the page of the module. Shared by all threads of a pipeline on a node.
#[derive(Default)]
pub struct Shelf(Mutex<BTreeMap<TaskId, Holder>>);

enum Holder {
    /// By so many tasks: one that is closed and one that is made may overlap.
    Tasks(usize),
    /// A standby is being opened.
    Opening,
    Standby(Box<Held>),
}

/// A standby that is open, and how far it is.
pub(super) struct Held {
    pub(super) standby: Standby,
    /// By store: next offset, and the end of its changelog as far as it is known.
    at: Vec<i64>,
    ends: Vec<i64>,
    /// When these were the ends.
    mark: Option<(i64, Vec<i64>)>,
    /// The last time whose ends were reached.
    reached_ms: Option<i64>,
    warm: bool,
}

/// How far a standby is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub task: TaskId,
    /// Changelog offsets that it lacks of what is known to be there; `None`: it is not open.
    pub lag: Option<i64>,
    /// It lacks little.
    pub warm: bool,
    /// It has had everything once since it was opened.
    pub caught_up: bool,
    /// Why it is not open.
    pub trouble: Option<String>,
}

/// What a standby knows, for queries that may be behind.
pub struct StandbySnapshot {
    pub task: TaskId,
    /// Stores are numbered as in the task's sub-topology.
    pub stores: Box<dyn Snapshot>,
    /// Changelogs, and the next offset of each.
    pub positions: Vec<(TopicPartition, i64)>,
    /// As [`Progress::lag`].
    pub lag: i64,
}

/// Keeps standbys off a task's stores until it is dropped.
pub struct Lease {
    shelf: Arc<Shelf>,
    id: TaskId,
    was_standby: bool,
}

impl Lease {
    /// Whether the stores were open for a standby.
    pub fn was_standby(&self) -> bool {
        self.was_standby
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut holders = self.shelf.lock();
        match holders.get_mut(&self.id) {
            Some(Holder::Tasks(count)) if *count > 1 => *count -= 1,
            _ => _ = holders.remove(&self.id),
        }
    }
}

impl Shelf {
    /// Every change below is whole when its holder panics.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a stream thread that opens the task's stores: its standby, if it lies here, is closed, and what it has read
    /// is in the backend.
    ///
    /// # Errors
    /// While a standby is being opened: try again.
    pub fn lease(self: &Arc<Self>, id: TaskId) -> Result<Lease, MakeError> {
        let mut holders = self.lock();
        let mut was_standby = false;
        let count = match holders.remove(&id) {
            None => 1,
            Some(Holder::Tasks(count)) => count + 1,
            Some(Holder::Standby(mut held)) => {
                let lag = held.lag();
                was_standby = true;
                match held.standby.write_back() {
                    Ok(()) => tracing::info!(task = %id, lag, "the standby becomes the task"),
                    // Offsets and rows are written together: less is there, and nothing is wrong.
                    Err(cause) => tracing::warn!(task = %id, %cause, "a standby's last rows are read again"),
                }
                1
            }
            Some(Holder::Opening) => {
                holders.insert(id, Holder::Opening);
                let cause = format!("a standby of task {id} is being opened here");
                return Err(MakeError { again: true, cause });
            }
        };
        holders.insert(id, Holder::Tasks(count));
        let shelf = Arc::clone(self);
        Ok(Lease { shelf, id, was_standby })
    }

    /// Committed state of standbys that have caught up once, of those that `wanted` says.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn snapshots(&self, wanted: impl Fn(TaskId) -> bool) -> Result<Vec<StandbySnapshot>, task::Error> {
        let mut holders = self.lock();
        let held = holders.iter_mut().filter_map(|(id, holder)| match holder {
            Holder::Standby(held) if held.reached_ms.is_some() && wanted(*id) => Some((*id, held)),
            _ => None,
        });
        let snapshot = |(task, held): (TaskId, &mut Box<Held>)| {
            Ok(StandbySnapshot {
                task,
                lag: held.lag(),
                positions: held.standby.changelogs().iter().cloned().zip(held.at.clone()).collect(),
                stores: held.standby.snapshot()?,
            })
        };
        held.map(snapshot).collect()
    }

    pub(super) fn progress(&self, now_ms: i64) -> Vec<Progress> {
        let progress = |(task, holder): (&TaskId, &mut Holder)| {
            let Holder::Standby(held) = holder else { return None };
            Some(Progress {
                task: *task,
                lag: Some(held.lag()),
                warm: held.judge(now_ms),
                caught_up: held.reached_ms.is_some(),
                trouble: None,
            })
        };
        self.lock().iter_mut().filter_map(progress).collect()
    }

    /// Whether a standby of the task is open.
    pub(super) fn holds(&self, id: TaskId) -> bool {
        matches!(self.lock().get(&id), Some(Holder::Standby(_)))
    }

    /// Whether a standby may be opened now; nobody else opens the stores until it is put here, or dropped.
    pub(super) fn reserve(&self, id: TaskId) -> bool {
        let mut holders = self.lock();
        let free = !holders.contains_key(&id);
        if free {
            holders.insert(id, Holder::Opening);
        }
        free
    }

    pub(super) fn put(&self, id: TaskId, held: Held) {
        self.lock().insert(id, Holder::Standby(Box::new(held)));
    }

    pub(super) fn with<T>(&self, id: TaskId, work: impl FnOnce(&mut Held) -> T) -> Option<T> {
        match self.lock().get_mut(&id) {
            Some(Holder::Standby(held)) => Some(work(held)),
            _ => None,
        }
    }

    /// Closes the standby after `last` has had it.
    pub(super) fn remove<T>(&self, id: TaskId, last: impl FnOnce(&mut Held) -> T) -> Option<T> {
        let mut holders = self.lock();
        let done = match holders.get_mut(&id) {
            Some(Holder::Standby(held)) => last(held),
            _ => return None,
        };
        holders.remove(&id);
        Some(done)
    }

    /// Of a standby that failed, or could not be opened.
    pub(super) fn drop_standby(&self, id: TaskId) {
        let mut holders = self.lock();
        if matches!(holders.get(&id), Some(Holder::Standby(_) | Holder::Opening)) {
            holders.remove(&id);
        }
    }
}

impl Held {
    /// `at`: where it reads on; `ends`: of its changelogs, as they were asked for at `now_ms`.
    pub(super) fn new(standby: Standby, at: Vec<i64>, ends: Vec<i64>, now_ms: i64) -> Self {
        Self {
            standby,
            at,
            mark: Some((now_ms, ends.clone())),
            ends,
            reached_ms: None,
            warm: false,
        }
    }

    pub(super) fn follow(&mut self, store: usize, rows: &Batch, next: i64) -> Result<(), task::Error> {
        self.standby.follow(store, rows, next)?;
        if let Some(at) = self.at.get_mut(store) {
            *at = next;
        }
        Ok(())
    }

    /// `seen`: by store, the consumer's position and the end that it has heard of.
    pub(super) fn look(&mut self, seen: &[(Option<i64>, Option<i64>)], now_ms: i64) -> Result<(), task::Error> {
        for (store, (position, end)) in seen.iter().enumerate() {
            let behind = self.at.get(store).copied();
            if let Some(position) = position.filter(|position| Some(*position) > behind) {
                self.follow(store, &Batch::empty(), position)?;
            }
            if let (Some(known), Some(end)) = (self.ends.get_mut(store), end) {
                *known = *end;
            }
        }
        if let Some((then, ends)) = &self.mark
            && self.at.iter().zip(ends).all(|(at, end)| at >= end)
        {
            self.reached_ms = Some(*then);
            self.mark = None;
        }
        if self.mark.is_none() {
            self.mark = Some((now_ms, self.ends.clone()));
        }
        Ok(())
    }

    pub(super) fn reached_ms(&self) -> Option<i64> {
        self.reached_ms
    }

    fn lag(&self) -> i64 {
        self.ends.iter().zip(&self.at).map(|(end, at)| (end - at).max(0)).sum()
    }

    fn judge(&mut self, now_ms: i64) -> bool {
        let lag_max = if self.warm { 2 * ACCEPTABLE_LAG } else { ACCEPTABLE_LAG };
        let recent = self.reached_ms.is_some_and(|then| now_ms - then <= ACCEPTABLE_MS);
        self.warm = self.lag() <= lag_max || recent;
        self.warm
    }
}
