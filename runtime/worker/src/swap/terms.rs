//! What a pipeline's record says of versions: which run, which are being exchanged, which ran before (design §11).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use task::{Rewrite, Task, TaskId};
use uuid::Uuid;

/// Entries of [`PipelineRecord::history`](crate::control::PipelineRecord::history) that are kept: the record is read
/// whole by every thread.
pub const HISTORY_MAX: usize = 50;
/// Longest time for which a first transaction may be held open: readers of committed data wait for it.
pub const PROBATION_MS_MAX: u64 = 1_000;
/// A task that has not switched this long after it could have is taken for one that never will: the swap goes back.
pub const SWITCH_MS_MAX: i64 = 120_000;

/// An exact module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModuleVersion {
    pub name: String,
    pub version: String,
    /// Hex sha-256 of the component's bytes.
    pub digest: String,
}

impl fmt::Display for ModuleVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// The module of each module step, by step.
pub type Versions = BTreeMap<String, ModuleVersion>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub from: ModuleVersion,
    pub to: ModuleVersion,
}

/// Where a swap is. The record's word on it decides what a task runs; a task's marker only says how far the task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Tasks go to `to`, each at a commit boundary. With `shadow` none does.
    Switching,
    /// Every task has switched; `from` is kept ready.
    Watching,
    /// Tasks go back to `from`.
    RollingBack,
}

/// How long a thread's first transaction under `to` is held open: until the first of the two is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// At most [`PROBATION_MS_MAX`]; more counts as that. 0: nothing is held.
    pub ms: u64,
    /// Source records of the thread's switched tasks.
    pub records: u64,
}

impl Default for Probation {
    fn default() -> Self {
        Self {
            ms: 250,
            records: 5_000,
        }
    }
}

/// What `to` may do at most, per task, in probation, in the watch window, and as a canary. Each is measured from the
/// task's switch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Calls that may fail as a whole: traps, answers that break the contract, errors.
    pub traps: u64,
    /// Largest share of source records that may end as dead letters or be skipped, 0 to 1.
    pub failed_share: f64,
    /// It counts from so many source records on.
    pub failed_of_records: u64,
    /// Largest mean time in the module a row, as a multiple of what `from` took in the same task. `None`: no such bound.
    pub latency_factor: Option<f64>,
    /// Largest mean time of a call in microseconds. `None`: no such bound.
    pub call_us: Option<u64>,
    /// Both latencies count from so many rows on.
    pub latency_of_rows: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            traps: 0,
            failed_share: 0.2,
            failed_of_records: 50,
            latency_factor: Some(10.0),
            call_us: None,
            // A busy machine takes a thread away for milliseconds: of fewer rows, that would be most of what is measured.
            latency_of_rows: 2_000,
        }
    }
}

/// A sub-topology with a step that changes, and the number of its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub sub_topology: u32,
    pub tasks: i32,
}

/// A store whose schema changes: its entries go through the new version's `migrate` in each task's first transaction
/// under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    pub step: String,
    /// Full name of the store.
    pub store: String,
    /// Its number in the module's description, for `migrate`.
    pub store_of_module: u32,
    pub from_schema: u32,
    pub to_schema: u32,
}

/// One exchange of versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Swap {
    pub id: Uuid,
    /// By step.
    pub steps: BTreeMap<String, Change>,
    /// Where tasks take part, rising.
    pub parts: Vec<Part>,
    pub phase: Phase,
    /// Wall time in milliseconds at which the phase began, as the node that recorded it saw it.
    pub phase_at: i64,
    /// Only so many tasks switch, the lowest of those that take part; `promote` takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<u32>,
    /// `to` runs beside `from` on a scratch copy of the state; its outputs are compared and never published.
    #[serde(default)]
    pub shadow: bool,
    #[serde(default)]
    pub probation: Probation,
    /// How long `from` is kept ready after the last switch.
    pub watch_ms: u64,
    #[serde(default)]
    pub bounds: Bounds,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<Migration>,
    /// A task has committed what it migrated, and something failed elsewhere: there is no way back, every task goes to
    /// `to`, and bounds do not count any more.
    #[serde(default)]
    pub forward: bool,
    /// Why it goes back, or why it goes on although something failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Wall time in milliseconds.
    pub began_at: i64,
    /// What asked for it (`swap`, `apply`, `rollback`, `dev`), and who.
    #[serde(default)]
    pub why: String,
    #[serde(default)]
    pub who: String,
}

impl Swap {
    /// Whether a task has a step that changes.
    pub fn concerns(&self, task: TaskId) -> bool {
        let part = self.parts.iter().find(|p| p.sub_topology == task.sub_topology);
        part.is_some_and(|p| (0..p.tasks).contains(&task.partition))
    }

    /// Tasks that have a step that changes, lowest first.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.parts.iter().flat_map(|part| {
            (0..part.tasks).map(|partition| TaskId {
                sub_topology: part.sub_topology,
                partition,
            })
        })
    }

    /// Tasks that are to switch now: all that it concerns, the canaries, or, in a shadow run, none.
    pub fn switching(&self) -> impl Iterator<Item = TaskId> + '_ {
        let count = match (self.shadow, self.canary) {
            (true, _) => 0,
            (false, None) => usize::MAX,
            (false, Some(canary)) => canary as usize,
        };
        self.tasks().take(count)
    }

    pub fn switches(&self, task: TaskId) -> bool {
        self.switching().any(|t| t == task)
    }

    /// Whether stores of the task are written anew.
    pub(crate) fn migrates(&self, task: &Task) -> bool {
        let of = |step: &str| self.migrations.iter().any(|m| m.step == step);
        task.module_steps().any(of)
    }

    pub(crate) fn rewrites(&self) -> Vec<Rewrite> {
        let rewrite = |m: &Migration| Rewrite {
            step: m.step.clone(),
            store: m.store_of_module,
            from_schema: m.from_schema,
        };
        self.migrations.iter().map(rewrite).collect()
    }

    /// `of` with `to` for the steps that it exchanges.
    pub fn versions(&self, of: &Versions) -> Versions {
        let mut versions = of.clone();
        versions.extend(
            self.steps
                .iter()
                .map(|(step, change)| (step.clone(), change.to.clone())),
        );
        versions
    }
}

/// How a version came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It runs now.
    Runs,
    /// Another version took its place.
    Replaced,
    /// It was tried and taken back.
    RolledBack,
    /// It ran as a shadow only.
    Shadowed,
}

/// One entry of what ran when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The swap that brought it; `None`: it came with an `apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Uuid>,
    /// Of the steps that changed, or of all when the pipeline was applied.
    pub versions: Versions,
    /// What ran in these steps before.
    #[serde(default, skip_serializing_if = "Versions::is_empty")]
    pub from: Versions,
    /// Wall times in milliseconds.
    pub since: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// `applied`, `swap`, `rollback`, `dev`.
    pub why: String,
    pub who: String,
    pub outcome: Outcome,
    /// Why it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a version that was taken back had written and committed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<Written>,
}

/// Rows of one partition between two offsets, both included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub topic: String,
    pub partition: i32,
    /// No row of the version lies before it.
    pub first: i64,
    /// Its last row.
    pub last: i64,
}
