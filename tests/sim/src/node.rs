//! A node: a disk that stays, and a process (coordinator and stream threads) that comes and goes.

use crate::dice::Dice;
use crate::disk::{Broken, Copies, Disk, Factory};
use crate::pipeline::PIPELINE;
use crate::world::World;
use broker::{Broker, CommittedOffset};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use task::TaskId;
use topology::{Guarantee, Topology};
use worker::control::Run;
use worker::coordinator::{self, Coordinator, Thread};
use worker::crash::{CrashPoint, Steps};
use worker::mutant::Mutant;
use worker::standby::{self, Follower, Shelf};
use worker::swap::Ballot;
use worker::{Now, Options, PositionCommitter, Progress, Stop, Worker, placement};

pub const CONTROL: &str = "control";
pub const SESSION_MS: i64 = 1_000;
const THREADS_MAX: usize = 2;

/// How often each crash point was passed, and how often the process ended there.
#[derive(Clone, Debug)]
pub struct Hits {
    pub passed: [u64; CrashPoint::ALL.len()],
    pub crashed: [u64; CrashPoint::ALL.len()],
}

impl Default for Hits {
    fn default() -> Self {
        Self {
            passed: [0; CrashPoint::ALL.len()],
            crashed: [0; CrashPoint::ALL.len()],
        }
    }
}

/// Ends a process at steps, at one of them more often.
pub struct Watch {
    pub dice: Dice,
    pub favourite: CrashPoint,
    pub armed: Mutex<bool>,
    pub hits: Mutex<Hits>,
}

impl Steps for Watch {
    fn at(&self, point: CrashPoint) -> bool {
        let mut hits = self.hits.lock().unwrap();
        hits.passed[point as usize] += 1;
        // Steps that a world seldom takes.
        let rare = matches!(
            point,
            CrashPoint::Fenced
                | CrashPoint::UnknownOutcome
                | CrashPoint::SettledDone
                | CrashPoint::SettledVoid
                | CrashPoint::Released
        ) || point >= CrashPoint::SwapPrepared;
        let often = match (point == self.favourite, rare) {
            (true, true) => 0.7,
            (true, false) => 0.25,
            // A bound is hardly ever broken after a switch while processes are killed.
            (false, _) if point == CrashPoint::SwapBroken => 0.3,
            (false, _) => 0.0005,
        };
        let crash = *self.armed.lock().unwrap() && self.dice.chance(often);
        hits.crashed[point as usize] += u64::from(crash);
        crash
    }
}

/// What all nodes of a world share.
pub struct Settings {
    pub world: World,
    pub topology: Arc<Topology>,
    pub run: Run,
    pub tasks: Vec<TaskId>,
    pub dice: Dice,
    pub watch: Arc<Watch>,
    pub mutant: Option<Mutant>,
    pub broken: Option<Broken>,
    pub threads: u32,
    /// Of each task with stores; `None`: nodes keep no copies, and tasks move to cold ones.
    pub standbys: Option<usize>,
}

impl Settings {
    /// Tasks with stores.
    pub fn stateful(&self) -> BTreeSet<TaskId> {
        let has_stores = |id: &&TaskId| !self.topology.sub_topologies[id.sub_topology as usize].stores.is_empty();
        self.tasks.iter().filter(has_stores).copied().collect()
    }
}

/// At-least-once positions go through the node's member.
struct Committer {
    coordinator: Arc<Mutex<Coordinator>>,
    confirmed_ago: Arc<Mutex<Option<u64>>>,
}

impl PositionCommitter for Committer {
    fn commit(&mut self, offsets: &[CommittedOffset]) -> Result<(), broker::Error> {
        self.coordinator.lock().unwrap().commit(offsets)
    }

    fn confirmed_ago_ms(&mut self) -> Option<u64> {
        *self.confirmed_ago.lock().unwrap()
    }
}

pub struct StreamThread {
    pub id: String,
    pub worker: Worker,
    advanced_at: i64,
}

impl StreamThread {
    fn share(&self) -> Thread {
        Thread {
            id: self.id.clone(),
            advanced_at: self.advanced_at,
        }
    }
}

pub struct Process {
    coordinator: Arc<Mutex<Coordinator>>,
    confirmed_ago: Arc<Mutex<Option<u64>>>,
    pub threads: Vec<StreamThread>,
    /// Those that ended in a bounce: the node lists them until the process ends, as `server` does.
    ended: Vec<Thread>,
    ballot: Ballot,
    /// Copies of tasks that run on other nodes.
    pub shelf: Arc<Shelf>,
    follower: Follower,
    copies: Copies,
    /// At the last poll the node's own record stood on the topic, and where the node leads, no fencing was under way.
    pub settled: bool,
    stopping: bool,
}

pub struct Node {
    pub name: String,
    pub disk: Disk,
    pub process: Option<Process>,
    /// Not scheduled before this time.
    pub frozen_until: i64,
    /// The same for each of its threads.
    pub stalled_until: Vec<i64>,
    /// So many turns its threads go on with what they knew, and its coordinator does not.
    pub stale_turns: usize,
}

impl Node {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            disk: Disk::default(),
            process: None,
            frozen_until: 0,
            stalled_until: vec![0; THREADS_MAX],
            stale_turns: 0,
        }
    }

    pub fn start(&mut self, settings: &Settings, moody: f64) {
        let broker: Arc<dyn Broker> = Arc::new(settings.world.clone());
        let mut options = coordinator::Options::new(PIPELINE, &self.name, settings.run, settings.tasks.clone());
        options.session_timeout = Duration::from_millis(SESSION_MS as u64);
        options.stalled_ms = 700;
        options.unpublished_ms_max = 3_000;
        options.live_every_ms = 20;
        options.mutant = settings.mutant;
        if let Some(standbys) = settings.standbys {
            options.stateful = settings.stateful();
            options.standbys = standbys;
            options.follows = true;
        }
        let coordinator = Coordinator::new(Arc::clone(&broker), options).expect("a member is made without a call");
        let coordinator = Arc::new(Mutex::new(coordinator));
        let confirmed_ago = Arc::new(Mutex::new(None));
        let shelf = Arc::<Shelf>::default();
        let following = standby::Options {
            incarnation: settings.run.incarnation,
            client_id: format!("{}-standbys", self.name),
            queue_bytes_max: 1 << 20,
            tombstones_ms: worker::TOMBSTONES_MS,
        };
        let mut process = Process {
            follower: Follower::new(Arc::clone(&broker), Arc::clone(&shelf), following),
            copies: Copies {
                disk: self.disk.clone(),
                topology: Arc::clone(&settings.topology),
            },
            shelf,
            coordinator,
            confirmed_ago,
            threads: Vec::new(),
            ended: Vec::new(),
            ballot: Ballot::new((0..settings.threads).map(|n| placement::thread_id(PIPELINE, &self.name, n))),
            settled: false,
            stopping: false,
        };
        for n in 0..settings.threads {
            let id = placement::thread_id(PIPELINE, &self.name, n);
            let worker = self.worker(settings, &process, &id, moody);
            process.threads.push(StreamThread {
                id,
                worker,
                advanced_at: settings.world.now(),
            });
        }
        self.process = Some(process);
    }

    fn worker(&self, settings: &Settings, process: &Process, id: &str, moody: f64) -> Worker {
        let guarantee = settings.topology.guarantee;
        let dice = settings.dice.clone();
        let mut options = Options::new(PIPELINE, id, guarantee, CONTROL, Box::new(dice.clone()));
        options.commit_interval_ms = 40;
        options.transaction_timeout_ms = 2_000;
        options.delivery_timeout_ms = 1_000;
        options.fetch_wait_ms = 0;
        options.fetch_records_max = 16;
        options.buffered_records_max = 24;
        options.records_interval_ms = 5;
        options.backoff_ms_min = 10;
        options.backoff_ms_max = 200;
        options.leave_ms_max = 2_000;
        options.session_timeout_ms = SESSION_MS as u64;
        options.steps = Arc::clone(&settings.watch) as Arc<dyn Steps>;
        options.mutant = settings.mutant;
        options.ballot = process.ballot.clone();
        if guarantee == Guarantee::AtLeastOnce {
            options.committer = Some(Box::new(Committer {
                coordinator: Arc::clone(&process.coordinator),
                confirmed_ago: Arc::clone(&process.confirmed_ago),
            }));
        }
        let factory = Factory {
            disk: self.disk.clone(),
            shelf: Arc::clone(&process.shelf),
            topology: Arc::clone(&settings.topology),
            world: settings.world.clone(),
            dice,
            moody,
            broken: settings.broken,
        };
        Worker::new(options, Arc::new(settings.world.clone()), Box::new(factory))
    }

    /// The process is killed.
    pub fn crash(&mut self) {
        if self.process.take().is_some() {
            self.disk.crash();
        }
    }

    /// SIGTERM: the threads commit and close, and the process ends.
    pub fn bounce(&mut self) {
        if let Some(process) = &mut self.process {
            process.stopping = true;
            for thread in &mut process.threads {
                thread.worker.stop(Stop::Bounce);
            }
        }
    }

    pub fn poll_coordinator(&mut self, now: i64) {
        let Some(process) = &mut self.process else { return };
        let mut threads: Vec<Thread> = process.threads.iter().map(StreamThread::share).collect();
        threads.extend(process.ended.iter().cloned());
        threads.sort_by(|a, b| a.id.cmp(&b.id));
        let polled = process.coordinator.lock().unwrap().poll(now, &threads);
        match polled {
            Ok(status) => {
                process.settled = status.settled;
                let member = !status.membership.member_id.is_empty();
                let ago = status.membership.confirmed_ago.as_millis() as u64;
                *process.confirmed_ago.lock().unwrap() = member.then_some(ago);
            }
            // Another process is this node now; this one ends.
            Err(_) => self.crash(),
        }
    }

    /// The thread of the standbys, by what the coordinator has read.
    pub fn poll_follower(&mut self, settings: &Settings, now: i64) {
        let Some(process) = &mut self.process else { return };
        let now = Now {
            monotonic_ms: now,
            wall_ms: now,
        };
        let mut coordinator = process.coordinator.lock().unwrap();
        let wanted = coordinator.view().followed(settings.run, &self.name);
        let (follower, copies) = (&mut process.follower, &mut process.copies);
        if follower.poll(&wanted, copies, now, Duration::ZERO).is_err() {
            follower.reset(copies, now);
        }
        let warm = follower.progress(now).into_iter().filter(|copy| copy.warm);
        coordinator.set_warm(&warm.map(|copy| copy.task).collect());
    }

    pub fn poll_thread(&mut self, settings: &Settings, n: usize, now: i64, moody: f64) {
        let Some(process) = &mut self.process else { return };
        let Some(thread) = process.threads.get_mut(n) else {
            return;
        };
        match thread.worker.poll(Now {
            monotonic_ms: now,
            wall_ms: now,
        }) {
            Ok(Progress::Stopped) if process.stopping => {
                let ended = process.threads.remove(n).share();
                process.ended.push(ended);
                if process.threads.is_empty() {
                    // A clean end: what the tasks flushed at their close is all there is.
                    self.crash();
                }
            }
            Ok(_) => thread.advanced_at = now,
            Err(worker::Error::Crashed(_)) => self.crash(),
            Err(_) => self.restart_thread(settings, n, now, moody),
        }
    }

    /// One thread ends by itself or panics; the node makes it anew.
    pub fn restart_thread(&mut self, settings: &Settings, n: usize, now: i64, moody: f64) {
        let Some(mut process) = self.process.take() else { return };
        if n < process.threads.len() && !process.stopping {
            let id = process.threads.remove(n).id;
            let worker = self.worker(settings, &process, &id, moody);
            process.threads.insert(
                n,
                StreamThread {
                    id,
                    worker,
                    advanced_at: now,
                },
            );
        }
        self.process = Some(process);
    }
}
