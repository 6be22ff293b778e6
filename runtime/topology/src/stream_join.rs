//! Joins of two streams within a span of time.

use serde::{Deserialize, Serialize};

use crate::{Format, JoinKind, Projection, StoreId, StoreKind};

/// Two rows of a key meet where the right one is at most `before_ms` older and `after_ms` newer than the left one. All
/// times are milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamJoin {
    pub kind: JoinKind,
    pub before_ms: i64,
    pub after_ms: i64,
    /// How long after the end of its window a row still waits for a match.
    pub grace_ms: i64,
    /// Rows of each side.
    pub left: StoreId,
    pub right: StoreId,
    /// Rows that wait for a match, of joins that send rows without one.
    pub waiting: Option<StoreId>,
    pub value: Projection,
    pub key: Format,
    pub left_value: Format,
    pub right_value: Format,
}

impl StreamJoin {
    /// How long rows are kept, as in Kafka Streams.
    pub fn retention_ms(&self) -> i64 {
        self.before_ms + self.after_ms + self.grace_ms
    }

    pub fn store_kind(&self) -> StoreKind {
        StoreKind::KeyedWindow {
            segment_ms: (self.retention_ms() / 2).max(crate::window::SEGMENT_MS_MIN),
        }
    }

    pub fn stores(&self) -> Vec<StoreId> {
        [self.left, self.right].into_iter().chain(self.waiting).collect()
    }

    /// For people.
    pub fn describe(&self) -> String {
        format!(
            "{} join, {} ms before to {} ms after, grace {} ms",
            self.kind.word(),
            self.before_ms,
            self.after_ms,
            self.grace_ms
        )
    }
}
