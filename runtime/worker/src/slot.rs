//! What a stream thread knows of one task that is placed on it.

use crate::metadata::{CommitTag, Metadata};
use crate::stamp::Stamp;
use crate::swap::Versions;
use crate::swap::part::Part;
use broker::CommittedOffset;
use record::TopicPartition;
use std::collections::HashSet;
use task::{Task, TaskId};

/// Pauses between tries: doubled after each failure up to a bound.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    pub until_ms: i64,
    pause_ms: i64,
}

impl Backoff {
    pub(crate) fn fail(&mut self, now_ms: i64, min_ms: i64, max_ms: i64) {
        self.pause_ms = (self.pause_ms * 2).clamp(min_ms, max_ms.max(min_ms));
        self.until_ms = now_ms + self.pause_ms;
    }

    pub(crate) fn waits(&self, now_ms: i64) -> bool {
        now_ms < self.until_ms
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Where a task is between its placement and its end.
#[derive(Debug)]
pub(crate) enum SlotState {
    /// A release or a fencing is outstanding.
    Waiting,
    /// `s:` goes with the next commit.
    Claiming,
    /// Offsets are to be read and stores to be opened.
    Opening,
    Restoring {
        stores: Vec<StoreRestore>,
    },
    Running,
    /// The outcome of this commit is unknown.
    InDoubt(Prepared),
    Stopped {
        reason: String,
    },
}

/// One store on its way to its target, in offsets of its changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreRestore {
    pub store: usize,
    pub from: i64,
    pub at: i64,
    pub target: i64,
}

/// A task's part of a commit, ready to be applied.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub tag: CommitTag,
    /// Per store with own deliveries: next changelog offset.
    pub next: Vec<(usize, i64)>,
    pub positions: Vec<(TopicPartition, i64)>,
    pub targets: Vec<i64>,
    pub stream_time: i64,
}

pub(crate) struct Slot {
    pub id: TaskId,
    pub task_epoch: u64,
    pub state: SlotState,
    /// Not placed here any more: released with the next commit.
    pub leaving: bool,
    /// Stopped once what passed before is committed.
    pub stopping: Option<String>,
    /// There while opening is through and the task has not stopped.
    pub task: Option<Task>,
    /// The last commit's positions, targets and stream time.
    pub positions: Vec<(TopicPartition, i64)>,
    pub targets: Vec<i64>,
    pub stream_time: i64,
    /// Positions were not committed although the state was applied (at-least-once).
    pub owes_positions: bool,
    pub last_commit_ms: i64,
    pub stamp: Option<Stamp>,
    pub stamped_ms: i64,
    /// The directory is to be emptied at the next opening.
    pub wipe: bool,
    pub paused: HashSet<TopicPartition>,
    /// Refused records since the last commit.
    pub rejected: u32,
    pub backoff: Backoff,
    /// Why the last try failed, for people.
    pub trouble: Option<String>,
    /// What `task`'s processors are.
    pub versions: Versions,
    /// Its part in the swap that is under way, while it is open.
    pub part: Option<Box<Part>>,
    /// It had stopped, and a swap is to give it another try.
    pub revived: bool,
}

impl Slot {
    pub(crate) fn new(id: TaskId, task_epoch: u64) -> Self {
        Self {
            id,
            task_epoch,
            state: SlotState::Waiting,
            leaving: false,
            stopping: None,
            task: None,
            positions: Vec::new(),
            targets: Vec::new(),
            stream_time: -1,
            owes_positions: false,
            last_commit_ms: 0,
            stamp: None,
            stamped_ms: 0,
            wipe: false,
            paused: HashSet::new(),
            rejected: 0,
            backoff: Backoff::default(),
            trouble: None,
            versions: Versions::new(),
            part: None,
            revived: false,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, SlotState::Running)
    }

    /// Whether a swap keeps it from running for now.
    pub(crate) fn is_held_back(&self) -> bool {
        self.part.as_ref().is_some_and(|p| p.holds_back())
    }

    /// Takes over what a commit made true.
    pub(crate) fn settle(&mut self, prepared: Prepared, now_ms: i64) {
        self.positions = prepared.positions;
        self.targets = prepared.targets;
        self.stream_time = prepared.stream_time;
        self.last_commit_ms = now_ms;
        self.rejected = 0;
        self.owes_positions = false;
    }
}

impl Prepared {
    /// Positions as they are sent: the metadata on the first one.
    pub(crate) fn offsets(&self, run: crate::control::Run) -> Vec<CommittedOffset> {
        let metadata = Metadata {
            run,
            tag: self.tag.clone(),
            stream_time: self.stream_time,
            targets: self.targets.clone(),
        };
        let mut metadata = Some(metadata.to_string());
        let offset = |(partition, offset): &(TopicPartition, i64)| CommittedOffset {
            partition: partition.clone(),
            offset: *offset,
            metadata: metadata.take().unwrap_or_default(),
        };
        self.positions.iter().map(offset).collect()
    }
}
