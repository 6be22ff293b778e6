//! Bodies of `/v1/pipelines/{pipeline}/dead-letters`.

use super::Record;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a record was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.topic, self.partition, self.offset)
    }
}

/// A record that failed, and why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeadLetter {
    /// `PARTITION:OFFSET` of the letter in the dead-letter topic.
    pub id: String,
    /// When it failed, in milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// `deserialization`, `processing` or `production`.
    pub stage: String,
    pub reason: String,
    /// Empty when the broker refused what came of the record: that was no step's doing.
    pub step: String,
    /// `name@version`; empty for a native operator.
    pub module: String,
    pub task: String,
    /// Where the record was read; `None` for a row that began in a punctuation or in a table's flush.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Place>,
    /// Of a trap: `module!function` a line, innermost first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// How often the record had been replayed before it failed: more than 0 is a loop.
    #[serde(default)]
    pub replays: u32,
    /// This letter was replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
    /// The record as it was, in the formats of the topic that it came from; its partition and offset are in `origin`.
    pub record: Record,
    /// The bytes of the record; only where one letter is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<RecordBytes>,
}

/// Base64; `None` is a null key, or a tombstone.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RecordBytes {
    pub key: Option<String>,
    pub value: Option<String>,
}

/// When and whereto.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Replayed {
    /// Milliseconds since 1970 UTC.
    pub at: i64,
    pub topic: String,
    pub partition: i32,
}

/// Which letters: all that fit everything that is said here.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LettersRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Failed at or after this time, in milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// A part of the reason, in any case of letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeadLetters {
    /// The dead-letter topic.
    pub topic: String,
    /// The newest first.
    pub letters: Vec<DeadLetter>,
}

/// `POST …/replay`. Without `letters`: all that fit, the oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReplayRequest {
    /// Ids; then nothing else chooses.
    #[serde(default)]
    pub letters: Vec<String>,
    #[serde(default)]
    pub choose: LettersRequest,
    /// Another topic than the one that each record came from.
    #[serde(default)]
    pub to: Option<String>,
    /// Also those that were replayed before.
    #[serde(default)]
    pub again: bool,
    /// Say what would be done and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReplayAnswer {
    pub replayed: u64,
    /// Left out because they were replayed before.
    pub before: u64,
    /// Left out because there is no way back: by reason.
    pub left_out: Vec<LeftOut>,
    /// Records by the topic that they went to.
    pub topics: std::collections::BTreeMap<String, u64>,
    /// The highest number of replays that one of the records has now.
    pub replays_max: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LeftOut {
    pub id: String,
    pub reason: String,
}
