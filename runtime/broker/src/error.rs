//! One error for all brokers: a kind that code branches on, and a text for people.

use std::fmt;

/// What went wrong, as far as a caller must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The broker cannot be reached or does not answer in time; nothing was changed, or the change may be repeated.
    Unavailable,
    /// A topic, partition or group is not there.
    NotFound,
    /// A newer producer of the same transactional id exists. Fatal for this producer.
    Fenced,
    /// The transaction must be aborted; the producer lives on.
    AbortTransaction,
    /// A commit (or another transactional request) whose answer was lost.
    UnknownOutcome,
    /// Offsets of an open transaction stand in the way.
    Unstable,
    OffsetOutOfRange,
    /// One record or setting was refused (too large, timestamp, null key in a compacted topic, no permission).
    Refused,
    /// A setting that cannot be used.
    Configuration,
    /// The data directory or an answer makes no sense.
    Corrupt,
    /// Anything else that the client says is final.
    Fatal,
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The same call again, after a pause.
    Retry,
    /// Abort, roll back, go on with this producer.
    Abort,
    /// Drop the producer, make a new one with the same id, drop all tasks.
    NewProducer,
    /// As `NewProducer`, and find out from the commit tag whether the commit happened.
    UnknownOutcome,
    /// Stop and report.
    Stop,
}

#[derive(Clone, Debug, thiserror::Error)]
pub struct Error {
    pub kind: ErrorKind,
    /// What was being done, as in "failed to …": `commit the transaction of `app-n1-0``.
    pub doing: String,
    /// What the broker said.
    pub cause: String,
}

impl Error {
    pub fn new(kind: ErrorKind, doing: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self {
            kind,
            doing: doing.into(),
            cause: cause.to_string(),
        }
    }

    pub fn disposition(&self) -> Disposition {
        match self.kind {
            ErrorKind::Unavailable | ErrorKind::Unstable => Disposition::Retry,
            ErrorKind::AbortTransaction | ErrorKind::Refused => Disposition::Abort,
            ErrorKind::Fenced => Disposition::NewProducer,
            ErrorKind::UnknownOutcome => Disposition::UnknownOutcome,
            ErrorKind::NotFound
            | ErrorKind::OffsetOutOfRange
            | ErrorKind::Configuration
            | ErrorKind::Corrupt
            | ErrorKind::Fatal => Disposition::Stop,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.cause)
    }
}
