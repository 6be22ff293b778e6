//! `pipeline reset`: other positions for a pipeline that is there, with its state or without. The tool of Kafka Streams
//! that does this wants every instance stopped by hand; here the record stops them, and starts them again.
//!
//! The record says `draining` until all is done. A node that ends in between leaves it so, and a second reset, with the
//! same words or others, goes through all of it again.

use super::Node;
use super::apply::internal_topics;
use super::teardown::AGAIN;
use crate::api::ResetRequest;
use crate::refusal::Refusal;
use crate::registry::{Entry, PipelineEntry};
use broker::{Admin, CommittedOffset, CreateOutcome, Isolation, NewTopic, OffsetAt};
use record::TopicPartition;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use topology::{NodeKind, PartitionPlan, SourceKind, Start};
use uuid::Uuid;
use worker::control::{self, PipelineRecord, State};

/// A broker takes some time to forget a deleted topic.
const TOPICS_WAIT: Duration = Duration::from_secs(30);

impl Node {
    /// Stops the pipeline on every node, gives its sources other positions, and lets it go on as it was, running or
    /// paused. Without `keep-state` its stores and internal topics are emptied.
    pub fn reset(self: &Arc<Self>, name: &str, request: &ResetRequest) -> Result<(), Refusal> {
        let entry = self.entry(name)?;
        if entry.record.swap.is_some() {
            return Err(Refusal::conflict(format!(
                "a swap of `{name}` is under way\nhint: `wasmill promote {name}` or `wasmill rollback {name}` ends it"
            )));
        }
        let after = match entry.record.state {
            State::Deleted => return Err(Refusal::conflict(format!("`{name}` is being deleted"))),
            State::Paused => State::Paused,
            State::Running | State::Draining => State::Running,
        };
        let counts = self.counts(&entry.details.topology)?;
        let partitions = entry
            .details
            .topology
            .partition_counts(&|topic| counts.get(topic).copied());
        let partitions = partitions.map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Refusal::conflict(lines.join("\n"))
        })?;
        if request.keep_state && partitions.tasks != entry.details.tasks {
            return Err(Refusal::conflict(format!(
                "topics that `{name}` reads have other numbers of partitions now, and its keys lie by the old ones\n\
                 hint: reset it without --keep-state"
            )));
        }
        let positions = self.wanted_positions(&entry, &partitions, request)?;
        self.set_state(name, State::Draining)?;
        self.reconcile();
        self.fence_all(&entry)?;
        if request.keep_state {
            self.move_positions(name, positions)?;
        } else {
            self.begin_anew(&entry, &partitions, &positions)?;
        }
        let mut details = entry.details.clone();
        details.tasks = partitions.tasks.clone();
        details.partitions = partitions.counts.into_iter().collect();
        let incarnation = match request.keep_state {
            true => entry.record.incarnation,
            false => Uuid::new_v4(),
        };
        self.registry().write(|view| {
            let now = view.pipelines.get(name).map(|entry| &entry.record);
            let now = now.filter(|record| record.state == State::Draining && record.run() == entry.record.run());
            let now = now.ok_or_else(|| format!("`{name}` was changed by somebody else meanwhile; look at it"))?;
            let mut record = PipelineRecord {
                incarnation,
                state: after,
                ..now.clone()
            };
            details.put_into(&mut record).map_err(|refusal| refusal.message)?;
            Ok(vec![(control::key(name), Some(Entry::Pipeline(record)))])
        })?;
        self.reconcile();
        Ok(())
    }

    /// Where each partition of the user's topics is to be read from; those that stay where they are are left out.
    fn wanted_positions(
        &self,
        entry: &PipelineEntry,
        partitions: &PartitionPlan,
        request: &ResetRequest,
    ) -> Result<Vec<(TopicPartition, i64)>, Refusal> {
        let mut admin = self.broker.admin()?;
        let mut wanted = Vec::new();
        let mut named: BTreeSet<(&str, i32)> = BTreeSet::new();
        for node in &entry.details.topology.nodes {
            let NodeKind::Source(source) = &node.kind else { continue };
            if source.kind == SourceKind::Repartition {
                continue;
            }
            let to = start(request, source.start)?;
            for topic in &source.topics {
                let count = partitions.counts.get(topic).copied().unwrap_or(0);
                let all: Vec<_> = (0..count).map(|p| TopicPartition::new(topic.as_str(), p)).collect();
                let offsets = to.map(|to| admin.offsets(&all, at(to))).transpose()?;
                let bounds = [OffsetAt::Earliest, OffsetAt::End(Isolation::ReadCommitted)];
                let [first, end] = bounds.map(|bound| admin.offsets(&all, bound));
                for (place, (partition, (first, end))) in all.into_iter().zip(first?.into_iter().zip(end?)).enumerate()
                {
                    let asked = request.offsets.get(topic).and_then(|of| of.get(&partition.partition));
                    if let Some(asked) = asked
                        && !(first..=end).contains(asked)
                    {
                        return Err(invalid(format!(
                            "offset {asked} of `{partition}` is not in the log, which has {first} to {end}"
                        )));
                    }
                    named.extend(asked.map(|_| (topic.as_str(), partition.partition)));
                    let offset = asked.copied().or_else(|| offsets.as_ref()?.get(place).copied());
                    wanted.extend(offset.map(|offset| (partition, offset)));
                }
            }
        }
        let asked = request
            .offsets
            .iter()
            .flat_map(|(topic, of)| of.keys().map(move |p| (topic.as_str(), *p)));
        if let Some((topic, partition)) = asked.into_iter().find(|asked| !named.contains(asked)) {
            return Err(invalid(format!("no source reads partition {partition} of `{topic}`")));
        }
        Ok(wanted)
    }

    /// State and positions belong together through what was committed with them: it stays, and offsets change.
    fn move_positions(&self, group: &str, positions: Vec<(TopicPartition, i64)>) -> Result<(), Refusal> {
        let mut admin = self.broker.admin()?;
        let partitions: Vec<TopicPartition> = positions.iter().map(|(partition, _)| partition.clone()).collect();
        let committed = self.when_empty(|| admin.committed(group, &partitions))?;
        let moved: Vec<CommittedOffset> = positions
            .into_iter()
            .zip(committed)
            .map(|((partition, offset), committed)| CommittedOffset {
                partition,
                offset,
                metadata: committed.map(|committed| committed.metadata).unwrap_or_default(),
            })
            .collect();
        self.when_empty(|| admin.commit(group, &moved))
    }

    fn begin_anew(
        &self,
        entry: &PipelineEntry,
        partitions: &PartitionPlan,
        positions: &[(TopicPartition, i64)],
    ) -> Result<(), Refusal> {
        let topology = &entry.details.topology;
        let mut admin = self.broker.admin()?;
        empty(&mut *admin, &internal_topics(partitions)?)?;
        self.delete_group(&topology.name)?;
        let offsets = positions.iter().map(|(partition, offset)| CommittedOffset {
            partition: partition.clone(),
            offset: *offset,
            metadata: String::new(),
        });
        admin.commit(&topology.name, &offsets.collect::<Vec<_>>())?;
        // Of repartition topics, and of what stays where its file says.
        self.commit_start(topology, partitions)?;
        self.remove_state(&topology.name)
    }
}

/// Deletes these topics and makes them again.
fn empty(admin: &mut dyn Admin, topics: &[NewTopic]) -> Result<(), Refusal> {
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let deadline = Instant::now() + TOPICS_WAIT;
    admin.delete(&names)?;
    while admin.describe(&names)?.iter().any(Option::is_some) {
        if Instant::now() > deadline {
            return Err(Refusal::ours(format!(
                "the broker has not deleted {} in {TOPICS_WAIT:?}\nhint: try the reset again",
                names.join(", ")
            )));
        }
        std::thread::sleep(AGAIN);
    }
    for (topic, outcome) in topics.iter().zip(admin.create(topics)?) {
        if let CreateOutcome::Exists(_) = outcome {
            return Err(Refusal::conflict(format!(
                "topic `{}` was created by somebody else meanwhile\nhint: try the reset again",
                topic.name
            )));
        }
    }
    Ok(())
}

fn invalid(text: String) -> Refusal {
    Refusal::invalid("invalid-reset", text)
}

/// `None`: positions stay where they are.
fn start(request: &ResetRequest, of_file: Start) -> Result<Option<Start>, Refusal> {
    match request.to.as_deref() {
        None if request.keep_state && !request.offsets.is_empty() => Ok(None),
        None | Some("start") => Ok(Some(of_file)),
        Some(text) => pipeline::start(text).map(Some).ok_or_else(|| {
            invalid(format!(
                "`{text}` is no position\nhint: say start, earliest, latest, or a time with its offset like \
                 2026-01-31T12:00:00Z"
            ))
        }),
    }
}

/// Where the broker is asked for.
pub(super) fn at(start: Start) -> OffsetAt {
    match start {
        Start::Earliest => OffsetAt::Earliest,
        Start::Latest => OffsetAt::End(Isolation::ReadCommitted),
        Start::Time(time) => OffsetAt::Time(time),
    }
}
