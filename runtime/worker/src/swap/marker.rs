//! How far a task is in a swap, as a row of its internal store: it goes with the transaction of the step that it names.

use super::terms::Written;
use record::TopicPartition;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub swap: Uuid,
    #[serde(flatten)]
    pub at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "kebab-case")]
pub(crate) enum At {
    /// The task's first transaction under `to` is the one that brought this row.
    Switched {
        /// Topic, partition and end of what the task writes to, before the switch: a task that restarts must still be
        /// able to name what `to` has written.
        #[serde(default)]
        ends: Vec<(String, i32, i64)>,
    },
    /// The task has gone back to `from`.
    Back {
        /// What `to` had written. The report says it too, and a task that restarts may not see its own report: the
        /// transaction of another thread, open before it on the topic, hides it.
        written: Vec<Written>,
    },
}

impl Marker {
    pub(crate) fn switched(swap: Uuid, ends: &BTreeMap<TopicPartition, i64>) -> Self {
        let end = |(p, end): (&TopicPartition, &i64)| (p.topic.to_string(), p.partition, *end);
        let ends = ends.iter().map(end).collect();
        Self {
            swap,
            at: At::Switched { ends },
        }
    }

    pub(crate) fn back(swap: Uuid, written: Vec<Written>) -> Self {
        Self {
            swap,
            at: At::Back { written },
        }
    }

    /// The ends that a switch by this swap has noted; `None`: the task has not switched, or has gone back.
    pub(crate) fn switched_by(self, swap: Uuid) -> Option<BTreeMap<TopicPartition, i64>> {
        let At::Switched { ends } = self.at else {
            return None;
        };
        let ends = ends
            .into_iter()
            .map(|(t, p, end)| (TopicPartition::new(t.as_str(), p), end));
        (self.swap == swap).then(|| ends.collect())
    }

    /// What this swap's `to` had written when the task went back from it.
    pub(crate) fn back_from(self, swap: Uuid) -> Vec<Written> {
        match self.at {
            At::Back { written } if self.swap == swap => written,
            _ => Vec::new(),
        }
    }

    /// Compact JSON.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // String keys and no floats: writing it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` for what another version of this program wrote: it says nothing, like none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
