//! Where the stores of a pipeline's tasks lie on this node, and whose they are.

use rocks::{Directory, Memory, Scratch};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use task::TaskId;
use topology::{Store, Topology};
use worker::MakeError;
use worker::stamp::Stamp;

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

    pub(crate) fn get(&self, id: TaskId, stores: &[String]) -> Result<Directory, MakeError> {
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
    pub(crate) fn open_ahead(self: &Arc<Self>, ids: Vec<(TaskId, Vec<String>)>) {
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
    pub(crate) fn scratch(&self, id: TaskId, stores: &[String]) -> Result<Scratch, MakeError> {
        let name = format!("{SHADOW}{id}-{}", uuid::Uuid::new_v4().simple());
        let directory = self.get(id, stores)?;
        directory.scratch(&self.root.join(name), &self.memory).map_err(failed)
    }

    /// So that the next [`Directories::get`] opens it anew, after a failure of its backend.
    pub(crate) fn forget(&self, id: TaskId) {
        super::lock(&self.open).remove(&id);
    }

    /// See [`worker::TaskFactory::stamp`].
    pub(crate) fn stamp(&self, id: TaskId, stores: &[String]) -> Result<Option<Stamp>, MakeError> {
        let bytes = self.get(id, stores)?.stamp().map_err(failed)?;
        // A stamp of another version says nothing, like none.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// See [`worker::TaskFactory::set_stamp`].
    pub(crate) fn set_stamp(&self, id: TaskId, stores: &[String], stamp: Option<&Stamp>) -> Result<(), MakeError> {
        let bytes = stamp.map(serde_json::to_vec).transpose().map_err(|e| MakeError {
            again: false,
            cause: format!("failed to write the stamp of task {id}: {e}"),
        })?;
        self.get(id, stores)?.set_stamp(bytes.as_deref()).map_err(failed)
    }
}

/// Stores of a task, in its order.
fn stores_of(topology: &Topology, id: TaskId) -> impl Iterator<Item = &Store> {
    let sub = topology.sub_topologies.get(id.sub_topology as usize);
    let stores = sub.map(|sub| sub.stores.as_slice()).unwrap_or_default();
    stores.iter().filter_map(|store| topology.stores.get(*store))
}

pub(crate) fn store_names(topology: &Topology, id: TaskId) -> Vec<String> {
    stores_of(topology, id).map(|store| store.name.clone()).collect()
}

/// See [`worker::TaskFactory::schemas`].
pub(crate) fn schemas(topology: &Topology, id: TaskId) -> Vec<u32> {
    stores_of(topology, id).map(|store| store.schema).collect()
}

fn failed(error: state::Error) -> MakeError {
    let again = matches!(error, state::Error::Storage { .. });
    MakeError {
        again,
        cause: format!("failed to {error}"),
    }
}
