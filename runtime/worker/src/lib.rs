//! One stream thread as a state machine, and the records by which threads and nodes agree who runs what.
//!
//! [`Worker`] owns a data consumer, a producer, a reader of control and placement records, and tasks; it is advanced
//! by [`Worker::poll`] and waits only inside broker calls. It reads no clock and draws no randomness of its own.
//! A node's part besides running tasks (membership, planning, its own record) is [`coordinator`]'s, reading its global tables is
//! [`globals`]', keeping copies of tasks that run elsewhere [`standby`]'s; threads, REST and
//! everything that holds several pipelines are `server`'s.

#![allow(
    clippy::result_large_err,
    reason = "`task::Error` tells the whole story of a stop; it is made when a task ends, not in a loop"
)]

pub mod control;
pub mod crash;
pub mod globals;
pub mod metadata;
pub mod mutant;
pub mod placement;
pub mod stamp;
pub mod standby;
pub mod swap;

mod opening;
mod options;
mod status;

mod commit;
mod directory;
mod recover;
mod release;
mod restore;
mod run;
mod slot;
mod start;
mod worker;

pub mod coordinator;
pub mod plan;

pub use options::{
    Error, MakeError, Now, Options, PositionCommitter, Prepare, Processors, Progress, Random, Stop, TOMBSTONES_MS,
    TaskFactory,
};
pub use status::{Counters, Status, SwapProgress, TaskSnapshot, TaskState, TaskStatus, WorkerPhase};
pub use worker::Worker;
