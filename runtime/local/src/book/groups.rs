//! A group: committed offsets, and the members of this process in the order of their joining.

use broker::{CommittedOffset, Error, ErrorKind, GroupMetadata};
use record::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kafka's `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub offsets: BTreeMap<TopicPartition, (i64, String)>,
    pub members: Vec<MemberEntry>,
    /// Raised by every join and leave.
    pub generation: i32,
}

#[derive(Debug)]
pub(crate) struct MemberEntry {
    pub node: String,
    pub member_id: String,
    pub token_topic: Arc<str>,
}

impl Group {
    pub fn has(&self, member_id: &str) -> bool {
        self.members.iter().any(|m| m.member_id == member_id)
    }

    /// The member that has been there longest of those that want this token.
    pub fn leader(&self, token_topic: &str) -> Option<&str> {
        self.members
            .iter()
            .find(|m| *m.token_topic == *token_topic)
            .map(|m| m.member_id.as_str())
    }

    pub fn remove(&mut self, member_id: &str) {
        let before = self.members.len();
        self.members.retain(|m| m.member_id != member_id);
        if self.members.len() != before {
            self.generation += 1;
        }
    }

    /// Whether these are the metadata of a member of now.
    pub fn check_metadata(&self, shown: &GroupMetadata, doing: &str) -> Result<(), Error> {
        let cause = if !self.has(&shown.member_id) {
            format!("`{}` is no member of `{}`", shown.member_id, shown.group)
        } else if shown.generation != self.generation {
            format!(
                "generation {} of `{}` is not {}",
                shown.generation, shown.group, self.generation
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::AbortTransaction, doing, cause))
    }

    pub fn take(&mut self, offsets: &[CommittedOffset]) {
        for o in offsets {
            self.offsets.insert(o.partition.clone(), (o.offset, o.metadata.clone()));
        }
    }
}

/// Refuses positions that Kafka would refuse.
pub(crate) fn check_offsets(offsets: &[CommittedOffset], doing: &str) -> Result<(), Error> {
    for o in offsets {
        let cause = if o.offset < 0 {
            format!("offset {} of {} is negative", o.offset, o.partition)
        } else if o.metadata.len() > METADATA_BYTES_MAX {
            format!(
                "metadata of {} has {} bytes, at most {METADATA_BYTES_MAX}",
                o.partition,
                o.metadata.len()
            )
        } else {
            continue;
        };
        return Err(Error::new(ErrorKind::Refused, doing, cause));
    }
    Ok(())
}
