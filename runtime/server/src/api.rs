//! What goes over REST: the bodies of requests and answers, shared by the node and the command line.
//!
//! Everything the command line does is one of these. Field names are kebab-case as in the files; unknown fields of
//! requests are refused.

pub mod letters;
pub mod logs;
mod swap;
pub mod tap;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
pub use swap::{
    Asked, KeptVersions, ModuleId, Swap, SwapAsked, SwapBounds, SwapOffsets, SwapPrepared, SwapRequest, SwapSample,
    SwapShadow, SwapStep, SwapTask, SwapTerms, VersionChange, Versions,
};
use utoipa::ToSchema;

/// Every refusal, with an HTTP status that says whose fault it is (4xx the caller's, 5xx ours).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// A word that scripts may branch on: `not-found`, `invalid-pipeline`, `conflict`, `unavailable`, ….
    pub code: String,
    /// What failed, where, and what to do; may have several lines.
    pub message: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Module {
    pub name: String,
    pub version: String,
    /// Hex sha-256 of the component.
    pub digest: String,
    pub bytes: u64,
    /// Milliseconds since 1970 UTC.
    pub added_at: i64,
    /// Its own description: ports, stores, parameters, capabilities.
    #[schema(value_type = Object)]
    pub description: serde_json::Value,
    /// False when the same bytes were registered before.
    #[serde(default)]
    pub new: bool,
}

/// `POST /v1/modules`; the body is the component.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AddModule {
    /// Register it as `VERSION+dev.DIGEST8`.
    #[serde(default)]
    pub dev: bool,
}

/// `POST …/reset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ResetRequest {
    /// `start` (what the file says), `earliest`, `latest`, or a time with its offset like `2026-01-31T12:00:00Z`. Without
    /// it: `start`, or with `keep-state` and `offsets` every partition that is not named stays where it is.
    pub to: Option<String>,
    /// By topic and partition.
    pub offsets: BTreeMap<String, BTreeMap<i32, i64>>,
    /// Stores and stream times stay as they are; what is read again has its effect again.
    pub keep_state: bool,
}

/// A pipeline file as it is applied or planned.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ApplyRequest {
    /// The text of the file.
    pub file: String,
    /// How diagnostics call it.
    #[serde(default)]
    pub file_name: String,
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// Modules that the file names by path: path as it stands there → digest of the registered module. Also
    /// `name@version` of the file → another module in its place.
    #[serde(default)]
    pub paths: BTreeMap<String, String>,
    /// What to do where a swap runs another version than the file names.
    #[serde(default)]
    pub versions: KeptVersions,
    /// For module versions that change, which is a swap.
    #[serde(default)]
    pub terms: SwapTerms,
    /// Who asks, for the history.
    #[serde(default)]
    pub by: String,
}

/// What an `apply` would do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    pub pipeline: String,
    /// One line each, in the order in which they would be done; empty: nothing to do.
    pub changes: Vec<PlannedChange>,
    /// Why it cannot be done; then nothing of it is done.
    pub refused: Vec<String>,
    /// The topology as text.
    pub drawing: String,
    /// The swap that this apply has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Swap>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlannedChange {
    /// `create-topic`, `create-pipeline`, `change-step`, `swap-module`, `start`, ….
    pub action: String,
    pub what: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Pipeline {
    pub name: String,
    /// On this node: `running`, `paused`, `failed`, `starting`.
    pub state: String,
    pub guarantee: String,
    pub epoch: u64,
    pub incarnation: String,
    /// Milliseconds since 1970 UTC.
    pub applied_at: i64,
    /// Module steps: step → `name@version`.
    pub modules: BTreeMap<String, String>,
    /// While versions are being exchanged; `modules` says what ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Swap>,
    pub stores: Vec<Store>,
    /// Tables that this node keeps whole, while the pipeline runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globals: Vec<GlobalTable>,
    /// Those that this node runs.
    pub tasks: Vec<Task>,
    /// Copies that this node keeps of tasks that run on others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<Standby>,
    /// Records not yet processed by its tasks, all sources together; `None`: not known yet.
    pub lag: Option<i64>,
    /// Since the node started.
    pub counters: BTreeMap<String, u64>,
    /// Why it does not run as it should.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Store {
    pub name: String,
    pub kind: String,
    pub key: String,
    pub value: String,
}

/// Tasks begin when every global table is whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct GlobalTable {
    pub name: String,
    pub topic: String,
    /// `reading`, `whole`.
    pub state: String,
    /// Offsets gone through of those that were there when this node began to read the topic.
    pub read: Restored,
    /// Records left out since then, for they have no key.
    pub dropped: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Task {
    /// `SUBTOPOLOGY_PARTITION`.
    pub task: String,
    pub thread: String,
    /// Module steps of the task: step → `name@version`, as they run here now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
    /// `restoring`, `running`, `waiting`, `stopped`, ….
    pub state: String,
    pub lag: Option<i64>,
    /// While restoring.
    pub restored: Option<Restored>,
    /// Why it waits or is stopped: step, module, record, cause, back-trace.
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Standby {
    /// `SUBTOPOLOGY_PARTITION`.
    pub task: String,
    /// `catching-up` until it has had all of the changelogs once, then `following`; `failed` until it is opened again.
    pub state: String,
    /// Changelog records, those that end transactions among them, that it has not read; `None` while it is not open.
    pub lag: Option<i64>,
    /// Whether the task may move here for balance: little is missing.
    pub warm: bool,
    /// Why it is not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Restored {
    /// Records applied, and how many there are in all.
    pub records: u64,
    pub total: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    pub node: String,
    pub cluster: String,
    pub version: String,
    /// `embedded` or the brokers' addresses.
    pub log: String,
    pub data_dir: String,
    pub uptime_ms: u64,
    pub pipelines: Vec<Pipeline>,
    pub modules: usize,
}

/// `GET /v1/cluster`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    pub cluster: String,
    /// By name: the node that was asked, and those that run the same pipelines.
    pub nodes: Vec<ClusterNode>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterNode {
    pub node: String,
    /// Where the node that was asked reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why there is no status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Topic {
    pub name: String,
    pub partitions: i32,
    pub cleanup: String,
    /// Per partition: the first offset and the one after the last.
    pub offsets: Vec<(i64, i64)>,
    pub internal: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateTopic {
    pub name: String,
    pub partitions: i32,
    /// `delete`, `compact` or `compact,delete`.
    #[serde(default)]
    pub cleanup: Option<String>,
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// One record on its way in or out. Keys and values are text, numbers or JSON as their formats say, `null` for none;
/// bytes that are not text are `{"base64": "…"}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    #[serde(default)]
    #[schema(value_type = Object)]
    pub key: serde_json::Value,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub value: serde_json::Value,
    /// Milliseconds since 1970 UTC; on the way in, now when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub headers: Vec<(String, Option<String>)>,
}

/// `POST /v1/topics/{topic}/records`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProduceRequest {
    /// `string`, `i64`, `f64`, `json`, `bytes`.
    pub key_format: String,
    pub value_format: String,
    pub records: Vec<Record>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Produced {
    pub records: u64,
}

/// `GET /v1/topics/{topic}/records`: a page of committed records from given positions.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConsumeRequest {
    /// `earliest`, `latest` or `PARTITION:OFFSET,…` (what the last page gave as `next`).
    #[serde(default)]
    pub from: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
    /// How long to wait for a first record; at most 10,000.
    #[serde(default)]
    pub wait_ms: Option<u64>,
    /// Formats; without them those of the pipelines that use the topic, else text.
    #[serde(default)]
    pub key_format: Option<String>,
    #[serde(default)]
    pub value_format: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Consumed {
    pub records: Vec<Record>,
    /// `from` of the next page.
    pub next: String,
    /// Whether there was nothing more when this was read.
    pub end: bool,
}

/// `GET /v1/pipelines/{pipeline}/stores/{store}/entries`: one of `key`, `prefix`, or a range (either end open).
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct QueryRequest {
    /// In the store's key format.
    #[serde(default)]
    pub key: Option<String>,
    #[serde(default)]
    pub prefix: Option<String>,
    #[serde(default)]
    pub lower: Option<String>,
    #[serde(default)]
    pub upper: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
    /// `next` of the last page.
    #[serde(default)]
    pub after: Option<String>,
    /// `TOPIC-PARTITION:OFFSET,…` of what the store's tasks read: the answer reflects everything below, or says that the
    /// state is behind. As Kafka Streams' position bound.
    #[serde(default)]
    pub at_least: Option<String>,
    /// Where the node that runs a task is gone or does not answer, a standby may: what it says is behind by its `lag`.
    #[serde(default)]
    pub stale_ok: bool,
    /// `0,3,…`: only these, and only from the node that is asked. Without, it asks the nodes that hold them.
    #[serde(default)]
    pub partitions: Option<String>,
}

impl QueryRequest {
    /// As they stand in a URL.
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let texts = [
            ("key", &self.key),
            ("prefix", &self.prefix),
            ("lower", &self.lower),
            ("upper", &self.upper),
            ("after", &self.after),
            ("at-least", &self.at_least),
            ("partitions", &self.partitions),
        ];
        let given = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
        given
            .chain(self.limit.map(|limit| ("limit", limit.to_string())))
            .chain(self.stale_ok.then(|| ("stale-ok", true.to_string())))
            .collect()
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct QueryAnswer {
    pub entries: Vec<StoreEntry>,
    /// What the tasks that were asked had read: `TOPIC-PARTITION` and the offset of the next record. The entries reflect
    /// everything below, and nothing beyond.
    #[serde(default)]
    pub positions: BTreeMap<String, i64>,
    /// Tasks for which a standby has answered, as `stale-ok` allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<Stale>,
    /// There is more; `after` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StoreEntry {
    #[schema(value_type = Object)]
    pub key: serde_json::Value,
    #[schema(value_type = Object)]
    pub value: serde_json::Value,
    /// Event time, for timestamped stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    pub partition: i32,
    /// Of the standby that says so, see [`Stale::lag`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}

/// An answer from a copy: committed changes of the task's stores up to some point, which may lie within a commit.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Stale {
    /// `SUBTOPOLOGY_PARTITION`.
    pub task: String,
    /// Where the standby lies.
    pub node: String,
    /// Changelog records that are known to be there and that it has not read.
    pub lag: i64,
    /// What it has read: `CHANGELOG-PARTITION` and the offset of the next record.
    pub positions: BTreeMap<String, i64>,
}
