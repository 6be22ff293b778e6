//! What [`crate::Log::maintain`] does: deletes what retention lets go, then a step of compaction.

use crate::Shared;
use crate::book::{Book, Limits, Partition, start_key};
use broker::{Cleanup, Error};
use record::TopicPartition;
use rocksdb::WriteBatch;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Chunks that one call deletes from one partition: deleting holds up commits.
const CHUNKS_DELETED_MAX: usize = 10_000;

/// What one call of [`crate::Log::maintain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Stored chunks that retention deleted.
    pub chunks_deleted: u64,
    /// Records that compaction removed.
    pub records_compacted: u64,
    /// There is more to do now.
    pub more: bool,
}

/// A partition as maintenance sees it.
pub(crate) struct Kept {
    pub at: TopicPartition,
    pub shared: Arc<Partition>,
    pub cleanup: Cleanup,
    pub limits: Limits,
    pub cleaned: i64,
}

impl Shared {
    pub(crate) fn maintain(&self, now_ms: i64) -> Result<Maintained, Error> {
        let mut done = Maintained::default();
        let partitions = self.kept();
        for kept in partitions.iter().filter(|k| k.cleanup != Cleanup::Compact) {
            self.expire(kept, now_ms, &mut done)?;
        }
        self.compact(&partitions, now_ms, &mut done)?;
        Ok(done)
    }

    fn kept(&self) -> Vec<Kept> {
        let book = self.book();
        let of_topic = |(name, topic): (&Arc<str>, &crate::book::Topic)| {
            let kept = topic.partitions.iter().enumerate().map(|(number, partition)| Kept {
                at: TopicPartition::new(Arc::clone(name), number as i32),
                shared: Arc::clone(&partition.shared),
                cleanup: topic.cleanup,
                limits: topic.limits,
                cleaned: partition.cleaned,
            });
            kept.collect::<Vec<_>>()
        };
        book.topics.iter().flat_map(of_topic).collect()
    }

    /// Deletes chunks from the front while all of their records are too old, or what is behind them is enough.
    fn expire(&self, kept: &Kept, now_ms: i64, done: &mut Maintained) -> Result<(), Error> {
        let (start, stable) = (
            kept.shared.start.load(Ordering::Acquire),
            kept.shared.stable.load(Ordering::Acquire),
        );
        let mut excess = match kept.limits.retention_bytes {
            None => 0,
            Some(bytes) => {
                let mut total = 0;
                self.storage.entries(kept.shared.place, start, |entry| {
                    total += u64::from(entry.bytes);
                    true
                })?;
                total.saturating_sub(bytes)
            }
        };
        let oldest = kept.limits.retention_ms.map(|ms| now_ms.saturating_sub(ms));
        if excess == 0 && oldest.is_none() {
            return Ok(());
        }
        let (mut cut, mut count) = (start, 0);
        self.storage.entries(kept.shared.place, start, |entry| {
            let over = excess >= u64::from(entry.bytes);
            let old = oldest.is_some_and(|oldest| entry.timestamp_max < oldest);
            if !(over || old) || entry.end() > stable {
                return false;
            }
            excess = excess.saturating_sub(u64::from(entry.bytes));
            cut = entry.end();
            count += 1;
            count < CHUNKS_DELETED_MAX
        })?;
        if cut > start {
            let doing = format!("delete old records of {}", kept.at);
            let mut book = self.book();
            done.chunks_deleted += self.delete_before(&mut book, &kept.shared, cut, &doing)?;
            done.more |= count == CHUNKS_DELETED_MAX;
        }
        Ok(())
    }

    /// Moves the start of a partition to `start`, which readers may have reached; how many chunks went with it.
    pub(crate) fn delete_before(
        &self,
        book: &mut Book,
        shared: &Partition,
        start: i64,
        doing: &str,
    ) -> Result<u64, Error> {
        let before = shared.start.load(Ordering::Acquire);
        if start <= before || shared.gone.load(Ordering::Acquire) {
            return Ok(0);
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(self.storage.book()?, start_key(shared.place), start.to_le_bytes());
        let mut whole = Vec::new();
        self.storage.entries(shared.place, before, |entry| {
            let deleted = entry.end() <= start;
            whole.extend(deleted.then_some(entry.base));
            deleted
        })?;
        for base in &whole {
            self.storage.delete_chunk(&mut batch, shared.place, *base)?;
        }
        self.write(book, batch, doing)?;
        shared.start.store(start, Ordering::Release);
        Ok(whole.len() as u64)
    }
}
