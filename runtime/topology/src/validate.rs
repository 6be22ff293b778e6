//! Checks a graph, orders it and cuts it into sub-topologies.
//!
//! Partition counts are not known here: see [`crate::PartitionPlan`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::{
    Edge, Emit, Format, Node, NodeId, NodeKind, Store, StoreId, StoreKind, SubTopology, Topology, changelog_topic,
    name_problem, times_store, topic_problem,
};

/// Kafka's default bound (`offset.metadata.max.bytes`) on the string that is committed with an offset.
pub const COMMIT_METADATA_BYTES_MAX: usize = 4_096;
/// Version, incarnation (36), epoch, commit tag (thread id of node name and number, random value, counter), stream time.
const COMMIT_METADATA_FIXED_BYTES: usize = 256;
/// A store's number, its changelog target (19 digits) and two separators.
const COMMIT_METADATA_STORE_BYTES: usize = 24;

/// One thing that is wrong, with the node it is about, so that a file's diagnostics can point at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("`{node}`: {message}")]
pub struct Problem {
    pub node: String,
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
#[error("the topology has {} problems, the first: {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
pub struct Error(pub Vec<Problem>);

impl Topology {
    /// Checks the graph, puts its nodes in topological order (stable: among independent nodes, as they came), cuts it
    /// into sub-topologies and adds the internal store of each that keeps times: of modules, of windows. Validating twice changes nothing.
    ///
    /// # Errors
    /// All problems at once: names, edges, ports, formats, cycles, owners of stores, topics read twice, global tables,
    /// size of the commit metadata.
    pub fn validated(mut self) -> Result<Self, Error> {
        let mut problems = Vec::new();
        self.drop_internal_stores();
        self.check_names(&mut problems);
        self.check_edges(&mut problems);
        if problems.is_empty() {
            self.check_formats(&mut problems);
            self.check_topics(&mut problems);
            self.check_stores(&mut problems);
            self.check_globals(&mut problems);
            match order(&self.nodes) {
                Ok(order) => {
                    self.reorder(&order);
                    self.inherit_idle();
                }
                Err(stuck) => problems.push(self.cycle(&stuck)),
            }
        }
        if problems.is_empty() {
            self.cut();
            self.check_commit_metadata(&mut problems);
        }
        if problems.is_empty() {
            Ok(self)
        } else {
            Err(Error(problems))
        }
    }

    /// An upper bound for the metadata that a task of this sub-topology commits with its offsets, in bytes.
    pub fn commit_metadata_bytes_max(&self, sub_topology: &SubTopology) -> usize {
        COMMIT_METADATA_FIXED_BYTES + sub_topology.stores.len() * COMMIT_METADATA_STORE_BYTES
    }

    /// Internal stores are those that no node owns; `cut` adds them anew.
    fn drop_internal_stores(&mut self) {
        let internal: HashSet<StoreId> = self
            .sub_topologies
            .iter()
            .flat_map(|sub| &sub.stores)
            .copied()
            .filter(|s| self.store_owner(*s).is_none())
            .collect();
        // They are the last ones, so no index of a store that stays moves.
        let mut at = 0;
        self.stores.retain(|_| {
            at += 1;
            !internal.contains(&(at - 1))
        });
        self.sub_topologies.clear();
    }

    fn check_names(&self, problems: &mut Vec<Problem>) {
        let mut complain = |node: &str, message: String| {
            problems.push(Problem {
                node: node.to_string(),
                message,
            })
        };
        if let Some(message) = name_problem(&self.name) {
            complain(&self.name, message);
        }
        // A sink may be called like the step it writes: nothing refers to a sink.
        let (mut sinks, mut others) = (HashSet::new(), HashSet::new());
        for node in &self.nodes {
            // Generated nodes add a suffix to a step's name, which was checked by itself.
            if let Some(message) = name_problem(node.name.get(..crate::NAME_BYTES_MAX).unwrap_or(&node.name)) {
                complain(&node.name, message);
            }
            let names = if matches!(node.kind, NodeKind::Sink(_)) {
                &mut sinks
            } else {
                &mut others
            };
            if !names.insert(node.name.as_str()) {
                complain(&node.name, "two nodes have this name".to_string());
            }
        }
    }

    fn check_edges(&self, problems: &mut Vec<Problem>) {
        for node in &self.nodes {
            let mut complain = |message: String| {
                problems.push(Problem {
                    node: node.name.clone(),
                    message,
                })
            };
            for edge in &node.inputs {
                let Some(from) = self.nodes.get(edge.from) else {
                    complain(format!("an edge comes from node {}, which is not there", edge.from));
                    continue;
                };
                if edge.from_port as usize >= from.kind.output_ports() {
                    complain(format!("`{}` has no output port {}", from.name, edge.from_port));
                }
                if edge.to_port as usize >= node.kind.input_ports() {
                    complain(format!("there is no input port {}", edge.to_port));
                }
            }
            for port in 0..node.kind.input_ports() {
                if !node.inputs.iter().any(|edge| edge.to_port as usize == port) {
                    complain(format!("input port {port} is not bound"));
                }
            }
        }
    }

    fn check_formats(&self, problems: &mut Vec<Problem>) {
        for node in &self.nodes {
            let expected: Option<(Format, Format)> = match &node.kind {
                NodeKind::Sink(sink) => Some((sink.key, sink.value)),
                NodeKind::Repartition(repartition) => Some((repartition.key, repartition.value)),
                NodeKind::ToTable { store } => self.stores.get(*store).map(|s| (s.key, s.value)),
                NodeKind::Merge => node.inputs.first().and_then(|edge| self.output_formats(edge.from)),
                _ => None,
            };
            let Some((key, value)) = expected else { continue };
            for edge in &node.inputs {
                let Some((given_key, given_value)) = self.edge_formats(edge) else {
                    continue;
                };
                for (what, wants, given) in [("keys", key, given_key), ("values", value, given_value)] {
                    if !wants.accepts(given) {
                        let from = self.nodes.get(edge.from).map_or("", |from| &from.name);
                        let message = format!(
                            "takes {what} as `{}`, but `{from}` gives `{}`",
                            wants.word(),
                            given.word()
                        );
                        problems.push(Problem {
                            node: node.name.clone(),
                            message,
                        });
                    }
                }
            }
        }
    }

    /// A topic is read by one source only: its partitions have one task and one committed position.
    fn check_topics(&self, problems: &mut Vec<Problem>) {
        let mut readers: HashMap<&str, &str> = HashMap::new();
        let mut writers: HashMap<&str, &str> = HashMap::new();
        for node in &self.nodes {
            let mut complain = |message: String| {
                problems.push(Problem {
                    node: node.name.clone(),
                    message,
                })
            };
            match &node.kind {
                NodeKind::Source(source) => {
                    if source.topics.is_empty() {
                        complain("reads no topic".to_string());
                    }
                    for topic in &source.topics {
                        if let Some(message) = topic_problem(topic) {
                            complain(message);
                        }
                        if let Some(other) = readers.insert(topic, &node.name) {
                            complain(format!("`{other}` reads topic `{topic}` already"));
                        }
                    }
                }
                NodeKind::Sink(sink) => {
                    if let Some(message) = topic_problem(&sink.topic) {
                        complain(message);
                    }
                }
                NodeKind::Repartition(repartition) => {
                    if let Some(other) = writers.insert(&repartition.topic, &node.name) {
                        complain(format!(
                            "`{other}` writes repartition topic `{}` already",
                            repartition.topic
                        ));
                    }
                }
                _ => {}
            }
        }
        for (topic, node) in writers {
            if !readers.contains_key(topic) {
                problems.push(Problem {
                    node: node.to_string(),
                    message: format!("nothing reads `{topic}`"),
                });
            }
        }
    }

    fn check_stores(&self, problems: &mut Vec<Problem>) {
        let mut owners: HashMap<StoreId, &str> = HashMap::new();
        for node in &self.nodes {
            let mut complain = |message: String| {
                problems.push(Problem {
                    node: node.name.clone(),
                    message,
                })
            };
            for store in node.kind.stores() {
                match self.stores.get(store) {
                    None => complain(format!("store {store} is not there")),
                    Some(found) => {
                        if let Some(other) = owners.insert(store, &node.name) {
                            complain(format!("store `{}` belongs to `{other}` already", found.name));
                        }
                    }
                }
            }
        }
        let (mut names, mut changelogs) = (HashMap::new(), HashMap::new());
        for (id, store) in self.stores.iter().enumerate() {
            let Some(owner) = owners.get(&id) else {
                let message = format!("no node owns store `{}`", store.name);
                problems.push(Problem {
                    node: store.name.clone(),
                    message,
                });
                continue;
            };
            let mut complain = |message: String| {
                problems.push(Problem {
                    node: (*owner).to_string(),
                    message,
                })
            };
            if let Some(other) = names.insert(store.name.as_str(), *owner) {
                complain(format!(
                    "its store `{}` has the name of a store of `{other}`",
                    store.name
                ));
            } else if let Some(other) = changelogs.insert(store.changelog.as_str(), *owner) {
                complain(format!(
                    "its changelog `{}` is that of a store of `{other}`",
                    store.changelog
                ));
            }
            if store
                .name
                .strip_prefix("times-")
                .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
            {
                complain(format!("the name `{}` is kept for internal stores", store.name));
            }
        }
    }

    fn cycle(&self, stuck: &BTreeSet<NodeId>) -> Problem {
        let names: Vec<&str> = stuck
            .iter()
            .filter_map(|id| self.nodes.get(*id))
            .map(|node| node.name.as_str())
            .collect();
        let node = names.first().copied().unwrap_or_default().to_string();
        Problem {
            node,
            message: format!("is part of a cycle through {}", names.join(", ")),
        }
    }

    fn reorder(&mut self, order: &[NodeId]) {
        let position: HashMap<NodeId, NodeId> = order.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        let mut nodes: Vec<(NodeId, Node)> = std::mem::take(&mut self.nodes)
            .into_iter()
            .enumerate()
            .map(|(old, node)| (position.get(&old).copied().unwrap_or(old), node))
            .collect();
        nodes.sort_by_key(|(new, _)| *new);
        for (_, node) in &mut nodes {
            for edge in &mut node.inputs {
                edge.from = position.get(&edge.from).copied().unwrap_or(edge.from);
            }
        }
        self.nodes = nodes.into_iter().map(|(_, node)| node).collect();
    }

    /// Nodes that edges connect share a sub-topology; a repartition topic is no edge.
    fn cut(&mut self) {
        let mut group: Vec<NodeId> = (0..self.nodes.len()).collect();
        for (id, node) in self.nodes.iter().enumerate() {
            for Edge { from, .. } in &node.inputs {
                let (a, b) = (group_of(&group, id), group_of(&group, *from));
                // The smaller id stands for the group, so groups are numbered by their first node.
                if let Some(slot) = group.get_mut(a.max(b)) {
                    *slot = a.min(b);
                }
            }
        }
        let mut members: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for id in 0..self.nodes.len() {
            members.entry(group_of(&group, id)).or_default().push(id);
        }
        let mut subs = Vec::new();
        for (id, nodes) in (0_u32..).zip(members.into_values()) {
            let sub = self.sub_topology(id, nodes);
            subs.push(sub);
        }
        self.sub_topologies = subs;
    }

    fn sub_topology(&mut self, id: u32, nodes: Vec<NodeId>) -> SubTopology {
        let inside: Vec<&Node> = nodes.iter().filter_map(|node| self.nodes.get(*node)).collect();
        let mut stores: Vec<StoreId> = inside.iter().flat_map(|node| node.kind.stores()).collect();
        let topics = inside
            .iter()
            .filter_map(|node| match &node.kind {
                NodeKind::Source(source) => Some(source.topics.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        if inside.iter().any(|node| node.kind.keeps_times()) {
            let name = times_store(id);
            stores.push(self.stores.len());
            self.stores.push(Store {
                changelog: changelog_topic(&self.name, &name),
                name,
                kind: StoreKind::KeyValue,
                schema: 1,
                key: Format::Bytes,
                value: Format::Bytes,
                emit: Emit::EveryUpdate,
            });
        }
        SubTopology {
            id,
            nodes,
            stores,
            topics,
        }
    }

    fn check_commit_metadata(&self, problems: &mut Vec<Problem>) {
        for sub in &self.sub_topologies {
            let bytes = self.commit_metadata_bytes_max(sub);
            if bytes > COMMIT_METADATA_BYTES_MAX {
                let node = sub
                    .nodes
                    .first()
                    .and_then(|id| self.nodes.get(*id))
                    .map_or("", |node| &node.name);
                let message = format!(
                    "its sub-topology has {} stores; what a task commits with its offsets would take {bytes} bytes, \
                     the broker's limit is {COMMIT_METADATA_BYTES_MAX}",
                    sub.stores.len()
                );
                problems.push(Problem {
                    node: node.to_string(),
                    message,
                });
            }
        }
    }
}

fn group_of(group: &[NodeId], mut id: NodeId) -> NodeId {
    while let Some(parent) = group.get(id).copied()
        && parent != id
    {
        id = parent;
    }
    id
}

/// Topological order, smallest position first; what a repartition source reads counts as an edge, so that a cycle
/// through one is found. `Err`: the nodes that are in a cycle or behind one.
fn order(nodes: &[Node]) -> Result<Vec<NodeId>, BTreeSet<NodeId>> {
    let writers: HashMap<&str, NodeId> = nodes
        .iter()
        .enumerate()
        .filter_map(|(id, node)| match &node.kind {
            NodeKind::Repartition(repartition) => Some((repartition.topic.as_str(), id)),
            _ => None,
        })
        .collect();
    let mut parents: Vec<BTreeSet<NodeId>> = Vec::new();
    let mut children: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
    for (id, node) in nodes.iter().enumerate() {
        let mut above: BTreeSet<NodeId> = node.inputs.iter().map(|edge| edge.from).collect();
        if let NodeKind::Source(source) = &node.kind {
            above.extend(source.topics.iter().filter_map(|topic| writers.get(topic.as_str())));
        }
        for parent in &above {
            children.entry(*parent).or_default().push(id);
        }
        parents.push(above);
    }
    let mut waiting: Vec<usize> = parents.iter().map(BTreeSet::len).collect();
    let mut ready: BTreeSet<NodeId> = (0..nodes.len()).filter(|id| waiting.get(*id) == Some(&0)).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(id) = ready.pop_first() {
        order.push(id);
        for child in children.get(&id).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(*child) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(*child);
                }
            }
        }
    }
    if order.len() == nodes.len() {
        return Ok(order);
    }
    Err((0..nodes.len()).filter(|id| !order.contains(id)).collect())
}
