//! Writing: rows are packed into chunks as they come, get their offsets at a flush, and are in the log with the commit.
//!
//! An open transaction is memory only, and offsets that it has reserved. Nobody sees it, and nothing has to end it.

mod queue;

use crate::Shared;
use crate::book::{Book, Reserved, check_offsets, offset_key, offset_value};
use crate::storage::Entry;
use broker::{
    CommittedOffset, DeliveryFailure, Error, ErrorKind, GroupMetadata, Partitioning, Producer, ProducerOptions,
};
use queue::{Queues, Ready};
use record::{Batch, TopicPartition};
use rocksdb::WriteBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A producer without transactions writes by itself when this much waits.
const UNSENT_BYTES_MAX: usize = 4 << 20;

/// Where a producer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// With a transactional id, before `init`.
    New,
    /// Between transactions.
    Idle,
    Open,
    /// Without a transactional id.
    Plain,
}

pub(crate) struct LogProducer {
    log: Arc<Shared>,
    id: Option<String>,
    name: String,
    epoch: i64,
    phase: Phase,
    queues: Queues,
    /// Chunks with offsets, and what they reserved, in the same order.
    flushed: Vec<(Reserved, Ready)>,
    flushed_bytes: usize,
    offsets: Vec<(String, CommittedOffset)>,
    shown: Vec<GroupMetadata>,
    /// The first reason why this transaction cannot be committed.
    spoiled: Option<String>,
    delivered: BTreeMap<TopicPartition, i64>,
    failures: Vec<DeliveryFailure>,
}

impl LogProducer {
    pub fn new(log: Arc<Shared>, options: &ProducerOptions) -> Self {
        let id = options.transactional_id.clone();
        Self {
            log,
            name: id.clone().unwrap_or_else(|| options.client_id.clone()),
            phase: if id.is_some() { Phase::New } else { Phase::Plain },
            id,
            epoch: 0,
            queues: Queues::default(),
            flushed: Vec::new(),
            flushed_bytes: 0,
            offsets: Vec::new(),
            shown: Vec::new(),
            spoiled: None,
            delivered: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} of `{}`", self.name)
    }

    /// The book, if no newer producer has this id and the producer is in `phase`.
    fn entered(&self, what: &str, phase: Phase) -> Result<std::sync::MutexGuard<'_, Book>, Error> {
        let book = self.log.book();
        if let (Some(id), true) = (&self.id, self.phase != Phase::New) {
            book.check_epoch(id, self.epoch, &self.doing(what))?;
        }
        if self.phase != phase {
            let cause = format!("the producer is {:?}, not {phase:?}", self.phase);
            return Err(Error::new(ErrorKind::Fatal, self.doing(what), cause));
        }
        Ok(book)
    }

    fn spoil(&mut self, cause: &str) {
        self.spoiled.get_or_insert_with(|| cause.to_owned());
    }

    fn forget(&mut self) {
        self.queues = Queues::default();
        self.flushed.clear();
        self.flushed_bytes = 0;
        self.offsets.clear();
        self.shown.clear();
        self.spoiled = None;
    }

    /// Gives queued rows their offsets in the open transaction.
    fn reserve(&mut self, what: &str) -> Result<(), Error> {
        let doing = self.doing(what);
        let ready = self.queues.take_ready();
        let id = self.id.clone().unwrap_or_default();
        let mut book = self.entered(what, Phase::Open)?;
        let mut flushed = Vec::with_capacity(ready.len());
        let mut gone = None;
        for chunk in ready {
            let Some(partition) = book.partition_mut(&chunk.partition, &chunk.shared) else {
                gone.get_or_insert_with(|| format!("the topic of {} was deleted", chunk.partition));
                continue;
            };
            let base = partition.reserve(chunk.sealed.span);
            let reserved = Reserved {
                partition: chunk.partition.clone(),
                shared: Arc::clone(&chunk.shared),
                base,
                span: chunk.sealed.span,
            };
            book.producers
                .entry(id.clone())
                .or_default()
                .reserved
                .push(reserved.clone());
            flushed.push((reserved, chunk));
        }
        drop(book);
        for (reserved, _) in &flushed {
            self.delivered
                .insert(reserved.partition.clone(), reserved.base + i64::from(reserved.span) - 1);
        }
        self.flushed_bytes += flushed.iter().map(|(_, chunk)| chunk.sealed.value.len()).sum::<usize>();
        self.flushed.extend(flushed);
        if let Some(cause) = gone {
            self.spoil(&cause);
        }
        match &self.spoiled {
            Some(cause) => Err(Error::new(ErrorKind::AbortTransaction, doing, cause)),
            None => Ok(()),
        }
    }

    /// Writes what waits, without a transaction.
    fn write_plain(&mut self) -> Result<(), Error> {
        let doing = self.doing("flush records");
        let ready = self.queues.take_ready();
        if ready.is_empty() {
            return Ok(());
        }
        let mut book = self.log.book();
        let mut batch = WriteBatch::default();
        let mut ends: BTreeMap<TopicPartition, (Arc<crate::book::Partition>, i64)> = BTreeMap::new();
        for chunk in &ready {
            let Some(partition) = book.partition_mut(&chunk.partition, &chunk.shared) else {
                let cause = format!("the topic of {} was deleted", chunk.partition);
                return Err(Error::new(ErrorKind::NotFound, doing, cause));
            };
            let end = ends
                .entry(chunk.partition.clone())
                .or_insert((Arc::clone(&chunk.shared), partition.end));
            let entry = Entry::of(end.1, &chunk.sealed, 0);
            self.log
                .storage
                .put_chunk(&mut batch, chunk.shared.place, &chunk.sealed, &entry)?;
            end.1 = entry.end();
        }
        self.log.write(&mut book, batch, &doing)?;
        for (at, (shared, end)) in ends {
            if let Some(partition) = book.partition_mut(&at, &shared) {
                partition.end = end;
                partition.publish();
            }
            self.delivered.insert(at, end - 1);
        }
        drop(book);
        self.log.tell();
        Ok(())
    }

    /// Chunks, positions and the end of the transaction, in one write.
    fn write_transaction(&mut self) -> Result<(), Error> {
        let doing = self.doing("commit the transaction");
        let id = self.id.clone().unwrap_or_default();
        let mut book = self.entered("commit the transaction", Phase::Open)?;
        for shown in &self.shown {
            let group = book.groups.entry(shown.group.clone()).or_default();
            group.check_metadata(shown, &doing)?;
        }
        let mut batch = WriteBatch::default();
        for (reserved, chunk) in &self.flushed {
            if book.partition_mut(&reserved.partition, &reserved.shared).is_none() {
                let cause = format!("the topic of {} was deleted", reserved.partition);
                return Err(Error::new(ErrorKind::AbortTransaction, doing, cause));
            }
            let entry = Entry::of(reserved.base, &chunk.sealed, 0);
            self.log
                .storage
                .put_chunk(&mut batch, reserved.shared.place, &chunk.sealed, &entry)?;
        }
        for (group, offset) in &self.offsets {
            let key = offset_key(group, &offset.partition);
            batch.put_cf(self.log.storage.book()?, key, offset_value(offset));
        }
        if let Err(e) = self.log.write(&mut book, batch, &doing) {
            // It may have reached the disk; the next start tells.
            return Err(Error::new(ErrorKind::UnknownOutcome, e.doing, e.cause));
        }
        let reserved = book
            .producers
            .get_mut(&id)
            .map(|p| std::mem::take(&mut p.reserved))
            .unwrap_or_default();
        for r in &reserved {
            if let Some(partition) = book.partition_mut(&r.partition, &r.shared) {
                partition.open.remove(&r.base);
                partition.publish();
            }
        }
        for (group, offset) in &self.offsets {
            book.groups
                .entry(group.clone())
                .or_default()
                .take(std::slice::from_ref(offset));
        }
        drop(book);
        self.log.tell();
        Ok(())
    }

    /// Ends the open transaction without effect, if this is still the producer of its id.
    fn give_back(&self, what: &str) -> Result<(), Error> {
        let id = self.id.clone().unwrap_or_default();
        let mut book = self.entered(what, Phase::Open)?;
        let reserved = book.producers.get(&id).map(|p| p.reserved.clone()).unwrap_or_default();
        if reserved.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        book.give_back(&self.log.storage, &mut batch, &id)?;
        self.log.write(&mut book, batch, &self.doing(what))?;
        book.publish_all(&reserved);
        drop(book);
        self.log.tell();
        Ok(())
    }
}

impl Producer for LogProducer {
    fn init(&mut self) -> Result<(), Error> {
        let Some(id) = &self.id else { return Ok(()) };
        self.epoch = self.log.raise_epoch(id, &format!("initialise the producer `{id}`"))?;
        self.phase = Phase::Idle;
        self.forget();
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Error> {
        drop(self.entered("begin a transaction", Phase::Idle)?);
        self.phase = Phase::Open;
        self.forget();
        self.delivered.clear();
        Ok(())
    }

    fn send(&mut self, topic: &str, to: Partitioning, batch: &Batch, tag: u64) -> Result<(), Error> {
        let phase = if self.id.is_some() { Phase::Open } else { Phase::Plain };
        let doing = format!("send to `{topic}`");
        let book = self.log.book();
        if let (Some(id), true) = (&self.id, self.phase != Phase::New) {
            book.check_epoch(id, self.epoch, &doing)?;
        }
        if self.phase != phase {
            return Err(Error::new(ErrorKind::Fatal, doing, "no transaction was begun"));
        }
        let target = self.queues.open(&book, topic, &doing)?;
        drop(book);
        let before = self.failures.len();
        self.queues.add(target, to, batch, tag, &mut self.failures, &doing)?;
        if self.failures.len() > before && self.phase == Phase::Open {
            let cause = self
                .failures
                .get(before)
                .map_or_else(String::new, |f| f.error.to_string());
            self.spoil(&cause);
        }
        if self.phase == Phase::Plain && self.queues.bytes() >= UNSENT_BYTES_MAX {
            return self.write_plain();
        }
        if self.queues.bytes() + self.flushed_bytes > self.log.options.queue_bytes_max {
            let cause = format!(
                "the transaction holds more than {} bytes",
                self.log.options.queue_bytes_max
            );
            self.spoil(&cause);
            return Err(Error::new(ErrorKind::AbortTransaction, doing, cause));
        }
        Ok(())
    }

    fn send_offsets(
        &mut self,
        group: &str,
        offsets: &[CommittedOffset],
        metadata: Option<&GroupMetadata>,
    ) -> Result<(), Error> {
        let what = "send positions in a transaction";
        let doing = self.doing(what);
        let mut book = self.entered(what, Phase::Open)?;
        check_offsets(offsets, &doing)?;
        for offset in offsets {
            book.partition(&offset.partition, &doing)?;
        }
        let checked = metadata.map_or(Ok(()), |shown| {
            book.groups
                .entry(shown.group.clone())
                .or_default()
                .check_metadata(shown, &doing)
        });
        drop(book);
        if let Err(e) = checked {
            self.spoil(&e.cause);
            return Err(e);
        }
        self.shown.extend(metadata.cloned());
        self.offsets
            .extend(offsets.iter().map(|o| (group.to_owned(), o.clone())));
        Ok(())
    }

    fn flush(&mut self, _wait: Duration) -> Result<(), Error> {
        match self.phase {
            Phase::Plain => self.write_plain(),
            Phase::Open => self.reserve("flush records"),
            Phase::New | Phase::Idle => Ok(()),
        }
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.reserve("commit the transaction")?;
        self.write_transaction()?;
        self.phase = Phase::Idle;
        self.forget();
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Error> {
        self.give_back("abort the transaction")?;
        self.phase = Phase::Idle;
        self.forget();
        self.delivered.clear();
        Ok(())
    }

    fn take_delivered(&mut self) -> Vec<(TopicPartition, i64)> {
        match self.phase {
            Phase::Plain => std::mem::take(&mut self.delivered).into_iter().collect(),
            _ => self
                .delivered
                .iter()
                .map(|(partition, offset)| (partition.clone(), *offset))
                .collect(),
        }
    }

    fn take_failures(&mut self) -> Vec<DeliveryFailure> {
        std::mem::take(&mut self.failures)
    }

    /// Nothing waits for a callback; without a transaction what is queued is written.
    fn poll(&mut self) {
        if self.phase == Phase::Plain
            && let Err(e) = self.write_plain()
        {
            tracing::warn!(error = %e, "queued records were not written");
        }
    }
}

impl Drop for LogProducer {
    fn drop(&mut self) {
        if self.phase == Phase::Open
            && let Err(e) = self.give_back("end the transaction")
            && e.kind != ErrorKind::Fenced
        {
            tracing::warn!(error = %e, "the transaction of a dropped producer stays until its id is used again");
        }
    }
}
