//! From a node of the topology to one of the plan: the task's numbers of its stores and topics, and its operator.

use std::collections::{BTreeMap, BTreeSet};

use operators::{
    Aggregator, Branching, Filtering, GlobalJoiner, KeySelector, Mapping, Routing, StreamJoiner, Suppressor, Table,
    WindowAggregator,
};
use topology::{Emit, Format, GlobalJoin, Node, NodeId, NodeKind, SubTopology, Topology};

use crate::error::Error;
use crate::options::{Options, To};
use crate::plan::{OutputTopic, PlanNode, Work};
use crate::tables::table_work;

/// The topics that the task writes.
pub struct Outputs<'a> {
    pub options: &'a Options,
    pub topics: Vec<OutputTopic>,
}

impl Outputs<'_> {
    /// `key`: the format of the keys that are written.
    pub fn number(&mut self, topic: &str, key: Format) -> Result<usize, Error> {
        let count = self.options.partition_count_of.get(topic).copied().filter(|c| *c > 0);
        let count = count.ok_or_else(|| Error::Contract(format!("topic `{topic}` has no known partitions")))?;
        let to = match key.window_bytes() {
            0 => To::ByKey { count },
            window_bytes => To::ByWindowedKey { count, window_bytes },
        };
        let same = |output: &OutputTopic| &*output.topic == topic && output.to == to;
        if let Some(known) = self.topics.iter().position(same) {
            return Ok(known);
        }
        self.topics.push(OutputTopic {
            topic: topic.into(),
            to,
        });
        Ok(self.topics.len() - 1)
    }
}

/// The global tables that the task looks into, numbered as they are met.
pub struct Globals<'a> {
    topology: &'a Topology,
    pub used: Vec<String>,
}

impl<'a> Globals<'a> {
    pub fn new(topology: &'a Topology) -> Self {
        Self {
            topology,
            used: Vec::new(),
        }
    }

    fn number(&mut self, node: &str, join: &GlobalJoin) -> Result<usize, Error> {
        let table = self.topology.global(join);
        let name = &table
            .ok_or_else(|| Error::Contract(format!("node `{node}` looks into a table that is not there")))?
            .name;
        if let Some(known) = self.used.iter().position(|used| used == name) {
            return Ok(known);
        }
        self.used.push(name.clone());
        Ok(self.used.len() - 1)
    }
}

/// The task's stores, numbered as in its sub-topology.
pub struct Stores {
    local: BTreeMap<usize, usize>,
    pub specs: Vec<state::StoreSpec>,
    pub changelogs: Vec<String>,
    pub emit: Vec<Emit>,
    pub layouts: Vec<Option<state::Layout>>,
    pub times: Option<usize>,
}

impl Stores {
    pub fn new(topology: &Topology, sub: &SubTopology) -> Result<Self, Error> {
        let mut stores = Self {
            local: BTreeMap::new(),
            specs: Vec::new(),
            changelogs: Vec::new(),
            emit: Vec::new(),
            layouts: Vec::new(),
            times: None,
        };
        let times = topology::times_store(sub.id);
        for (local, id) in sub.stores.iter().enumerate() {
            let store = topology.stores.get(*id);
            let store = store.ok_or_else(|| Error::Contract(format!("there is no store {id}")))?;
            stores.local.insert(*id, local);
            if store.name == times {
                stores.times = Some(local);
            }
            stores.layouts.push(operators::layout(store.kind));
            let timestamped = store.kind.is_timestamped();
            stores.specs.push(state::StoreSpec {
                name: store.name.clone(),
                timestamped,
            });
            stores.changelogs.push(store.changelog.clone());
            stores.emit.push(store.emit);
        }
        Ok(stores)
    }

    fn times(&self, node: &str) -> Result<usize, Error> {
        self.times
            .ok_or_else(|| Error::Contract(format!("node `{node}` has no store for its times")))
    }

    fn number(&self, node: &str, store: usize) -> Result<usize, Error> {
        let local = self.local.get(&store).copied();
        local.ok_or_else(|| Error::Contract(format!("node `{node}` uses store {store} of another sub-topology")))
    }
}

pub fn plan_node(
    id: NodeId,
    node: &Node,
    stores: &Stores,
    (outputs, globals): (&mut Outputs<'_>, &mut Globals<'_>),
    olds: bool,
) -> Result<PlanNode, Error> {
    let number = |store: usize| stores.number(&node.name, store);
    let mut used = BTreeSet::new();
    let mut flushed_store = None;
    let work = match &node.kind {
        NodeKind::Module(step) => {
            let local: Result<Vec<usize>, Error> = step.stores.iter().map(|s| number(*s)).collect();
            let local = local?;
            used.extend(local.iter().copied());
            Work::Module {
                step: Box::new(step.clone()),
                stores: local,
            }
        }
        NodeKind::Aggregate(aggregate) => {
            let store = number(aggregate.store)?;
            used.insert(store);
            flushed_store = (aggregate.emit == Emit::OnCommit).then_some(store);
            Work::Aggregate(Aggregator::new(aggregate, store, olds))
        }
        NodeKind::ToTable { store } => {
            let store = number(*store)?;
            used.insert(store);
            let emit = stores.emit.get(store).copied().unwrap_or_default();
            flushed_store = (emit == Emit::OnCommit).then_some(store);
            Work::Table(Table::new(store, emit, olds))
        }
        NodeKind::WindowAggregate(_) | NodeKind::StreamJoin(_) | NodeKind::Suppress(_) => {
            for store in node.kind.stores() {
                used.insert(number(store)?);
            }
            if let NodeKind::WindowAggregate(window) = &node.kind {
                let store = number(window.aggregate.store)?;
                flushed_store = (window.aggregate.emit == Emit::OnCommit).then_some(store);
            }
            timed(node, stores, olds)?
        }
        NodeKind::GlobalJoin(join) => {
            Work::GlobalJoin(Box::new(GlobalJoiner::new(join)), globals.number(&node.name, join)?)
        }
        kind => match flow(kind, outputs)? {
            Some(work) => work,
            None => {
                let made = table_work(kind, &mut |store| number(store), olds)?;
                used.extend(made.uses);
                flushed_store = made.flushed_store;
                Work::Tables(Box::new(made.work))
            }
        },
    };
    Ok(PlanNode {
        id,
        name: node.name.as_str().into(),
        work,
        ports: vec![Vec::new(); node.kind.output_ports()],
        paths: false,
        on_error: node.on_error,
        flushed_store,
        olds,
        stores: used,
    })
}

/// The work of a node on a stream that has no store; `None`: it has some, or works on a table.
fn flow(kind: &NodeKind, outputs: &mut Outputs<'_>) -> Result<Option<Work>, Error> {
    Ok(Some(match kind {
        NodeKind::Source(_) => Work::Source,
        NodeKind::Branch(branch) => Work::Branch(Branching::new(branch)),
        NodeKind::Merge => Work::Merge,
        NodeKind::SelectKey(selector) => Work::SelectKey(KeySelector::new(selector.clone())),
        NodeKind::Filter(filter) if !filter.table => Work::Filter(Filtering::new(filter)),
        NodeKind::Map(map) if !map.table => Work::Map(Mapping::new(map)),
        NodeKind::Route(route) => Work::Route(Routing::new(route)),
        NodeKind::Repartition(r) => Work::Output {
            topic: outputs.number(&r.topic, r.key)?,
            keyed: true,
        },
        NodeKind::Sink(sink) => Work::Output {
            topic: outputs.number(&sink.topic, sink.key)?,
            keyed: false,
        },
        _ => return Ok(None),
    }))
}

/// The work of a node that keeps times of its own.
fn timed(node: &Node, stores: &Stores, olds: bool) -> Result<Work, Error> {
    let (name, times) = (node.name.as_str(), stores.times(&node.name)?);
    let number = |store| stores.number(name, store);
    Ok(match &node.kind {
        NodeKind::WindowAggregate(window) => Work::Windows(WindowAggregator::new(
            window,
            number(window.aggregate.store)?,
            times,
            name,
            olds,
        )),
        NodeKind::StreamJoin(join) => {
            let waiting = join.waiting.map(number).transpose()?;
            let held = (number(join.left)?, number(join.right)?, waiting);
            Work::StreamJoin(Box::new(StreamJoiner::new(join, held, times, name)))
        }
        NodeKind::Suppress(suppress) => Work::Suppress(Suppressor::new(suppress, number(suppress.store)?, times, name)),
        _ => return Err(Error::Contract(format!("node `{name}` keeps no times"))),
    })
}
