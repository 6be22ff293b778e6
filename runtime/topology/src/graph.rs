//! The types of the graph. Built by `pipeline`, checked and cut by [`crate::validate`].

use crate::{
    Closure, Cogroup, Dedup, Expression, Filter, ForeignJoin, ForeignLookup, ForeignResolve, GlobalJoin, GlobalTable,
    Grants, Map, NodeId, Route, StoreId, StreamJoin, Suppress, TableJoin, Timestamps, TtlTable, VersionedTable,
    WindowAggregate,
};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// How a pipeline treats a crash in the middle of its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    #[default]
    ExactlyOnce,
    AtLeastOnce,
}

/// What the bytes of a key or value are. A label: nothing is converted by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    #[default]
    Bytes,
    String,
    /// 8 bytes, big-endian, two's complement, as Kafka's `LongSerializer`.
    I64,
    /// 8 bytes, big-endian IEEE 754, as Kafka's `DoubleSerializer`.
    F64,
    Json,
    /// Only in a module's description: takes whatever comes.
    Any,
    /// The key, then the window's start in 8 bytes big-endian.
    WindowedBytes,
    WindowedString,
    WindowedI64,
    WindowedF64,
    WindowedJson,
    /// The key, then the session's end and its start.
    SessionBytes,
    SessionString,
    SessionI64,
    SessionF64,
    SessionJson,
}

/// A whole pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Consumer group and prefix of internal topics.
    pub name: String,
    pub guarantee: Guarantee,
    /// How long a task waits for an empty input although nothing more is known to be on the broker. 0: only for what is
    /// known to be there; -1: never.
    #[serde(default)]
    pub max_task_idle_ms: i64,
    /// How many nodes keep a copy of each task's state besides the one that runs it.
    #[serde(default)]
    pub standbys: u32,
    /// In topological order; among independent nodes, in the order of the file.
    pub nodes: Vec<Node>,
    pub stores: Vec<Store>,
    /// Tables that every node keeps whole; no sub-topology reads their topics.
    #[serde(default)]
    pub globals: Vec<GlobalTable>,
    /// Filled by `validate`. A node is in exactly one.
    pub sub_topologies: Vec<SubTopology>,
    pub dead_letters: Option<DeadLetters>,
}

/// The parts of a topology that one task runs: no repartition topic inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubTopology {
    /// Position in [`Topology::sub_topologies`].
    pub id: u32,
    /// In topological order.
    pub nodes: Vec<NodeId>,
    pub stores: Vec<StoreId>,
    /// All topics that its sources read, user topics and repartition topics, in the order of `nodes`.
    pub topics: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The name of the source, step or sink; nodes that one step makes besides are `STEP-repartition-sink` and so on.
    pub name: String,
    pub kind: NodeKind,
    /// Where its rows come from. Empty exactly for sources. Input port i of the node takes the edges with `to_port` i.
    pub inputs: Vec<Edge>,
    /// What happens with a record that fails here, in a module or in a native operator.
    #[serde(default)]
    pub on_error: OnError,
}

/// From an output port of one node to an input port of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub from: NodeId,
    pub from_port: u32,
    pub to_port: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    Source(Source),
    /// A processor of a module: any number of ports and stores.
    Module(ModuleStep),
    /// First match wins; output port i is branch i, the last port the default branch when there is one.
    Branch(Branch),
    /// All inputs to the one output.
    Merge,
    /// New key; null keys are dropped and counted when a repartition follows.
    SelectKey(Selector),
    /// Writes to an internal topic; the matching `Source` reads it in another sub-topology.
    Repartition(Repartition),
    Aggregate(Aggregate),
    /// Upserts into a store, so that a table can be queried; forwards the row.
    ToTable {
        store: StoreId,
    },
    Sink(Sink),
    WindowAggregate(WindowAggregate),
    /// Input port 0 is the left side, 1 the right one.
    StreamJoin(Box<StreamJoin>),
    /// Holds updates of a table back.
    Suppress(Suppress),
    /// A stream with a table, or two tables.
    TableJoin(TableJoin),
    /// Rows of a table under the key of their group, each with what it takes out and what it adds.
    GroupTable(Selector),
    /// Of the rows of a `GroupTable`: a count or a sum.
    TableAggregate(Aggregate),
    Dedup(Dedup),
    TtlTable(TtlTable),
    VersionedTable(VersionedTable),
    /// Port 0 gives subscriptions, port 1 results that need no other table.
    ForeignSubscribe(ForeignJoin),
    ForeignLookup(ForeignLookup),
    ForeignResolve(ForeignResolve),
    Filter(Filter),
    Map(Map),
    /// To one of several sinks.
    Route(Route),
    Cogroup(Cogroup),
    GlobalJoin(Box<GlobalJoin>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    #[default]
    Stream,
    Table,
    /// Reads a repartition topic of this pipeline.
    Repartition,
}

/// Where to begin when the group has no offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    /// Milliseconds since 1970 UTC.
    Time(i64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub topics: Vec<String>,
    pub kind: SourceKind,
    pub key: Format,
    pub value: Format,
    pub start: Start,
    pub create: Option<CreateTopic>,
    #[serde(default)]
    pub timestamps: Timestamps,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateTopic {
    pub partitions: i32,
    /// `delete`, `compact` or `compact,delete`.
    pub cleanup: Option<String>,
    /// Kafka topic settings as they stand in the file.
    pub settings: IndexMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sink {
    pub topic: String,
    pub key: Format,
    pub value: Format,
    pub create: Option<CreateTopic>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repartition {
    pub topic: String,
    pub key: Format,
    pub value: Format,
    /// `None`: as many as the widest source above it.
    pub partitions: Option<i32>,
}

/// Which module a step runs: an exact version, known by its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleStep {
    pub module: String,
    pub version: String,
    /// Hex sha-256 of the component's bytes.
    pub digest: String,
    /// Ports in the order of the module's description.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// Stores in the order of the module's description.
    pub stores: Vec<StoreId>,
    /// Checked settings, name and JSON value, in the order of the module's parameters.
    pub params: IndexMap<String, serde_json::Value>,
    /// Whether a port asks for headers, origin, stream times.
    pub needs_headers: bool,
    pub needs_origin: bool,
    pub needs_stream_times: bool,
    pub retries: Retries,
    pub limits: Limits,
    /// What the module may use beyond its world; nothing in a topology of before there were grants.
    #[serde(default)]
    pub grants: Box<Grants>,
    /// Of a node of an application: what it calls. `None`: the module is a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure: Option<Box<Closure>>,
}

impl ModuleStep {
    /// A swap exchanges processors only: the nodes of an application change together.
    pub fn is_swappable(&self) -> bool {
        self.closure.is_none()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    #[default]
    Stop,
    Skip,
    DeadLetter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    pub max: u32,
    pub backoff_ms_min: u64,
    pub backoff_ms_max: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max: 10,
            backoff_ms_min: 200,
            backoff_ms_max: 10_000,
        }
    }
}

/// What a guest may use. The defaults fit guests in every language (JavaScript and Python need some tens of MiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub memory_bytes: u64,
    /// For one call, whatever the size of the batch.
    pub call_ms: u64,
    pub result_bytes: u64,
    pub log_lines_per_second: u32,
    /// For all requests of one call together, beside `call_ms`.
    #[serde(default = "http_ms")]
    pub http_ms: u64,
    /// An instance that holds more than this after a run is replaced before the next one: guests whose language never
    /// gives memory back, or leaks it, then never meet `memory_bytes`. `None`: half of `memory_bytes`.
    #[serde(default)]
    pub recycle_bytes: Option<u64>,
}

/// With `call_ms` below the time after which Kafka ends an open transaction (10 s by the node's default).
fn http_ms() -> u64 {
    4_000
}

impl Limits {
    /// The mark past which an instance is replaced.
    pub fn recycle_mark(&self) -> u64 {
        self.recycle_bytes.unwrap_or(self.memory_bytes / 2)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            call_ms: 5_000,
            result_bytes: 64 << 20,
            log_lines_per_second: 100,
            http_ms: http_ms(),
            recycle_bytes: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetters {
    pub topic: String,
    #[serde(default)]
    pub create: Option<CreateTopic>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    pub branches: Vec<(String, Predicate)>,
    /// Name of the default branch; without one, what matches nothing is dropped.
    pub default: Option<String>,
}

/// A condition on one row, without a module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Predicate {
    Equals {
        of: Selector,
        value: serde_json::Value,
    },
    StartsWith {
        of: Selector,
        prefix: String,
    },
    /// The key, value or field is there and not null.
    Exists {
        of: Selector,
    },
    Where(Expression),
}

/// A part of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    Key,
    Value,
    /// A field of a JSON value.
    Field(FieldPath),
}

/// `a.b.c` in a JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldPath(pub Vec<String>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AggregateFunction {
    Count,
    Sum,
    Min,
    Max,
    First,
    Last,
}

/// What goes downstream of a table: each change, or the last one of each key per commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Emit {
    #[default]
    EveryUpdate,
    OnCommit,
}

/// A native reduction per key into a timestamped store: value = 8 bytes event time big-endian, then the aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    pub function: AggregateFunction,
    /// What is summed, compared or kept; meaningless for `Count`.
    pub of: Selector,
    /// Format of what `of` selects.
    pub of_format: Format,
    /// Format of the aggregate: `I64` or `F64` for numbers, that of the value for `First` and `Last`.
    pub result: Format,
    pub store: StoreId,
    pub emit: Emit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    KeyValue,
    /// A value carries its event time.
    Timestamped,
    /// Timestamped, by window and key: in the order of the windows' starts.
    Window,
    /// Timestamped, by key and window, in segments of the windows' starts: a key's windows lie together.
    KeyedWindow {
        segment_ms: i64,
    },
    /// Timestamped, by key and session, in segments of the sessions' ends.
    Session {
        segment_ms: i64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// Full name: `STEP` or `STEP-STORE`.
    pub name: String,
    pub kind: StoreKind,
    pub schema: u32,
    pub key: Format,
    pub value: Format,
    /// `<pipeline>-<store>-changelog`.
    pub changelog: String,
    /// The table's emission, for the flush at commit; `EveryUpdate` for stores of modules.
    pub emit: Emit,
}
