//! `v:<task>`: what a task says of a swap. Written by the task's thread in the commit that it speaks of.

use super::terms::Written;
use crate::control::Run;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Differences of a shadow run that are kept whole.
pub const SAMPLES_MAX: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportState {
    /// Its first transaction under `to` is committed by the commit that brings this.
    Switched,
    /// It runs `from`: again, or still.
    RolledBack,
    /// `to` cannot be had here, or broke a bound. What the task runs until the record goes back: `from` after a failure
    /// in probation; after one in the watch window nothing.
    Failed,
    /// A shadow runs beside the task.
    Shadowing,
}

/// The value under `v:<task>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    #[serde(flatten)]
    pub run: Run,
    /// The report counts only under the task's current epoch.
    pub task_epoch: u64,
    pub swap: Uuid,
    pub state: ReportState,
    /// With `switched`: stores were written anew for `to`, which `from` cannot read.
    #[serde(default)]
    pub migrated: bool,
    /// No record passed in the probation, so nothing is known of `to` here.
    #[serde(default)]
    pub untried: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What `to` has written here and committed, once it is known: with `failed` and `rolled-back`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<Written>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// What a shadow run has found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// Source records that both versions saw.
    pub records: u64,
    /// Rows that `from` and `to` sent on.
    pub rows_from: u64,
    pub rows_to: u64,
    /// Rows that only one of them sent, or that differ.
    pub differences: u64,
    /// Calls of `to` that failed, and why the last one did.
    pub failures: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The first of them, at most [`SAMPLES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
}

/// One difference: what each version sent on for an input record, as text (port, key, value, time; bytes that are no
/// text as `\xNN`, cut short).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The step whose rows differ.
    pub step: String,
    /// Input record: topic-partition-offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
