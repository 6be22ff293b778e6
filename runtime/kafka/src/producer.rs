//! Writing: records handed over row by row without allocation, delivery reports counted, transactions bounded in time.

use crate::ffi::{Cause, Client, Kind, Outgoing, PartitionList, TopicHandle};
use crate::settings::Base;
use crate::{CONNECT_WAIT_MAX, creation, errors};
use broker::{
    CommittedOffset, DeliveryFailure, Error, ErrorKind, Fencing, GroupMetadata, Partitioning, ProducerOptions,
};
use rdkafka_sys::types::RDKafkaErrorCode as Code;
use record::{Batch, TopicPartition};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// librdkafka repeats a refused InitProducerId after 500 ms; a second producer that is connected already need not wait.
/// 40 ms is eight times what an answer takes.
const INIT_FIRST_WAIT: Duration = Duration::from_millis(40);
/// The second try settles a predecessor's transaction, which takes as long as its markers.
const INIT_WAIT_MAX: Duration = Duration::from_secs(15);
/// An abort waits for reports that only polling serves, so it is cut in slices.
const ABORT_SLICE: Duration = Duration::from_millis(5);
const ABORT_WAIT_MAX: Duration = Duration::from_secs(30);
/// An answer to a record takes a few milliseconds; without one in a second the abort after it settles the matter.
const RENUMBER_STEP: Duration = Duration::from_millis(5);
const RENUMBER_STEPS_MAX: usize = 200;
/// librdkafka sends without lingering only while a flush waits; its threads need less than this to notice.
const HASTEN_WAIT: Duration = Duration::from_millis(2);
/// How long one wait for room in a full queue is.
const FULL_WAIT: Duration = Duration::from_millis(5);
/// Beyond the delivery timeout, when every queued record has been delivered or has failed.
const FULL_GRACE: Duration = Duration::from_secs(5);
/// Null keys are spread in runs of this many rows, so that they do not cut every batch into one for each partition.
const SPREAD_ROWS: usize = 1_024;

pub(crate) struct Producer {
    // Declared before the client: topics must be released first.
    topics: Vec<(Arc<str>, TopicHandle)>,
    client: Client,
    base: Base,
    options: ProducerOptions,
    open: bool,
    spread: i32,
}

impl Producer {
    pub(crate) fn new(base: &Base, options: &ProducerOptions) -> Result<Self, Error> {
        let client = connected(base, options)?;
        Ok(Self {
            topics: Vec::new(),
            client,
            base: base.clone(),
            options: options.clone(),
            open: false,
            spread: 0,
        })
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} of `{}`", name(&self.options))
    }

    fn slot(&mut self, topic: &str) -> Result<usize, Error> {
        if let Some(slot) = self.topics.iter().position(|(name, _)| **name == *topic) {
            return Ok(slot);
        }
        let slot = self.topics.len();
        let handle = self
            .client
            .topic(topic, slot)
            .map_err(|e| errors::plain(self.doing(&format!("look up the topic `{topic}`")), &e))?;
        self.topics.push((topic.into(), handle));
        Ok(slot)
    }

    /// Queues one record; waits while the queue is full.
    fn queue(&self, topic: &TopicHandle, record: Outgoing<'_>) -> Result<(), Code> {
        let mut waited_since = None;
        loop {
            match self.client.produce(topic, record) {
                Err(Code::QueueFull) => {
                    let since = *waited_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > self.options.delivery_timeout + FULL_GRACE {
                        return Err(Code::QueueFull);
                    }
                    self.client.poll(FULL_WAIT);
                }
                answer => return answer,
            }
        }
    }

    fn queue_rows(&mut self, slot: usize, to: Partitioning, batch: &Batch, first: u64) -> (u32, Result<(), Code>) {
        let mut queued = 0;
        for row in 0..batch.len() {
            let key = batch.key(row);
            let partition = to.partition(key).unwrap_or_else(|| {
                if row % SPREAD_ROWS == 0 {
                    self.spread = self.spread.wrapping_add(1);
                }
                self.spread.rem_euclid(to.count().max(1))
            });
            let record = Outgoing {
                partition,
                key,
                value: batch.value(row),
                timestamp: sendable(batch.timestamps().get(row).copied().unwrap_or(-1)),
                headers: batch.headers().map_or(&[], |headers| headers.row(row)),
                ticket: first | row as u64,
            };
            let Some((_, topic)) = self.topics.get(slot) else { break };
            match self.queue(topic, record) {
                Ok(()) => queued += 1,
                Err(code) if errors::kind_of(code) == ErrorKind::Refused => {
                    let cause = Cause::new(code, code.to_string());
                    self.client.reports().borrow_mut().refused(cause, record.ticket);
                }
                Err(code) => return (queued, Err(code)),
            }
        }
        (queued, Ok(()))
    }

    /// Why a record could not be queued.
    fn unqueued(&self, topic: &str, code: Code) -> Error {
        let doing = self.doing(&format!("send to `{topic}`"));
        if let Some(fatal) = self.client.fatal_error() {
            return errors::transactional(doing, &fatal, false);
        }
        let kind = match errors::kind_of(code) {
            // Rows before it are queued already: never to be sent again as they are.
            ErrorKind::Unavailable if self.open => ErrorKind::AbortTransaction,
            ErrorKind::Unavailable => ErrorKind::Fatal,
            _ if code == Code::State && self.open => ErrorKind::AbortTransaction,
            kind => kind,
        };
        Error::new(kind, doing, code)
    }

    /// What makes the open transaction worthless although librdkafka would commit it.
    fn spoiled(&self, what: &str) -> Result<(), Error> {
        if self.options.transactional_id.is_none() {
            return Ok(());
        }
        let reports = self.client.reports().borrow();
        if let Some((count, cause)) = reports.first_failure() {
            let text = format!("{count} records were not delivered, the first because: {cause}");
            let kind = match errors::kind_of(cause.code) {
                ErrorKind::Fenced => ErrorKind::Fenced,
                _ => ErrorKind::AbortTransaction,
            };
            return Err(Error::new(kind, self.doing(what), text));
        }
        if reports.offset_unknown() {
            let text = "a record was delivered, and the broker did not say at which offset";
            return Err(Error::new(ErrorKind::AbortTransaction, self.doing(what), text));
        }
        Ok(())
    }

    fn end_without_effect(&self) -> Result<(), Error> {
        let since = Instant::now();
        loop {
            let cause = match self.client.abort_transaction(ABORT_SLICE) {
                Ok(()) => break,
                Err(cause) => cause,
            };
            let may_repeat = !cause.fatal && (cause.retriable || cause.code == Code::OperationTimedOut);
            if !may_repeat || since.elapsed() > ABORT_WAIT_MAX {
                return Err(self.transactional("abort the transaction", &cause, false));
            }
            self.client.poll(Duration::ZERO);
        }
        // Reports of what was purged.
        self.client.poll(Duration::ZERO);
        Ok(())
    }

    /// Starts new sequence numbers after a broker has refused a record.
    ///
    /// librdkafka goes on counting behind the refused record, so the next transaction would fail for nothing ("skipped
    /// sequence numbers"), and only its abort starts anew. That transaction is made here, with one empty record, which
    /// the broker refuses for its number; and were it taken, it would be aborted all the same. The new numbers come
    /// with an epoch that the coordinator gives only to the current owner of the id, so this revives no fenced producer.
    fn renumber(&self, slot: usize, partition: i32) -> Result<(), Error> {
        let Some((_, topic)) = self.topics.get(slot) else {
            return Ok(());
        };
        let what = "start a new sequence";
        self.client
            .begin_transaction()
            .map_err(|e| self.transactional(what, &e, false))?;
        let record = Outgoing {
            partition,
            key: Some(b""),
            value: None,
            timestamp: 0,
            headers: &[],
            ticket: u64::MAX,
        };
        for _ in 0..RENUMBER_STEPS_MAX {
            // An error: the transaction is spoiled, as it should be.
            if self.client.produce(topic, record).is_err() || self.client.flush(RENUMBER_STEP).is_ok() {
                break;
            }
        }
        self.end_without_effect()
    }

    fn transactional(&self, what: &str, cause: &Cause, is_commit: bool) -> Error {
        // A fatal error may hide behind the state that it has left.
        let fatal = self.client.fatal_error();
        errors::transactional(self.doing(what), fatal.as_ref().unwrap_or(cause), is_commit)
    }
}

/// Event times go out as they are, except the first millisecond of 1970, which librdkafka would take for "now".
fn sendable(timestamp: i64) -> i64 {
    if timestamp == 0 { 1 } else { timestamp }
}

fn name(options: &ProducerOptions) -> &str {
    options.transactional_id.as_deref().unwrap_or(&options.client_id)
}

fn connected(base: &Base, options: &ProducerOptions) -> Result<Client, Error> {
    let doing = || format!("make the producer `{}`", name(options));
    let client = Client::new(Kind::Producer, &base.producer(options)).map_err(|e| creation(doing(), &e))?;
    client
        .connect(CONNECT_WAIT_MAX)
        .map_err(|cause| errors::with_last(errors::kind_of(cause.code), doing(), &cause, &client.last_error()))?;
    Ok(client)
}

/// Initialises transactions on `client`, or on what `next` gives when `client` would have to wait for its timer.
fn initialise(client: &mut Client, next: impl FnOnce() -> Result<Client, Error>, doing: &str) -> Result<(), Error> {
    let failed = |cause: &Cause, client: &Client| {
        let kind = match errors::kind_of(cause.code) {
            ErrorKind::Fenced => ErrorKind::Fenced,
            _ if cause.fatal => ErrorKind::Fatal,
            kind => kind,
        };
        errors::with_last(kind, doing, cause, &client.last_error())
    };
    match client.init_transactions(INIT_FIRST_WAIT) {
        Ok(()) => return Ok(()),
        Err(cause) if cause.fatal || !cause.retriable => return Err(failed(&cause, client)),
        Err(_) => *client = next()?,
    }
    client
        .init_transactions(INIT_WAIT_MAX)
        .map_err(|cause| failed(&cause, client))
}

impl broker::Producer for Producer {
    fn init(&mut self) -> Result<(), Error> {
        if self.options.transactional_id.is_none() {
            return Ok(());
        }
        let doing = self.doing("initialise transactions");
        // Handles belong to the client that may be replaced.
        self.topics.clear();
        initialise(&mut self.client, || connected(&self.base, &self.options), &doing)
    }

    fn begin(&mut self) -> Result<(), Error> {
        self.client.reports().borrow_mut().begin();
        self.client
            .begin_transaction()
            .map_err(|e| self.transactional("begin a transaction", &e, false))?;
        self.open = true;
        Ok(())
    }

    fn send(&mut self, topic: &str, to: Partitioning, batch: &Batch, tag: u64) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let slot = self.slot(topic)?;
        let first = self.client.reports().borrow_mut().open_send(tag);
        let (queued, result) = self.queue_rows(slot, to, batch, first);
        self.client.reports().borrow_mut().close_send(queued);
        self.client.poll(Duration::ZERO);
        result.map_err(|code| self.unqueued(topic, code))
    }

    fn send_offsets(
        &mut self,
        group: &str,
        offsets: &[CommittedOffset],
        metadata: Option<&GroupMetadata>,
    ) -> Result<(), Error> {
        let what = format!("send offsets of the group `{group}`");
        let list = offset_list(offsets).map_err(|e| errors::plain(self.doing(&what), &e))?;
        self.client
            .send_offsets(group, &list, metadata, self.options.transaction_timeout)
            .map_err(|e| self.transactional(&what, &e, false))
    }

    fn flush(&mut self, wait: Duration) -> Result<(), Error> {
        let flushed = self.client.flush(wait);
        if let Some(fatal) = self.client.fatal_error() {
            return Err(errors::transactional(self.doing("flush records"), &fatal, false));
        }
        self.spoiled("flush records")?;
        flushed.map_err(|e| errors::plain(self.doing("flush records"), &e))
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.spoiled("commit the transaction")?;
        match self.client.commit_transaction(self.options.transaction_timeout) {
            Ok(()) => {
                self.open = false;
                Ok(())
            }
            Err(cause) => Err(self.transactional("commit the transaction", &cause, true)),
        }
    }

    fn abort(&mut self) -> Result<(), Error> {
        if !self.open {
            return Ok(());
        }
        self.end_without_effect()?;
        let gap = self.client.reports().borrow_mut().take_gap();
        if let Some((slot, partition)) = gap {
            self.renumber(slot, partition)?;
        }
        self.client.reports().borrow_mut().begin();
        self.open = false;
        Ok(())
    }

    fn take_delivered(&mut self) -> Vec<(TopicPartition, i64)> {
        let mut reports = self.client.reports().borrow_mut();
        let delivered = reports
            .last()
            .filter_map(|(slot, partition, offset)| {
                let (topic, _) = self.topics.get(slot)?;
                Some((
                    TopicPartition {
                        topic: Arc::clone(topic),
                        partition,
                    },
                    offset,
                ))
            })
            .collect();
        if self.options.transactional_id.is_none() {
            reports.forget_offsets();
        }
        delivered
    }

    fn take_failures(&mut self) -> Vec<DeliveryFailure> {
        let failures = self.client.reports().borrow_mut().take_failures();
        failures
            .into_iter()
            .map(|failure| DeliveryFailure {
                tag: failure.tag,
                row: failure.row,
                error: errors::plain(self.doing("deliver a record"), &failure.cause),
            })
            .collect()
    }

    fn poll(&mut self) {
        self.client.poll(Duration::ZERO);
    }

    fn hasten(&mut self) {
        // Time over is no failure: it only means that answers are still to come.
        if let Err(cause) = self.client.flush(HASTEN_WAIT) {
            tracing::trace!(%cause, "records are on their way");
        }
    }
}

/// Offsets with their metadata for librdkafka.
pub(crate) fn offset_list(offsets: &[CommittedOffset]) -> Result<PartitionList, Cause> {
    let mut list = PartitionList::new(offsets.len())?;
    for o in offsets {
        list.add(&o.partition.topic, o.partition.partition, o.offset, &o.metadata)?;
    }
    Ok(list)
}

type Answer = Arc<Mutex<Option<Result<(), Error>>>>;

/// A fencing on a thread of its own.
pub(crate) struct KafkaFencing {
    answer: Answer,
}

impl Fencing for KafkaFencing {
    fn poll(&mut self) -> Option<Result<(), Error>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a fencing producer would allow a transaction that it never begins.
const FENCE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn fence(base: &Base, transactional_id: &str) -> KafkaFencing {
    let options = ProducerOptions {
        client_id: "wasmill-fence".to_owned(),
        transactional_id: Some(transactional_id.to_owned()),
        transaction_timeout: FENCE_TRANSACTION_TIMEOUT,
        delivery_timeout: FENCE_TRANSACTION_TIMEOUT,
        upserts_only: false,
    };
    let doing = format!("fence `{transactional_id}`");
    let answer = Answer::default();
    let (base, told) = (base.clone(), Arc::clone(&answer));
    let run = move || {
        let result = connected(&base, &options).and_then(|mut first| {
            let second = connected(&base, &options)?;
            initialise(&mut first, || Ok(second), &doing)
        });
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    };
    if let Err(error) = std::thread::Builder::new().name("fence".to_owned()).spawn(run) {
        let error = Error::new(ErrorKind::Fatal, format!("fence `{transactional_id}`"), error);
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Err(error));
    }
    KafkaFencing { answer }
}
