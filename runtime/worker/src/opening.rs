//! What tasks that open together ask of the broker, in four questions for all instead of several for each.
//!
//! The order of the questions is that of a restore (design §8): ends of changelogs after the committed offsets. An
//! answer is good for the round in which it was given; what is not here is asked again by the task that needs it, so
//! that one whose offsets are unstable holds up nobody else.

use crate::worker::Worker;
use broker::{CommittedOffset, Isolation, OffsetAt, TopicDescription};
use record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};

/// Answers for all tasks of one round.
#[derive(Default)]
pub(crate) struct Asked {
    committed: BTreeMap<TopicPartition, Option<CommittedOffset>>,
    earliest: BTreeMap<TopicPartition, i64>,
    /// Read-uncommitted ends.
    ends: BTreeMap<TopicPartition, i64>,
    topics: BTreeMap<String, Option<TopicDescription>>,
}

impl Worker {
    /// Nothing at all where a question fails: each task then asks, and fails, for itself.
    pub(crate) fn ask_for(&mut self, sources: &[TopicPartition], changelogs: &[TopicPartition]) -> Asked {
        self.try_ask(sources, changelogs).unwrap_or_else(|error| {
            tracing::debug!(thread = %self.options.thread, %error, "tasks that open ask one by one");
            Asked::default()
        })
    }

    fn try_ask(&mut self, sources: &[TopicPartition], changelogs: &[TopicPartition]) -> Result<Asked, broker::Error> {
        let group = self.options.pipeline.clone();
        let committed = self.admin()?.committed(&group, sources)?;
        let committed = sources.iter().cloned().zip(committed).collect();
        if changelogs.is_empty() {
            return Ok(Asked {
                committed,
                ..Asked::default()
            });
        }
        let names: BTreeSet<String> = changelogs.iter().map(|c| c.topic.to_string()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let end = OffsetAt::End(Isolation::ReadUncommitted);
        let ends = self.admin()?.offsets(changelogs, end)?;
        let earliest = self.admin()?.offsets(changelogs, OffsetAt::Earliest)?;
        let topics = self.admin()?.describe(&names)?;
        let of = |offsets: Vec<i64>| changelogs.iter().cloned().zip(offsets).collect();
        Ok(Asked {
            committed,
            earliest: of(earliest),
            ends: of(ends),
            topics: names.into_iter().zip(topics).collect(),
        })
    }

    pub(crate) fn committed_of(
        &mut self,
        asked: &Asked,
        sources: &[TopicPartition],
    ) -> Result<Vec<Option<CommittedOffset>>, broker::Error> {
        let group = self.options.pipeline.clone();
        let known = sources.iter().map(|s| asked.committed.get(s).cloned()).collect();
        match known {
            Some(committed) => Ok(committed),
            None => self.admin()?.committed(&group, sources),
        }
    }

    pub(crate) fn earliest_of(
        &mut self,
        asked: &Asked,
        changelogs: &[TopicPartition],
    ) -> Result<Vec<i64>, broker::Error> {
        let known = changelogs.iter().map(|c| asked.earliest.get(c).copied()).collect();
        match known {
            Some(offsets) => Ok(offsets),
            None => self.admin()?.offsets(changelogs, OffsetAt::Earliest),
        }
    }

    /// Where the changelogs end, whoever wrote and whether it is committed or not.
    pub(crate) fn ends_of(&mut self, asked: &Asked, changelogs: &[TopicPartition]) -> Result<Vec<i64>, broker::Error> {
        let known = changelogs.iter().map(|c| asked.ends.get(c).copied()).collect();
        match known {
            Some(offsets) => Ok(offsets),
            None => self
                .admin()?
                .offsets(changelogs, OffsetAt::End(Isolation::ReadUncommitted)),
        }
    }

    pub(crate) fn descriptions_of(
        &mut self,
        asked: &Asked,
        topics: &[String],
    ) -> Result<Vec<Option<TopicDescription>>, broker::Error> {
        let known = topics.iter().map(|t| asked.topics.get(t).cloned()).collect();
        match known {
            Some(descriptions) => Ok(descriptions),
            None => self.admin()?.describe(topics),
        }
    }
}
