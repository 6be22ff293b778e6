//! The state machine of one stream thread: its phases, commands and queries. What happens in each phase is in
//! `start`, `restore`, `run`, `commit`, `recover` and `release`.

use crate::control::{PipelineRecord, Run, State};
use crate::crash::CrashPoint;
use crate::mutant::{self, Mutant};
use crate::options::{Error, Now, Options, Progress, Stop, TaskFactory};
use crate::placement::View;
use crate::slot::{Backoff, Slot, SlotState};
use crate::start::Fence;
use crate::status::{Counters, Status, SwapProgress, TaskSnapshot, TaskState, TaskStatus, WorkerPhase};
use crate::swap::{Exchange, Swap};
use broker::{Admin, Broker, Consumer, Producer};
use record::TopicPartition;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use task::TaskId;
use topology::Guarantee;

/// Where the thread as a whole is.
pub(crate) enum Phase {
    Connect,
    /// Until the reader has passed these ends, asked after init returned.
    ReadRecords {
        ends: Vec<(TopicPartition, i64)>,
    },
    Work,
    Stopped,
}

/// Why something was sent, by the tag under which it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent {
    Output { task: TaskId, tag: u64 },
    Changelog { task: TaskId },
    Records,
}

/// What was sent since the last commit.
#[derive(Default)]
pub(crate) struct Transaction {
    /// Begun on the broker (exactly-once only).
    pub open: bool,
    pub bytes: usize,
    pub sent: Vec<Sent>,
}

/// A flush of tables that asked to be repeated. Until it passes nothing runs, since it belongs to the commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flushing {
    pub since_ms: i64,
    pub next_ms: i64,
}

/// One stream thread. See [`Worker::poll`].
pub struct Worker {
    pub(crate) options: Options,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) tasks: Box<dyn TaskFactory>,
    pub(crate) admin: Option<Box<dyn Admin>>,
    pub(crate) producer: Option<Box<dyn Producer>>,
    pub(crate) consumer: Option<Box<dyn Consumer>>,
    pub(crate) restorer: Option<Box<dyn Consumer>>,
    /// Control topic and placement.
    pub(crate) reader: Option<Box<dyn Consumer>>,
    pub(crate) phase: Phase,
    pub(crate) view: View,
    /// Next placement offset that `view` has not seen.
    pub(crate) placement_read: i64,
    pub(crate) record: Option<PipelineRecord>,
    /// The run that the slots belong to.
    pub(crate) run: Option<Run>,
    pub(crate) slots: BTreeMap<TaskId, Slot>,
    pub(crate) by_source: HashMap<TopicPartition, TaskId>,
    /// Tasks that began to run in this round; the consumer does not know of their partitions yet.
    pub(crate) started: Vec<TaskId>,
    pub(crate) fences: HashMap<String, Fence>,
    /// Releases written under this producer that the reader may not have met yet, by the epoch that they answer.
    pub(crate) released: BTreeMap<TaskId, u64>,
    pub(crate) transaction: Transaction,
    /// Drawn after each init; with the counter it names a transaction.
    pub(crate) draw: u64,
    pub(crate) counter: u64,
    pub(crate) commit_now: bool,
    /// A table's flush is repeated: since when, and when next.
    pub(crate) flushing: Option<Flushing>,
    /// When something of a task was committed last.
    pub(crate) last_commit_ms: i64,
    /// When it was looked for something to commit last.
    pub(crate) looked_ms: i64,
    pub(crate) next_records_ms: i64,
    pub(crate) idle: bool,
    /// The producer may hold records back to gather more.
    pub(crate) unsent: bool,
    /// Some task went on in the last round.
    pub(crate) ran: bool,
    pub(crate) paused: bool,
    /// Stores were flushed since the pause began.
    pub(crate) pause_flushed: bool,
    pub(crate) stop: Option<(Stop, Option<i64>)>,
    pub(crate) backoff: Backoff,
    pub(crate) trouble: Option<String>,
    pub(crate) counters: Counters,
    /// While the record names a swap.
    pub(crate) exchange: Option<Box<Exchange>>,
    /// Of the last poll, in milliseconds.
    pub(crate) polled_ms: i64,
}

impl Drop for Worker {
    /// The other threads of the node do not wait for this one.
    fn drop(&mut self) {
        self.options.ballot.withdraw(&self.options.thread);
    }
}

impl Worker {
    /// Makes no call to the broker yet.
    pub fn new(options: Options, broker: Arc<dyn Broker>, tasks: Box<dyn TaskFactory>) -> Self {
        Self {
            options,
            broker,
            tasks,
            admin: None,
            producer: None,
            consumer: None,
            restorer: None,
            reader: None,
            phase: Phase::Connect,
            view: View::default(),
            placement_read: 0,
            record: None,
            run: None,
            slots: BTreeMap::new(),
            by_source: HashMap::new(),
            started: Vec::new(),
            fences: HashMap::new(),
            released: BTreeMap::new(),
            transaction: Transaction::default(),
            draw: 0,
            counter: 0,
            commit_now: false,
            flushing: None,
            last_commit_ms: i64::MIN / 2,
            looked_ms: i64::MIN / 2,
            next_records_ms: i64::MIN,
            idle: false,
            unsent: false,
            ran: false,
            paused: false,
            pause_flushed: false,
            stop: None,
            backoff: Backoff::default(),
            trouble: None,
            counters: Counters::default(),
            exchange: None,
            polled_ms: 0,
        }
    }

    /// One step. Waits in broker calls only; they are bounded.
    ///
    /// # Errors
    /// The thread cannot go on; it must be dropped and made anew. Nothing that was committed is lost by that.
    pub fn poll(&mut self, now: Now) -> Result<Progress, Error> {
        if matches!(self.phase, Phase::Stopped) {
            return Ok(Progress::Stopped);
        }
        let stop = self.stop_requested(now);
        if stop && !matches!(self.phase, Phase::Work) {
            self.close_all(now)?;
            return Ok(Progress::Stopped);
        }
        if !stop && self.backoff.waits(now.monotonic_ms) {
            let left = self.backoff.until_ms - now.monotonic_ms;
            return Ok(Progress::Idle {
                sleep_ms_max: left.unsigned_abs(),
            });
        }
        match self.phase {
            Phase::Connect => self.connect(now),
            Phase::ReadRecords { .. } => self.read_records(now),
            Phase::Work => self.work(now),
            Phase::Stopped => Ok(Progress::Stopped),
        }
    }

    /// Commits and then processes nothing until [`Worker::resume`]; tasks are kept and go on restoring.
    pub fn pause(&mut self) {
        self.paused = true;
        self.pause_flushed = false;
        self.commit_now = true;
    }

    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Ends the thread: poll until [`Progress::Stopped`]. A second call may only turn leaving into a bounce.
    pub fn stop(&mut self, stop: Stop) {
        match (self.stop, stop) {
            (Some(_), Stop::Leave) => {}
            (_, stop) => self.stop = Some((stop, None)),
        }
    }

    /// Whether the pipeline is being drained or deleted and nothing of it is held here any more.
    pub fn is_drained(&self) -> bool {
        let ending = self
            .record
            .as_ref()
            .is_none_or(|r| matches!(r.state, State::Draining | State::Deleted));
        matches!(self.phase, Phase::Work) && ending && self.slots.is_empty() && !self.transaction.open
    }

    pub fn status(&self) -> Status {
        let phase = match self.phase {
            Phase::Connect => WorkerPhase::Connecting,
            Phase::ReadRecords { .. } => WorkerPhase::ReadingRecords,
            Phase::Work => WorkerPhase::Working,
            Phase::Stopped => WorkerPhase::Stopped,
        };
        let swap = self.record.as_ref().and_then(|r| r.swap.as_ref());
        let tasks = self
            .slots
            .values()
            .map(|slot| TaskStatus {
                swap: swap.and_then(|swap| Some((swap.id, swap_progress(slot, swap, self.polled_ms)?))),
                ..task_status(slot)
            })
            .collect();
        Status {
            phase,
            paused: self.holds(),
            tasks,
            counters: self.counters,
            trouble: self.trouble.clone(),
        }
    }

    /// A view of the committed state of every running task. A task that restores or waits has none.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn snapshots(&mut self) -> Result<Vec<TaskSnapshot>, task::Error> {
        let running = self.slots.values_mut().filter(|s| s.is_running());
        let snapshot = |slot: &mut Slot| {
            let task = slot.task.as_mut()?;
            Some(task.snapshot().map(|stores| TaskSnapshot {
                task: slot.id,
                task_epoch: slot.task_epoch,
                stores,
                positions: slot.positions.clone(),
            }))
        };
        running.filter_map(snapshot).collect()
    }

    /// Counters of every task that is open.
    pub fn task_metrics(&self) -> impl Iterator<Item = (TaskId, &task::Metrics)> {
        self.slots
            .values()
            .filter_map(|s| s.task.as_ref().map(|t| (s.id, t.metrics())))
    }

    /// What the thread has read of the placement.
    pub fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn exactly_once(&self) -> bool {
        self.options.guarantee == Guarantee::ExactlyOnce
    }

    /// Whether nothing is to be processed now.
    pub(crate) fn holds(&self) -> bool {
        self.paused || self.record.as_ref().is_none_or(|r| r.state != State::Running)
    }

    pub(crate) fn mutant(&self, mutant: Mutant) -> bool {
        mutant::on(self.options.mutant, mutant)
    }

    pub(crate) fn step(&self, point: CrashPoint) -> Result<(), Error> {
        if self.options.steps.at(point) {
            Err(Error::Crashed(point))
        } else {
            Ok(())
        }
    }

    /// Pauses the whole thread after a failure that a later try may not meet.
    pub(crate) fn back_off(&mut self, now: Now, cause: &dyn std::fmt::Display) -> Progress {
        self.backoff.fail(
            now.monotonic_ms,
            self.options.backoff_ms_min,
            self.options.backoff_ms_max,
        );
        tracing::warn!(thread = %self.options.thread, %cause, "stream thread waits");
        self.trouble = Some(cause.to_string());
        Progress::Idle {
            sleep_ms_max: (self.backoff.until_ms - now.monotonic_ms).unsigned_abs(),
        }
    }

    pub(crate) fn back_off_slot(&self, slot: &mut Slot, now: Now, cause: String) {
        slot.backoff.fail(
            now.monotonic_ms,
            self.options.backoff_ms_min,
            self.options.backoff_ms_max,
        );
        tracing::warn!(thread = %self.options.thread, task = %slot.id, %cause, "task waits");
        slot.trouble = Some(cause);
    }

    /// A failure outside of a transaction: waits where a later try may succeed, else ends the thread.
    pub(crate) fn wait_or_end(&mut self, now: Now, error: broker::Error) -> Result<Progress, Error> {
        match error.disposition() {
            broker::Disposition::Stop => Err(Error::Broker(error)),
            _ => Ok(self.back_off(now, &error)),
        }
    }

    pub(crate) fn admin(&mut self) -> Result<&mut Box<dyn Admin>, broker::Error> {
        let admin = match self.admin.take() {
            Some(admin) => admin,
            None => self.broker.admin()?,
        };
        Ok(self.admin.insert(admin))
    }

    pub(crate) fn fetch_wait(&self) -> Duration {
        Duration::from_millis(self.options.fetch_wait_ms)
    }

    fn stop_requested(&mut self, now: Now) -> bool {
        let leave_ms_max = self.options.leave_ms_max;
        match &mut self.stop {
            None => false,
            Some((Stop::Bounce, _)) => true,
            Some((Stop::Leave, deadline)) => {
                let deadline = *deadline.get_or_insert(now.monotonic_ms + leave_ms_max);
                self.slots.is_empty() || now.monotonic_ms >= deadline
            }
        }
    }

    fn work(&mut self, now: Now) -> Result<Progress, Error> {
        let mut worked = false;
        self.polled_ms = now.monotonic_ms;
        if now.monotonic_ms >= self.next_records_ms {
            self.next_records_ms = now.monotonic_ms + self.options.records_interval_ms;
            worked |= match self.read_some(Duration::ZERO) {
                Ok(rows) => rows > 0,
                Err(Error::Broker(e)) => return self.wait_or_end(now, e),
                Err(e) => return Err(e),
            };
        }
        self.reconcile(now)?;
        if !matches!(self.phase, Phase::Work) {
            return Ok(Progress::Worked);
        }
        worked |= self.settle(now)?;
        worked |= self.advance_starts(now)?;
        worked |= self.open_and_restore(now)?;
        let stop = self.stop_requested(now);
        let swaps = self.exchange.is_some() || self.record.as_ref().is_some_and(|r| r.swap.is_some());
        if swaps {
            worked |= self.advance_exchange(now)?;
            if !matches!(self.phase, Phase::Work) {
                return Ok(Progress::Worked);
            }
        }
        if let Some(wait) = self
            .flushing
            .map(|f| f.next_ms - now.monotonic_ms)
            .filter(|w| *w > 0 && !stop)
        {
            return Ok(Progress::Idle {
                sleep_ms_max: wait.unsigned_abs(),
            });
        }
        let held = self.holds() || (swaps && self.is_hold_closed());
        if !held && !stop && self.flushing.is_none() {
            worked |= self.fetch_and_run(now, worked)?;
        }
        if swaps && matches!(self.phase, Phase::Work) {
            worked |= self.check_exchange(now)?;
        }
        if !matches!(self.phase, Phase::Work) {
            return Ok(Progress::Worked);
        }
        if stop || self.commit_due(now) {
            worked |= self.commit(now)?;
        }
        if stop {
            self.close_all(now)?;
            return Ok(Progress::Stopped);
        }
        self.flush_when_paused(now);
        self.idle = !worked;
        Ok(if worked { Progress::Worked } else { self.rest(now) })
    }

    /// How long the caller may sleep.
    fn rest(&self, now: Now) -> Progress {
        let waited = self.options.fetch_wait_ms > 0 && !self.holds() && self.slots.values().any(Slot::is_running);
        let until = self.next_records_ms - now.monotonic_ms;
        Progress::Idle {
            sleep_ms_max: if waited { 0 } else { u64::try_from(until).unwrap_or(0) },
        }
    }
}

fn task_status(slot: &Slot) -> TaskStatus {
    let state = match &slot.state {
        SlotState::Stopped { reason } => TaskState::Stopped { reason: reason.clone() },
        SlotState::Running if slot.trouble.is_none() => TaskState::Running,
        _ if slot.trouble.is_some() => TaskState::Retrying {
            reason: slot.trouble.clone().unwrap_or_default(),
        },
        SlotState::Waiting => TaskState::Waiting,
        SlotState::Claiming | SlotState::Opening => TaskState::Starting,
        SlotState::Restoring { stores } => TaskState::Restoring {
            done: stores.iter().map(|s| s.at.min(s.target) - s.from).sum(),
            total: stores.iter().map(|s| s.target - s.from).sum(),
        },
        SlotState::Running | SlotState::InDoubt(_) => TaskState::Running,
    };
    let (mut buffered_records, mut buffered_bytes) = (0, 0);
    if let Some(task) = &slot.task {
        for source in task.sources() {
            let buffered = task.buffered(source);
            buffered_records += buffered.records;
            buffered_bytes += buffered.bytes;
        }
    }
    TaskStatus {
        task: slot.id,
        task_epoch: slot.task_epoch,
        state,
        positions: slot.positions.clone(),
        buffered_records,
        buffered_bytes,
        versions: slot.versions.clone(),
        swap: None,
    }
}

fn swap_progress(slot: &Slot, swap: &Swap, now_ms: i64) -> Option<SwapProgress> {
    let (part, task) = (slot.part.as_ref()?, slot.task.as_ref()?);
    (part.swap == swap.id).then(|| part.progress(part.records(swap, task), now_ms))
}
