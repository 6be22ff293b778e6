//! A pipeline's record in the cluster's control topic, as far as a stream thread must read it.
//!
//! Written by `server` under compare-and-set; a thread only reads. Key `pipeline:<name>`, value JSON; fields that are
//! not listed here are kept in [`PipelineRecord::rest`], so that reader and writer of different versions lose nothing.

use crate::swap::{Ran, Swap, Versions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Key of a pipeline's record.
pub fn key(pipeline: &str) -> String {
    format!("pipeline:{pipeline}")
}

/// The pipeline whose record has this key; `None` for records of another kind.
pub fn pipeline_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.strip_prefix("pipeline:")
}

/// What the whole pipeline is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Running,
    /// Tasks are placed, restored and kept, and process nothing.
    Paused,
    /// The task table changes: commit, release and leave.
    Draining,
    /// Being deleted: commit, release and leave.
    Deleted,
}

/// The value under `pipeline:<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineRecord {
    /// Drawn when the pipeline was first applied: tells it from a deleted one of the same name.
    pub incarnation: Uuid,
    /// Raised whenever the task table changes.
    pub epoch: u64,
    pub state: State,
    /// What runs when no swap is under way, by step; while one is, what ran before it. Steps that are not named run what
    /// the topology says.
    #[serde(default, skip_serializing_if = "Versions::is_empty")]
    pub versions: Versions,
    /// The swap that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Swap>,
    /// What ran when, oldest first, at most [`HISTORY_MAX`](crate::swap::terms::HISTORY_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Ran>,
    /// What this crate does not read: topology, the pipeline file, who applied it.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

impl PipelineRecord {
    pub fn run(&self) -> Run {
        Run {
            incarnation: self.incarnation,
            epoch: self.epoch,
        }
    }

    /// Compact JSON.
    ///
    /// # Errors
    /// Only when `rest` cannot be written as JSON.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// # Errors
    /// When `value` is not such a record.
    pub fn decode(value: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }
}

/// One task table of one pipeline: records, offsets and directories of another run say nothing about this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run {
    pub incarnation: Uuid,
    /// The pipeline's epoch.
    pub epoch: u64,
}
