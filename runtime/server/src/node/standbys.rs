//! The standbys of a pipeline on this node: one thread follows the changelogs of all tasks that the placement says.

use super::directories::{self, Directories};
use super::lock;
use super::runner::{RESTART_PAUSE, Shared, clock, tasks_of};
use crate::registry::{PipelineEntry, now_ms};
use broker::{Broker, Disposition};
use rocks::Database;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::{Standby, TaskId};
use topology::Topology;
use worker::control::Run;
use worker::stamp::Stamp;
use worker::standby::{Follower, Options, Source};
use worker::{MakeError, Now};

/// How long a poll waits for records: bounds how late a stop and a change of the placement are seen.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Of fetched records, all standbys together.
const QUEUE_BYTES_MAX: usize = 32 << 20;
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Tasks with stores.
pub(super) fn stateful(entry: &PipelineEntry) -> BTreeSet<TaskId> {
    let topology = &entry.details.topology;
    let has_stores = |id: &TaskId| !directories::store_names(topology, *id).is_empty();
    tasks_of(entry).into_iter().filter(has_stores).collect()
}

/// The thread that keeps them.
pub(crate) struct Keeper {
    broker: Arc<dyn Broker>,
    node: String,
    run: Run,
    options: Options,
    shelves: Shelves,
}

impl Keeper {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        directories: Arc<Directories>,
        node: &str,
        entry: &PipelineEntry,
    ) -> Self {
        let topology = Arc::new(entry.details.topology.clone());
        let run = entry.record.run();
        Self {
            broker,
            node: node.to_owned(),
            run,
            options: Options {
                incarnation: run.incarnation,
                client_id: format!("{}-{node}-standbys", topology.name),
                queue_bytes_max: QUEUE_BYTES_MAX,
                tombstones_ms: worker::TOMBSTONES_MS,
            },
            shelves: Shelves { topology, directories },
        }
    }

    /// Until the pipeline stops here.
    pub(crate) fn run(mut self, shared: &Shared) {
        let mut follower = Follower::new(self.broker.clone(), shared.shelf.clone(), self.options.clone());
        let mut shown: Option<Instant> = None;
        while !shared.stopping() {
            let wanted = lock(&shared.view).followed(self.run, &self.node);
            match follower.poll(&wanted, &mut self.shelves, now(), POLL_WAIT) {
                Ok(true) => {}
                // Without standbys the poll does not wait.
                Ok(false) if wanted.is_empty() => std::thread::sleep(POLL_WAIT),
                Ok(false) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => {
                    tracing::warn!(pipeline = %self.shelves.topology.name, %error, "standbys wait");
                    if error.disposition() != Disposition::Retry {
                        follower.reset(&mut self.shelves, now());
                    }
                    let until = Instant::now() + RESTART_PAUSE;
                    while !shared.stopping() && Instant::now() < until {
                        std::thread::sleep(POLL_WAIT);
                    }
                }
            }
            if shown.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
                shown = Some(Instant::now());
                *lock(&shared.standbys) = follower.progress(now());
            }
        }
        follower.close(&mut self.shelves, now());
        lock(&shared.standbys).clear();
    }
}

fn now() -> Now {
    Now {
        monotonic_ms: clock(),
        wall_ms: now_ms(),
    }
}

/// The directories that standbys and tasks share.
struct Shelves {
    topology: Arc<Topology>,
    directories: Arc<Directories>,
}

impl Shelves {
    fn names(&self, id: TaskId) -> Vec<String> {
        directories::store_names(&self.topology, id)
    }
}

impl Source for Shelves {
    fn make(&mut self, id: TaskId) -> Result<Standby, MakeError> {
        let directory = self.directories.get(id, &self.names(id))?;
        let backend = Box::new(Database::new(directory));
        Standby::new(&self.topology, id, backend).map_err(|e| MakeError {
            again: false,
            cause: e.to_string(),
        })
    }

    fn forget(&mut self, id: TaskId) {
        self.directories.forget(id);
    }

    fn schemas(&self, id: TaskId) -> Vec<u32> {
        directories::schemas(&self.topology, id)
    }

    fn stamp(&mut self, id: TaskId) -> Result<Option<Stamp>, MakeError> {
        self.directories.stamp(id, &self.names(id))
    }

    fn set_stamp(&mut self, id: TaskId, stamp: Option<&Stamp>) -> Result<(), MakeError> {
        self.directories.set_stamp(id, &self.names(id), stamp)
    }
}
