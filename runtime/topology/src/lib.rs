//! The logical graph of a pipeline: named nodes, their edges, stores and topics, cut into sub-topologies.
//!
//! `pipeline` makes it from a file, `task` runs one sub-topology of it for one partition, `server` creates its topics.
//! Nothing here does I/O. Names are stable and explicit: a store or an internal topic is never named by a counter.

mod closure;
mod cogroup;
mod compatibility;
mod describe;
pub mod description;
mod expression;
mod foreign;
mod global;
pub mod grants;
mod graph;
mod names;
mod origin;
mod partitions;
mod ports;
mod projection;
mod stream_join;
mod suppress;
mod table;
mod timestamps;
mod validate;
mod window;

#[cfg(test)]
mod tests;

pub use closure::{Closure, ClosureForm};
pub use cogroup::Cogroup;
pub use compatibility::{Change, compatibility};
pub use expression::{Expression, Filter, Map, Route, Shape};
pub use foreign::{ForeignJoin, ForeignLookup, ForeignResolve};
pub use global::{GlobalId, GlobalJoin, GlobalKey, GlobalTable};
pub use grants::{Grants, HeaderPart, HttpGrant};
pub use graph::{
    Aggregate, AggregateFunction, Branch, CreateTopic, DeadLetters, Edge, Emit, FieldPath, Format, Guarantee, Limits,
    ModuleStep, Node, NodeKind, OnError, Predicate, Repartition, Retries, Selector, Sink, Source, SourceKind, Start,
    Store, StoreKind, SubTopology, Topology,
};
pub use names::{
    NAME_BYTES_MAX, changelog_topic, is_internal_topic, name_problem, repartition_topic, times_store, topic_problem,
};
pub use origin::{Host, Origin};
pub use partitions::{InternalTopic, PartitionPlan, UserTopic};
pub use projection::{JoinKind, Projection, Side};
pub use stream_join::StreamJoin;
pub use suppress::{Suppress, SuppressedWindow, Until, WhenFull};
pub use table::{Dedup, JoinGrace, TableJoin, TtlTable, VersionedTable};
pub use timestamps::{InvalidTime, TimeForm, TimeOf, Timestamps};
pub use validate::{COMMIT_METADATA_BYTES_MAX, Error, Problem};
pub use window::{WindowAggregate, WindowKind, Windowing, Windows};

/// Index of a node in [`Topology::nodes`].
pub type NodeId = usize;
/// Index of a store in [`Topology::stores`].
pub type StoreId = usize;
