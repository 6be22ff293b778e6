//! What a task is named, how it is set up, and what it tells its worker.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use record::Batch;
use state::GlobalTable;

use crate::watch::Watch;

/// Settings of a task that do not change what it computes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows in one run.
    pub run_records_max: usize,
    /// Bytes of keys and values in one run; one row may be larger.
    pub run_bytes_max: usize,
    /// Memory of uncommitted changes; full means commit now.
    pub overlay_bytes_max: usize,
    /// Memory of the object cache.
    pub cache_bytes_max: usize,
    /// `Topology::max_task_idle_ms`.
    pub max_task_idle_ms: i64,
    /// Partitions of every topic that the task writes; a topic that it reads and that is named here with too few
    /// partitions is not read by it.
    pub partition_count_of: HashMap<String, i32>,
    /// Records that the broker may refuse between two commits before the task stops.
    pub dead_letters_per_commit_max: usize,
    /// The pipeline's global tables by name, whole: those that the task looks into at least.
    pub globals: HashMap<String, Arc<GlobalTable>>,
    /// Who looks at rows between nodes.
    pub watch: Option<Arc<dyn Watch>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            run_records_max: 4096,
            run_bytes_max: 8 << 20,
            overlay_bytes_max: 64 << 20,
            cache_bytes_max: 16 << 20,
            max_task_idle_ms: 0,
            partition_count_of: HashMap::new(),
            dead_letters_per_commit_max: 1000,
            globals: HashMap::new(),
            watch: None,
        }
    }
}

/// A sub-topology at work on a partition; written `0_3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub sub_topology: u32,
    pub partition: i32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.sub_topology, self.partition)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a task like `0_3`")]
pub struct TaskIdError(String);

impl FromStr for TaskId {
    type Err = TaskIdError;

    fn from_str(text: &str) -> Result<Self, TaskIdError> {
        let error = || TaskIdError(text.to_owned());
        let (sub_topology, partition) = text.split_once('_').ok_or_else(error)?;
        let sub_topology = sub_topology.parse().map_err(|_| error())?;
        let partition = partition.parse().ok().filter(|p| *p >= 0).ok_or_else(error)?;
        Ok(Self {
            sub_topology,
            partition,
        })
    }
}

/// What waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffered {
    pub records: usize,
    pub bytes: usize,
}

/// What a call of [`Task::run`](crate::Task::run) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// Nothing to do before more input comes, or before this wall time in milliseconds.
    Idle { until: Option<i64> },
    /// `rows` is 0 when a run failed and is to be tried with fewer.
    Worked { rows: usize },
    /// Uncommitted changes reached their bound: commit before the next run.
    Full,
}

/// Which partition each staged row goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// By [`record::partition_of`] over `count`; null keys are spread.
    ByKey {
        count: i32,
    },
    /// By a windowed key without the window's bytes at its end.
    ByWindowedKey {
        count: i32,
        window_bytes: usize,
    },
    Fixed(i32),
}

/// Rows for a topic.
#[derive(Clone, Debug)]
pub struct Staged {
    pub topic: Arc<str>,
    pub to: To,
    pub batch: Batch,
    /// For [`Task::origin_of`](crate::Task::origin_of); valid until the commit or abort.
    pub tag: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn task_ids_are_read_as_they_are_written() {
        let id = TaskId {
            sub_topology: 1,
            partition: 12,
        };
        assert_eq!(id.to_string().parse::<TaskId>().unwrap(), id);
        for bad in ["", "1", "1_-2", "a_1", "1_2_3"] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad}");
        }
    }
}
