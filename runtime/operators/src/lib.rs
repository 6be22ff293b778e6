//! Native operators: selecting keys, branching, filters and maps by expressions, reducing per key, tables. Each takes a batch and gives columns.
//!
//! They are pure over [`state::Stores`] and what a [`state::GlobalReader`] sees: no topics, no time but that of the rows, no order but that of the rows.
//! Who calls them, when, and what happens with a row that fails is the task's.

mod aggregate;
mod branch;
mod buffered_join;
pub mod change;
mod cogroup;
mod condition;
mod dedup;
mod extract;
mod fold;
mod foreign;
mod global_join;
mod group_table;
mod map;
mod numbers;
mod on_table;
mod projection;
mod select;
mod select_key;
mod stream_join;
mod suppress;
mod table;
mod table_aggregate;
mod table_join;
mod ttl;
mod versioned;
mod windows;

pub use aggregate::Aggregator;
pub use branch::Branching;
pub use buffered_join::BufferedJoiner;
pub use cogroup::Cogrouper;
pub use condition::{Filtering, Routing};
pub use dedup::Deduplicator;
pub use extract::Extractor;
pub use foreign::{Lookup, Resolver, Subscribed, Subscriber};
pub use global_join::GlobalJoiner;
pub use group_table::TableGrouper;
pub use map::Mapping;
pub use projection::Projector;
pub use select_key::KeySelector;
pub use stream_join::StreamJoiner;
pub use suppress::Suppressor;
pub use table::{Table, changed_rows};
pub use table_aggregate::TableAggregator;
pub use table_join::TableJoiner;
pub use ttl::ExpiringTable;
pub use versioned::{Taken, VersionedWriter};
pub use windows::{WindowAggregator, Windowed, layout, sweep, wire_keys};

use record::Batch;

/// What an operator made of a batch.
#[derive(Clone, Debug)]
pub struct Applied {
    pub rows: Batch,
    /// Input row of each row, increasing. `None`: row i comes from input row i, and there are as many.
    pub causes: Option<Vec<u32>>,
    /// Rows without the key or value that the operator needs, left out as Kafka Streams does.
    pub dropped: u64,
}

impl Applied {
    /// No rows yet: a table that emits on commit.
    pub(crate) fn nothing(dropped: u64) -> Self {
        Self {
            rows: Batch::empty(),
            causes: Some(Vec::new()),
            dropped,
        }
    }
}

/// Where in its work a row failed: what a dead letter calls `stage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The bytes are not what the format says.
    Deserialization,
    Processing,
}

impl Stage {
    /// As dead letters name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deserialization => "deserialization",
            Self::Processing => "processing",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first row that failed. What was written for rows before it is to be undone by the caller.
    #[error("row {row}: {reason}")]
    Row { row: u32, stage: Stage, reason: String },
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Batch(#[from] record::Error),
}
