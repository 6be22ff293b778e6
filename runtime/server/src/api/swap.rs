//! Bodies of the hot swap: what is asked, how far it is, what ran when.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// `POST /v1/pipelines/{name}/swap`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SwapRequest {
    /// Step → `name@version`, or `name` for the version of it that was registered last.
    pub steps: BTreeMap<String, String>,
    pub terms: SwapTerms,
    /// Who asks, for the history.
    pub by: String,
}

/// How a swap goes. What is missing has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SwapTerms {
    /// Only so many tasks switch; `promote` takes the others along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<u32>,
    /// The new version sees what the old one sees, and what it would send is compared and never sent.
    pub shadow: bool,
    /// How long the first transaction of the new version is held open, in milliseconds and in records: whichever is
    /// reached first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation_records: Option<u64>,
    /// How long the old version is kept ready after all have switched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_ms: Option<u64>,
    pub bounds: SwapBounds,
}

/// Where a swap runs another version than the file names that is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeptVersions {
    /// Nothing is applied, and the refusal says who brought what runs, and when.
    #[default]
    Ask,
    /// The running one stays.
    Running,
    /// The file's comes back.
    File,
}

/// `POST …/rollback` and `…/promote`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Asked {
    /// Who asks, for the history.
    pub by: String,
}

/// `GET …/swap`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SwapAsked {
    /// Which swap; without it the one that is under way, else the last one.
    pub id: Option<String>,
}

/// What the new version may do before it is rolled back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SwapBounds {
    /// Calls of a task that may fail as a whole: traps, errors, broken answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traps: Option<u64>,
    /// Share of records that become dead letters or are skipped, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<f64>,
    /// Mean time that a row takes in the module, as a multiple of the old version's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slower: Option<f64>,
    /// Mean time of a call in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_us: Option<u64>,
}

/// `GET /v1/pipelines/{name}/swap`: how far a swap is, or how it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Swap {
    pub id: String,
    pub pipeline: String,
    /// `switching`, `watching`, `rolling-back`; at the end `swapped` or `rolled-back`.
    pub phase: String,
    /// `all`, `canary` or `shadow`.
    pub mode: String,
    pub steps: Vec<SwapStep>,
    pub by: String,
    /// Milliseconds since 1970 UTC.
    pub began_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// Why it goes or went back; may have several lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was done before the record was written; only in the answer that starts the swap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepared: Vec<SwapPrepared>,
    /// What a person should know of it and what stops nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Tasks that run a step of the swap.
    pub tasks: Vec<SwapTask>,
    /// While watching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_left_ms: Option<u64>,
    /// Records that the new version published although it was rolled back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<SwapOffsets>,
}

impl Swap {
    /// Whether nothing more happens by itself.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase.as_str(), "swapped" | "rolled-back")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SwapStep {
    pub step: String,
    /// `name@version`.
    pub from: String,
    pub to: String,
}

/// A module that was made ready beside the running one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SwapPrepared {
    pub step: String,
    /// `name@version`.
    pub module: String,
    pub digest: String,
    pub bytes: u64,
    /// Fetched, digest verified, compiled or taken from the cache.
    pub loaded_ms: u64,
    /// Tasks of this pipeline for which an instance was opened on a trial.
    pub opened: u32,
    /// Entries of stores that `migrate` was tried on.
    pub migrated: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SwapTask {
    /// `SUBTOPOLOGY_PARTITION`.
    pub task: String,
    /// The stream thread that runs it; empty while it is not known.
    pub thread: String,
    /// `waiting`, `migrating`, `probation`, `switched`, `rolled-back`, `failed`, `shadow`, `left-alone` (canary).
    pub state: String,
    /// It met no record in its probation.
    #[serde(default)]
    pub untried: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<SwapOffsets>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<SwapShadow>,
}

/// Offsets that a version wrote, first and last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SwapOffsets {
    pub topic: String,
    pub partition: i32,
    pub first: i64,
    pub last: i64,
}

/// What a shadow's outputs were like, beside those that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SwapShadow {
    pub records: u64,
    /// Rows that only one version sent, or that differ.
    pub different: u64,
    /// Calls of the new version that failed.
    pub failures: u64,
    /// The first differences of the task, at most ten.
    pub samples: Vec<SwapSample>,
}

/// A difference of a shadow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SwapSample {
    /// Step or output.
    pub step: String,
    /// Topic-partition-offset of the record that it came of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// What the old version sent, as text; `nothing`.
    pub from: String,
    /// What the new version would have sent.
    pub to: String,
}

/// `GET /v1/pipelines/{name}/versions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Versions {
    pub pipeline: String,
    /// Step → what the record says runs.
    pub running: BTreeMap<String, ModuleId>,
    /// While one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Swap>,
    /// The newest first.
    pub history: Vec<VersionChange>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ModuleId {
    /// `name@version`.
    pub module: String,
    pub digest: String,
}

/// One change of what runs, or an attempt that was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct VersionChange {
    /// Of the swap; none for an `apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<String>,
    /// When it began; milliseconds since 1970 UTC.
    pub at: i64,
    /// When another version took its place, or it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// `applied`, `swap` or `rollback`.
    pub why: String,
    /// `running`, `replaced`, `rolled-back` (the former versions ran on) or `shadowed`.
    pub outcome: String,
    pub by: String,
    /// `from` is empty where the step is new.
    pub steps: Vec<SwapStep>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<SwapOffsets>,
}
