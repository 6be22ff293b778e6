//! The threads of one pipeline on this node: a coordinator (`membership`) and its stream threads, each a loop around a
//! state machine; also those of its global tables and standbys, where there are any.

use super::Node;
use super::committer::{Committer, PositionRequest};
use super::directories::Directories;
use super::globals::{Keeper, Tables};
use super::standbys;
use super::tasks::Factory;
use super::{membership, steps};
use crate::refusal::Refusal;
use crate::registry::{PipelineEntry, control_topic, now_ms};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use task::TaskId;
use topology::{Guarantee, NodeKind};
use worker::control::{Run, State};
use worker::standby::{self, Shelf};
use worker::swap::Ballot;
use worker::{Now, Options, Progress, Random, Stop, TaskSnapshot, Worker, placement};

/// How often a stream thread publishes its status.
const STATUS_EVERY: Duration = Duration::from_millis(100);
/// After a stream thread or a coordinator failed.
pub(super) const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// A stop waits for the last commit; beyond this the thread is left to the broker's timeouts.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// How long a query waits for the thread that holds the task.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(5);

/// What the threads of a pipeline share.
pub(crate) struct Shared {
    pub(crate) threads: Vec<ThreadShare>,
    pub(crate) globals: Tables,
    /// Copies of tasks that run on other nodes.
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) standbys: Mutex<Vec<standby::Progress>>,
    /// How the threads agree on a swap.
    ballot: Ballot,
    stop: AtomicBool,
    /// Leave the group at the end, for a pipeline or node that is gone; a bounce keeps the membership.
    pub(super) leave: AtomicBool,
    /// Tasks go to other nodes, one release after the other.
    pub(super) hands_over: AtomicBool,
    /// All have gone, or nobody is there to take them.
    pub(super) handed_over: AtomicBool,
    paused: AtomicBool,
    /// Milliseconds of [`clock`] at which the membership was last confirmed; -1 before.
    pub(super) confirmed_at: AtomicI64,
    /// Why the coordinator does not work.
    pub(crate) trouble: Mutex<Option<String>>,
    /// Whether this node leads the pipeline.
    pub(crate) leads: AtomicBool,
    /// The placement topic as the coordinator has read it.
    pub(crate) view: Mutex<placement::View>,
}

pub(crate) struct ThreadShare {
    pub(crate) id: String,
    pub(crate) status: Mutex<Option<worker::Status>>,
    /// In the clock of [`clock`].
    pub(super) advanced_at: AtomicI64,
    pub(crate) restarts: AtomicU64,
    requests: Sender<Sender<Vec<TaskSnapshot>>>,
    inbox: Receiver<Sender<Vec<TaskSnapshot>>>,
}

pub(crate) struct RunningPipeline {
    run: Run,
    applied_at: i64,
    pub(crate) shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Set when it could not be started at all.
    pub(crate) failure: Option<String>,
}

/// Milliseconds since this process first asked; never goes back.
pub(crate) fn clock() -> i64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as i64
}

struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&mut self) -> u64 {
        uuid::Uuid::new_v4().as_u64_pair().0
    }
}

impl Shared {
    fn new(threads: Vec<String>, globals: Tables) -> Self {
        let share = |id| {
            let (requests, inbox) = unbounded();
            ThreadShare {
                id,
                status: Mutex::default(),
                advanced_at: AtomicI64::new(clock()),
                restarts: AtomicU64::new(0),
                requests,
                inbox,
            }
        };
        Self {
            ballot: Ballot::new(threads.iter().cloned()),
            threads: threads.into_iter().map(share).collect(),
            globals,
            shelf: Arc::default(),
            standbys: Mutex::default(),
            stop: AtomicBool::new(false),
            leave: AtomicBool::new(false),
            hands_over: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            confirmed_at: AtomicI64::new(-1),
            trouble: Mutex::default(),
            leads: AtomicBool::new(false),
            view: Mutex::default(),
        }
    }

    /// What threads and coordinator do now, as the record says.
    fn follow(&self, entry: &PipelineEntry) {
        self.paused
            .store(entry.record.state == State::Paused, Ordering::Relaxed);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether the group has heard of this node within `session`: beyond that its tasks may be others'.
    pub(crate) fn is_proven(&self, session: Duration) -> bool {
        let at = self.confirmed_at.load(Ordering::Relaxed);
        at >= 0 && clock() - at <= session.as_millis() as i64
    }

    /// Committed state of all tasks that run here.
    pub(crate) fn snapshots(&self) -> Vec<TaskSnapshot> {
        let asked: Vec<_> = self
            .threads
            .iter()
            .filter_map(|thread| {
                let (answer, snapshots) = bounded(1);
                thread.requests.send(answer).ok().map(|()| snapshots)
            })
            .collect();
        let deadline = Instant::now() + SNAPSHOT_WAIT;
        asked
            .into_iter()
            .filter_map(|snapshots| snapshots.recv_deadline(deadline).ok())
            .flatten()
            .collect()
    }
}

impl RunningPipeline {
    pub(crate) fn start(node: &Arc<Node>, entry: &PipelineEntry) -> Result<Self, Refusal> {
        let run = entry.record.run();
        let name = &entry.details.topology.name;
        let config = &node.config;
        node.check_grants(&entry.details.topology)?;
        let ids: Vec<String> = (0..config.threads)
            .map(|n| placement::thread_id(name, &config.node, n as u32))
            .collect();
        let topology = &entry.details.topology;
        let shared = Arc::new(Shared::new(ids, Tables::new(!topology.globals.is_empty())));
        shared.follow(entry);
        let root = config.data_dir.join("state").join(name);
        let root = root.join(run.incarnation.to_string());
        let directories = Arc::new(Directories::new(root.clone(), node.memory.clone()));
        let (positions, requests) = unbounded();
        let follows = !config.brokers.is_empty() && !standbys::stateful(entry).is_empty();
        let mut handles = vec![spawn(format!("{name}-coordinator"), {
            let (broker, shared) = (node.broker.clone(), shared.clone());
            let options = membership::options(node, entry, follows);
            move || membership::follow(&broker, &options, &shared, &requests)
        })?];
        if follows {
            let keeper = standbys::Keeper::new(node.broker.clone(), directories.clone(), &config.node, entry);
            let shared = shared.clone();
            handles.push(spawn(format!("{name}-standbys"), move || keeper.run(&shared))?);
        }
        if !topology.globals.is_empty() {
            let keeper = Keeper::new(node.broker.clone(), node.memory.clone(), root, &config.node, entry);
            let shared = shared.clone();
            handles.push(spawn(format!("{name}-globals"), move || keeper.run(&shared))?);
        }
        for index in 0..shared.threads.len() {
            let thread = StreamThread {
                node: node.clone(),
                entry: entry.clone(),
                directories: directories.clone(),
                shared: shared.clone(),
                positions: positions.clone(),
                index,
            };
            handles.push(spawn(format!("{name}-{index}"), move || thread.run())?);
        }
        Ok(Self {
            run,
            applied_at: entry.details.applied_at,
            shared,
            handles,
            failure: None,
        })
    }

    /// Takes the place of a pipeline that could not be started, so that `status` can say why.
    pub(crate) fn failed(entry: &PipelineEntry, reason: String) -> Self {
        let shared = Arc::new(Shared::new(Vec::new(), Tables::new(false)));
        let (run, applied_at) = (entry.record.run(), entry.details.applied_at);
        Self {
            run,
            applied_at,
            shared,
            handles: Vec::new(),
            failure: Some(reason),
        }
    }

    /// Whether these threads run what `entry` says.
    pub(crate) fn is_of(&self, entry: &PipelineEntry) -> bool {
        self.run == entry.record.run() && self.applied_at == entry.details.applied_at
    }

    pub(crate) fn update(&mut self, node: &Arc<Node>, entry: &PipelineEntry) {
        self.shared.follow(entry);
        if self.failure.is_some()
            && let Ok(started) = Self::start(node, entry)
        {
            *self = started;
        }
    }

    pub(crate) fn ask_to_stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// As [`RunningPipeline::stop`], and leaves the group.
    pub(crate) fn leave(&mut self) {
        self.ask_to_leave();
        self.stop();
    }

    pub(crate) fn ask_to_leave(&self) {
        self.shared.leave.store(true, Ordering::Relaxed);
        self.ask_to_stop();
    }

    /// Tasks are placed on other nodes from now on, while those that are still here work on.
    pub(crate) fn ask_to_hand_over(&self) {
        self.shared.hands_over.store(true, Ordering::Relaxed);
    }

    /// Waits until `deadline` for the last task to be released.
    pub(crate) fn await_hand_over(&self, deadline: Instant) {
        let done = || self.handles.is_empty() || self.shared.handed_over.load(Ordering::Relaxed);
        while !done() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Commits, closes, and waits for it.
    pub(crate) fn stop(&mut self) {
        self.ask_to_stop();
        let deadline = Instant::now() + STOP_WAIT;
        // Stream threads first: at-least-once they commit through the coordinator.
        while let Some(handle) = self.handles.pop() {
            while !handle.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if handle.is_finished() && handle.join().is_err() {
                tracing::error!("a thread of a pipeline panicked");
            }
        }
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Refusal> {
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(body)
        .map_err(|e| Refusal::ours(format!("failed to start the thread `{name}`: {e}")))
}

/// Every task of a pipeline.
pub(crate) fn tasks_of(entry: &PipelineEntry) -> Vec<TaskId> {
    let counts = entry.details.tasks.iter().enumerate();
    counts
        .flat_map(|(sub, count)| {
            (0..*count).map(move |partition| TaskId {
                sub_topology: sub as u32,
                partition,
            })
        })
        .collect()
}

struct StreamThread {
    node: Arc<Node>,
    entry: PipelineEntry,
    directories: Arc<Directories>,
    shared: Arc<Shared>,
    positions: Sender<PositionRequest>,
    index: usize,
}

impl StreamThread {
    fn run(self) {
        let Some(share) = self.shared.threads.get(self.index) else {
            return;
        };
        self.shared.globals.wait(|| {
            share.advanced_at.store(clock(), Ordering::Relaxed);
            !self.shared.stopping()
        });
        while !self.shared.stopping() {
            match self.work(share) {
                Ok(()) => return,
                Err(reason) => {
                    tracing::error!(thread = %share.id, "stream thread failed, a new one takes over: {reason}");
                    share.restarts.fetch_add(1, Ordering::Relaxed);
                    if let Some(status) = &mut *super::lock(&share.status) {
                        status.trouble = Some(reason);
                    }
                    std::thread::sleep(RESTART_PAUSE);
                }
            }
        }
    }

    fn work(&self, share: &ThreadShare) -> Result<(), String> {
        let factory = Factory::new(
            &self.node,
            &self.entry,
            self.directories.clone(),
            self.shared.shelf.clone(),
            self.shared.globals.by_name(),
        )
        .map_err(|r| r.message)?;
        let mut worker = Worker::new(self.options(share), self.node.broker.clone(), Box::new(factory));
        let (mut stopping, mut paused) = (false, false);
        let mut published = Instant::now();
        loop {
            if self.shared.stopping() && !stopping {
                stopping = true;
                worker.stop(Stop::Bounce);
            }
            let pause = self.shared.paused.load(Ordering::Relaxed);
            if pause != paused {
                paused = pause;
                if pause { worker.pause() } else { worker.resume() }
            }
            let now = Now {
                monotonic_ms: clock(),
                wall_ms: now_ms(),
            };
            let progress = worker.poll(now).map_err(|e| e.to_string())?;
            share.advanced_at.store(clock(), Ordering::Relaxed);
            for request in share.inbox.try_iter() {
                // Whoever asked and left needs no answer.
                match worker.snapshots() {
                    Ok(snapshots) => drop(request.send(snapshots)),
                    Err(error) => tracing::warn!(thread = %share.id, %error, "a query could not be answered"),
                }
            }
            if published.elapsed() >= STATUS_EVERY {
                published = Instant::now();
                *super::lock(&share.status) = Some(worker.status());
            }
            match progress {
                Progress::Worked => {}
                // With tasks, the poll itself has waited for records.
                Progress::Idle { sleep_ms_max } => std::thread::sleep(Duration::from_millis(sleep_ms_max.min(5))),
                Progress::Stopped => return Ok(()),
            }
        }
    }

    fn options(&self, share: &ThreadShare) -> Options {
        let config = &self.node.config;
        let topology = &self.entry.details.topology;
        let mut options = Options::new(
            topology.name.clone(),
            share.id.clone(),
            topology.guarantee,
            control_topic(&config.cluster),
            Box::new(SystemRandom),
        );
        options.commit_interval_ms = match topology.guarantee {
            Guarantee::ExactlyOnce => config.commit_interval.as_millis() as i64,
            Guarantee::AtLeastOnce => config.commit_interval_at_least_once.as_millis() as i64,
        };
        options.transaction_timeout_ms = config.transaction_timeout.as_millis() as u64;
        options.delivery_timeout_ms = options.transaction_timeout_ms.saturating_sub(1_000).max(1_000);
        options.fetch_queue_bytes_max = config.queue_memory;
        options.session_timeout_ms = config.session_timeout.as_millis() as u64;
        // A dead letter carries the headers of its record, whatever the modules ask for.
        options.headers = topology.dead_letters.is_some()
            || topology.nodes.iter().any(|n| match &n.kind {
                NodeKind::Module(step) => step.needs_headers,
                // A word that only looks so costs a little and no more.
                kind => kind.expressions().iter().any(|e| e.text.contains("headers")),
            });
        options.steps = steps::watch(self.index);
        options.ballot = self.shared.ballot.clone();
        if topology.guarantee == Guarantee::AtLeastOnce {
            let committer = Committer {
                requests: self.positions.clone(),
                shared: self.shared.clone(),
            };
            options.committer = Some(Box::new(committer));
        }
        options
    }
}
