//! Calls to the host: the contract's imports in a component, the fake host of `testing` on the machine.

use crate::bindings::wasmill::data::columns::Column;
use crate::bindings::wasmill::log::log::Level;
use crate::bindings::wasmill::state::key_value::{Entries, Page};
use crate::bindings::wasmill::timers::timers::Schedule;

#[cfg(target_arch = "wasm32")]
mod calls {
    use super::{Column, Entries, Level, Page, Schedule};
    use crate::bindings::wasmill::{log::log, state::key_value, timers::timers};

    pub(crate) fn get(store: u32, keys: &Column) -> Entries {
        key_value::get(store, keys)
    }
    pub(crate) fn put(store: u32, entries: &Entries) {
        key_value::put(store, entries);
    }
    pub(crate) fn range(store: u32, lower: Option<&[u8]>, upper: Option<&[u8]>, after: bool, limit: u32) -> Page {
        key_value::range(store, lower, upper, after, false, limit)
    }
    pub(crate) fn log_enabled() -> Level {
        log::enabled()
    }
    pub(crate) fn log(level: Level, message: &str, row: Option<u32>) {
        log::write(level, message, row);
    }
    pub(crate) fn start(name: &str, schedule: Schedule, row: Option<u32>) {
        timers::start(name, schedule, row);
    }
    pub(crate) fn stop(name: &str) {
        timers::stop(name);
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod calls {
    use super::{Column, Entries, Level, Page, Schedule};
    use crate::testing::fake::with;

    pub(crate) fn get(store: u32, keys: &Column) -> Entries {
        with(|host| host.get(store, keys))
    }
    pub(crate) fn put(store: u32, entries: &Entries) {
        with(|host| host.put(store, entries));
    }
    pub(crate) fn range(store: u32, lower: Option<&[u8]>, upper: Option<&[u8]>, after: bool, limit: u32) -> Page {
        with(|host| host.range(store, lower, upper, after, limit))
    }
    pub(crate) fn log_enabled() -> Level {
        Level::Trace
    }
    pub(crate) fn log(level: Level, message: &str, row: Option<u32>) {
        with(|host| host.log(level, message, row));
    }
    pub(crate) fn start(name: &str, schedule: Schedule, row: Option<u32>) {
        with(|host| host.start(name, schedule, row));
    }
    pub(crate) fn stop(name: &str) {
        with(|host| host.stop(name));
    }
}

pub(crate) use calls::{get, log, log_enabled, put, range, start, stop};
