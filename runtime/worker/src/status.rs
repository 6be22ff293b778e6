//! What a stream thread says of itself: tasks with their state and positions, counters, views of stores.

use crate::swap::{Shadow, Versions};
use record::TopicPartition;
use task::TaskId;
use uuid::Uuid;

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

/// Where a task is in a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapProgress {
    /// Processors of `to` are being made beside the running ones.
    Preparing,
    /// Prepared; other nodes or threads come first.
    Waiting,
    /// The first transaction under `to` is held open. Times in milliseconds.
    Probation {
        held_ms: i64,
        records: u64,
    },
    /// Runs `to`.
    Switched,
    Shadowing(Shadow),
    /// Runs `from`, or, after a failure in the watch window, nothing.
    Failed {
        reason: String,
    },
    /// Runs `from` again.
    RolledBack,
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
    /// What the task's processors are; empty: what the topology says.
    pub versions: Versions,
    /// The swap that it takes part in.
    pub swap: Option<(Uuid, SwapProgress)>,
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
    /// What modules did, and what became of their records; a run that was undone counts too.
    pub guest_traps: u64,
    /// Instances replaced because they held too much memory.
    pub instances_recycled: u64,
    pub records_dead_lettered: u64,
    pub records_skipped: u64,
    pub retries: u64,
}

impl Counters {
    /// Adds what a task counted between `before` and `after`.
    pub(crate) fn add_task(&mut self, before: TaskCounts, after: TaskCounts) {
        self.guest_traps += after.traps.saturating_sub(before.traps);
        self.instances_recycled += after.recycled.saturating_sub(before.recycled);
        self.records_dead_lettered += after.dead_letters.saturating_sub(before.dead_letters);
        self.records_skipped += after.skipped.saturating_sub(before.skipped);
        self.retries += after.retries.saturating_sub(before.retries);
    }
}

/// The totals of a task that the worker adds up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TaskCounts {
    traps: u64,
    recycled: u64,
    dead_letters: u64,
    skipped: u64,
    retries: u64,
}

impl TaskCounts {
    pub(crate) fn of(metrics: &task::Metrics) -> Self {
        Self {
            traps: metrics.traps,
            recycled: metrics.recycled,
            dead_letters: metrics.dead_letters,
            skipped: metrics.skipped,
            retries: metrics.retries,
        }
    }
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
