//! What a windowed operator knows of time.

use state::Stores;

use crate::numbers::Numbers;

/// Milliseconds; -1 where there was nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The operator's stream time.
    pub observed: i64,
    /// How far closed windows were sent on: the last start of a time window, the last end of a session.
    pub closed: i64,
    /// No entry of the store is older: its start, or the end of a session.
    pub oldest: i64,
    /// No session that is open ends earlier.
    pub next: i64,
}

impl Clock {
    pub fn read(stores: &mut Stores, times: &Numbers) -> Result<Self, state::Error> {
        let [observed, closed, oldest, next] = times.read(stores, [-1, -1, i64::MAX, i64::MAX])?;
        Ok(Self {
            observed,
            closed,
            oldest,
            next,
        })
    }

    pub fn write(&self, stores: &mut Stores, times: &Numbers) -> Result<(), state::Error> {
        times.write(
            stores,
            [self.observed, self.closed, self.oldest, self.next],
            self.observed,
        )
    }
}
