//! Everything that calls C, and nothing else: safe handles over librdkafka for what rust-rdkafka lacks or does slowly
//! (batches in, records out without allocation, transactions, offsets with metadata, topic ids).
//!
//! The handles are sound on their own: they own what they point to, free it once, and hand out borrows that end before
//! it is freed. What settings to use, which errors mean what and when to call is decided outside.

mod admin;
mod client;
mod consume;
mod list;
mod produce;

pub use admin::{ListedTopic, alter_group_offsets, describe_topics, group_clients, group_offsets, list_offsets};
pub use client::{Client, Kind, commit_as_member, drain_main, group_metadata};
pub use consume::{Inbox, Message, Taken};
pub use list::{Entry, PartitionList};
pub use produce::{Outgoing, TopicHandle};

use rdkafka_sys as sys;
use rdkafka_sys::types::RDKafkaErrorCode;
use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

/// What librdkafka says is wrong.
#[derive(Clone, Debug)]
pub struct Cause {
    pub code: RDKafkaErrorCode,
    pub text: String,
    /// The client cannot be used any more.
    pub fatal: bool,
    /// The same call may be made again.
    pub retriable: bool,
    /// The transaction must be aborted.
    pub abort: bool,
}

impl Cause {
    pub fn new(code: RDKafkaErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            fatal: false,
            retriable: false,
            abort: false,
        }
    }

    fn timeout() -> Self {
        Self {
            retriable: true,
            ..Self::from_code(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT)
        }
    }

    fn from_code(code: sys::rd_kafka_resp_err_t) -> Self {
        // SAFETY: `rd_kafka_err2str` returns a static string for every code.
        let text = unsafe { text(sys::rd_kafka_err2str(code)) };
        Self::new(code.into(), text)
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_code(code: sys::rd_kafka_resp_err_t) -> Result<(), Cause> {
    match code {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(Cause::from_code(code)),
    }
}

/// Takes over `error` (null = no error).
///
/// # Safety
/// `error` is null or was returned by librdkafka to be freed by the caller, and is not used afterwards.
unsafe fn check(error: *mut sys::rd_kafka_error_t) -> Result<(), Cause> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, ours by the contract above; freed once, after the last use.
    unsafe {
        let cause = look(error);
        sys::rd_kafka_error_destroy(error);
        Err(cause)
    }
}

/// # Safety
/// `error` points to a live error.
unsafe fn look(error: *const sys::rd_kafka_error_t) -> Cause {
    // SAFETY: live by the contract; the string is copied before it can go away.
    unsafe {
        Cause {
            code: sys::rd_kafka_error_code(error).into(),
            text: text(sys::rd_kafka_error_string(error)),
            fatal: sys::rd_kafka_error_is_fatal(error) != 0,
            retriable: sys::rd_kafka_error_is_retriable(error) != 0,
            abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
        }
    }
}

/// # Safety
/// `string` is null or a live C string.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: a live C string by the contract; copied at once.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

fn c_string(string: &str) -> Result<CString, Cause> {
    CString::new(string).map_err(|_| {
        Cause::new(
            RDKafkaErrorCode::InvalidArgument,
            format!("`{}` contains a zero byte", string.escape_debug()),
        )
    })
}

/// Milliseconds for C: rounded up, so that a short wait is not none.
fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// Microseconds of the clock that librdkafka stamps its statistics with.
pub fn monotonic_micros() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place to write to for the time of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}
