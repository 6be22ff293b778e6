//! Records in columns: what every other crate passes around.
//!
//! A [`Batch`] holds keys and values as Arrow binary columns (a null value is a tombstone), event times in
//! milliseconds since 1970 UTC, and headers where somebody asked for them. Slicing, filtering and taking rows share
//! the bytes. This crate knows no broker, no store and no guest; Java's partitioner is here because producers,
//! repartition topics and store queries must agree on it.

mod batch;
mod olds;
mod partition;

pub use batch::{Batch, BatchBuilder, Error, Headers, RowHeaders};
pub use olds::{Olds, OldsBuilder};
pub use partition::{murmur2, partition_of};

use std::fmt;
use std::sync::Arc;

/// One partition of a topic. Cloning it does not copy the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    /// Never negative; signed because Kafka's protocol is.
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Consecutive records of one partition as a broker hands them out.
///
/// `offsets` increase but may have gaps (transaction markers, compaction). `next` is the position after this batch:
/// at least the last offset + 1, more when control records follow.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub partition: TopicPartition,
    pub offsets: Vec<i64>,
    pub records: Batch,
    pub next: i64,
}
