//! Partition counts: how many tasks each sub-topology has, and which topics are to be created.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use indexmap::IndexMap;
use serde::Serialize;

use crate::{CreateTopic, NodeId, NodeKind, Problem, Topology};

/// 7 days: how long a tombstone stays in a changelog. A task directory that was last caught up longer ago than half of
/// it is restored in full.
const CHANGELOG_DELETE_RETENTION_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// Kafka Streams' size: repartition topics are purged by segment, so segments are small.
const REPARTITION_SEGMENT_BYTES: i64 = 50 << 20;

/// What follows from the partition counts of the user's topics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionPlan {
    /// Tasks of each sub-topology: its widest topic's count.
    pub tasks: Vec<i32>,
    /// Every topic that the pipeline reads or writes, with the count it has or is to get.
    pub counts: IndexMap<String, i32>,
    /// Repartition topics and changelogs, to be created or verified.
    pub internal: Vec<InternalTopic>,
    /// User topics that are not there and whose file says `create`.
    pub create: Vec<UserTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InternalTopic {
    pub name: String,
    pub partitions: i32,
    /// Kafka's `cleanup.policy`: `compact` for a changelog, `delete` for a repartition topic.
    pub cleanup: &'static str,
    /// Kafka's topic settings, besides `cleanup.policy`.
    pub settings: BTreeMap<String, String>,
}

/// A topic that a source or sink names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserTopic {
    pub name: String,
    /// The source or sink.
    pub node: String,
    pub create: Option<CreateTopic>,
}

impl Topology {
    /// Topics of sources, of global tables, then of sinks, then the dead letters; each once, `create` from whichever node has it.
    pub fn user_topics(&self) -> Vec<UserTopic> {
        let internal = self.repartition_topics();
        let mut topics: IndexMap<&str, UserTopic> = IndexMap::new();
        let mut add = |topic, node: &str, create: Option<&CreateTopic>| {
            let name = String::clone(topic);
            let entry = topics.entry(topic).or_insert_with(|| UserTopic {
                name,
                node: node.to_string(),
                create: None,
            });
            entry.create = entry.create.take().or_else(|| create.cloned());
        };
        for node in &self.nodes {
            if let NodeKind::Source(source) = &node.kind {
                for topic in source
                    .topics
                    .iter()
                    .filter(|topic| !internal.contains_key(topic.as_str()))
                {
                    add(topic, &node.name, source.create.as_ref());
                }
            }
        }
        for table in &self.globals {
            add(&table.topic, &table.name, table.create.as_ref());
        }
        for node in &self.nodes {
            if let NodeKind::Sink(sink) = &node.kind {
                add(&sink.topic, &node.name, sink.create.as_ref());
            }
        }
        if let Some(letters) = &self.dead_letters {
            add(&letters.topic, "dead-letters", letters.create.as_ref());
        }
        topics.into_values().collect()
    }

    /// `of` gives the count of a topic that is there, `None` of one that is not.
    ///
    /// # Errors
    /// Topics that are not there and have no `create`; sources that meet in a step with state and have different
    /// counts.
    pub fn partition_counts(&self, of: &dyn Fn(&str) -> Option<i32>) -> Result<PartitionPlan, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut counts = IndexMap::new();
        let mut create = Vec::new();
        for topic in self.user_topics() {
            match (of(&topic.name), &topic.create) {
                (Some(count), _) => {
                    counts.insert(topic.name.clone(), count);
                }
                (None, Some(wish)) => {
                    counts.insert(topic.name.clone(), wish.partitions);
                    create.push(topic);
                }
                (None, None) => {
                    let message = format!(
                        "topic `{}` is not there; hint: create it, or say `create = {{ partitions = N }}`",
                        topic.name
                    );
                    problems.push(Problem {
                        node: topic.node,
                        message,
                    });
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let groups = self.copartitioned();
        self.count_repartition_topics(&groups, &mut counts);
        for (node, topics) in &groups {
            problems.extend(self.unequal(*node, topics, &counts));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let widest = |topics: &[String]| topics.iter().filter_map(|t| counts.get(t)).max().copied().unwrap_or(0);
        let tasks: Vec<i32> = self.sub_topologies.iter().map(|sub| widest(&sub.topics)).collect();
        let internal = self.internal_topics(&tasks, &counts);
        Ok(PartitionPlan {
            tasks,
            counts,
            internal,
            create,
        })
    }

    fn repartition_topics(&self) -> IndexMap<&str, NodeId> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(id, node)| match &node.kind {
                NodeKind::Repartition(repartition) => Some((repartition.topic.as_str(), id)),
                _ => None,
            })
            .collect()
    }

    /// Topics whose rows reach a node without leaving the sub-topology.
    fn topics_above(&self, node: NodeId) -> BTreeSet<String> {
        let mut seen = HashSet::from([node]);
        let mut open = vec![node];
        let mut topics = BTreeSet::new();
        while let Some(at) = open.pop().and_then(|id| self.nodes.get(id)) {
            if let NodeKind::Source(source) = &at.kind {
                topics.extend(source.topics.iter().cloned());
            }
            open.extend(at.inputs.iter().map(|edge| edge.from).filter(|from| seen.insert(*from)));
        }
        topics
    }

    /// Nodes that keep state by key need a key's rows in one task, from whichever topic they come.
    fn copartitioned(&self) -> Vec<(NodeId, BTreeSet<String>)> {
        let stateful = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.kind.works_by_key());
        stateful
            .map(|(id, _)| (id, self.topics_above(id)))
            .filter(|(_, topics)| topics.len() > 1)
            .collect()
    }

    /// A repartition topic has the count that the file says, else that of the user topics it must agree with, else that
    /// of the widest topic above it. Counts only grow, and each round settles one topic at least.
    fn count_repartition_topics(&self, groups: &[(NodeId, BTreeSet<String>)], counts: &mut IndexMap<String, i32>) {
        let writers = self.repartition_topics();
        let fixed: HashSet<String> = counts.keys().cloned().collect();
        for _ in 0..=writers.len() {
            for (topic, writer) in &writers {
                let count = match self.nodes.get(*writer).map(|node| &node.kind) {
                    Some(NodeKind::Repartition(r)) if r.partitions.is_some() => r.partitions.unwrap_or(1),
                    _ => {
                        let with: BTreeSet<&String> = groups
                            .iter()
                            .filter(|(_, topics)| topics.contains(*topic))
                            .flat_map(|g| &g.1)
                            .collect();
                        let said = with
                            .iter()
                            .filter(|t| fixed.contains(**t))
                            .filter_map(|t| counts.get(*t))
                            .max();
                        let above = self.topics_above(*writer);
                        let grown = with.iter().copied().chain(&above).filter_map(|t| counts.get(t)).max();
                        said.or(grown).copied().unwrap_or(1)
                    }
                };
                counts.insert((*topic).to_string(), count);
            }
        }
    }

    fn unequal(&self, node: NodeId, topics: &BTreeSet<String>, counts: &IndexMap<String, i32>) -> Option<Problem> {
        let different: BTreeSet<i32> = topics.iter().filter_map(|topic| counts.get(topic)).copied().collect();
        if different.len() < 2 {
            return None;
        }
        let list: Vec<String> = topics
            .iter()
            .filter_map(|t| counts.get(t).map(|count| format!("`{t}` has {count}")))
            .collect();
        let message = format!(
            "keeps state by key and reads several topics, which need the same number of partitions: {}; \
             hint: group one by key first (`op = \"group-by\"`), which makes a repartition topic that fits",
            list.join(", ")
        );
        Some(Problem {
            node: self.nodes.get(node)?.name.clone(),
            message,
        })
    }

    fn internal_topics(&self, tasks: &[i32], counts: &IndexMap<String, i32>) -> Vec<InternalTopic> {
        let mut topics = Vec::new();
        for topic in self.repartition_topics().into_keys() {
            topics.push(InternalTopic {
                name: topic.to_string(),
                partitions: counts.get(topic).copied().unwrap_or(1),
                cleanup: "delete",
                settings: settings(&[
                    ("retention.ms", "-1".to_string()),
                    ("segment.bytes", REPARTITION_SEGMENT_BYTES.to_string()),
                ]),
            });
        }
        for (sub, partitions) in self.sub_topologies.iter().zip(tasks) {
            for store in sub.stores.iter().filter_map(|id| self.stores.get(*id)) {
                topics.push(InternalTopic {
                    name: store.changelog.clone(),
                    partitions: *partitions,
                    cleanup: "compact",
                    settings: settings(&[("delete.retention.ms", CHANGELOG_DELETE_RETENTION_MS.to_string())]),
                });
            }
        }
        topics
    }
}

/// Event times are ours: the broker must neither replace them nor refuse one that lies ahead, which would make the
/// transaction abort-only at every replay.
fn settings(own: &[(&str, String)]) -> BTreeMap<String, String> {
    let all = [
        ("message.timestamp.type", "CreateTime".to_string()),
        ("message.timestamp.after.max.ms", i64::MAX.to_string()),
    ];
    all.iter()
        .chain(own)
        .map(|(name, value)| ((*name).to_string(), value.clone()))
        .collect()
}
