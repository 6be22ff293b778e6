//! Messages to the node's log: `wasmill_guest::info!("{n} evicted")`.
//!
//! The host adds module, task and the place of the row that is being processed. Messages below the level that the node
//! keeps are not even formatted.

use std::cell::Cell;
use std::fmt;

pub use crate::bindings::wasmill::log::log::Level;
use crate::host;

thread_local! {
    /// The row of the running call, and the level below which messages are dropped (`None`: not asked in this call).
    static CALL: Cell<(Option<u32>, Option<Level>)> = const { Cell::new((None, None)) };
}

/// A call begins, or the next row of it.
pub(crate) fn at(row: Option<u32>) {
    let (_, level) = CALL.get();
    CALL.set((row, if row.is_none() { None } else { level }));
}

/// Writes a message; the macros of this crate are shorter.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    let (row, known) = CALL.get();
    let enabled = known.unwrap_or_else(host::log_enabled);
    CALL.set((row, Some(enabled)));
    if level as u8 >= enabled as u8 {
        host::log(level, &message.to_string(), row);
    }
}

/// Reports a panic before it becomes a trap, because a trap has no text.
pub(crate) fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| {
        let (row, _) = CALL.get();
        host::log(Level::Error, &panic.to_string(), row);
    }));
}

/// Logs at level trace, as `format!` does.
#[macro_export]
macro_rules! trace { ($($text:tt)*) => { $crate::log::write($crate::log::Level::Trace, ::core::format_args!($($text)*)) } }
/// Logs at level debug, as `format!` does.
#[macro_export]
macro_rules! debug { ($($text:tt)*) => { $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($text)*)) } }
/// Logs at level info, as `format!` does.
#[macro_export]
macro_rules! info { ($($text:tt)*) => { $crate::log::write($crate::log::Level::Info, ::core::format_args!($($text)*)) } }
/// Logs at level warn, as `format!` does.
#[macro_export]
macro_rules! warn { ($($text:tt)*) => { $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($text)*)) } }
/// Logs at level error, as `format!` does.
#[macro_export]
macro_rules! error { ($($text:tt)*) => { $crate::log::write($crate::log::Level::Error, ::core::format_args!($($text)*)) } }
