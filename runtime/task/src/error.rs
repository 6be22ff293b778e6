//! Why a task cannot go on.

use record::TopicPartition;

use crate::processor::Failure;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task must stop: `on-error = "stop"`, nowhere to send a dead letter, or a bound on failures.
    #[error("step `{step}`{}{}: {failure}", of_module(module), at(origin.as_ref()))]
    Stop {
        step: String,
        /// `name@version`; empty for a native operator.
        module: String,
        /// The record that was being processed; `None` in a punctuation or a flush.
        origin: Option<(TopicPartition, i64)>,
        failure: Failure,
    },
    /// The flush of a table failed and was undone. Calling it again goes on where it stopped; for how long is the
    /// worker's to bound.
    #[error("step `{step}`{}: {failure}", of_module(module))]
    Retry {
        step: String,
        module: String,
        after_ms: u64,
        failure: Failure,
    },
    #[error(transparent)]
    State(#[from] state::Error),
    /// The worker or the topology broke a rule of this crate.
    #[error("{0}")]
    Contract(String),
}

impl From<record::Error> for Error {
    fn from(error: record::Error) -> Self {
        Self::Contract(error.to_string())
    }
}

fn of_module(module: &str) -> String {
    if module.is_empty() {
        String::new()
    } else {
        format!(" ({module})")
    }
}

fn at(origin: Option<&(TopicPartition, i64)>) -> String {
    origin
        .map(|(partition, offset)| format!(" at {partition}-{offset}"))
        .unwrap_or_default()
}
