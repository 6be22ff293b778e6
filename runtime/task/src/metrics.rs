//! Counters of a task. Work of a run that was undone is not counted, save traps and retries.

use std::sync::Arc;

/// Totals since the task was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Source records processed, skipped ones included.
    pub records_in: u64,
    /// Rows staged for topics, dead letters included.
    pub records_out: u64,
    pub runs: u64,
    pub punctuations: u64,
    /// Source records left out because they had no time, or one before 1970.
    pub invalid_timestamps: u64,
    pub dead_letters: u64,
    /// Records left out by `on-error = "skip"`.
    pub skipped: u64,
    pub retries: u64,
    pub traps: u64,
    /// Instances replaced because they held too much memory.
    pub recycled: u64,
    /// In the task's order of nodes.
    pub nodes: Vec<NodeMetrics>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMetrics {
    pub name: Arc<str>,
    pub calls: u64,
    pub rows: u64,
    /// Rows of the largest call.
    pub call_rows_max: u64,
    /// Rows dropped: by the guest, by a null key or value, by matching no branch.
    pub dropped: u64,
    /// Calls that failed as a whole: traps, answers that break the contract, errors; and why the last one did.
    pub failed_calls: u64,
    pub last_failure: Option<String>,
}

impl NodeMetrics {
    pub(crate) fn add(&mut self, run: NodeCounts) {
        self.calls += run.calls;
        self.rows += run.rows;
        self.call_rows_max = self.call_rows_max.max(run.call_rows_max);
        self.dropped += run.dropped;
    }
}

/// What one run adds to [`NodeMetrics`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeCounts {
    pub calls: u64,
    pub rows: u64,
    pub call_rows_max: u64,
    pub dropped: u64,
}
