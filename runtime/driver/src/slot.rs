//! One task of the driver and what outlives it: its stores, their changelogs, its committed positions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use record::TopicPartition;
use state::memory::Memory;
use task::{Options, Ran, Staged, Task, TaskId};
use topology::{NodeKind, SubTopology, Topology};

use crate::error::Error;
use crate::globals::Globals;
use crate::log::{Log, columns};
use crate::rest::RestoreFrom;
use crate::{NewProcessor, topics};

/// Rows of a changelog that are restored at once: few, so that small cases have several pages.
const RESTORE_ROWS: usize = 16;

/// The flush of a table that keeps failing is repeated this often; the step's own `retries` end it sooner.
const FLUSH_ATTEMPTS_MAX: usize = 1_000;

pub struct Slot {
    pub id: TaskId,
    task: Task,
    memory: Memory,
    /// By store.
    changelogs: Vec<Log>,
    /// Where each source is to be fetched next.
    fetched: BTreeMap<TopicPartition, i64>,
    positions: Vec<(TopicPartition, i64)>,
    stream_time: i64,
    pub idle_until: Option<i64>,
    pub run_rows_max: usize,
}

fn failed(id: TaskId) -> impl Fn(task::Error) -> Error {
    move |error| Error::Task {
        id,
        error: Box::new(error),
    }
}

impl Slot {
    pub fn new(
        topology: &Arc<Topology>,
        sub: &SubTopology,
        new: &NewProcessor,
        globals: &Globals,
    ) -> Result<Self, Error> {
        let id = TaskId {
            sub_topology: sub.id,
            partition: 0,
        };
        let memory = Memory::default();
        let task = made(topology, sub, id, &memory, (new, globals))?;
        Ok(Self {
            id,
            changelogs: vec![Log::default(); task.changelogs().len()],
            fetched: task.sources().iter().map(|source| (source.clone(), 0)).collect(),
            positions: task.sources().iter().map(|source| (source.clone(), 0)).collect(),
            task,
            memory,
            stream_time: -1,
            idle_until: None,
            run_rows_max: 0,
        })
    }

    pub fn start(&mut self, wall_time: i64) -> Result<(), Error> {
        for (source, position) in &self.positions {
            self.task.set_position(source, *position);
        }
        self.task.start(self.stream_time, wall_time).map_err(failed(self.id))
    }

    /// Reads all that the logs hold.
    pub fn fetch(&mut self, logs: &BTreeMap<Arc<str>, Log>) -> Result<(), Error> {
        for (source, next) in &mut self.fetched {
            let found = logs.get(&source.topic).and_then(|log| log.fetch(source, *next));
            if let Some(found) = found {
                *next = found.next;
                self.task.add(found).map_err(failed(self.id))?;
            }
            self.task.set_end(source, true);
        }
        Ok(())
    }

    /// One run; whether it did anything.
    pub fn run(&mut self, wall_time: i64) -> Result<bool, Error> {
        match self.task.run(wall_time).map_err(failed(self.id))? {
            Ran::Worked { rows } => {
                self.run_rows_max = self.run_rows_max.max(rows);
                Ok(true)
            }
            Ran::Idle { until } => {
                self.idle_until = until;
                Ok(false)
            }
            Ran::Full => {
                let error = task::Error::Contract("uncommitted changes have no bound here, and reached it".into());
                Err(failed(self.id)(error))
            }
        }
    }

    pub fn take_staged(&mut self) -> Vec<Staged> {
        self.task.take_staged()
    }

    pub fn queued(&self) -> usize {
        self.task
            .sources()
            .iter()
            .map(|source| self.task.buffered(source).records)
            .sum()
    }

    pub fn uncommitted(&self) -> bool {
        self.task.uncommitted()
    }

    /// Gives what the tables emit; then [`Slot::commit`].
    pub fn flush_tables(&mut self, wall_time: i64) -> Result<Vec<Staged>, Error> {
        let mut attempts = 1;
        loop {
            match self.task.flush_tables(wall_time) {
                Ok(()) => return Ok(self.task.take_staged()),
                Err(task::Error::Retry { .. }) if attempts < FLUSH_ATTEMPTS_MAX => attempts += 1,
                Err(error) => return Err(failed(self.id)(error)),
            }
        }
    }

    pub fn commit(&mut self) -> Result<(), Error> {
        let mut next = Vec::new();
        for (store, rows) in self.task.changelog_rows().map_err(failed(self.id))? {
            if let Some(changelog) = self.changelogs.get_mut(store) {
                changelog.append(&rows);
                next.push((store, changelog.end()));
            }
        }
        self.positions = self.task.positions();
        self.stream_time = self.task.stream_time();
        self.task.committed(&next).map_err(failed(self.id))?;
        self.task.flush_state().map_err(failed(self.id))
    }

    /// Puts a new task in place of this one, at the last commit.
    pub fn restart(
        &mut self,
        topology: &Arc<Topology>,
        (new, globals): (&NewProcessor, &Globals),
        from: RestoreFrom,
        wall_time: i64,
    ) -> Result<(), Error> {
        let sub = topology
            .sub_topologies
            .iter()
            .find(|sub| sub.id == self.id.sub_topology);
        let Some(sub) = sub else { return Ok(()) };
        self.task.flush_state().map_err(failed(self.id))?;
        let memory = match from {
            RestoreFrom::Stores => self.memory.clone(),
            RestoreFrom::Changelogs => Memory::default(),
        };
        let task = made(topology, sub, self.id, &memory, (new, globals))?;
        std::mem::replace(&mut self.task, task).close();
        if from == RestoreFrom::Changelogs {
            self.restore()?;
            for (local, store) in sub.stores.iter().enumerate() {
                if memory.entries(local) != self.memory.entries(local) {
                    let store = topology.stores.get(*store).map(|s| s.name.clone()).unwrap_or_default();
                    return Err(Error::Changelog { store });
                }
            }
        }
        self.memory = memory;
        self.fetched = self.positions.iter().cloned().collect();
        self.idle_until = None;
        self.start(wall_time)
    }

    fn restore(&mut self) -> Result<(), Error> {
        for (store, changelog) in self.changelogs.iter().enumerate() {
            let mut next = 0;
            for page in changelog.records().chunks(RESTORE_ROWS) {
                next += page.len() as i64;
                self.task
                    .restore(store, &columns(page), next)
                    .map_err(failed(self.id))?;
            }
        }
        self.task.flush_state().map_err(failed(self.id))
    }

    pub fn entries(&self, store: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.memory.entries(store)
    }
}

fn made(
    topology: &Arc<Topology>,
    sub: &SubTopology,
    id: TaskId,
    memory: &Memory,
    (new, globals): (&NewProcessor, &Globals),
) -> Result<Task, Error> {
    let mut processors = HashMap::new();
    for node in &sub.nodes {
        let Some(found) = topology.nodes.get(*node) else {
            continue;
        };
        if let NodeKind::Module(step) = &found.kind {
            let made = new(id, *node, step);
            let made = made.map_err(|cause| Error::Processor {
                step: found.name.clone(),
                cause,
            })?;
            processors.insert(*node, made);
        }
    }
    let options = Options {
        // A commit for lack of memory would come where nobody asked for one.
        overlay_bytes_max: usize::MAX,
        globals: globals.by_name(),
        max_task_idle_ms: topology.max_task_idle_ms,
        partition_count_of: topics(topology).map(|topic| (topic.to_string(), 1)).collect(),
        ..Options::default()
    };
    let backend = Box::new(memory.clone());
    Task::new(Arc::clone(topology), id, processors, backend, options).map_err(failed(id))
}
