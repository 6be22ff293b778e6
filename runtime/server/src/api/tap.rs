//! `GET /v1/pipelines/{pipeline}/tap`: records between steps, one JSON line a record.

use super::letters::Place;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TapRequest {
    /// `STEP`, `STEP.PORT`, or the name of a source or sink.
    pub step: String,
}

/// A record that a step sent on, in a run that has passed and is not committed yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TappedRecord {
    pub step: String,
    /// Where the step has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    pub task: String,
    #[schema(value_type = Object)]
    pub key: serde_json::Value,
    #[schema(value_type = Object)]
    pub value: serde_json::Value,
    pub timestamp: i64,
    /// The source record that it comes of; none in a punctuation or a table's flush.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Place>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub headers: Vec<(String, Option<String>)>,
}
