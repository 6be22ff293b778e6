//! What a windowed operator knows of time.

use state::Stores;

use crate::numbers::Numbers;

/// Where it is kept.
#[derive(Clone, Debug)]
pub struct Times {
    clock: Numbers,
    /// Of sliding windows.
    started: Option<Numbers>,
}

/// Milliseconds; -1 where there was nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The operator's stream time.
    pub observed: i64,
    /// How far closed windows were sent on: the last start of a time window, the last end of a session.
    pub closed: i64,
    /// No entry of the store is older: its start, or the end of a session.
    pub oldest: i64,
    /// No session that is open ends earlier, no sliding window that is open starts earlier.
    pub next: i64,
    /// The largest start of a sliding window, as of which windows expire: they begin after the rows that make them.
    pub started: i64,
}

impl Times {
    /// `times` is the task's number of its store of times; `name` is the node's.
    pub fn new(times: usize, name: &str, sliding: bool) -> Self {
        Self {
            clock: Numbers::of(times, name),
            // No node has such a name.
            started: sliding.then(|| Numbers::of(times, &format!("{name}/started"))),
        }
    }
}

impl Clock {
    pub fn read(stores: &mut Stores, times: &Times) -> Result<Self, state::Error> {
        let [observed, closed, oldest, next] = times.clock.read(stores, [-1, -1, i64::MAX, i64::MAX])?;
        let [started] = match &times.started {
            Some(started) => started.read(stores, [-1])?,
            None => [-1],
        };
        Ok(Self {
            observed,
            closed,
            oldest,
            next,
            started,
        })
    }

    pub fn write(&self, stores: &mut Stores, times: &Times) -> Result<(), state::Error> {
        let numbers = [self.observed, self.closed, self.oldest, self.next];
        times.clock.write(stores, numbers, self.observed)?;
        match &times.started {
            Some(started) => started.write(stores, [self.started], self.observed),
            None => Ok(()),
        }
    }
}
