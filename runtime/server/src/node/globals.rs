//! The global tables of a pipeline on this node: one thread reads their topics; coordinator and stream threads begin when
//! the tables are whole.

use super::lock;
use super::runner::Shared;
use crate::registry::{PipelineEntry, now_ms};
use broker::Broker;
use rocks::{Database, Directory, Memory};
use state::{GLOBAL_STORES, GlobalTable};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use worker::globals::{Error, Given, Globals, Options, Polled, Progress, Stamps};
use worker::stamp::Stamp;

/// How long a poll waits for records: bounds how late a stop is seen.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Between two looks whether the tables are whole.
const WHOLE_PAUSE: Duration = Duration::from_millis(10);
/// While runs of tasks hold what waits for them.
const HELD_PAUSE: Duration = Duration::from_millis(1);
/// After a failure.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Of fetched records, all tables together.
const QUEUE_BYTES_MAX: usize = 16 << 20;
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What others see of it.
#[derive(Default)]
pub(crate) struct Tables {
    open: Mutex<HashMap<String, Arc<GlobalTable>>>,
    whole: AtomicBool,
    progress: Mutex<Vec<Progress>>,
    /// Why the tables do not follow their topics.
    trouble: Mutex<Option<String>>,
}

impl Tables {
    /// Of a pipeline without any, nothing is waited for.
    pub(crate) fn new(any: bool) -> Self {
        Self {
            whole: AtomicBool::new(!any),
            ..Self::default()
        }
    }

    /// Whether tasks may begin.
    pub(crate) fn are_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Until they are whole, or `goes_on` says no.
    pub(crate) fn wait(&self, goes_on: impl Fn() -> bool) {
        while goes_on() && !self.are_whole() {
            std::thread::sleep(WHOLE_PAUSE);
        }
    }

    pub(crate) fn by_name(&self) -> HashMap<String, Arc<GlobalTable>> {
        lock(&self.open).clone()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<GlobalTable>> {
        lock(&self.open).get(name).cloned().filter(|_| self.are_whole())
    }

    pub(crate) fn progress(&self) -> Vec<Progress> {
        lock(&self.progress).clone()
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }
}

/// The thread that keeps them.
pub(crate) struct Keeper {
    broker: Arc<dyn Broker>,
    memory: Memory,
    /// Where the directories of the run lie.
    root: PathBuf,
    pipeline: String,
    options: Options,
    given: Vec<(String, String)>,
    directories: BTreeMap<String, Directory>,
}

impl Keeper {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        memory: Memory,
        root: PathBuf,
        node: &str,
        entry: &PipelineEntry,
    ) -> Self {
        let topology = &entry.details.topology;
        let tables = topology.globals.iter();
        Self {
            broker,
            memory,
            root,
            pipeline: topology.name.clone(),
            options: Options {
                incarnation: entry.record.run().incarnation,
                client_id: format!("{}-{node}-globals", topology.name),
                queue_bytes_max: QUEUE_BYTES_MAX,
                in_use: false,
            },
            given: tables.map(|table| (table.name.clone(), table.topic.clone())).collect(),
            directories: BTreeMap::new(),
        }
    }

    /// Until the pipeline stops here.
    pub(crate) fn run(mut self, shared: &Shared) {
        let tables = &shared.globals;
        while !shared.stopping() {
            let Err(error) = self.follow(shared) else { break };
            let text = match &error {
                Error::Stop(text) => text.clone(),
                error => format!("failed to {error}"),
            };
            let known = lock(&tables.trouble).replace(text.clone());
            if known.as_ref() != Some(&text) {
                match error {
                    Error::Stop(_) => tracing::error!(pipeline = %self.pipeline, "{text}"),
                    _ => {
                        tracing::warn!(pipeline = %self.pipeline, "global tables are not followed, trying again: {text}")
                    }
                }
            }
            let until = Instant::now() + RESTART_PAUSE;
            while !shared.stopping() && Instant::now() < until {
                std::thread::sleep(POLL_WAIT);
            }
        }
        // Whoever comes next opens the directories.
        lock(&tables.open).clear();
    }

    fn follow(&mut self, shared: &Shared) -> Result<(), Error> {
        let tables = &shared.globals;
        let given = self.open(tables)?;
        self.options.in_use = tables.are_whole();
        let options = self.options.clone();
        let broker = self.broker.clone();
        let mut globals = Globals::open(&*broker, given, &options, self, now_ms())?;
        let began = Instant::now();
        let mut shown: Option<Instant> = None;
        while !shared.stopping() {
            let polled = globals.poll(POLL_WAIT, self, now_ms())?;
            if shown.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY)
                || (polled != Polled::Reading && !tables.are_whole())
            {
                shown = Some(Instant::now());
                *lock(&tables.progress) = globals.progress();
            }
            lock(&tables.trouble).take();
            match polled {
                Polled::Reading => {}
                Polled::Held => std::thread::sleep(HELD_PAUSE),
                Polled::Whole if !tables.whole.swap(true, Ordering::Release) => {
                    let read: i64 = globals.progress().iter().map(|table| table.read).sum();
                    let took = began.elapsed();
                    tracing::info!(pipeline = %self.pipeline, read, ?took, "global tables are whole");
                }
                Polled::Whole => {}
            }
        }
        globals.close(self, now_ms())
    }

    /// The tables; opened once for all tries.
    fn open(&mut self, tables: &Tables) -> Result<Vec<Given>, Error> {
        let mut given = Vec::new();
        for (name, topic) in &self.given {
            let known = lock(&tables.open).get(name).cloned();
            let table = match known {
                Some(table) => table,
                None => {
                    let path = self.root.join(format!("global-{name}"));
                    let stores = GLOBAL_STORES.map(str::to_owned);
                    let directory = Directory::open(&path, &stores, &self.memory)?;
                    let table = Arc::new(GlobalTable::new(Box::new(Database::new(directory.clone())))?);
                    self.directories.insert(name.clone(), directory);
                    lock(&tables.open).insert(name.clone(), table.clone());
                    table
                }
            };
            given.push(Given {
                name: name.clone(),
                topic: topic.clone(),
                table,
            });
        }
        Ok(given)
    }

    fn directory(&self, table: &str) -> Result<&Directory, state::Error> {
        let found = self.directories.get(table);
        found.ok_or_else(|| state::Error::Misuse(format!("global table `{table}` is not open")))
    }
}

impl Stamps for Keeper {
    fn stamp(&mut self, table: &str) -> Result<Option<Stamp>, state::Error> {
        let bytes = self.directory(table)?.stamp()?;
        // A stamp of another version says nothing, like none.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn set_stamp(&mut self, table: &str, stamp: Option<&Stamp>) -> Result<(), state::Error> {
        let bytes = stamp.map(serde_json::to_vec).transpose();
        let bytes = bytes.map_err(|e| state::Error::Misuse(format!("write the stamp of `{table}`: {e}")))?;
        self.directory(table)?.set_stamp(bytes.as_deref())
    }
}
