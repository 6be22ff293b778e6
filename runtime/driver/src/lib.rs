//! A whole topology without a broker: what Kafka Streams calls the topology test driver.
//!
//! Every topic has one partition, so there is one task for each sub-topology, on stores in memory. What a task writes
//! to a topic that another one reads is read at once. Time stands still unless it is moved, commits come only when they
//! are asked for, and a restart throws away everything that a crash after a commit would. The same calls give the same
//! results, and records piped together give what they give one by one: the driver hands a task as many at once as do
//! not depend on the order in which its inputs are read. After an error the driver is only good for looking at what was
//! done before.
//!
//! What stands in a file of a case, and what is to come out of it, is left to the callers.

mod error;
mod globals;
mod log;
mod rest;
mod slot;
mod stretch;

pub use error::Error;
pub use log::{Piped, Record};
pub use rest::RestoreFrom;

use std::collections::BTreeMap;
use std::sync::Arc;

use globals::Globals;
use log::Log;
use slot::Slot;
use state::split;
use stretch::Stretches;
use task::{Processor, TaskId};
use topology::{ModuleStep, NodeId, NodeKind, Topology};

/// Makes the code of a module node for a task; called again at every restart. The error is why it cannot.
pub type NewProcessor = Arc<dyn Fn(TaskId, NodeId, &ModuleStep) -> Result<Box<dyn Processor>, String>>;

/// An entry of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreEntry {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// Milliseconds; of stores whose values carry their event time.
    pub timestamp: Option<i64>,
}

/// See the crate page.
pub struct Driver {
    topology: Arc<Topology>,
    new_processor: NewProcessor,
    slots: Vec<Slot>,
    logs: BTreeMap<Arc<str>, Log>,
    globals: Globals,
    stretches: Stretches,
    wall_time: i64,
    /// Slots in the order in which a commit goes through them.
    commit_order: Vec<usize>,
}

impl Driver {
    /// `topology` must be validated. `wall_time` in milliseconds since 1970 UTC.
    ///
    /// # Errors
    /// [`Error::Processor`] and [`Error::Task`]: what the code of a module, or the topology, refuses.
    pub fn new(topology: Arc<Topology>, new_processor: NewProcessor, wall_time: i64) -> Result<Self, Error> {
        let stretches = Stretches::new(&topology);
        let mut driver = Self {
            commit_order: stretches.upstream_first(),
            stretches,
            globals: Globals::new(&topology)?,
            logs: topics(&topology).map(|topic| (topic, Log::default())).collect(),
            topology,
            new_processor,
            slots: Vec::new(),
            wall_time,
        };
        for sub in &driver.topology.sub_topologies {
            driver.slots.push(Slot::new(
                &driver.topology,
                sub,
                &driver.new_processor,
                &driver.globals,
            )?);
        }
        for slot in &mut driver.slots {
            slot.start(wall_time)?;
        }
        driver.settle()?;
        Ok(driver)
    }

    /// Appends records to topics that the topology reads, and processes them as far as they can be. The result does
    /// not depend on how many are piped together.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`]; [`Error::Task`] when a task must stop.
    pub fn pipe(&mut self, records: Vec<Piped>) -> Result<(), Error> {
        for piped in records {
            if !self.stretches.is_read(&piped.topic) {
                return Err(Error::UnknownTopic(piped.topic.to_string()));
            }
            self.stretches.push(piped);
        }
        self.settle()
    }

    /// Moves the wall time on and does what is due then. A punctuation of which several are due fires once.
    ///
    /// # Errors
    /// [`Error::Task`] when a task must stop.
    pub fn advance_wall(&mut self, ms: i64) -> Result<(), Error> {
        self.wall_time = self.wall_time.saturating_add(ms);
        self.settle()
    }

    pub fn wall_time(&self) -> i64 {
        self.wall_time
    }

    /// Records that wait for a retry or behind one, and the wall time of the next attempt.
    pub fn waiting(&self) -> Option<(usize, i64)> {
        let queued: usize = self.slots.iter().map(Slot::queued).sum();
        let records = queued + self.stretches.len();
        let until = self
            .slots
            .iter()
            .filter(|s| s.queued() > 0)
            .filter_map(|s| s.idle_until)
            .min();
        (records > 0).then(|| (records, until.unwrap_or(self.wall_time)))
    }

    /// Everything that was written to `topic` so far, in order, be it piped or made by the topology. Rows that tables
    /// emit on commit are there after the commit.
    pub fn topic(&self, topic: &str) -> &[Record] {
        self.logs.get(topic).map_or(&[], |log| log.records())
    }

    /// What the store held at the last commit, or a global table now, in the order of the keys; `None`: there is no such store.
    pub fn store(&self, name: &str) -> Option<Vec<StoreEntry>> {
        if let Some(entries) = self.globals.entries(name) {
            return Some(entries.into_iter().map(|entry| shown(entry, true)).collect());
        }
        let id = self.topology.stores.iter().position(|store| store.name == name)?;
        let kind = self.topology.stores.get(id)?.kind;
        let (timestamped, layout) = (kind.is_timestamped(), operators::layout(kind));
        let held = |(number, sub): (usize, &topology::SubTopology)| {
            Some((number, sub.stores.iter().position(|store| *store == id)?))
        };
        let (slot, local) = self.topology.sub_topologies.iter().enumerate().find_map(held)?;
        let mut entries = self.slots.get(slot)?.entries(local);
        if let Some(layout) = layout {
            for (key, _) in &mut entries {
                *key = layout.wire(key);
            }
            entries.sort();
        }
        Some(entries.into_iter().map(|entry| shown(entry, timestamped)).collect())
    }

    /// Source rows in the largest run so far: whether anything went in batches at all.
    pub fn run_rows_max(&self) -> usize {
        self.slots
            .iter()
            .map(|slot| slot.run_rows_max)
            .max()
            .unwrap_or_default()
    }
}

fn shown((key, stored): (Vec<u8>, Vec<u8>), timestamped: bool) -> StoreEntry {
    if !timestamped {
        return StoreEntry {
            key,
            value: stored,
            timestamp: None,
        };
    }
    let (timestamp, value) = split(&stored);
    StoreEntry {
        key,
        value: value.to_vec(),
        timestamp: Some(timestamp),
    }
}

/// All topics that are read or written, changelogs apart.
fn topics(topology: &Topology) -> impl Iterator<Item = Arc<str>> {
    let of_nodes = topology.nodes.iter().flat_map(|node| match &node.kind {
        NodeKind::Source(source) => source.topics.iter().map(|topic| topic.as_str().into()).collect(),
        NodeKind::Sink(sink) => vec![sink.topic.as_str().into()],
        NodeKind::Repartition(repartition) => vec![repartition.topic.as_str().into()],
        _ => Vec::<Arc<str>>::new(),
    });
    let of_globals = topology.globals.iter().map(|table| table.topic.as_str().into());
    of_nodes.chain(of_globals).chain(
        topology
            .dead_letters
            .iter()
            .map(|letters| letters.topic.as_str().into()),
    )
}
