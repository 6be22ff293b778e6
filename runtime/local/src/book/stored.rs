//! The book on disk: one key an item, the first byte says of what kind.
//!
//! `!` cluster id, `n` next topic number, `t` topics, `s` starts of partitions, `c` how far compaction came,
//! `o` committed offsets, `p` producer epochs.

use super::{Book, Limits, Partition, PartitionBook, ProducerEntry, Topic};
use crate::codec::{Reader, Writer};
use crate::storage::{Storage, corrupt, failed};
use broker::{Cleanup, CommittedOffset, Error, TopicDescription};
use record::TopicPartition;
use rocksdb::{IteratorMode, WriteBatch};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

const CLUSTER_KEY: &[u8] = b"!";
const DOING: &str = "read the log's book";

pub(crate) fn next_topic_key() -> &'static [u8] {
    b"n"
}

pub(crate) fn topic_key(name: &str) -> Vec<u8> {
    [b"t", name.as_bytes()].concat()
}

pub(crate) fn producer_key(id: &str) -> Vec<u8> {
    [b"p", id.as_bytes()].concat()
}

pub(crate) fn start_key(place: (u32, u32)) -> Vec<u8> {
    [b"s", &place.0.to_be_bytes()[..], &place.1.to_be_bytes()[..]].concat()
}

pub(crate) fn cleaned_key(place: (u32, u32)) -> Vec<u8> {
    [b"c", &place.0.to_be_bytes()[..], &place.1.to_be_bytes()[..]].concat()
}

pub(crate) fn offset_key(group: &str, partition: &TopicPartition) -> Vec<u8> {
    let mut key = Writer(b"o".to_vec());
    key.bytes(group.as_bytes());
    key.bytes(partition.topic.as_bytes());
    key.u32(partition.partition as u32);
    key.0
}

pub(crate) fn offset_value(offset: &CommittedOffset) -> Vec<u8> {
    let mut value = Writer::default();
    value.i64(offset.offset);
    value.bytes(offset.metadata.as_bytes());
    value.0
}

pub(crate) fn topic_value(topic: &TopicDescription, number: u32, settings: &BTreeMap<String, String>) -> Vec<u8> {
    let mut value = Writer::default();
    value.u32(number);
    value.u32(topic.partitions as u32);
    value.u8(match topic.cleanup {
        Cleanup::Delete => 0,
        Cleanup::Compact => 1,
        Cleanup::CompactDelete => 2,
    });
    value.bytes(topic.id.as_bytes());
    value.u32(settings.len() as u32);
    for (name, setting) in settings {
        value.bytes(name.as_bytes());
        value.bytes(setting.as_bytes());
    }
    value.0
}

/// What a topic's value says, without its partitions.
struct StoredTopic {
    number: u32,
    partitions: u32,
    cleanup: Cleanup,
    id: String,
    limits: Limits,
}

fn decode_topic(value: &[u8]) -> Result<StoredTopic, String> {
    let mut reader = Reader(value);
    let (number, partitions) = (reader.u32()?, reader.u32()?);
    let cleanup = match reader.u8()? {
        0 => Cleanup::Delete,
        1 => Cleanup::Compact,
        2 => Cleanup::CompactDelete,
        other => return Err(format!("a topic with clean-up {other}")),
    };
    let id = reader.text()?;
    let mut settings = BTreeMap::new();
    for _ in 0..reader.u32()? {
        let name = reader.text()?;
        settings.insert(name, reader.text()?);
    }
    Ok(StoredTopic {
        number,
        partitions,
        cleanup,
        id,
        limits: Limits::of(&settings)?,
    })
}

fn read_topic(storage: &Storage, value: &[u8]) -> Result<Topic, Error> {
    let StoredTopic {
        number,
        partitions,
        cleanup,
        id,
        limits,
    } = decode_topic(value).map_err(|e| corrupt(DOING, e))?;
    let partitions = (0..partitions)
        .map(|p| read_partition(storage, (number, p)))
        .collect::<Result<_, _>>()?;
    Ok(Topic {
        number,
        id,
        cleanup,
        limits,
        partitions,
    })
}

/// Reads one entry for itself, as [`load`] does.
pub(crate) fn check_entry(key: &[u8], value: &[u8]) -> Result<(), String> {
    match key.split_first() {
        Some((b't', rest)) => {
            std::str::from_utf8(rest).map_err(|e| e.to_string())?;
            decode_topic(value).map(|_| ())
        }
        Some((b'o', rest)) => read_offset(&mut Book::default(), rest, value),
        Some((b'p' | b's' | b'c' | b'n', _)) => Reader(value).i64().map(|_| ()),
        _ => Ok(()),
    }
}

impl PartitionBook {
    pub fn new(place: (u32, u32), start: i64, end: i64, cleaned: i64) -> Self {
        let shared = Partition {
            place,
            start: AtomicI64::new(start),
            stable: AtomicI64::new(end),
            gone: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            end,
            open: BTreeMap::new(),
            cleaned,
        }
    }
}

/// The end of a partition is the end of its last chunk; where there is none, all was deleted up to its start.
fn read_partition(storage: &Storage, place: (u32, u32)) -> Result<PartitionBook, Error> {
    let start = read_number(storage, &start_key(place))?;
    let end = storage.last_entry(place)?.map_or(start, |last| last.end().max(start));
    Ok(PartitionBook::new(
        place,
        start,
        end,
        read_number(storage, &cleaned_key(place))?,
    ))
}

/// 0 where there is none.
fn read_number(storage: &Storage, key: &[u8]) -> Result<i64, Error> {
    let value = storage
        .db
        .get_pinned_cf(storage.book()?, key)
        .map_err(|e| failed(DOING, &e))?;
    value.map_or(Ok(0), |v| Reader(&v).i64().map_err(|e| corrupt(DOING, e)))
}

/// Reads the book; a new one is marked with the cluster id, and an old one must carry it.
pub(crate) fn load(storage: &Storage, cluster_id: &str, fresh: bool) -> Result<Book, Error> {
    let family = storage.book()?;
    match storage.db.get_cf(family, CLUSTER_KEY).map_err(|e| failed(DOING, &e))? {
        Some(found) if found == cluster_id.as_bytes() => {}
        Some(found) => {
            let cause = format!("its database is that of cluster `{}`", String::from_utf8_lossy(&found));
            return Err(corrupt(DOING, cause));
        }
        None if !fresh => return Err(corrupt(DOING, "its database has no mark")),
        None => {
            let mut batch = WriteBatch::default();
            batch.put_cf(family, CLUSTER_KEY, cluster_id);
            storage.db.write(batch).map_err(|e| failed("mark a new log", &e))?;
        }
    }
    let mut book = Book {
        topic_next: read_number(storage, next_topic_key())? as u32,
        ..Book::default()
    };
    for item in storage.db.iterator_cf(family, IteratorMode::Start) {
        let (key, value) = item.map_err(|e| failed(DOING, &e))?;
        let Some((kind, rest)) = key.split_first() else {
            continue;
        };
        match kind {
            b't' => {
                let name = std::str::from_utf8(rest).map_err(|e| corrupt(DOING, e))?;
                book.topics.insert(name.into(), read_topic(storage, &value)?);
            }
            b'p' => {
                let id = String::from_utf8(rest.to_vec()).map_err(|e| corrupt(DOING, e))?;
                let epoch = Reader(&value).i64().map_err(|e| corrupt(DOING, e))?;
                book.producers.insert(
                    id,
                    ProducerEntry {
                        epoch,
                        reserved: Vec::new(),
                    },
                );
            }
            b'o' => read_offset(&mut book, rest, &value).map_err(|e| corrupt(DOING, e))?,
            _ => {}
        }
    }
    Ok(book)
}

fn read_offset(book: &mut Book, key: &[u8], value: &[u8]) -> Result<(), String> {
    let (mut key, mut value) = (Reader(key), Reader(value));
    let group = key.text()?;
    let partition = TopicPartition::new(key.text()?, key.u32()? as i32);
    let position = (value.i64()?, value.text()?);
    book.groups
        .entry(group)
        .or_default()
        .offsets
        .insert(partition, position);
    Ok(())
}
