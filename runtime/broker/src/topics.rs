//! Topics as they are described and asked for.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    Delete,
    Compact,
    CompactDelete,
}

impl Cleanup {
    /// Kafka's `cleanup.policy`.
    pub fn as_policy(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactDelete => "compact,delete",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: String,
    /// Differs from that of a topic of the same name that was deleted before.
    pub id: String,
    pub partitions: i32,
    pub cleanup: Cleanup,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub cleanup: Cleanup,
    /// Kafka topic settings (`retention.ms`, `delete.retention.ms`, `segment.bytes`, …); a broker that has no use for
    /// one ignores it.
    pub settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateOutcome {
    Created,
    /// It was there; here is how it is.
    Exists(TopicDescription),
}
