//! Tests of the whole: the binary `wasmill` as a process, spoken to as a user does, by its command line and REST.
//!
//! Here is what the tests in `tests/it` and the programs `fire`, `chaos`, `day`, `swaps` and `races` share. What runs is
//! named by the environment, as `tests/run.sh` sets it: `WASMILL_BIN` (the binary), `WASMILL_GUESTS` (a folder with built
//! modules) and `WASMILL_KAFKA` (a broker).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod chaos;
pub mod day;
pub mod fire;
pub mod load;
pub mod node;
pub mod place;
pub mod races;
pub mod resources;
pub mod swaps;
pub mod tail;
pub mod told;
pub mod verdict;
pub mod web;

use std::time::{Duration, Instant};

/// Between two looks at something that takes a moment.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks `look` until it gives something, or `None` after `bound`.
pub fn within<T>(bound: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        let found = look();
        if found.is_some() || started.elapsed() > bound {
            return found;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// As [`within`].
///
/// # Panics
/// After `bound`, with what was waited for.
pub fn until<T>(what: &str, bound: Duration, look: impl FnMut() -> Option<T>) -> T {
    within(bound, look).unwrap_or_else(|| panic!("waited {bound:?} in vain: {what}"))
}
