//! Settings of a stream thread and what it is handed from outside: time, randomness, tasks, membership.

use crate::control::PipelineRecord;
use crate::crash::{Steps, Unwatched};
use crate::mutant::Mutant;
use crate::stamp::Stamp;
use crate::swap::{Ballot, Versions};
use broker::CommittedOffset;
use state::Backend;
use std::collections::HashMap;
use std::sync::Arc;
use task::{Processor, Task, TaskId};
use topology::{Guarantee, NodeId};

/// The changelogs' `delete.retention.ms`: a week.
pub const TOMBSTONES_MS: i64 = 7 * 24 * 3_600_000;

/// The clocks as the caller reads them, in milliseconds: `monotonic_ms` from any start, `wall_ms` since 1970 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub monotonic_ms: i64,
    pub wall_ms: i64,
}

/// Where random numbers come from.
pub trait Random: Send {
    fn next_u64(&mut self) -> u64;
}

/// A broken task or directory, for the person who has to mend it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{cause}")]
pub struct MakeError {
    /// Whether trying again may help (a full disk, a locked directory); else the task stops.
    pub again: bool,
    pub cause: String,
}

/// Processors of another version beside those that run, by node of the topology.
pub type Processors = HashMap<NodeId, Box<dyn Processor>>;

/// What [`TaskFactory::prepare`] says.
pub enum Prepare {
    /// Being fetched, compiled, instantiated elsewhere: ask again.
    Later,
    /// Instantiated, their descriptions fit; to be opened. Only of steps whose version is not the running one.
    Ready(Processors),
    /// It cannot be had here, and trying again does not help: the swap goes back with this reason.
    Refused(String),
}

/// Makes tasks: processors, stores and their directory.
pub trait TaskFactory: Send {
    /// These tasks will be asked for soon: what takes long and binds nobody may begin. Nothing may fail here.
    fn expect(&mut self, _ids: &[TaskId]) {}

    /// Opens the task's directory and makes its processors, in exactly these `versions` (steps that are not named run
    /// what the topology says). Called again after [`Task::close`] of the last one, for the same id when a task is
    /// reopened. `record` is what the thread has read of the pipeline.
    fn make(&mut self, id: TaskId, record: &PipelineRecord, versions: &Versions) -> Result<Task, MakeError>;

    /// Processors for the steps of the task that run another version in `to` than in `from`: verified against digest,
    /// ports, stores and capabilities, and instantiated. Must return at once: what takes time happens on other threads,
    /// and the caller asks again. What was made for a caller that does not come back is dropped when another swap comes.
    fn prepare(&mut self, id: TaskId, record: &PipelineRecord, from: &Versions, to: &Versions) -> Prepare;

    /// The stores of a task that is open, as they are committed now, for one shadow to change as it likes; gone when it is
    /// dropped.
    fn scratch(&mut self, id: TaskId) -> Result<Box<dyn Backend>, MakeError> {
        Err(MakeError {
            again: false,
            cause: format!("task {id} has no scratch stores here"),
        })
    }

    /// Schema version of each store of the task, in the order of [`Task::changelogs`].
    fn schemas(&self, id: TaskId) -> Vec<u32>;

    /// The stamp in the task's directory; `None` where there is none or it cannot be read.
    fn stamp(&mut self, id: TaskId) -> Result<Option<Stamp>, MakeError>;

    /// Writes the stamp, durably; `None` removes it.
    fn set_stamp(&mut self, id: TaskId, stamp: Option<&Stamp>) -> Result<(), MakeError>;
}

/// How positions are committed at-least-once: by the node's membership consumer.
pub trait PositionCommitter: Send {
    /// Waits for the answer, with a bound.
    fn commit(&mut self, offsets: &[CommittedOffset]) -> Result<(), broker::Error>;

    /// How long ago the broker last confirmed this node's membership; `None`: not a member.
    fn confirmed_ago_ms(&mut self) -> Option<u64>;
}

/// How a thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Commit and close; the placement stays, and the thread comes back under the same id.
    Bounce,
    /// Hand every task over first, for at most [`Options::leave_ms_max`]; then as `Bounce`.
    Leave,
}

/// What a call of [`crate::Worker::poll`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again at once.
    Worked,
    /// Nothing was to do. Something known comes after this time; records may come at any time: a caller that set
    /// [`Options::fetch_wait_ms`] calls again at once, since the call itself has waited.
    Idle { sleep_ms_max: u64 },
    /// [`crate::Worker::stop`] is done. Further calls do nothing.
    Stopped,
}

/// Why a stream thread ends by itself. What it committed stands; drop it and make a new one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("crash at `{}`", .0.as_str())]
    Crashed(crate::crash::CrashPoint),
    /// The broker says that trying again does not help.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    #[error("read the record of pipeline `{pipeline}` in `{topic}`: {cause}")]
    ControlRecord {
        pipeline: String,
        topic: String,
        cause: String,
    },
    #[error("{0}")]
    Setting(String),
}

/// Settings. Times in milliseconds.
pub struct Options {
    pub pipeline: String,
    /// Thread id = transactional id; see [`crate::placement::thread_id`].
    pub thread: String,
    pub guarantee: Guarantee,
    pub control_topic: String,
    /// Time between commits while there is something to commit.
    pub commit_interval_ms: i64,
    /// Sent bytes that make a commit due, so that a transaction stays small enough to replay.
    pub transaction_bytes_max: usize,
    /// Handed to the producer; also bounds the repetition of a failed flush.
    pub transaction_timeout_ms: u64,
    pub delivery_timeout_ms: u64,
    /// How long a poll may wait for records when there is nothing else to do. 0 never waits.
    pub fetch_wait_ms: u64,
    pub fetch_records_max: usize,
    pub fetch_queue_bytes_max: usize,
    /// Rows or bytes of one source partition that may wait in its task; above either it is paused, below half resumed.
    pub buffered_records_max: usize,
    pub buffered_bytes_max: usize,
    /// Headers are fetched only where a module asks for them.
    pub headers: bool,
    /// Pause between two reads of control and placement records.
    pub records_interval_ms: i64,
    /// After a failure: first and longest pause before the next try.
    pub backoff_ms_min: i64,
    pub backoff_ms_max: i64,
    /// Unmoved positions are committed again after this, before `offsets.retention.minutes` (7 days) takes them.
    pub idle_commit_ms: i64,
    pub leave_ms_max: i64,
    /// How often the state of a running task is made durable and its stamp renewed.
    pub stamp_interval_ms: i64,
    /// The changelogs' `delete.retention.ms`.
    pub tombstones_ms: i64,
    /// Refused records that one commit may send to the dead letters; more stop the task.
    pub rejected_per_commit_max: u32,
    /// At-least-once: a membership confirmed longer ago than half of this allows no flush.
    pub session_timeout_ms: u64,
    pub random: Box<dyn Random>,
    pub steps: Arc<dyn Steps>,
    /// Needed at-least-once, unused exactly-once.
    pub committer: Option<Box<dyn PositionCommitter>>,
    /// The node's, the same for all its threads of the pipeline. One of its own suits a node with one thread.
    pub ballot: Ballot,
    /// Has an effect only with the feature `mutants`.
    pub mutant: Option<Mutant>,
}

impl Options {
    /// Defaults for `thread` of `pipeline`.
    pub fn new(
        pipeline: impl Into<String>,
        thread: impl Into<String>,
        guarantee: Guarantee,
        control_topic: impl Into<String>,
        random: Box<dyn Random>,
    ) -> Self {
        let commit_interval_ms = match guarantee {
            Guarantee::ExactlyOnce => 100,
            Guarantee::AtLeastOnce => 30_000,
        };
        let thread = thread.into();
        Self {
            pipeline: pipeline.into(),
            ballot: Ballot::new([thread.clone()]),
            thread,
            guarantee,
            control_topic: control_topic.into(),
            commit_interval_ms,
            transaction_bytes_max: 64 << 20,
            transaction_timeout_ms: 10_000,
            delivery_timeout_ms: 9_000,
            fetch_wait_ms: 10,
            fetch_records_max: 10_000,
            fetch_queue_bytes_max: 32 << 20,
            buffered_records_max: 20_000,
            buffered_bytes_max: 16 << 20,
            headers: false,
            records_interval_ms: 10,
            backoff_ms_min: 100,
            backoff_ms_max: 10_000,
            idle_commit_ms: 12 * 3_600_000,
            leave_ms_max: 30_000,
            stamp_interval_ms: 60_000,
            tombstones_ms: TOMBSTONES_MS,
            rejected_per_commit_max: 100,
            session_timeout_ms: 10_000,
            random,
            steps: Arc::new(Unwatched),
            committer: None,
            mutant: None,
        }
    }
}
