//! What a stream thread says of itself: tasks with their state and positions, counters, views of stores.

use record::TopicPartition;
use task::TaskId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Until the previous owner has released and suspects are fenced.
    Waiting,
    /// Its start is being written down, or its offsets are being read.
    Starting,
    /// `done` of `total` changelog offsets.
    Restoring {
        done: i64,
        total: i64,
    },
    Running,
    /// A try failed; the next comes after a pause.
    Retrying {
        reason: String,
    },
    Stopped {
        reason: String,
    },
}

#[derive(Clone, Debug)]
pub struct TaskStatus {
    pub task: TaskId,
    pub task_epoch: u64,
    pub state: TaskState,
    /// Committed positions.
    pub positions: Vec<(TopicPartition, i64)>,
    /// Rows and bytes that wait in the task's queues.
    pub buffered_records: usize,
    pub buffered_bytes: usize,
}

/// Since the worker was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub records_processed: u64,
    pub records_restored: u64,
    pub commits: u64,
    pub aborts: u64,
    /// Commits whose outcome had to be looked up.
    pub unknown_outcomes: u64,
    /// Producers that were given up.
    pub producers_lost: u64,
    /// Records that the broker refused.
    pub records_rejected: u64,
    pub fencings: u64,
    pub stores_wiped: u64,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub phase: WorkerPhase,
    pub paused: bool,
    pub tasks: Vec<TaskStatus>,
    pub counters: Counters,
    /// Why the thread as a whole waits, after a failure.
    pub trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerPhase {
    /// Taking a producer and initialising its id.
    Connecting,
    /// Reading control topic and placement to their ends.
    ReadingRecords,
    Working,
    Stopped,
}

/// The committed state of one task, for queries.
pub struct TaskSnapshot {
    pub task: TaskId,
    pub task_epoch: u64,
    /// Stores are numbered as in the task's sub-topology.
    pub stores: Box<dyn state::Snapshot>,
    /// What it reflects, exactly.
    pub positions: Vec<(TopicPartition, i64)>,
}
