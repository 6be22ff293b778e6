//! A copy of a task's state that follows its changelogs on another node: stores without processors.

use record::{Batch, TopicPartition};
use state::{Backend, Layout, Snapshot, Stores};
use topology::Topology;

use crate::error::Error;
use crate::nodes;
use crate::options::TaskId;
use crate::restore::take_rows;

/// Memory of one standby for rows that its backend has not been told of. A node may hold many, and none of them is read
/// by records.
const CACHE_BYTES_MAX: usize = 2 << 20;

/// See the page of the module.
pub struct Standby {
    id: TaskId,
    stores: Stores,
    changelogs: Vec<TopicPartition>,
    layouts: Vec<Option<Layout>>,
}

impl Standby {
    /// `backend` numbers stores as [`changelogs`](Self::changelogs) does, as the task's own.
    ///
    /// # Errors
    /// [`Error::Contract`] when the topology has no such task.
    pub fn new(topology: &Topology, id: TaskId, backend: Box<dyn Backend>) -> Result<Self, Error> {
        let sub = topology.sub_topologies.iter().find(|s| s.id == id.sub_topology);
        let sub = sub.ok_or_else(|| Error::Contract(format!("there is no sub-topology {}", id.sub_topology)))?;
        let nodes::Stores {
            specs,
            changelogs,
            layouts,
            ..
        } = nodes::Stores::new(topology, sub)?;
        let changelog = |topic: &String| TopicPartition::new(topic.as_str(), id.partition);
        Ok(Self {
            id,
            stores: Stores::new(specs, backend, CACHE_BYTES_MAX),
            changelogs: changelogs.iter().map(changelog).collect(),
            layouts,
        })
    }

    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Changelog partition of each store; a store's number is its position.
    pub fn changelogs(&self) -> &[TopicPartition] {
        &self.changelogs
    }

    /// As [`Task::restored_offset`](crate::Task::restored_offset).
    ///
    /// # Errors
    /// Those of the backend.
    pub fn offset(&self, store: usize) -> Result<Option<i64>, Error> {
        Ok(self.stores.offset(store)?)
    }

    /// Takes committed rows of a changelog, with `next` as the offset to go on from.
    ///
    /// # Errors
    /// As [`Task::restore`](crate::Task::restore).
    pub fn follow(&mut self, store: usize, rows: &Batch, next: i64) -> Result<(), Error> {
        take_rows(&mut self.stores, &self.layouts, store, rows, next)
    }

    /// Empties all stores, and forgets their offsets.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn wipe(&mut self) -> Result<(), Error> {
        Ok(self.stores.wipe()?)
    }

    /// Makes what was read durable.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn flush(&mut self) -> Result<(), Error> {
        Ok(self.stores.flush()?)
    }

    /// Gives all of it to the backend, for whoever opens that next.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn write_back(&mut self) -> Result<(), Error> {
        Ok(self.stores.write_back()?)
    }

    /// What was read so far, for queries: a batch of a changelog may end within a commit of its task.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn snapshot(&mut self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(self.stores.snapshot()?)
    }
}
