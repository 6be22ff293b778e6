//! Makes tasks for stream threads: processors from modules, stores from directories.

use super::Node;
use super::directories::{self, Directories};
use super::prepare::{self, Around, Preparations};
use crate::registry::PipelineEntry;
use rocks::Database;
use sandbox::{LogSink, Module, Outside};
use state::{Backend, GlobalTable};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use task::watch::Watch;
use task::{Task, TaskId};
use topology::{ModuleStep, NodeId, NodeKind, SubTopology, Topology};
use worker::control::PipelineRecord;
use worker::stamp::Stamp;
use worker::standby::Shelf;
use worker::swap::Versions;
use worker::{MakeError, Prepare, TaskFactory};

/// One thread's factory.
pub(crate) struct Factory {
    node: Arc<Node>,
    preparations: Preparations,
    topology: Arc<Topology>,
    modules: BTreeMap<NodeId, Module>,
    outside: BTreeMap<NodeId, Arc<dyn Outside>>,
    /// Partitions of every topic that is written by key.
    partitions: HashMap<String, i32>,
    directories: Arc<Directories>,
    /// Standbys of tasks that this thread may be given.
    shelf: Arc<Shelf>,
    globals: HashMap<String, Arc<GlobalTable>>,
    log: Arc<dyn LogSink>,
    watch: Arc<dyn Watch>,
    /// Tasks that this thread made since their directory was opened: making one again means that it failed.
    made: std::collections::HashSet<TaskId>,
}

impl Factory {
    pub(crate) fn new(
        node: &Arc<Node>,
        entry: &PipelineEntry,
        directories: Arc<Directories>,
        shelf: Arc<Shelf>,
        globals: HashMap<String, Arc<GlobalTable>>,
    ) -> Result<Self, crate::refusal::Refusal> {
        let topology = Arc::new(entry.details.topology.clone());
        let mut modules = BTreeMap::new();
        for (id, found) in topology.nodes.iter().enumerate() {
            if let NodeKind::Module(step) = &found.kind {
                modules.insert(id, node.load(&step.digest)?);
            }
        }
        let partitions = entry
            .details
            .partitions
            .iter()
            .map(|(topic, count)| (topic.clone(), *count))
            .collect();
        Ok(Self {
            node: node.clone(),
            preparations: Preparations::default(),
            outside: node.outside(&topology),
            topology: topology.clone(),
            modules,
            partitions,
            directories,
            shelf,
            globals,
            log: node.guest_log.clone(),
            watch: node.taps(&topology.name),
            made: std::collections::HashSet::new(),
        })
    }

    fn sub(&self, id: TaskId) -> Option<&SubTopology> {
        self.topology.sub_topologies.get(id.sub_topology as usize)
    }

    fn store_names(&self, id: TaskId) -> Vec<String> {
        directories::store_names(&self.topology, id)
    }

    fn around(&self) -> Around {
        Around {
            outside: self.outside.clone(),
            log: self.log.clone(),
        }
    }

    fn processor(
        &self,
        id: TaskId,
        number: NodeId,
        step: &ModuleStep,
        record: &PipelineRecord,
        versions: &Versions,
    ) -> Result<Box<dyn task::Processor>, MakeError> {
        let stop = |cause: String| MakeError { again: false, cause };
        let name = self
            .topology
            .nodes
            .get(number)
            .map(|n| n.name.as_str())
            .unwrap_or_default();
        let version = versions.get(name).filter(|v| v.digest != step.digest);
        let (step, module) = match version {
            None => (step.clone(), self.modules.get(&number).cloned()),
            Some(version) => {
                let loaded = self.node.load(&version.digest);
                let loaded = loaded.map_err(|refusal| MakeError {
                    again: true,
                    cause: refusal.message,
                })?;
                (prepare::step_as(record, name, step, version), Some(loaded))
            }
        };
        let module = module.ok_or_else(|| stop(format!("no module for step `{name}`")))?;
        prepare::processor(&self.topology, id, number, &step, &module, &self.around()).map_err(stop)
    }
}

impl TaskFactory for Factory {
    fn expect(&mut self, ids: &[TaskId]) {
        let ids = ids.iter().rev().map(|id| (*id, self.store_names(*id)));
        self.directories
            .open_ahead(ids.filter(|(_, stores)| !stores.is_empty()).collect());
    }

    fn make(&mut self, id: TaskId, record: &PipelineRecord, versions: &Versions) -> Result<Task, MakeError> {
        let sub = self.sub(id).ok_or_else(|| MakeError {
            again: false,
            cause: format!("there is no sub-topology {}", id.sub_topology),
        })?;
        let mut processors = HashMap::new();
        for node in &sub.nodes {
            if let Some(NodeKind::Module(step)) = self.topology.nodes.get(*node).map(|n| &n.kind) {
                processors.insert(*node, self.processor(id, *node, step, record, versions)?);
            }
        }
        let stores = self.store_names(id);
        let backend: Box<dyn Backend> = match stores.as_slice() {
            // Without stores there is nothing to keep.
            [] => Box::new(state::memory::Memory::default()),
            _ => {
                let lease = self.shelf.lease(id)?;
                if !self.made.insert(id) && !lease.was_standby() {
                    self.directories.forget(id);
                }
                Box::new(Database::leased(self.directories.get(id, &stores)?, Box::new(lease)))
            }
        };
        let options = task::Options {
            partition_count_of: self.partitions.clone(),
            watch: Some(self.watch.clone()),
            globals: self.globals.clone(),
            max_task_idle_ms: self.topology.max_task_idle_ms,
            ..task::Options::default()
        };
        Task::new(self.topology.clone(), id, processors, backend, options).map_err(|e| MakeError {
            again: false,
            cause: e.to_string(),
        })
    }

    fn prepare(&mut self, id: TaskId, record: &PipelineRecord, from: &Versions, to: &Versions) -> Prepare {
        let around = self.around();
        self.preparations
            .poll(&self.node, &self.topology, record, id, from, to, around)
    }

    fn scratch(&mut self, id: TaskId) -> Result<Box<dyn Backend>, MakeError> {
        let scratch = self.directories.scratch(id, &self.store_names(id))?;
        Ok(Box::new(scratch))
    }

    fn schemas(&self, id: TaskId) -> Vec<u32> {
        directories::schemas(&self.topology, id)
    }

    fn stamp(&mut self, id: TaskId) -> Result<Option<Stamp>, MakeError> {
        self.directories.stamp(id, &self.store_names(id))
    }

    fn set_stamp(&mut self, id: TaskId, stamp: Option<&Stamp>) -> Result<(), MakeError> {
        self.directories.set_stamp(id, &self.store_names(id), stamp)
    }
}
