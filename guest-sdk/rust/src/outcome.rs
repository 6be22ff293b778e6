//! What a processor says about a row, and how errors become it.

use std::time::Duration;

use crate::format::Undecodable;
use crate::store::Unreadable;

/// How a row went. An error means: the row leaves no output, no state and no timer behind, and the host does with it
/// what the [`Reject`] says.
///
/// `?` makes a dead letter of stage `deserialization` of bytes that do not parse, and [`Reject::Fail`] of every other
/// error.
pub type Outcome = std::result::Result<(), Reject>;

/// The result of what concerns no single row: `open`, `prefetch`, `punctuate`.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is to happen with a row that did not go well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reject {
    /// Left out and counted.
    Drop(String),
    /// To the dead-letter topic, with the reason.
    DeadLetter(String),
    /// Not now: the partition waits, order is kept. Bounded by the step's `retries`, then handled as `on-error` says.
    Retry {
        /// How long to wait, at most 49 days.
        after: Duration,
        /// For the log, and for `on-error` when the retries are used up.
        reason: String,
    },
    /// Handled as the step's `on-error` says.
    Fail(String),
}

impl Reject {
    /// The text for the log and the dead letter.
    pub fn reason(&self) -> &str {
        match self {
            Reject::Drop(reason) | Reject::DeadLetter(reason) | Reject::Fail(reason) => reason,
            Reject::Retry { reason, .. } => reason,
        }
    }
}

/// The row went well.
pub fn done() -> Outcome {
    Ok(())
}

/// Leaves the row out and counts it.
pub fn drop_row(reason: impl ToString) -> Outcome {
    Err(Reject::Drop(reason.to_string()))
}

/// Sends the row to the dead-letter topic.
pub fn dead_letter(reason: impl ToString) -> Outcome {
    Err(Reject::DeadLetter(reason.to_string()))
}

/// Asks for the row again later.
pub fn retry(after: Duration, reason: impl ToString) -> Outcome {
    Err(Reject::Retry {
        after,
        reason: reason.to_string(),
    })
}

/// Handles the row as the step's `on-error` says.
pub fn fail(reason: impl ToString) -> Outcome {
    Err(Reject::Fail(reason.to_string()))
}

impl From<Undecodable> for Reject {
    fn from(error: Undecodable) -> Self {
        Reject::DeadLetter(format!("deserialization: {error}"))
    }
}

/// Stored bytes that do not parse are the module's fault, not the row's: no dead letter.
impl From<Unreadable> for Reject {
    fn from(error: Unreadable) -> Self {
        Reject::Fail(error.to_string())
    }
}

impl<E: std::error::Error> From<E> for Reject {
    fn from(error: E) -> Self {
        Reject::Fail(error.to_string())
    }
}

/// Why `open`, `prefetch` or `punctuate` failed: a text for the log. Any error becomes one by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// An error with this text.
    pub fn new(message: impl ToString) -> Self {
        Error(message.to_string())
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Reject {
    fn from(error: Error) -> Self {
        Reject::Fail(error.0)
    }
}

impl From<Undecodable> for Error {
    fn from(error: Undecodable) -> Self {
        Error(error.to_string())
    }
}

impl From<Unreadable> for Error {
    fn from(error: Unreadable) -> Self {
        Error(error.to_string())
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Error(error.to_string())
    }
}
