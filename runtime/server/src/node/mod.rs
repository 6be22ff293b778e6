//! A node: a broker, a sandbox, the registry, and the pipelines that run here.
//!
//! Methods here are what REST and the command line ask for; they may wait and are called from blocking threads. What
//! runs by itself (stream threads, coordinators, the watcher of the control topic) is in `runner`.

mod apply;
mod call_times;
mod cluster;
mod committer;
mod directories;
mod globals;
mod grants;
mod guest_log;
mod letters;
mod membership;
mod metrics;
mod modules;
mod parse;
mod peers;
mod placed;
mod prepare;
mod query;
mod reset;
mod runner;
mod standbys;
mod status;
mod steps;
mod swap;
mod tap;
mod tasks;
mod teardown;
mod topics;

pub use peers::authorities;

pub(crate) use guest_log::Follower;
pub(crate) use modules::described;
pub(crate) use parse::{file_for, parsed};
pub(crate) use tap::Tap;

use crate::Config;
use crate::refusal::{Fault, Refusal};
use crate::registry::Registry;
use broker::{Broker, Producer};
use outbound::Outbound;
use runner::RunningPipeline;
use sandbox::{Sandbox, SandboxOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use worker::control::State;

/// How often a broker that does not answer is tried again at start.
const BROKER_RETRY: Duration = Duration::from_secs(1);
/// How long one try waits: long enough for TLS on a busy machine, short enough that the log soon says what is wrong.
const BROKER_TRY_MIN: Duration = Duration::from_millis(500);
const BROKER_TRY_MAX: Duration = Duration::from_secs(3);
/// How often the control topic is looked at for what other nodes wrote.
const WATCH: Duration = Duration::from_millis(500);
/// The same while a swap is under way, so that its next step is not waited for.
const WATCH_SWAP: Duration = Duration::from_millis(50);
/// At a leave, for tasks to be taken over; beyond it they are found ownerless.
const HAND_OVER_WAIT: Duration = Duration::from_secs(30);
/// How often retention and compaction of the embedded log get a turn.
const MAINTAIN: Duration = Duration::from_secs(10);

pub struct Node {
    pub(crate) config: Config,
    broker: Arc<dyn Broker>,
    /// The embedded log, when that is the broker.
    log: Option<local::Log>,
    sandbox: Sandbox,
    outbound: Outbound,
    peers: peers::Peers,
    memory: rocks::Memory,
    registry: Mutex<Registry>,
    /// Modules in use or asked for, by digest.
    loaded: Mutex<BTreeMap<String, sandbox::Module>>,
    running: Mutex<BTreeMap<String, RunningPipeline>>,
    guest_log: Arc<guest_log::GuestLog>,
    taps: tap::TapsByPipeline,
    /// Of `produce`, one page at a time.
    producer: Mutex<Option<Box<dyn Producer>>>,
    started: Instant,
    stopping: AtomicBool,
    /// Somebody has asked for the end of this process.
    pub(crate) ended: tokio::sync::Notify,
}

/// A lock whose holder panicked still guards usable data here: every change is a single assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// Opens everything, then starts the pipelines that the control topic says are running.
    /// `runtime` does the requests of modules; `modules` are going to be added soon.
    pub fn start(config: Config, runtime: Handle, modules: Vec<PathBuf>) -> Result<Arc<Self>, Refusal> {
        let create = |path: &Path| {
            std::fs::create_dir_all(path).map_err(|e| {
                Refusal::invalid(
                    "data-dir",
                    format!("failed to create the data directory `{}`: {e}", path.display()),
                )
            })
        };
        create(&config.data_dir)?;
        let sandbox = Sandbox::new(SandboxOptions {
            cache_dir: Some(config.data_dir.join("compiled")),
        })
        .map_err(|e| Refusal::ours(format!("failed to start the sandbox: {e}")))?;
        modules::compile_ahead(&sandbox, modules);
        let (broker, log) = open_broker(&config)?;
        let registry = Registry::open(broker.clone(), &config.cluster, &config.node)?;
        let node = Arc::new(Self {
            memory: rocks::Memory::new(config.state_memory),
            outbound: Outbound::new(runtime, config.outbound()),
            peers: peers::Peers::new(&config)?,
            config,
            broker,
            log,
            sandbox,
            registry: Mutex::new(registry),
            loaded: Mutex::default(),
            running: Mutex::default(),
            guest_log: Arc::default(),
            taps: Mutex::default(),
            producer: Mutex::default(),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            ended: tokio::sync::Notify::new(),
        });
        node.reconcile();
        Ok(node)
    }

    /// What the threads of a pipeline share; `None` where none runs here.
    fn shared(&self, pipeline: &str) -> Option<Arc<runner::Shared>> {
        lock(&self.running).get(pipeline).map(|running| running.shared.clone())
    }

    /// A reader of what guests write.
    pub(crate) fn logs(&self, request: crate::api::logs::LogsRequest) -> Result<Follower, Refusal> {
        if let Some(pipeline) = &request.pipeline {
            self.entry(pipeline)?;
        }
        self.guest_log.follow(request)
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    /// Runs until [`Node::stop`]: follows the control topic, maintains the embedded log.
    pub(crate) fn watch(self: &Arc<Self>) {
        let mut maintained = Instant::now();
        let mut pause = WATCH;
        while !self.stopping.load(Ordering::Relaxed) {
            std::thread::park_timeout(pause);
            let changed = self.registry().refresh();
            match changed {
                Ok(_) => self.reconcile(),
                Err(error) => tracing::warn!(%error, "the control topic cannot be read; trying again"),
            }
            pause = if self.drive_swaps() { WATCH_SWAP } else { WATCH };
            if let Some(log) = &self.log
                && maintained.elapsed() >= MAINTAIN
            {
                maintained = Instant::now();
                if let Err(error) = log.maintain(crate::registry::now_ms()) {
                    tracing::warn!(%error, "failed to clean the embedded log");
                }
            }
        }
    }

    /// Brings what runs here to what the control topic says.
    fn reconcile(self: &Arc<Self>) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let mut wanted = self.registry().view().pipelines.clone();
        wanted.retain(|_, entry| matches!(entry.record.state, State::Running | State::Paused));
        let mut running = lock(&self.running);
        // Another run, or the same with other settings or module versions: the threads bounce, state and tasks stay.
        let gone: Vec<String> = running
            .iter()
            .filter(|(name, run)| wanted.get(*name).is_none_or(|entry| !run.is_of(entry)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(mut pipeline) = running.remove(&name) {
                if wanted.contains_key(&name) {
                    pipeline.stop()
                } else {
                    pipeline.leave()
                }
            }
        }
        for (name, entry) in &wanted {
            match running.get_mut(name) {
                Some(pipeline) => pipeline.update(self, entry),
                None => match RunningPipeline::start(self, entry) {
                    Ok(pipeline) => {
                        running.insert(name.clone(), pipeline);
                    }
                    Err(refusal) => {
                        tracing::error!(pipeline = %name, "failed to start: {refusal}");
                        running.insert(name.clone(), RunningPipeline::failed(entry, refusal.message));
                    }
                },
            }
        }
    }

    /// A bounce: threads commit, close and stay members; a restart within the session moves nothing.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let mut running = std::mem::take(&mut *lock(&self.running));
        for pipeline in running.values_mut() {
            pipeline.ask_to_stop();
        }
        for pipeline in running.values_mut() {
            pipeline.stop();
        }
        if let Some(log) = &self.log
            && let Err(error) = log.clone().close()
        {
            tracing::error!("failed to {error}");
        }
    }

    /// For good: tasks go to other nodes one by one, the threads leave the groups; then the process ends.
    pub fn leave(&self) {
        tracing::info!("leaving the cluster");
        self.stopping.store(true, Ordering::Relaxed);
        let mut running = std::mem::take(&mut *lock(&self.running));
        running.values().for_each(RunningPipeline::ask_to_hand_over);
        let deadline = Instant::now() + HAND_OVER_WAIT;
        running.values().for_each(|pipeline| pipeline.await_hand_over(deadline));
        running.values().for_each(RunningPipeline::ask_to_leave);
        running.values_mut().for_each(RunningPipeline::stop);
        self.ended.notify_one();
    }

    /// `Err` says why the node does not serve.
    pub fn health(&self) -> Result<(), String> {
        match self.stopping.load(Ordering::Relaxed) {
            true => Err("stopping".into()),
            false => Ok(()),
        }
    }
}

type Opened = (Arc<dyn Broker>, Option<local::Log>);

fn open_broker(config: &Config) -> Result<Opened, Refusal> {
    if config.brokers.is_empty() {
        let options = local::Options {
            sync: config.sync,
            ..local::Options::default()
        };
        let log = local::Log::open(&config.data_dir.join("log"), options)?;
        return Ok((Arc::new(log.clone()), Some(log)));
    }
    let deadline = Instant::now() + config.broker_timeout;
    let connect = || {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = left.clamp(BROKER_TRY_MIN, BROKER_TRY_MAX);
        let kafka = kafka::Kafka::connect(&config.brokers, config.kafka_settings(), wait)?;
        let cluster = kafka.admin()?.cluster_id()?;
        Ok::<_, broker::Error>((kafka, cluster))
    };
    loop {
        match connect() {
            Ok((kafka, cluster)) => {
                tracing::info!(brokers = %config.brokers, %cluster, "connected to Kafka");
                return Ok((Arc::new(kafka), None));
            }
            Err(error) if Instant::now() < deadline && error.disposition() == broker::Disposition::Retry => {
                tracing::warn!(%error, "the broker does not answer; trying again");
                std::thread::sleep(BROKER_RETRY);
            }
            Err(error) => {
                let message = format!(
                    "failed to reach Kafka at {} within {:?}: {error}\n\
                     hint: is the broker there? `wasmill doctor --brokers {}` looks",
                    config.brokers, config.broker_timeout, config.brokers
                );
                return Err(Refusal::new(Fault::Unavailable, "unavailable", message));
            }
        }
    }
}

/// For `doctor`: what answers at these addresses.
pub fn probe(brokers: &str) -> Result<String, Refusal> {
    let kafka = kafka::Kafka::new(brokers, BTreeMap::new())?;
    let mut admin = kafka.admin()?;
    let cluster = admin.cluster_id()?;
    let topics = admin.topics()?.len();
    Ok(format!("cluster {cluster}, {topics} topics"))
}
