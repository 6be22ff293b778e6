//! A sub-topology as one task runs it: local numbers for nodes and stores, children in order, and what the rules of
//! exactness ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use operators::{
    Aggregator, Branching, Extractor, Filtering, GlobalJoiner, KeySelector, Mapping, Routing, StreamJoiner, Suppressor,
    Table, WindowAggregator,
};
use record::TopicPartition;
use topology::{Format, ModuleStep, NodeId, NodeKind, OnError, Retries, SubTopology, Topology};

use crate::error::Error;
use crate::nodes::{Globals, Outputs, Stores, plan_node};
use crate::options::{Options, TaskId, To};
use crate::queue::RowTimes;
use crate::tables::{TableWork, share_tables};
use crate::watch::Watch;

/// Where an output row goes: an input port of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    pub node: usize,
    pub port: u8,
}

/// A child of a source node, and which of the plan's sources that node reads.
#[derive(Clone, Debug)]
pub struct Root {
    /// The source node.
    pub node: usize,
    pub child: Child,
    pub queues: Vec<bool>,
}

#[derive(Debug)]
pub enum Work {
    Source,
    Module {
        step: Box<ModuleStep>,
        stores: Vec<usize>,
    },
    Branch(Branching),
    Merge,
    SelectKey(KeySelector),
    Filter(Filtering),
    Map(Mapping),
    Route(Routing),
    Aggregate(Aggregator),
    Table(Table),
    Windows(WindowAggregator),
    StreamJoin(Box<StreamJoiner>),
    /// With the task's number of the table.
    GlobalJoin(Box<GlobalJoiner>, usize),
    Suppress(Suppressor),
    /// Rows for output topic `topic`; a repartition leaves out null keys.
    Output {
        topic: usize,
        keyed: bool,
    },
    Tables(Box<TableWork>),
}

#[derive(Debug)]
pub struct PlanNode {
    pub id: NodeId,
    pub name: Arc<str>,
    pub work: Work,
    /// Children of each output port, in topology order.
    pub ports: Vec<Vec<Child>>,
    /// Whether rows that come here must bring their paths.
    pub paths: bool,
    pub on_error: OnError,
    /// The on-commit table that is kept here.
    pub flushed_store: Option<usize>,
    /// Whether something downstream needs what its rows replace.
    pub olds: bool,
    pub(crate) stores: BTreeSet<usize>,
}

impl PlanNode {
    pub fn retries(&self) -> Retries {
        match &self.work {
            Work::Module { step, .. } => step.retries,
            _ => Retries {
                max: 0,
                ..Retries::default()
            },
        }
    }
}

#[derive(Clone, Debug)]
pub struct OutputTopic {
    pub topic: Arc<str>,
    pub to: To,
}

/// How the nodes are walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Whole batches through these units, one after another; nodes of one unit share a store and take turns.
    Batches(Vec<Vec<usize>>),
    /// One row at a time, depth first: a node is upstream of another one that uses its store.
    Rows,
}

#[derive(Debug)]
pub struct Plan {
    pub pipeline: Arc<str>,
    pub task: TaskId,
    pub nodes: Vec<PlanNode>,
    pub sources: Vec<TopicPartition>,
    /// By source: where the times of its rows come from, if not from the records.
    pub row_times: Vec<Option<RowTimes>>,
    /// Wall time for which all sources have been empty before time goes on without rows.
    pub idle_ms: Option<i64>,
    /// Children of source nodes, in topology order of both.
    pub roots: Vec<Root>,
    pub outputs: Vec<OutputTopic>,
    /// The output that takes dead letters.
    pub dead_letters: Option<usize>,
    pub order: Order,
    pub stores: Vec<state::StoreSpec>,
    pub changelogs: Vec<TopicPartition>,
    /// How the keys of each windowed store lie in it; its changelog has Kafka's.
    pub layouts: Vec<Option<state::Layout>>,
    /// The store of times.
    pub times: Option<usize>,
    /// The global tables that its nodes look into, by name.
    pub globals: Vec<String>,
    pub watch: Option<Arc<dyn Watch>>,
}

impl Plan {
    pub fn new(topology: &Topology, id: TaskId, options: &Options) -> Result<Self, Error> {
        let sub = topology
            .sub_topologies
            .iter()
            .find(|s| s.id == id.sub_topology)
            .ok_or_else(|| Error::Contract(format!("there is no sub-topology {}", id.sub_topology)))?;
        let mut outputs = Outputs {
            options,
            topics: Vec::new(),
        };
        let mut globals = Globals::new(topology);
        let stores = Stores::new(topology, sub)?;
        let mut nodes = Vec::with_capacity(sub.nodes.len());
        let olds = topology.olds_wanted();
        for node in &sub.nodes {
            let known = topology.nodes.get(*node);
            let known = known.ok_or_else(|| Error::Contract(format!("there is no node {node}")))?;
            let olds = olds.get(*node).copied().unwrap_or(false);
            nodes.push(plan_node(*node, known, &stores, (&mut outputs, &mut globals), olds)?);
        }
        link(topology, sub, &mut nodes)?;
        share_tables(&mut nodes, &stores.emit);
        let dead_letters = topology
            .dead_letters
            .as_ref()
            .map(|d| outputs.number(&d.topic, Format::Bytes))
            .transpose()?;
        let order = order(&nodes);
        mark_paths(&mut nodes, &order, dead_letters);
        let (sources, roots) = roots(topology, sub, id, options, &nodes);
        if sources.is_empty() {
            return Err(Error::Contract(format!("task {id} has nothing to read")));
        }
        let changelogs = stores
            .changelogs
            .iter()
            .map(|t| TopicPartition::new(t.as_str(), id.partition))
            .collect();
        let (outputs, specs, layouts, times) = (outputs.topics, stores.specs, stores.layouts, stores.times);
        Ok(Self {
            pipeline: topology.name.as_str().into(),
            task: id,
            nodes,
            row_times: row_times(topology, sub, &sources),
            idle_ms: topology.idle_ms(sub),
            sources,
            roots,
            outputs,
            dead_letters,
            order,
            stores: specs,
            changelogs,
            layouts,
            times,
            globals: globals.used,
            watch: options.watch.clone(),
        })
    }

    pub fn on_commit_tables(&self) -> impl Iterator<Item = (usize, usize)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(i, n)| n.flushed_store.map(|s| (i, s)))
    }
}

/// Fills in the children. Nodes are in topological order, so children are too.
fn link(topology: &Topology, sub: &SubTopology, nodes: &mut [PlanNode]) -> Result<(), Error> {
    let local: BTreeMap<NodeId, usize> = sub.nodes.iter().enumerate().map(|(i, n)| (*n, i)).collect();
    for (index, id) in sub.nodes.iter().enumerate() {
        let Some(node) = topology.nodes.get(*id) else { continue };
        let mut edges = node.inputs.clone();
        edges.sort_by_key(|e| e.to_port);
        for edge in edges {
            let from = local.get(&edge.from).copied().filter(|f| *f < index);
            let children = from
                .and_then(|f| nodes.get_mut(f))
                .and_then(|f| f.ports.get_mut(edge.from_port as usize));
            let Some(children) = children else {
                return Err(Error::Contract(format!(
                    "node `{}` has an input that is not before it",
                    node.name
                )));
            };
            children.push(Child {
                node: index,
                port: u8::try_from(edge.to_port).unwrap_or(u8::MAX),
            });
        }
    }
    Ok(())
}

/// Input partitions in the order of ties, and where their rows go.
fn roots(
    topology: &Topology,
    sub: &SubTopology,
    id: TaskId,
    options: &Options,
    nodes: &[PlanNode],
) -> (Vec<TopicPartition>, Vec<Root>) {
    let mut topics: BTreeSet<&str> = BTreeSet::new();
    let mut readers: Vec<(usize, &[String])> = Vec::new();
    for (index, node) in sub.nodes.iter().enumerate() {
        if let Some(NodeKind::Source(source)) = topology.nodes.get(*node).map(|n| &n.kind) {
            topics.extend(source.topics.iter().map(String::as_str));
            readers.push((index, &source.topics));
        }
    }
    topics.retain(|topic| options.partition_count_of.get(*topic).is_none_or(|c| id.partition < *c));
    let mut roots = Vec::new();
    for (index, read) in readers {
        let queues: Vec<bool> = topics.iter().map(|t| read.iter().any(|r| r == t)).collect();
        for child in nodes.get(index).into_iter().flat_map(|n| n.ports.iter().flatten()) {
            roots.push(Root {
                node: index,
                child: *child,
                queues: queues.clone(),
            });
        }
    }
    (
        topics
            .into_iter()
            .map(|t| TopicPartition::new(t, id.partition))
            .collect(),
        roots,
    )
}

fn row_times(topology: &Topology, sub: &SubTopology, sources: &[TopicPartition]) -> Vec<Option<RowTimes>> {
    let of = |topic: &str| {
        let mut nodes = sub.nodes.iter().enumerate();
        nodes.find_map(|(node, id)| match topology.nodes.get(*id).map(|n| &n.kind) {
            Some(NodeKind::Source(source)) if source.topics.iter().any(|t| t == topic) => Some(RowTimes {
                node,
                extractor: Extractor::new(source),
                invalid: source.timestamps.invalid,
            })
            .filter(|_| !source.timestamps.is_plain()),
            _ => None,
        })
    };
    sources.iter().map(|source| of(&source.topic)).collect()
}

/// Which nodes can be reached from each node.
fn downstream(nodes: &[PlanNode]) -> Vec<BTreeSet<usize>> {
    let mut reached: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); nodes.len()];
    for index in (0..nodes.len()).rev() {
        let mut below = BTreeSet::new();
        for child in nodes.get(index).into_iter().flat_map(|n| n.ports.iter().flatten()) {
            below.insert(child.node);
            below.extend(reached.get(child.node).into_iter().flatten().copied());
        }
        if let Some(place) = reached.get_mut(index) {
            *place = below;
        }
    }
    reached
}

/// Units of nodes that share a store, in an order in which everything upstream comes first; or row by row where there
/// is no such order. Every user of a store counts as a writer: a module may write what it declares.
fn order(nodes: &[PlanNode]) -> Order {
    let below = downstream(nodes);
    let is_below = |a: usize, b: usize| below.get(a).is_some_and(|d| d.contains(&b));
    let mut unit_of: Vec<usize> = (0..nodes.len()).collect();
    for (a, first) in nodes.iter().enumerate() {
        for (b, second) in nodes.iter().enumerate().skip(a + 1) {
            if first.stores.is_disjoint(&second.stores) {
                continue;
            }
            if is_below(a, b) || is_below(b, a) {
                return Order::Rows;
            }
            let (keep, gone) = (
                unit_of.get(a).copied().unwrap_or(a),
                unit_of.get(b).copied().unwrap_or(b),
            );
            for unit in &mut unit_of {
                if *unit == gone {
                    *unit = keep;
                }
            }
        }
    }
    let mut units: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (node, unit) in unit_of.iter().enumerate() {
        units.entry(*unit).or_default().push(node);
    }
    let mut done: BTreeSet<usize> = BTreeSet::new();
    let mut ordered = Vec::new();
    while !units.is_empty() {
        let ready = units.iter().find(|(_, members)| {
            (0..nodes.len()).all(|n| done.contains(&n) || members.iter().all(|m| !is_below(n, *m)))
        });
        let Some(unit) = ready.map(|(unit, _)| *unit) else {
            return Order::Rows;
        };
        let members = units.remove(&unit).unwrap_or_default();
        done.extend(members.iter().copied());
        ordered.push(members);
    }
    Order::Batches(ordered)
}

/// Paths are needed where rows come together again: a node with several inputs, a topic with several writers, nodes
/// that take turns; and everywhere upstream of that.
fn mark_paths(nodes: &mut [PlanNode], order: &Order, dead_letters: Option<usize>) {
    let Order::Batches(units) = order else { return };
    let mut inputs = vec![0_usize; nodes.len()];
    let mut writers: BTreeMap<usize, usize> = BTreeMap::new();
    if let Some(topic) = dead_letters {
        writers.insert(topic, 0);
    }
    for node in nodes.iter() {
        for child in node.ports.iter().flatten() {
            if let Some(count) = inputs.get_mut(child.node) {
                *count += 1;
            }
            if let Some(Work::Output { topic, .. }) = nodes.get(child.node).map(|n| &n.work) {
                *writers.entry(*topic).or_default() += 1;
            }
        }
    }
    let shares: BTreeSet<usize> = units.iter().filter(|u| u.len() > 1).flatten().copied().collect();
    for index in (0..nodes.len()).rev() {
        let Some(node) = nodes.get(index) else { continue };
        let meets = inputs.get(index).is_some_and(|n| *n > 1) || shares.contains(&index);
        let topic_meets =
            matches!(&node.work, Work::Output { topic, .. } if writers.get(topic).is_some_and(|n| *n > 1));
        let below = node
            .ports
            .iter()
            .flatten()
            .any(|c| nodes.get(c.node).is_some_and(|n| n.paths));
        if let Some(node) = nodes.get_mut(index) {
            node.paths = meets || topic_meets || below;
        }
    }
}
