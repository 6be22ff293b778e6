//! Whose state a task directory holds (design §8): the stamp in it, and what follows from it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What is written into a task directory beside the stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub incarnation: Uuid,
    /// Changelog topic to its id.
    pub topic_ids: BTreeMap<String, String>,
    /// Changelog topic to the schema version of its store.
    pub schemas: BTreeMap<String, u32>,
    /// Wall time in milliseconds at which the stores were last known to reflect all commits.
    pub caught_up_ms: i64,
}

/// What to do with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// No stamp: a new directory, or one that was being emptied.
    Unstamped,
    OtherIncarnation,
    /// A changelog was deleted and made again, or the set of stores is another one.
    OtherTopics,
    OtherSchemas,
    /// Tombstones may have been compacted away since.
    TooOld,
}

/// `expected` is the stamp as it would be written now (its time is now); `tombstones_ms` is the changelogs'
/// `delete.retention.ms`, half of which is trusted.
pub fn verdict(found: Option<&Stamp>, expected: &Stamp, tombstones_ms: i64) -> Verdict {
    let Some(found) = found else { return Verdict::Unstamped };
    if found.incarnation != expected.incarnation {
        Verdict::OtherIncarnation
    } else if found.topic_ids != expected.topic_ids {
        Verdict::OtherTopics
    } else if found.schemas != expected.schemas {
        Verdict::OtherSchemas
    } else if expected.caught_up_ms.saturating_sub(found.caught_up_ms) > tombstones_ms / 2 {
        Verdict::TooOld
    } else {
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(incarnation: u128, id: &str, schema: u32, caught_up_ms: i64) -> Stamp {
        Stamp {
            incarnation: Uuid::from_u128(incarnation),
            topic_ids: [("c".to_owned(), id.to_owned())].into(),
            schemas: [("c".to_owned(), schema)].into(),
            caught_up_ms,
        }
    }

    #[test]
    fn only_the_same_and_fresh_state_is_kept() {
        let now = stamp(1, "x", 1, 1_000);
        let of = |found: Option<Stamp>| verdict(found.as_ref(), &now, 200);
        assert_eq!(of(None), Verdict::Unstamped);
        assert_eq!(of(Some(stamp(2, "x", 1, 1_000))), Verdict::OtherIncarnation);
        assert_eq!(of(Some(stamp(1, "y", 1, 1_000))), Verdict::OtherTopics);
        assert_eq!(of(Some(stamp(1, "x", 2, 1_000))), Verdict::OtherSchemas);
        assert_eq!(of(Some(stamp(1, "x", 1, 899))), Verdict::TooOld);
        assert_eq!(of(Some(stamp(1, "x", 1, 900))), Verdict::Keep);
    }
}
