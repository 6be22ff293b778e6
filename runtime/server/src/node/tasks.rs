//! Makes tasks for stream threads: processors from modules, stores from directories.

use super::Node;
use super::prepare::{self, Around, Preparations};
use crate::registry::PipelineEntry;
use rocks::{Database, Directory, Memory, Scratch};
use sandbox::{LogSink, Module, Outside};
use state::{Backend, GlobalTable};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use task::watch::Watch;
use task::{Task, TaskId};
use topology::{ModuleStep, NodeId, NodeKind, SubTopology, Topology};
use worker::control::PipelineRecord;
use worker::stamp::Stamp;
use worker::swap::Versions;
use worker::{MakeError, Prepare, TaskFactory};

/// How the names of directories begin that hold a copy for a shadow.
const SHADOW: &str = "shadow-";

/// The open directories of one pipeline on this node, shared by its threads: a task that moves between them finds its
/// stores open.
pub(crate) struct Directories {
    root: PathBuf,
    memory: Memory,
    /// Whoever comes second to a directory waits for the first to open it.
    open: Mutex<HashMap<TaskId, Opened>>,
}

type Opened = Arc<Mutex<Option<Directory>>>;

/// Directories that are opened at once: opening waits for the disk (30 to 80 ms), not for a processor.
const OPENING_MAX: usize = 4;

impl Directories {
    pub(crate) fn new(root: PathBuf, memory: Memory) -> Self {
        // Copies for shadows that a killed process has left.
        for left in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            if left.file_name().to_string_lossy().starts_with(SHADOW) {
                drop(std::fs::remove_dir_all(left.path()));
            }
        }
        Self {
            root,
            memory,
            open: Mutex::default(),
        }
    }

    fn get(&self, id: TaskId, stores: &[String]) -> Result<Directory, MakeError> {
        let opened = Arc::clone(super::lock(&self.open).entry(id).or_default());
        let mut opened = super::lock(&opened);
        if let Some(directory) = &*opened {
            return Ok(directory.clone());
        }
        let directory = Directory::open(&self.root.join(id.to_string()), stores, &self.memory).map_err(failed)?;
        *opened = Some(directory.clone());
        Ok(directory)
    }

    /// Opens them in the background. An error is met again, and told, by whoever needs the directory.
    fn open_ahead(self: &Arc<Self>, ids: Vec<(TaskId, Vec<String>)>) {
        let ids = Arc::new(Mutex::new(ids));
        for _ in 0..super::lock(&ids).len().min(OPENING_MAX) {
            let (directories, ids) = (Arc::clone(self), Arc::clone(&ids));
            let open = move || {
                while let Some((id, stores)) = { super::lock(&ids).pop() } {
                    drop(directories.get(id, &stores));
                }
            };
            if let Err(error) = std::thread::Builder::new().name("open-state".into()).spawn(open) {
                tracing::debug!(%error, "state directories are opened one by one");
            }
        }
    }

    /// A copy of the stores of a task, for a shadow; each in a directory of its own.
    fn scratch(&self, id: TaskId, stores: &[String]) -> Result<Scratch, MakeError> {
        let name = format!("{SHADOW}{id}-{}", uuid::Uuid::new_v4().simple());
        let directory = self.get(id, stores)?;
        directory.scratch(&self.root.join(name), &self.memory).map_err(failed)
    }

    /// So that the next [`Directories::get`] opens it anew, after a failure of its backend.
    fn forget(&self, id: TaskId) {
        super::lock(&self.open).remove(&id);
    }
}

fn failed(error: state::Error) -> MakeError {
    let again = matches!(error, state::Error::Storage { .. });
    MakeError {
        again,
        cause: format!("failed to {error}"),
    }
}

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
        let stores = self.sub(id).map(|sub| sub.stores.as_slice()).unwrap_or_default();
        stores
            .iter()
            .filter_map(|store| Some(self.topology.stores.get(*store)?.name.clone()))
            .collect()
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
        if !self.made.insert(id) {
            self.directories.forget(id);
        }
        let stores = self.store_names(id);
        let backend: Box<dyn Backend> = match stores.as_slice() {
            // Without stores there is nothing to keep.
            [] => Box::new(state::memory::Memory::default()),
            _ => Box::new(Database::new(self.directories.get(id, &stores)?)),
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
        let stores = self.sub(id).map(|sub| sub.stores.as_slice()).unwrap_or_default();
        stores
            .iter()
            .filter_map(|store| Some(self.topology.stores.get(*store)?.schema))
            .collect()
    }

    fn stamp(&mut self, id: TaskId) -> Result<Option<Stamp>, MakeError> {
        let bytes = self
            .directories
            .get(id, &self.store_names(id))?
            .stamp()
            .map_err(failed)?;
        // A stamp of another version says nothing, like none.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn set_stamp(&mut self, id: TaskId, stamp: Option<&Stamp>) -> Result<(), MakeError> {
        let directory = self.directories.get(id, &self.store_names(id))?;
        let bytes = stamp.map(serde_json::to_vec).transpose().map_err(|e| MakeError {
            again: false,
            cause: format!("failed to write the stamp of task {id}: {e}"),
        })?;
        directory.set_stamp(bytes.as_deref()).map_err(failed)
    }
}
