//! Topics, offsets and groups as [`Admin`].

use crate::Shared;
use crate::book::{
    self, Group, Limits, PartitionBook, Topic, check_offsets, next_topic_key, offset_key, offset_value, start_key,
    topic_key, topic_value,
};
use crate::chunk::Chunk;
use crate::storage::{chunk_key, failed};
use broker::{Admin, CommittedOffset, CreateOutcome, Error, ErrorKind, NewTopic, OffsetAt, TopicDescription};
use record::TopicPartition;
use rocksdb::WriteBatch;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Every partition costs an entry in memory and a look at its end when the log is opened.
const PARTITIONS_MAX: i32 = 10_000;
/// Kafka's bound.
const TOPIC_NAME_BYTES_MAX: usize = 249;

pub(crate) struct LogAdmin {
    pub log: Arc<Shared>,
}

impl Admin for LogAdmin {
    fn cluster_id(&mut self) -> Result<String, Error> {
        Ok(self.log.cluster_id.clone())
    }

    fn topics(&mut self) -> Result<Vec<TopicDescription>, Error> {
        Ok(self
            .log
            .book()
            .topics
            .iter()
            .map(|(name, topic)| topic.describe(name))
            .collect())
    }

    fn describe(&mut self, topics: &[String]) -> Result<Vec<Option<TopicDescription>>, Error> {
        let book = self.log.book();
        Ok(topics
            .iter()
            .map(|name| book.topics.get(name.as_str()).map(|t| t.describe(name)))
            .collect())
    }

    fn create(&mut self, topics: &[NewTopic]) -> Result<Vec<CreateOutcome>, Error> {
        topics.iter().map(|topic| self.create_one(topic)).collect()
    }

    fn delete(&mut self, topics: &[String]) -> Result<(), Error> {
        topics.iter().try_for_each(|name| self.delete_one(name))
    }

    fn delete_records(&mut self, before: &[(TopicPartition, i64)]) -> Result<(), Error> {
        before.iter().try_for_each(|(partition, offset)| {
            let doing = format!("delete records of {partition}");
            let mut book = self.log.book();
            let shared = Arc::clone(&book.partition(partition, &doing)?.shared);
            let stable = shared.stable.load(Ordering::Acquire);
            if *offset > stable {
                let cause = format!("offset {offset} is behind its end {stable}");
                return Err(Error::new(ErrorKind::OffsetOutOfRange, doing, cause));
            }
            // Kafka takes -1 for "all".
            let start = if *offset < 0 { stable } else { *offset };
            self.log.delete_before(&mut book, &shared, start, &doing).map(|_| ())
        })
    }

    fn offsets(&mut self, partitions: &[TopicPartition], at: OffsetAt) -> Result<Vec<i64>, Error> {
        partitions.iter().map(|partition| self.offset(partition, at)).collect()
    }

    fn committed(&mut self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, Error> {
        let book = self.log.book();
        let of = |partition: &TopicPartition| {
            let (offset, metadata) = book.groups.get(group)?.offsets.get(partition)?;
            Some(CommittedOffset {
                partition: partition.clone(),
                offset: *offset,
                metadata: metadata.clone(),
            })
        };
        Ok(partitions.iter().map(of).collect())
    }

    fn commit(&mut self, group: &str, offsets: &[CommittedOffset]) -> Result<(), Error> {
        let doing = format!("commit positions of `{group}`");
        if self.log.book().groups.get(group).is_some_and(|g| !g.members.is_empty()) {
            return Err(Error::new(
                ErrorKind::Refused,
                doing,
                "the group has members, and they commit",
            ));
        }
        self.log.commit_offsets(group, offsets, &doing)
    }

    fn delete_group(&mut self, group: &str) -> Result<(), Error> {
        let doing = format!("delete the group `{group}`");
        let mut book = self.log.book();
        let Some(found) = book.groups.get(group) else {
            return Ok(());
        };
        if !found.members.is_empty() {
            return Err(Error::new(ErrorKind::Refused, doing, "it has members"));
        }
        let mut batch = WriteBatch::default();
        for partition in found.offsets.keys() {
            batch.delete_cf(self.log.storage.book()?, offset_key(group, partition));
        }
        self.log.write(&mut book, batch, &doing)?;
        book.groups.remove(group);
        Ok(())
    }
}

impl LogAdmin {
    fn create_one(&self, new: &NewTopic) -> Result<CreateOutcome, Error> {
        let doing = format!("create the topic `{}`", new.name);
        let mut book = self.log.book();
        if let Some(found) = book.topics.get(new.name.as_str()) {
            return Ok(CreateOutcome::Exists(found.describe(&new.name)));
        }
        let limits = check_new(new).map_err(|e| Error::new(ErrorKind::Configuration, doing.as_str(), e))?;
        let number = book.topic_next;
        let description = TopicDescription {
            name: new.name.clone(),
            id: uuid::Uuid::new_v4().to_string(),
            partitions: new.partitions,
            cleanup: new.cleanup,
        };
        let family = self.log.storage.book()?;
        let mut batch = WriteBatch::default();
        batch.put_cf(family, next_topic_key(), i64::from(number + 1).to_le_bytes());
        batch.put_cf(
            family,
            topic_key(&new.name),
            topic_value(&description, number, &new.settings),
        );
        self.log.write(&mut book, batch, &doing)?;
        book.topic_next = number + 1;
        let topic = Topic {
            number,
            id: description.id,
            cleanup: new.cleanup,
            limits,
            partitions: (0..new.partitions.unsigned_abs())
                .map(|p| PartitionBook::new((number, p), 0, 0, 0))
                .collect(),
        };
        book.topics.insert(new.name.as_str().into(), topic);
        Ok(CreateOutcome::Created)
    }

    /// With its records, and with the offsets that groups have committed for it.
    fn delete_one(&self, name: &str) -> Result<(), Error> {
        let doing = format!("delete the topic `{name}`");
        let storage = &self.log.storage;
        let mut book = self.log.book();
        let Some(topic) = book.topics.get(name) else {
            return Ok(());
        };
        let (from, to) = (chunk_key(topic.number, 0, 0), chunk_key(topic.number + 1, 0, 0));
        let mut batch = WriteBatch::default();
        batch.delete_cf(storage.book()?, topic_key(name));
        batch.delete_range_cf(storage.log()?, from, to);
        batch.delete_range_cf(storage.index()?, from, to);
        for partition in &topic.partitions {
            batch.delete_cf(storage.book()?, start_key(partition.shared.place));
            batch.delete_cf(storage.book()?, book::cleaned_key(partition.shared.place));
        }
        for (group, entry) in &book.groups {
            for partition in entry.offsets.keys().filter(|p| *p.topic == *name) {
                batch.delete_cf(storage.book()?, offset_key(group, partition));
            }
        }
        self.log.write(&mut book, batch, &doing)?;
        for group in book.groups.values_mut() {
            group.offsets.retain(|p, _| *p.topic != *name);
        }
        for partition in book.topics.remove(name).iter().flat_map(|t| &t.partitions) {
            partition.shared.gone.store(true, Ordering::Release);
        }
        drop(book);
        self.log.tell();
        // The records are deleted already; this only gives the disk space back sooner.
        storage
            .db
            .delete_file_in_range_cf(storage.log()?, from, to)
            .map_err(|e| failed(&doing, &e))
    }

    fn offset(&self, partition: &TopicPartition, at: OffsetAt) -> Result<i64, Error> {
        let doing = format!("find an offset of {partition}");
        let shared = Arc::clone(&self.log.book().partition(partition, &doing)?.shared);
        let stable = shared.stable.load(Ordering::Acquire);
        let start = shared.start.load(Ordering::Acquire);
        let time = match at {
            OffsetAt::Earliest => return Ok(start),
            // Nobody can read beyond the stable end here, so both isolations end there.
            OffsetAt::End(_) => return Ok(stable),
            OffsetAt::Time(time) => time,
        };
        let mut from = start;
        while let Some(base) = self.chunk_at_time(shared.place, from, time)? {
            let read = |stored: &[u8]| Chunk::read(stored, false).map(|c| (c.span, c));
            let Some((base, chunk)) = self.log.storage.chunk(shared.place, base, stable, read)? else {
                break;
            };
            let first = chunk.row_at((start - base).max(0) as u32);
            let rows = chunk.batch.timestamps().iter().enumerate().skip(first);
            if let Some((row, _)) = rows.into_iter().find(|(_, t)| **t >= time) {
                return Ok((base + i64::from(chunk.delta(row))).min(stable));
            }
            // Its latest record was deleted.
            from = base + i64::from(chunk.span);
        }
        Ok(stable)
    }

    /// First offset of the first chunk behind `from` that has a record of `time` or later.
    fn chunk_at_time(&self, place: (u32, u32), from: i64, time: i64) -> Result<Option<i64>, Error> {
        let mut found = None;
        self.log.storage.entries(place, from, |entry| {
            if entry.count > 0 && entry.timestamp_max >= time {
                found = Some(entry.base);
            }
            found.is_none()
        })?;
        Ok(found)
    }
}

fn check_new(new: &NewTopic) -> Result<Limits, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if new.name.is_empty() || new.name.len() > TOPIC_NAME_BYTES_MAX || matches!(new.name.as_str(), "." | "..") {
        return Err(format!(
            "a topic's name has 1 to {TOPIC_NAME_BYTES_MAX} characters and is not `.` or `..`"
        ));
    }
    if !new.name.chars().all(good) {
        return Err("a topic's name has letters, digits, `.`, `_` and `-` only".to_owned());
    }
    if !(1..=PARTITIONS_MAX).contains(&new.partitions) {
        return Err(format!(
            "{} partitions; it can have 1 to {PARTITIONS_MAX}",
            new.partitions
        ));
    }
    Limits::of(&new.settings)
}

impl Shared {
    /// Positions outside of a transaction.
    pub fn commit_offsets(&self, group: &str, offsets: &[CommittedOffset], doing: &str) -> Result<(), Error> {
        check_offsets(offsets, doing)?;
        let mut book = self.book();
        let mut batch = WriteBatch::default();
        for offset in offsets {
            book.partition(&offset.partition, doing)?;
            batch.put_cf(
                self.storage.book()?,
                offset_key(group, &offset.partition),
                offset_value(offset),
            );
        }
        self.write(&mut book, batch, doing)?;
        let entry: &mut Group = book.groups.entry(group.to_owned()).or_default();
        entry.take(offsets);
        Ok(())
    }
}
