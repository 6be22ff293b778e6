//! Calls to the host: the contract's imports in a component, the fake host of `testing` on the machine.

use crate::bindings::wasmill::data::columns::Column;
use crate::bindings::wasmill::http::client;
use crate::bindings::wasmill::log::log::Level;
use crate::bindings::wasmill::state::key_value::{Entries, Page};
use crate::bindings::wasmill::timers::timers::Schedule;

#[cfg(target_arch = "wasm32")]
mod calls {
    use super::{Column, Entries, Level, Page, Schedule, client};
    use crate::bindings::wasmill::{clock::clock, env::env, random::random};
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
    pub(crate) fn fetch(request: &client::Request) -> Result<client::Response, client::Problem> {
        client::fetch(request)
    }
    pub(crate) fn fetch_many(requests: &[client::Request]) -> Vec<Result<client::Response, client::Problem>> {
        client::fetch_many(requests)
    }
    pub(crate) fn http_origins() -> Vec<String> {
        client::origins()
    }
    pub(crate) fn env_names() -> Vec<String> {
        env::names()
    }
    pub(crate) fn env_get(name: &str) -> Option<String> {
        env::get(name)
    }
    pub(crate) fn clock_granted() -> bool {
        clock::granted()
    }
    pub(crate) fn clock_wall() -> i64 {
        clock::wall()
    }
    pub(crate) fn clock_monotonic() -> u64 {
        clock::monotonic()
    }
    pub(crate) fn random_granted() -> bool {
        random::granted()
    }
    pub(crate) fn random_bytes(length: u32) -> Vec<u8> {
        random::bytes(length)
    }
    pub(crate) fn random_number() -> u64 {
        random::number()
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod calls {
    use super::{Column, Entries, Level, Page, Schedule, client};
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
    pub(crate) fn fetch(request: &client::Request) -> Result<client::Response, client::Problem> {
        fetch_many(std::slice::from_ref(request)).remove(0)
    }
    pub(crate) fn fetch_many(requests: &[client::Request]) -> Vec<Result<client::Response, client::Problem>> {
        with(|host| host.outside.fetch_many(requests))
    }
    pub(crate) fn http_origins() -> Vec<String> {
        with(|host| host.outside.server.iter().map(|_| "http://test".to_owned()).collect())
    }
    pub(crate) fn env_names() -> Vec<String> {
        with(|host| host.outside.env.keys().cloned().collect())
    }
    pub(crate) fn env_get(name: &str) -> Option<String> {
        with(|host| host.outside.env.get(name).cloned())
    }
    pub(crate) fn clock_granted() -> bool {
        true
    }
    pub(crate) fn clock_wall() -> i64 {
        with(|host| host.wall_time.saturating_mul(1_000_000))
    }
    pub(crate) fn clock_monotonic() -> u64 {
        u64::try_from(clock_wall()).unwrap_or(0)
    }
    pub(crate) fn random_granted() -> bool {
        true
    }
    pub(crate) fn random_bytes(length: u32) -> Vec<u8> {
        let words = (0..length.div_ceil(8)).flat_map(|_| random_number().to_le_bytes());
        words.take(length as usize).collect()
    }
    pub(crate) fn random_number() -> u64 {
        with(|host| host.outside.number())
    }
}

pub(crate) use calls::{clock_granted, clock_monotonic, clock_wall, env_get, env_names};
pub(crate) use calls::{fetch, fetch_many, http_origins, random_bytes, random_granted, random_number};
pub(crate) use calls::{get, log, log_enabled, put, range, start, stop};
