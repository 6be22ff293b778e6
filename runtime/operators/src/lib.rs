//! Native operators: selecting keys, branching, filters and maps by expressions, reducing per key, tables. Each takes a batch and gives columns.
//!
//! They are pure over [`state::Stores`]: no topics, no time but that of the rows, no order but that of the rows.
//! Who calls them, when, and what happens with a row that fails is the task's.

mod aggregate;
mod branch;
mod condition;
mod map;
mod select;
mod select_key;
mod table;

pub use aggregate::Aggregator;
pub use branch::Branching;
pub use condition::{Filtering, Routing};
pub use map::Mapping;
pub use select_key::KeySelector;
pub use table::{Table, changed_rows};

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
