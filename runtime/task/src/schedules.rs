//! Punctuations of a task: what is scheduled, when it is due next, and how that is undone with a run.
//!
//! A schedule is named by its node and a name that the guest chose. Both clocks follow one rule: a punctuation is due at
//! the first point of its grid after the time at which it was scheduled; a jump over several points fires once.

use std::collections::{BTreeMap, BTreeSet};

/// Bounds of the contract, so that the times of a task fit a commit.
pub const SCHEDULES_MAX: usize = 1_000;
pub const NAME_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clock {
    StreamTime,
    WallTime,
}

/// What a guest asks for. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// At least 1.
    pub every_ms: u64,
    pub clock: Clock,
    /// The grid starts here; `None`: at the time of the call (at 0 while the clock is unknown).
    pub anchor: Option<i64>,
}

/// Which punctuation: the task's number of its node, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScheduleId {
    pub node: u32,
    pub name: String,
}

/// A schedule that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// As it was asked for: the same again changes nothing.
    pub schedule: Schedule,
    /// A point of the grid.
    pub grid: i64,
    /// The next point at which it fires.
    pub due: i64,
}

/// All schedules of a task. `start` and `stop` are for the node whose call runs.
#[derive(Clone, Debug, Default)]
pub struct Schedules {
    node: u32,
    running: BTreeMap<ScheduleId, Running>,
    /// Older states since the savepoint, newest last.
    undo: Vec<(ScheduleId, Option<Running>)>,
    /// Due times of stream-time schedules that were started since the last [`take_started`](Self::take_started).
    started: Vec<i64>,
    /// What changed since the last commit, for the store of times.
    changed: BTreeSet<ScheduleId>,
}

/// The first point of the grid `grid + n * every` that is later than `time`; `grid` itself when that is later.
fn next_point(grid: i64, every_ms: u64, time: i64) -> i64 {
    if grid > time {
        return grid;
    }
    let passed = (i128::from(time) - i128::from(grid)) / i128::from(every_ms.max(1));
    let next = i128::from(grid) + (passed + 1) * i128::from(every_ms.max(1));
    i64::try_from(next).unwrap_or(i64::MAX)
}

impl Schedules {
    /// Starts `name`, or replaces it. `time`: what the schedule's clock shows at the row because of which it starts
    /// (-1: unknown). The same schedule again changes nothing and keeps its phase.
    ///
    /// # Errors
    /// A name that is not 1 to 64 bytes long, an interval of 0, more than 1,000 schedules in the task.
    pub fn start(&mut self, name: &str, schedule: Schedule, time: i64) -> Result<(), String> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(format!(
                "the name of a schedule has {} bytes, not 1 to {NAME_BYTES_MAX}",
                name.len()
            ));
        }
        if schedule.every_ms == 0 {
            return Err(format!("schedule `{name}` has an interval of 0 ms"));
        }
        let id = ScheduleId {
            node: self.node,
            name: name.to_owned(),
        };
        let known = self.running.get(&id);
        if known.is_some_and(|r| r.schedule == schedule) {
            return Ok(());
        }
        if known.is_none() && self.running.len() >= SCHEDULES_MAX {
            return Err(format!(
                "schedule `{name}` would be one more than the {SCHEDULES_MAX} that a task may hold"
            ));
        }
        let grid = schedule.anchor.unwrap_or(time.max(0));
        let due = next_point(grid, schedule.every_ms, time);
        if schedule.clock == Clock::StreamTime {
            self.started.push(due);
        }
        self.set(id, Some(Running { schedule, grid, due }));
        Ok(())
    }

    /// Stopping what does not run does nothing.
    pub fn stop(&mut self, name: &str) {
        let id = ScheduleId {
            node: self.node,
            name: name.to_owned(),
        };
        if self.running.contains_key(&id) {
            self.set(id, None);
        }
    }

    fn set(&mut self, id: ScheduleId, running: Option<Running>) {
        let old = match running {
            Some(running) => self.running.insert(id.clone(), running),
            None => self.running.remove(&id),
        };
        self.changed.insert(id.clone());
        self.undo.push((id, old));
    }

    /// The node whose calls `start` and `stop` are for.
    pub(crate) fn enter(&mut self, node: u32) {
        self.node = node;
    }

    /// The earliest punctuation of a clock that is due at `time`; several at one time go by node, then name.
    pub(crate) fn due(&self, clock: Clock, time: i64) -> Option<ScheduleId> {
        self.next(clock)
            .filter(|(_, due)| *due <= time)
            .map(|(id, _)| id.clone())
    }

    fn next(&self, clock: Clock) -> Option<(&ScheduleId, i64)> {
        self.running
            .iter()
            .filter(|(_, r)| r.schedule.clock == clock)
            .map(|(id, r)| (id, r.due))
            .min_by_key(|(_, d)| *d)
    }

    pub(crate) fn next_due(&self, clock: Clock) -> Option<i64> {
        self.next(clock).map(|(_, due)| due)
    }

    /// It fires at `time`: its next point is the first later one.
    pub(crate) fn fired(&mut self, id: &ScheduleId, time: i64) {
        if let Some(running) = self.running.get(id).copied() {
            let due = next_point(running.grid, running.schedule.every_ms, time);
            self.set(id.clone(), Some(Running { due, ..running }));
        }
    }

    /// Due times of the stream-time schedules started since the last call of this.
    pub(crate) fn take_started(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.started)
    }

    /// What happened before can no longer be undone.
    pub(crate) fn savepoint(&mut self) {
        self.undo.clear();
        self.started.clear();
    }

    /// Back to the last savepoint.
    pub(crate) fn rollback(&mut self) {
        self.started.clear();
        while let Some((id, old)) = self.undo.pop() {
            match old {
                Some(running) => self.running.insert(id, running),
                None => self.running.remove(&id),
            };
        }
    }

    /// Ids that may have changed since the last call of this, with what runs now. (An undone change counts.)
    pub(crate) fn take_changed(&mut self) -> Vec<(ScheduleId, Option<Running>)> {
        std::mem::take(&mut self.changed)
            .into_iter()
            .map(|id| {
                let running = self.running.get(&id).copied();
                (id, running)
            })
            .collect()
    }

    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Sets what was restored. `unwritten`: ids that the store of times does not have like this.
    pub(crate) fn restore(&mut self, running: BTreeMap<ScheduleId, Running>, unwritten: BTreeSet<ScheduleId>) {
        *self = Self {
            running,
            changed: unwritten,
            ..Self::default()
        };
    }

    /// Ids that changed since the last commit.
    pub(crate) fn changed(&self) -> &BTreeSet<ScheduleId> {
        &self.changed
    }

    pub fn len(&self) -> usize {
        self.running.len()
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Everything that runs, by node and name.
    pub fn running(&self) -> impl Iterator<Item = (&ScheduleId, &Running)> {
        self.running.iter()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stream(every_ms: u64, anchor: Option<i64>) -> Schedule {
        Schedule {
            every_ms,
            clock: Clock::StreamTime,
            anchor,
        }
    }

    fn due(schedules: &Schedules) -> Option<i64> {
        schedules.next_due(Clock::StreamTime)
    }

    #[test]
    fn the_grid_begins_at_the_anchor_or_at_the_time_of_the_call() {
        for (anchor, time, first) in [
            (None, 95, 105),
            (Some(0), 95, 100),
            (Some(0), 100, 110),
            (Some(200), 95, 200),
            (None, -1, 0),
            (Some(0), -1, 0),
        ] {
            let mut s = Schedules::default();
            s.start("a", stream(10, anchor), time).unwrap();
            assert_eq!(due(&s), Some(first), "anchor {anchor:?} at {time}");
        }
    }

    #[test]
    fn a_jump_fires_once_and_then_the_grid_goes_on() {
        let mut s = Schedules::default();
        s.start("a", stream(10, Some(3)), 0).unwrap();
        let id = s.due(Clock::StreamTime, 57).unwrap();
        s.fired(&id, 57);
        assert_eq!((due(&s), s.due(Clock::StreamTime, 62)), (Some(63), None));
    }

    #[test]
    fn the_same_again_keeps_its_phase_another_replaces() {
        let mut s = Schedules::default();
        s.start("a", stream(10, None), 5).unwrap();
        s.start("a", stream(10, None), 9).unwrap();
        assert_eq!(due(&s), Some(15));
        s.savepoint();
        s.start("a", stream(20, None), 9).unwrap();
        s.start("b", stream(1, None), 9).unwrap();
        s.stop("a");
        assert_eq!((due(&s), s.take_started()), (Some(10), vec![29, 10]));
        s.rollback();
        assert_eq!((due(&s), s.len()), (Some(15), 1));
    }

    #[test]
    fn bounds_are_kept() {
        let mut s = Schedules::default();
        assert!(s.start("", stream(1, None), 0).is_err());
        assert!(s.start(&"x".repeat(65), stream(1, None), 0).is_err());
        assert!(s.start("a", stream(0, None), 0).is_err());
        for i in 0..SCHEDULES_MAX {
            s.start(&i.to_string(), stream(1, None), 0).unwrap();
        }
        assert!(s.start("more", stream(1, None), 0).is_err());
        assert!(s.start("7", stream(2, None), 0).is_ok());
    }
}
