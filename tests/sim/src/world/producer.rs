//! Writing: records are delivered some time after they were sent, at the latest by a flush.

use super::World;
use super::log::Record;
use super::transactions::Target;
use broker::{
    Cleanup, CommittedOffset, DeliveryFailure, Error, ErrorKind, GroupMetadata, Partitioning, Producer, ProducerOptions,
};
use rand::RngExt;
use record::{Batch, TopicPartition};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Kafka's default `max.message.bytes`, roughly.
const RECORD_BYTES_MAX: usize = 1 << 20;

struct Queued {
    partition: TopicPartition,
    record: Record,
    tag: u64,
    row: u32,
}

pub struct WorldProducer {
    world: World,
    id: Option<String>,
    timeout_ms: i64,
    epoch: i32,
    producer: i64,
    ready: bool,
    in_transaction: bool,
    queue: VecDeque<Queued>,
    delivered: BTreeMap<TopicPartition, i64>,
    failures: Vec<DeliveryFailure>,
    /// The transaction can only be aborted.
    spoiled: bool,
    /// Nothing works any more.
    dead: Option<ErrorKind>,
}

impl WorldProducer {
    pub fn new(world: World, options: &ProducerOptions) -> Self {
        Self {
            world,
            id: options.transactional_id.clone(),
            timeout_ms: options.transaction_timeout.as_millis() as i64,
            epoch: -1,
            producer: 0,
            ready: options.transactional_id.is_none(),
            in_transaction: false,
            queue: VecDeque::new(),
            delivered: BTreeMap::new(),
            failures: Vec::new(),
            spoiled: false,
            dead: None,
        }
    }

    fn usable(&self, doing: &str) -> Result<(), Error> {
        match self.dead {
            Some(kind) => Err(Error::new(kind, doing, "this producer has failed for good")),
            None if !self.ready => Err(Error::new(
                ErrorKind::Configuration,
                doing,
                "the producer was not initialised",
            )),
            None => Ok(()),
        }
    }

    fn name(&self) -> &str {
        self.id.as_deref().unwrap_or("an idempotent producer")
    }

    fn dies(&mut self, error: Error) -> Error {
        self.dead = Some(error.kind);
        error
    }

    /// The next record: of any partition, for they go to brokers of their own; the first that waits for it.
    fn next(&mut self) -> Option<Queued> {
        if self.queue.is_empty() {
            return None;
        }
        let any = self.world.lock().rng.random_range(0..self.queue.len());
        let partition = &self.queue.get(any)?.partition;
        let first = self.queue.iter().position(|queued| queued.partition == *partition)?;
        self.queue.remove(first)
    }

    /// Delivers so many queued records.
    fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            if self.dead.is_some() {
                return;
            }
            let Some(queued) = self.next() else { return };
            if let Err(error) = self.deliver_one(&queued) {
                if error.kind == ErrorKind::Fenced {
                    self.dead = Some(ErrorKind::Fenced);
                }
                self.spoiled = true;
                self.failures.push(DeliveryFailure {
                    tag: queued.tag,
                    row: queued.row,
                    error,
                });
            }
        }
    }

    fn deliver_one(&mut self, queued: &Queued) -> Result<(), Error> {
        let doing = format!("deliver a record to {}", queued.partition);
        let mut guard = self.world.lock();
        let state = &mut *guard;
        if let Some(id) = &self.id {
            state.check_epoch(id, self.epoch, &doing)?;
        }
        if state.chance(state.faults.lost_delivery) {
            return Err(Error::new(ErrorKind::Unavailable, doing, "the delivery timed out"));
        }
        let value = queued.record.value.clone().unwrap_or_default();
        let poisoned =
            state.poisoned.contains(&value) && state.dead_letters.as_deref() != Some(&*queued.partition.topic);
        let topic = state.topics.get(&*queued.partition.topic);
        let Some(topic) = topic.filter(|t| t.partitions.len() as i32 > queued.partition.partition) else {
            return Err(Error::new(ErrorKind::NotFound, doing, "no such partition"));
        };
        if poisoned
            || value.len() > RECORD_BYTES_MAX
            || (topic.cleanup != Cleanup::Delete && queued.record.key.is_none())
        {
            return Err(Error::new(
                ErrorKind::Refused,
                doing,
                "the simulated broker does not take this record",
            ));
        }
        if let Some(id) = &self.id {
            state.join_transaction(id, Target::Partition(queued.partition.clone()));
        }
        let producer = self.id.is_some().then_some(self.producer);
        let logs = state
            .topics
            .get_mut(&*queued.partition.topic)
            .map(|t| &mut t.partitions);
        if let Some(log) = logs.and_then(|l| l.get_mut(queued.partition.partition as usize)) {
            let offset = log.append(queued.record.clone(), producer);
            self.delivered.insert(queued.partition.clone(), offset);
        }
        Ok(())
    }

    fn deliver_some(&mut self) {
        let count = {
            let mut state = self.world.lock();
            let queued = self.queue.len();
            if state.chance(0.5) {
                state.rng.random_range(0..=queued)
            } else {
                0
            }
        };
        self.deliver(count);
    }

    fn purge(&mut self) {
        self.queue.clear();
        self.delivered.clear();
        self.failures.clear();
        (self.spoiled, self.in_transaction) = (false, false);
    }
}

impl Producer for WorldProducer {
    fn init(&mut self) -> Result<(), Error> {
        let Some(id) = self.id.clone() else { return Ok(()) };
        let mut state = self.world.lock();
        state.reached(&format!("initialise `{id}`"))?;
        let (producer, epoch) = state.init_producer(&id, Some(self.timeout_ms));
        drop(state);
        (self.producer, self.epoch, self.ready) = (producer, epoch, true);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Error> {
        self.usable("begin a transaction")?;
        if self.in_transaction {
            return Err(Error::new(
                ErrorKind::Configuration,
                "begin a transaction",
                "one is open already",
            ));
        }
        self.in_transaction = true;
        self.delivered.clear();
        Ok(())
    }

    fn send(&mut self, topic: &str, to: Partitioning, batch: &Batch, tag: u64) -> Result<(), Error> {
        let doing = format!("send to `{topic}`");
        self.usable(&doing)?;
        if self.id.is_some() && !self.in_transaction {
            return Err(Error::new(ErrorKind::Configuration, doing, "no transaction is open"));
        }
        for row in 0..batch.len() {
            let partition = to
                .partition(batch.key(row))
                .unwrap_or_else(|| self.world.lock().rng.random_range(0..to.count()));
            let record = Record {
                key: batch.key(row).map(<[u8]>::to_vec),
                value: batch.value(row).map(<[u8]>::to_vec),
                timestamp: batch.timestamps().get(row).copied().unwrap_or_default(),
                headers: batch.headers().map(|h| h.row(row).to_vec()).unwrap_or_default(),
            };
            self.queue.push_back(Queued {
                partition: TopicPartition::new(topic, partition),
                record,
                tag,
                row: row as u32,
            });
        }
        self.deliver_some();
        Ok(())
    }

    fn send_offsets(
        &mut self,
        group: &str,
        offsets: &[CommittedOffset],
        metadata: Option<&GroupMetadata>,
    ) -> Result<(), Error> {
        let doing = format!("send offsets of `{group}` by `{}`", self.name());
        self.usable(&doing)?;
        let Some(id) = self.id.clone().filter(|_| self.in_transaction && !offsets.is_empty()) else {
            return Err(Error::new(
                ErrorKind::Configuration,
                doing,
                "no offsets, or no transaction",
            ));
        };
        let mut state = self.world.lock();
        if let Err(error) = state.check_epoch(&id, self.epoch, &doing) {
            drop(state);
            return Err(self.dies(error));
        }
        state.reached(&doing)?;
        state.expire_members();
        let refused_offsets = state.faults.refused_offsets;
        let refused = state.chance(refused_offsets);
        let known = state.groups.entry(group.to_string()).or_default();
        let stale =
            metadata.is_some_and(|m| m.generation != known.generation || !known.members.contains_key(&m.member_id));
        if refused || stale || self.spoiled {
            drop(state);
            self.spoiled = true;
            return Err(Error::new(
                ErrorKind::AbortTransaction,
                doing,
                "illegal generation or unknown member",
            ));
        }
        state.offsets_in_transaction(&id, group, offsets);
        Ok(())
    }

    fn flush(&mut self, _wait: Duration) -> Result<(), Error> {
        self.usable("flush")?;
        self.deliver(self.queue.len());
        match self.dead {
            Some(kind) => Err(Error::new(kind, "flush", "this producer has failed for good")),
            None => Ok(()),
        }
    }

    fn commit(&mut self) -> Result<(), Error> {
        let doing = format!("commit the transaction of `{}`", self.name());
        self.usable(&doing)?;
        let Some(id) = self.id.clone().filter(|_| self.in_transaction) else {
            return Err(Error::new(ErrorKind::Configuration, doing, "no transaction is open"));
        };
        self.deliver(self.queue.len());
        if let Some(kind) = self.dead {
            return Err(Error::new(kind, doing, "this producer has failed for good"));
        }
        if self.spoiled {
            return Err(Error::new(
                ErrorKind::AbortTransaction,
                doing,
                "a record or the offsets were not taken",
            ));
        }
        let mut state = self.world.lock();
        if let Err(error) = state.check_epoch(&id, self.epoch, &doing) {
            drop(state);
            return Err(self.dies(error));
        }
        let lost_commit = state.faults.lost_commit;
        let lost = state.chance(lost_commit);
        let received = !lost || state.chance(0.5);
        state.tally.unknown += u64::from(lost);
        if received {
            state.finish_markers(&id);
            state.end_transaction(&id, true);
        }
        drop(state);
        if lost {
            return Err(self.dies(Error::new(ErrorKind::UnknownOutcome, doing, "no answer")));
        }
        self.in_transaction = false;
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Error> {
        let doing = format!("abort the transaction of `{}`", self.name());
        self.usable(&doing)?;
        let Some(id) = self.id.clone().filter(|_| self.in_transaction) else {
            return Err(Error::new(ErrorKind::Configuration, doing, "no transaction is open"));
        };
        self.purge();
        let mut state = self.world.lock();
        if let Err(error) = state.check_epoch(&id, self.epoch, &doing) {
            drop(state);
            return Err(self.dies(error));
        }
        state.finish_markers(&id);
        state.end_transaction(&id, false);
        Ok(())
    }

    fn take_delivered(&mut self) -> Vec<(TopicPartition, i64)> {
        std::mem::take(&mut self.delivered).into_iter().collect()
    }

    fn take_failures(&mut self) -> Vec<DeliveryFailure> {
        std::mem::take(&mut self.failures)
    }

    fn poll(&mut self) {
        if self.dead.is_none() {
            self.deliver_some();
        }
    }
}
