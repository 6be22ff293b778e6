//! From a new producer to tasks whose start is confirmed: rules 1 and 2 of design §9.

use crate::control::{self, PipelineRecord, State};
use crate::crash::CrashPoint;
use crate::mutant::Mutant;
use crate::options::{Error, Now, Progress};
use crate::placement::{self, Start, View};
use crate::slot::{Slot, SlotState};
use crate::worker::{Phase, Worker};
use broker::{ConsumerOptions, Fencing, Isolation, OffsetAt, ProducerOptions};
use record::{Fetched, TopicPartition};
use std::time::Duration;
use task::TaskId;

/// Rows of control and placement records taken at once. They are few and small.
const RECORDS_MAX: usize = 10_000;
/// Bytes of them that may wait in the client.
const RECORDS_QUEUE_BYTES_MAX: usize = 4 << 20;

/// A fencing of one id. It counts for placements that were read before it began.
pub(crate) struct Fence {
    began_at: i64,
    fencing: Box<dyn Fencing>,
    done: bool,
    retry_ms: i64,
}

impl Worker {
    fn record_partitions(&self) -> [TopicPartition; 2] {
        [
            TopicPartition::new(self.options.control_topic.as_str(), 0),
            TopicPartition::new(placement::topic(&self.options.pipeline), 0),
        ]
    }

    pub(crate) fn connect(&mut self, now: Now) -> Result<Progress, Error> {
        if !self.exactly_once() && self.options.committer.is_none() {
            return Err(Error::Setting("at-least-once needs a committer of positions".into()));
        }
        self.producer = None;
        self.step(CrashPoint::BeforeInit)?;
        match self.take_producer() {
            Ok(()) => {}
            // Whatever an init suffers, a later one starts from nothing; what is final for a producer is not for its id.
            Err(e) if e.kind == broker::ErrorKind::Configuration => return Err(Error::Broker(e)),
            Err(e) => return Ok(self.back_off(now, &e)),
        }
        self.step(CrashPoint::AfterInit)?;
        match self.ask_ends() {
            Ok(ends) => {
                self.backoff.clear();
                self.phase = Phase::ReadRecords { ends };
                Ok(Progress::Worked)
            }
            Err(e) => self.wait_or_end(now, e),
        }
    }

    fn take_producer(&mut self) -> Result<(), broker::Error> {
        let o = &mut self.options;
        let mut producer = self.broker.producer(&ProducerOptions {
            client_id: o.thread.clone(),
            transactional_id: (o.guarantee == topology::Guarantee::ExactlyOnce).then(|| o.thread.clone()),
            transaction_timeout: Duration::from_millis(o.transaction_timeout_ms),
            delivery_timeout: Duration::from_millis(o.delivery_timeout_ms),
            upserts_only: false,
        })?;
        producer.init()?;
        self.draw = o.random.next_u64();
        self.counter = 0;
        self.released.clear();
        self.producer = Some(producer);
        Ok(())
    }

    /// The ends up to which rule 1 wants the records read: asked of the partitions' leaders after init has returned.
    fn ask_ends(&mut self) -> Result<Vec<(TopicPartition, i64)>, broker::Error> {
        let partitions = self.record_partitions();
        if self.reader.is_none() {
            let starts = self.admin()?.offsets(&partitions, OffsetAt::Earliest)?;
            let mut reader = self.broker.consumer(&ConsumerOptions {
                group: None,
                client_id: format!("{}-records", self.options.thread),
                isolation: Isolation::ReadCommitted,
                queue_bytes_max: RECORDS_QUEUE_BYTES_MAX,
                headers: false,
            })?;
            reader.assign(&partitions.iter().cloned().zip(starts).collect::<Vec<_>>())?;
            self.reader = Some(reader);
            self.view = View::default();
            self.record = None;
        }
        if self.mutant(Mutant::NoReadAfterInit) {
            return Ok(Vec::new());
        }
        let ends = self
            .admin()?
            .offsets(&partitions, OffsetAt::End(Isolation::ReadCommitted))?;
        Ok(partitions.into_iter().zip(ends).collect())
    }

    pub(crate) fn read_records(&mut self, now: Now) -> Result<Progress, Error> {
        let rows = match self.read_some(self.fetch_wait()) {
            Ok(rows) => rows,
            Err(Error::Broker(e)) => return self.wait_or_end(now, e),
            Err(e) => return Err(e),
        };
        let Phase::ReadRecords { ends } = &self.phase else {
            return Ok(Progress::Worked);
        };
        let Some(reader) = &mut self.reader else {
            return Ok(Progress::Worked);
        };
        for (partition, end) in ends {
            match reader.position(partition) {
                Ok(Some(at)) if at >= *end => {}
                Ok(_) if rows > 0 => return Ok(Progress::Worked),
                Ok(_) => return Ok(Progress::Idle { sleep_ms_max: 1 }),
                Err(e) => return self.wait_or_end(now, e),
            }
        }
        self.step(CrashPoint::RecordsRead)?;
        self.backoff.clear();
        self.trouble = None;
        self.phase = Phase::Work;
        // Connected while the leader places tasks; what fails here is met again when the first task begins.
        if let Err(error) = self.consumer() {
            tracing::debug!(thread = %self.options.thread, %error, "no consumer yet");
        }
        Ok(Progress::Worked)
    }

    /// Reads what is there of control and placement records. Gives the number of rows.
    pub(crate) fn read_some(&mut self, wait: Duration) -> Result<usize, Error> {
        let Some(reader) = &mut self.reader else { return Ok(0) };
        let mut fetched = Vec::new();
        reader.poll(wait, RECORDS_MAX, &mut fetched)?;
        let placement = TopicPartition::new(placement::topic(&self.options.pipeline), 0);
        if let Some(at) = reader.position(&placement)? {
            self.placement_read = at;
        }
        let mut rows = 0;
        for fetched in fetched {
            rows += fetched.offsets.len();
            if fetched.partition == placement {
                self.take_placement(&fetched);
            } else {
                self.take_control(&fetched)?;
            }
        }
        Ok(rows)
    }

    fn take_placement(&mut self, fetched: &Fetched) {
        for (row, offset) in fetched.offsets.iter().enumerate() {
            let Some(key) = fetched.records.key(row) else { continue };
            if let Err(cause) = self.view.apply(*offset, key, fetched.records.value(row)) {
                tracing::error!(partition = %fetched.partition, offset, %cause, "placement record left out");
            }
        }
    }

    fn take_control(&mut self, fetched: &Fetched) -> Result<(), Error> {
        let own = control::key(&self.options.pipeline);
        for row in 0..fetched.records.len() {
            if fetched.records.key(row) != Some(own.as_bytes()) {
                continue;
            }
            let record = fetched.records.value(row).map(PipelineRecord::decode).transpose();
            self.record = record.map_err(|cause| Error::ControlRecord {
                pipeline: self.options.pipeline.clone(),
                topic: self.options.control_topic.clone(),
                cause: cause.to_string(),
            })?;
            self.name_versions();
        }
        Ok(())
    }

    /// Brings the slots in line with the records: which tasks go, which come.
    pub(crate) fn reconcile(&mut self, now: Now) -> Result<(), Error> {
        let run = self.record.as_ref().map(PipelineRecord::run);
        if run != self.run {
            // Another task table: what the old one left open is void, and its ids were fenced by whoever changed it.
            if !self.slots.is_empty() && !self.mutant(Mutant::TwoTaskTables) {
                self.drop_transaction(now)?;
                self.drop_tasks();
            }
            self.run = run;
        }
        let Some(run) = run else { return Ok(()) };
        let serving = self
            .record
            .as_ref()
            .is_some_and(|r| matches!(r.state, State::Running | State::Paused));
        let thread = &self.options.thread;
        let two_tables = self.mutant(Mutant::TwoTaskTables);
        let owned: Vec<(TaskId, u64)> = if two_tables {
            let any = self
                .view
                .tasks
                .iter()
                .filter_map(|(id, r)| Some((*id, r.placement.as_ref()?)));
            any.filter(|(_, p)| p.owner == *thread)
                .map(|(id, p)| (id, p.task_epoch))
                .collect()
        } else {
            self.view
                .owned(run, thread)
                .filter(|_| serving)
                .map(|(id, p)| (id, p.task_epoch))
                .collect()
        };
        let gone: Vec<TaskId> = self
            .slots
            .values()
            .filter(|s| !owned.contains(&(s.id, s.task_epoch)))
            .map(|s| s.id)
            .collect();
        for id in gone {
            self.leave_task(id);
        }
        if self.stop.is_some() {
            return Ok(());
        }
        let new: Vec<TaskId> = owned
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| !self.slots.contains_key(id))
            .collect();
        if !new.is_empty() {
            self.tasks.expect(&new);
        }
        for (id, task_epoch) in owned {
            self.slots.entry(id).or_insert_with(|| Slot::new(id, task_epoch));
        }
        Ok(())
    }

    /// Rule 2 for every task that waits; gives whether something moved.
    pub(crate) fn advance_starts(&mut self, now: Now) -> Result<bool, Error> {
        let Some(run) = self.run else { return Ok(false) };
        let waiting = |s: &&Slot| matches!(s.state, SlotState::Waiting);
        let waiting: Vec<TaskId> = self.slots.values().filter(waiting).map(|s| s.id).collect();
        let mut moved = false;
        for id in waiting {
            let next = match self.view.start(run, id) {
                None if self.mutant(Mutant::TwoTaskTables) => Some(SlotState::Claiming),
                None => None,
                Some(Start::Again) if self.mutant(Mutant::FenceAtBounce) => self
                    .fenced_all(now, id, self.suspects(id))
                    .then_some(SlotState::Opening),
                Some(Start::Again) => Some(SlotState::Opening),
                Some(Start::Wait) if self.mutant(Mutant::NoRelease) || self.mutant(Mutant::OrForAnd) => self
                    .fenced_all(now, id, self.suspects(id))
                    .then_some(SlotState::Claiming),
                Some(Start::Wait) => None,
                Some(Start::Fence(_)) if self.mutant(Mutant::OrForAnd) && self.has_previous(id) => {
                    Some(SlotState::Claiming)
                }
                Some(Start::Fence(suspects)) => {
                    let fenced = !suspects.is_empty() && self.exactly_once();
                    let all = self.fenced_all(now, id, suspects);
                    if all && fenced {
                        self.step(CrashPoint::Fenced)?;
                    }
                    all.then_some(SlotState::Claiming)
                }
            };
            if let (Some(next), Some(slot)) = (next, self.slots.get_mut(&id)) {
                slot.state = next;
                moved = true;
            }
        }
        Ok(moved)
    }

    fn suspects(&self, id: TaskId) -> Vec<String> {
        let placement = self.view.tasks.get(&id).and_then(|r| r.placement.as_ref());
        let own = &self.options.thread;
        placement
            .map(|p| p.suspects.iter().filter(|s| *s != own).cloned().collect())
            .unwrap_or_default()
    }

    fn has_previous(&self, id: TaskId) -> bool {
        let placement = self.view.tasks.get(&id).and_then(|r| r.placement.as_ref());
        placement.is_some_and(|p| p.previous.is_some())
    }

    /// Whether every one of these ids was fenced by a fencing that began after the task's placement was read. Begins
    /// those that are missing. Without transactions there is nothing to fence.
    fn fenced_all(&mut self, now: Now, id: TaskId, suspects: Vec<String>) -> bool {
        if !self.exactly_once() || self.mutant(Mutant::NoFence) {
            return true;
        }
        let placed_at = self.view.tasks.get(&id).map_or(i64::MAX, |r| r.placement_offset);
        let mut all = true;
        for suspect in suspects {
            let fresh = self.fences.get(&suspect).is_some_and(|f| f.began_at > placed_at);
            if !fresh {
                let fencing = self.broker.fence(&suspect);
                self.counters.fencings += 1;
                let began_at = self.placement_read;
                self.fences.insert(
                    suspect.clone(),
                    Fence {
                        began_at,
                        fencing,
                        done: false,
                        retry_ms: 0,
                    },
                );
            }
            all &= self
                .fences
                .get_mut(&suspect)
                .is_some_and(|f| f.poll(now, self.broker.as_ref(), &suspect));
        }
        all
    }
}

impl Fence {
    /// Pause before a fencing that failed is begun again.
    const RETRY_MS: i64 = 200;

    fn poll(&mut self, now: Now, broker: &dyn broker::Broker, id: &str) -> bool {
        if self.done || now.monotonic_ms < self.retry_ms {
            return self.done;
        }
        match self.fencing.poll() {
            None => {}
            Some(Ok(())) => self.done = true,
            Some(Err(cause)) => {
                tracing::warn!(%id, %cause, "fencing failed and is tried again");
                self.fencing = broker.fence(id);
                self.retry_ms = now.monotonic_ms + Self::RETRY_MS;
            }
        }
        self.done
    }
}
