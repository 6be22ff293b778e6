//! The task directories of a node. They outlive its processes; a crash takes each store back to its last flush.

use crate::dice::Dice;
use crate::pipeline::Splitter;
use crate::swap::{Code, Manner};
use crate::world::World;
use record::{Batch, BatchBuilder, Fetched, TopicPartition};
use state::memory::Memory;
use state::{Backend, Bounds, Changes, Error, GlobalTable, Snapshot};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use task::{Processor, Standby, Task, TaskId};
use topology::{NodeKind, Topology};
use worker::control::PipelineRecord;
use worker::stamp::Stamp;
use worker::standby::{Lease, Shelf, Source};
use worker::swap::Versions;
use worker::{MakeError, Prepare, Processors, TaskFactory};

#[derive(Default)]
struct Directory {
    memory: Memory,
    stamp: Option<Stamp>,
    open: bool,
}

/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<BTreeMap<TaskId, Directory>>>);

impl Disk {
    /// After the process is gone: what was not flushed is lost.
    pub fn crash(&self) {
        for directory in self.0.lock().unwrap().values_mut() {
            directory.memory.crash();
            directory.open = false;
        }
    }

    pub fn lose(&self) {
        self.0.lock().unwrap().clear();
    }

    /// RocksDB flushes when it likes, a task's stores together.
    pub fn flush_some(&self, dice: &Dice) {
        for directory in self.0.lock().unwrap().values_mut() {
            if dice.chance(0.3) {
                directory.memory.clone().flush().unwrap();
            }
        }
    }

    fn open(&self, id: TaskId, lease: Option<Lease>) -> Result<Open, MakeError> {
        let mut disk = self.0.lock().unwrap();
        let directory = disk.entry(id).or_default();
        if directory.open {
            return Err(MakeError {
                again: true,
                cause: "another thread holds the directory".into(),
            });
        }
        directory.open = true;
        Ok(Open {
            memory: directory.memory.clone(),
            unread: None,
            disk: self.clone(),
            task: id,
            _lease: lease,
        })
    }

    fn stamp(&self, id: TaskId) -> Option<Stamp> {
        self.0.lock().unwrap().get(&id).and_then(|d| d.stamp.clone())
    }

    fn set_stamp(&self, id: TaskId, stamp: Option<&Stamp>) {
        self.0.lock().unwrap().entry(id).or_default().stamp = stamp.cloned();
    }

    pub fn memory(&self, task: TaskId) -> Option<Memory> {
        self.0.lock().unwrap().get(&task).map(|d| d.memory.clone())
    }
}

/// Broken on purpose, so that worlds are known to be able to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A task finds nothing in its internal store, where times are; all that it writes is there, and in the changelog.
    TimesUnread,
}

/// An open directory; closed when dropped.
struct Open {
    memory: Memory,
    /// A store in which nothing is found.
    unread: Option<usize>,
    disk: Disk,
    task: TaskId,
    /// Of a task: no standby opens it meanwhile.
    _lease: Option<Lease>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(directory) = self.disk.0.lock().unwrap().get_mut(&self.task) {
            directory.open = false;
        }
    }
}

impl Backend for Open {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if self.unread == Some(store) {
            return Ok(None);
        }
        self.memory.get(store, key)
    }

    fn scan(
        &self,
        store: usize,
        bounds: &Bounds,
        descending: bool,
        visit: state::backend::Visit<'_>,
    ) -> Result<(), Error> {
        if self.unread == Some(store) {
            return Ok(());
        }
        self.memory.scan(store, bounds, descending, visit)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), Error> {
        self.memory.apply(changes)
    }

    fn offset(&self, store: usize) -> Result<Option<i64>, Error> {
        self.memory.offset(store)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.memory.flush()
    }

    fn wipe(&mut self) -> Result<(), Error> {
        self.memory.wipe()
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.memory.snapshot()
    }
}

/// Makes tasks of the simulated pipeline on a disk.
pub struct Factory {
    pub disk: Disk,
    pub shelf: Arc<Shelf>,
    pub topology: Arc<Topology>,
    pub world: World,
    pub dice: Dice,
    pub moody: f64,
    pub broken: Option<Broken>,
}

/// The rows of a partition, and the offset behind them.
pub fn rows(world: &World, topic: &str, partition: i32) -> (Batch, i64) {
    let (mut rows, mut next) = (BatchBuilder::default(), 0);
    for row in world.rows(topic, partition) {
        rows.push(row.key.as_deref(), row.value.as_deref(), row.timestamp);
        next = row.offset + 1;
    }
    (rows.finish(), next)
}

/// The global tables by name, with all that their topics hold. A node reads them once for all its tasks; here each task
/// has its own, for nothing is written to their topics while a world runs.
fn globals(topology: &Topology, world: &World) -> HashMap<String, Arc<GlobalTable>> {
    let tables = topology.globals.iter().map(|table| {
        let made = GlobalTable::new(Box::new(Memory::default())).expect("an empty table can be made");
        for partition in 0..crate::pipeline::PARTITIONS {
            let (records, next) = rows(world, &table.topic, partition);
            made.push(&[&Fetched {
                partition: TopicPartition::new(table.topic.as_str(), partition),
                offsets: Vec::new(),
                records,
                next,
            }]);
        }
        made.settle().expect("nobody reads it yet");
        (table.name.clone(), Arc::new(made))
    });
    tables.collect()
}

/// The number of the task's internal store.
fn times_store(topology: &Topology, id: TaskId) -> Option<usize> {
    let name = topology::times_store(id.sub_topology);
    let stores = &topology.sub_topologies[id.sub_topology as usize].stores;
    stores.iter().position(|store| topology.stores[*store].name == name)
}

/// The processors of a task, by node.
pub fn processors(topology: &Topology, id: TaskId, code: Code, dice: &Dice, moody: f64) -> Processors {
    let nodes = &topology.sub_topologies[id.sub_topology as usize].nodes;
    let modules = nodes
        .iter()
        .filter(|n| matches!(topology.nodes[**n].kind, NodeKind::Module(_)));
    let splitter = || Box::new(Splitter::new(code, id, dice.clone(), moody)) as Box<dyn Processor>;
    modules.map(|n| (*n, splitter())).collect()
}

pub fn make(
    topology: &Arc<Topology>,
    world: &World,
    id: TaskId,
    processors: Processors,
    backend: Box<dyn Backend>,
) -> Result<Task, String> {
    let counts = topology
        .partition_counts(&|_| Some(crate::pipeline::PARTITIONS))
        .unwrap()
        .counts;
    // Tasks that tell their backend of every commit, of some, and only when they must.
    let caches = [0, 400, 16 << 20];
    let options = task::Options {
        run_records_max: 8,
        cache_bytes_max: caches[id.partition as usize % caches.len()],
        partition_count_of: counts.into_iter().collect(),
        max_task_idle_ms: topology.max_task_idle_ms,
        globals: globals(topology, world),
        ..task::Options::default()
    };
    Task::new(Arc::clone(topology), id, processors, backend, options).map_err(|e| e.to_string())
}

impl TaskFactory for Factory {
    fn make(&mut self, id: TaskId, _: &PipelineRecord, versions: &Versions) -> Result<Task, MakeError> {
        let lease = self.shelf.lease(id)?;
        let mut backend = Box::new(self.disk.open(id, Some(lease))?);
        backend.unread = match self.broken {
            Some(Broken::TimesUnread) => times_store(&self.topology, id),
            None => None,
        };
        let code = Code::of(versions);
        let processors = processors(&self.topology, id, code, &self.dice, self.moody);
        make(&self.topology, &self.world, id, processors, backend).map_err(|cause| MakeError { again: false, cause })
    }

    fn prepare(&mut self, id: TaskId, _: &PipelineRecord, _: &Versions, to: &Versions) -> Prepare {
        let code = Code::of(to);
        if self.dice.chance(0.3) {
            return Prepare::Later;
        }
        if code.manner == Manner::Absent {
            return Prepare::Refused("nobody has it".into());
        }
        Prepare::Ready(processors(&self.topology, id, code, &self.dice, self.moody))
    }

    fn scratch(&mut self, id: TaskId) -> Result<Box<dyn Backend>, MakeError> {
        let memory = self.disk.memory(id).expect("the task is open");
        Ok(Box::new(memory.copy()))
    }

    fn schemas(&self, id: TaskId) -> Vec<u32> {
        schemas(&self.topology, id)
    }

    fn stamp(&mut self, id: TaskId) -> Result<Option<Stamp>, MakeError> {
        Ok(self.disk.stamp(id))
    }

    fn set_stamp(&mut self, id: TaskId, stamp: Option<&Stamp>) -> Result<(), MakeError> {
        self.disk.set_stamp(id, stamp);
        Ok(())
    }
}

fn schemas(topology: &Topology, id: TaskId) -> Vec<u32> {
    let sub = &topology.sub_topologies[id.sub_topology as usize];
    sub.stores.iter().map(|s| topology.stores[*s].schema).collect()
}

/// Opens standbys on a disk.
pub struct Copies {
    pub disk: Disk,
    pub topology: Arc<Topology>,
}

impl Source for Copies {
    fn make(&mut self, id: TaskId) -> Result<Standby, MakeError> {
        let backend = Box::new(self.disk.open(id, None)?);
        let standby = Standby::new(&self.topology, id, backend);
        standby.map_err(|e| MakeError {
            again: false,
            cause: e.to_string(),
        })
    }

    fn forget(&mut self, _: TaskId) {}

    fn schemas(&self, id: TaskId) -> Vec<u32> {
        schemas(&self.topology, id)
    }

    fn stamp(&mut self, id: TaskId) -> Result<Option<Stamp>, MakeError> {
        Ok(self.disk.stamp(id))
    }

    fn set_stamp(&mut self, id: TaskId, stamp: Option<&Stamp>) -> Result<(), MakeError> {
        self.disk.set_stamp(id, stamp);
        Ok(())
    }
}
