//! `GET /v1/logs`: what guests write, one JSON line a message.

use super::letters::Place;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Without `follow` the answer ends with the newest line.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogsRequest {
    #[serde(default)]
    pub pipeline: Option<String>,
    #[serde(default)]
    pub step: Option<String>,
    /// `error`, `warn`, `info` (what it is without this), `debug`, `trace`. Finer ones than `info` are kept only while
    /// somebody follows them.
    #[serde(default)]
    pub level: Option<String>,
    /// Written at or after this time, in milliseconds since 1970 UTC.
    #[serde(default)]
    pub since: Option<i64>,
    /// Only the last so many of what is there.
    #[serde(default)]
    pub tail: Option<usize>,
    /// Stay and send what comes.
    #[serde(default)]
    pub follow: bool,
}

/// A message of a guest. Lines of a stream that have `missed` instead say how many messages were dropped before the
/// reader came to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LogLine {
    /// Milliseconds since 1970 UTC.
    pub at: i64,
    pub level: String,
    pub pipeline: String,
    pub step: String,
    pub task: String,
    /// `name@version`.
    pub module: String,
    /// The record that it is about, where the guest said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Place>,
    pub message: String,
}

/// Lines of a stream that did not fit its bound and are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Missed {
    pub missed: u64,
}
