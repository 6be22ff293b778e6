//! One task: a sub-topology at work on one partition.
//!
//! It holds a queue per input partition, chooses runs in the order of timestamps, walks a run through the nodes in
//! batches that give exactly what the records one by one would give (design §4), keeps stream time and punctuations,
//! and stages outputs and changelog rows until its worker commits. It does no I/O but through the
//! [`state::Backend`] and the [`Processor`]s that it was handed, and reads no clock.

#![allow(
    clippy::result_large_err,
    reason = "an error ends the task, or a run; what it names is worth its bytes"
)]

pub mod processor;
pub mod schedules;
pub mod shadow;
pub mod watch;

mod answer;
mod call;
mod error;
mod failure;
mod idle;
mod metrics;
mod migrate;
mod nodes;
mod options;
mod plan;
mod punctuate;
mod queue;
mod restore;
mod rows;
mod run;
mod stage;
mod standby;
mod swap;
mod tables;
mod task;
mod times;
mod walk;
mod windows;

pub use error::Error;
pub use metrics::{Metrics, NodeMetrics};
pub use migrate::{MIGRATED_BYTES_MAX, Rewrite};
pub use options::{Buffered, Options, Ran, Staged, TaskId, TaskIdError, To};
pub use processor::Processor;
pub use standby::Standby;
pub use swap::Measured;
pub use task::Task;

#[cfg(test)]
mod exactness;
