//! What the log knows beside its records: topics, partitions, groups, producers.
//!
//! All of it is in memory under one lock, and what must survive is in the column family `book`, written in the same
//! batch as the records it belongs to. A change is written first and taken into memory when it is on disk.

mod groups;
mod stored;

pub(crate) use groups::{Group, MemberEntry, check_offsets};
pub(crate) use stored::{
    check_entry, cleaned_key, load, next_topic_key, offset_key, offset_value, producer_key, start_key, topic_key,
    topic_value,
};

use crate::chunk;
use crate::storage::{Entry, Storage};
use broker::{Cleanup, Error, ErrorKind, TopicDescription};
use hashbrown::HashMap;
use record::TopicPartition;
use rocksdb::WriteBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// `max.message.bytes` where a topic does not say: Kafka's default.
const RECORD_BYTES_MAX: usize = 1_048_588;
/// `delete.retention.ms` where a topic does not say: Kafka's default, a day.
const DELETE_RETENTION_MS: i64 = 86_400_000;
/// `min.cleanable.dirty.ratio` where a topic does not say: Kafka's default.
const DIRTY_RATIO: f64 = 0.5;
/// `segment.bytes` where a topic does not say: far less than Kafka's, since a pass costs no segment of its own.
const SEGMENT_BYTES: u64 = 16 << 20;

/// What readers of a partition see, without the lock.
#[derive(Debug)]
pub(crate) struct Partition {
    /// Number of the topic and of the partition: the start of every chunk key.
    pub place: (u32, u32),
    pub start: AtomicI64,
    /// Readers see what is below: no open transaction has reserved anything before it.
    pub stable: AtomicI64,
    /// The topic was deleted.
    pub gone: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct PartitionBook {
    pub shared: Arc<Partition>,
    /// The next offset to be given out, reserved ones counted.
    pub end: i64,
    /// Reserved by open transactions: first offset to end.
    pub open: BTreeMap<i64, i64>,
    /// Compaction has seen everything below.
    pub cleaned: i64,
}

impl PartitionBook {
    /// Reserves `span` offsets for a transaction that is still open.
    pub fn reserve(&mut self, span: u32) -> i64 {
        let base = self.end;
        self.end += i64::from(span);
        self.open.insert(base, self.end);
        base
    }

    /// Shows readers what no open transaction holds back.
    pub fn publish(&self) {
        let stable = self.open.first_key_value().map_or(self.end, |(base, _)| *base);
        self.shared.stable.store(stable, Ordering::Release);
    }
}

/// What the settings of a topic mean here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    pub record_bytes_max: usize,
    /// `None`: for ever.
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<u64>,
    pub delete_retention_ms: i64,
    pub dirty_ratio: f64,
    /// `segment.bytes`: compaction waits for this much that is new.
    pub segment_bytes: u64,
}

impl Limits {
    /// # Errors
    /// The setting that is not a number.
    pub fn of(settings: &BTreeMap<String, String>) -> Result<Self, String> {
        fn number<T: std::str::FromStr>(settings: &BTreeMap<String, String>, name: &str) -> Result<Option<T>, String> {
            let text = settings.get(name);
            text.map(|t| t.parse().map_err(|_| format!("`{name}` is `{t}`, which is no number")))
                .transpose()
        }
        let bound = |name| Ok::<_, String>(number::<i64>(settings, name)?.filter(|n| *n >= 0));
        Ok(Self {
            record_bytes_max: number(settings, "max.message.bytes")?.unwrap_or(RECORD_BYTES_MAX),
            retention_ms: bound("retention.ms")?,
            retention_bytes: bound("retention.bytes")?.map(i64::unsigned_abs),
            delete_retention_ms: bound("delete.retention.ms")?.unwrap_or(DELETE_RETENTION_MS),
            dirty_ratio: number(settings, "min.cleanable.dirty.ratio")?.unwrap_or(DIRTY_RATIO),
            segment_bytes: bound("segment.bytes")?.map_or(SEGMENT_BYTES, i64::unsigned_abs),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub number: u32,
    pub id: String,
    pub cleanup: Cleanup,
    pub limits: Limits,
    pub partitions: Vec<PartitionBook>,
}

impl Topic {
    pub fn describe(&self, name: &str) -> TopicDescription {
        TopicDescription {
            name: name.to_owned(),
            id: self.id.clone(),
            partitions: self.partitions.len() as i32,
            cleanup: self.cleanup,
        }
    }

    pub fn compacts(&self) -> bool {
        self.cleanup != Cleanup::Delete
    }
}

/// Offsets that an open transaction has taken for itself.
#[derive(Clone, Debug)]
pub(crate) struct Reserved {
    pub partition: TopicPartition,
    pub shared: Arc<Partition>,
    pub base: i64,
    pub span: u32,
}

/// The producers of one transactional id: who is the newest, and what its open transaction has reserved.
#[derive(Debug, Default)]
pub(crate) struct ProducerEntry {
    pub epoch: i64,
    pub reserved: Vec<Reserved>,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub topics: BTreeMap<Arc<str>, Topic>,
    pub topic_next: u32,
    pub groups: HashMap<String, Group>,
    pub producers: HashMap<String, ProducerEntry>,
    /// A write failed, so the disk may hold what memory does not: nothing more is written until the log is opened anew.
    pub failed: Option<String>,
}

impl Book {
    pub fn partition(&self, at: &TopicPartition, doing: &str) -> Result<&PartitionBook, Error> {
        let found = usize::try_from(at.partition)
            .ok()
            .and_then(|p| self.topics.get(&at.topic)?.partitions.get(p));
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, doing, format!("there is no partition {at}")))
    }

    /// The partition that `shared` belongs to, unless its topic was deleted.
    pub fn partition_mut(&mut self, at: &TopicPartition, shared: &Partition) -> Option<&mut PartitionBook> {
        let partition = usize::try_from(at.partition).ok()?;
        let found = self.topics.get_mut(&at.topic)?.partitions.get_mut(partition)?;
        (found.shared.place == shared.place).then_some(found)
    }

    /// Whether `epoch` is still the newest of `id`.
    pub fn check_epoch(&self, id: &str, epoch: i64, doing: &str) -> Result<(), Error> {
        match self.producers.get(id) {
            Some(entry) if entry.epoch == epoch => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Fenced,
                doing,
                format!("a newer producer with the id `{id}` exists"),
            )),
        }
    }

    /// Gives back what the open transaction of `id` has reserved. Offsets at the end of a partition are given out
    /// again; others become a hole on disk, since readers may have passed them by the time of the next start.
    pub fn give_back(&mut self, storage: &Storage, batch: &mut WriteBatch, id: &str) -> Result<(), Error> {
        let reserved = self
            .producers
            .get_mut(id)
            .map(|p| std::mem::take(&mut p.reserved))
            .unwrap_or_default();
        for r in reserved.iter().rev() {
            let Some(partition) = self.partition_mut(&r.partition, &r.shared) else {
                continue;
            };
            partition.open.remove(&r.base);
            if partition.end == r.base + i64::from(r.span) {
                partition.end = r.base;
            } else {
                let hole = chunk::hole(r.span);
                storage.put_chunk(batch, r.shared.place, &hole, &Entry::of(r.base, &hole, 0))?;
            }
        }
        Ok(())
    }

    pub fn publish_all(&self, of: &[Reserved]) {
        for r in of {
            let found = usize::try_from(r.partition.partition)
                .ok()
                .and_then(|p| self.topics.get(&r.partition.topic)?.partitions.get(p))
                .filter(|p| p.shared.place == r.shared.place);
            if let Some(partition) = found {
                partition.publish();
            }
        }
    }
}

pub(crate) fn no_topic(name: &str, doing: &str) -> Error {
    Error::new(ErrorKind::NotFound, doing, format!("there is no topic `{name}`"))
}
