//! The dead-letter topic, backwards in windows for the newest letters and forwards for a replay.
//!
//! The topic is the user's: records without our headers, and letters of other pipelines that share it, are passed over.

use crate::refusal::{Fault, Refusal};
use broker::{Broker, Consumer, ConsumerOptions, Isolation, OffsetAt};
use record::{Fetched, TopicPartition};
use std::time::{Duration, Instant};

const PREFIX: &str = "wasmill.error.";
/// The first of our headers on a letter.
const FIRST: &str = "wasmill.error.stage";
/// Offsets that are read at once: what a window holds is in memory.
pub(super) const WINDOW: i64 = 1_000;
/// A request that looks for few among very many ends here and says so.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Clocks of nodes differ: letters this much older than what is asked for still tell nothing about those before them.
const CLOCKS_DIFFER_MS: i64 = 600_000;

/// Partition and offset of the letter.
pub(super) type Id = (i32, i64);

/// A letter as it lies in the topic.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub id: Id,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
    /// Those that the record had.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    causes: Vec<(String, String)>,
}

impl Letter {
    /// What the header `wasmill.error.NAME` says; empty when it is not there.
    pub(super) fn cause(&self, name: &str) -> String {
        let found = self.causes.iter().find(|(known, _)| known == name);
        found.map(|(_, text)| text.clone()).unwrap_or_default()
    }

    fn read(fetched: &Fetched, row: usize) -> Option<Self> {
        let headers = fetched.records.headers()?.row(row);
        // The last one: a letter of a pipeline that reads a dead-letter topic has older ones before it.
        let first = headers.iter().rposition(|(name, _)| name == FIRST)?;
        let (own, causes) = headers.split_at_checked(first)?;
        let cause = |(name, value): &(String, Option<Vec<u8>>)| {
            let text = String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned();
            Some((name.strip_prefix(PREFIX)?.to_owned(), text))
        };
        Some(Self {
            id: (fetched.partition.partition, *fetched.offsets.get(row)?),
            key: fetched.records.key(row).map(<[u8]>::to_vec),
            value: fetched.records.value(row).map(<[u8]>::to_vec),
            timestamp: fetched.records.timestamps().get(row).copied()?,
            headers: own.to_vec(),
            causes: causes.iter().filter_map(cause).collect(),
        })
    }
}

/// `PARTITION:OFFSET`.
pub(super) fn parse_id(text: &str) -> Result<Id, Refusal> {
    let wrong = || {
        let message = format!("`{text}` is no dead letter; an id is PARTITION:OFFSET, as `list` shows it");
        Refusal::invalid("invalid-letter", message)
    };
    let (partition, offset) = text.split_once(':').ok_or_else(wrong)?;
    let partition = partition.parse().map_err(|_| wrong())?;
    Ok((partition, offset.parse().map_err(|_| wrong())?))
}

pub(super) struct LettersReader {
    pipeline: String,
    consumer: Box<dyn Consumer>,
    /// Each with its first offset and the one after its last.
    pub(super) partitions: Vec<(TopicPartition, i64, i64)>,
    deadline: Instant,
}

impl LettersReader {
    pub(super) fn open(broker: &dyn Broker, pipeline: &str, topic: &str) -> Result<Self, Refusal> {
        let mut admin = broker.admin()?;
        let described = admin.describe(&[topic.to_owned()])?;
        let count = described.into_iter().flatten().next().map_or(0, |d| d.partitions);
        let all: Vec<_> = (0..count).map(|p| TopicPartition::new(topic, p)).collect();
        let first = admin.offsets(&all, OffsetAt::Earliest)?;
        let next = admin.offsets(&all, OffsetAt::End(Isolation::ReadCommitted))?;
        let consumer = broker.consumer(&ConsumerOptions {
            group: None,
            client_id: format!("{pipeline}-dead-letters"),
            isolation: Isolation::ReadCommitted,
            queue_bytes_max: QUEUE_BYTES_MAX,
            headers: true,
        })?;
        let partitions = all.into_iter().zip(first).zip(next);
        Ok(Self {
            pipeline: pipeline.to_owned(),
            consumer,
            partitions: partitions
                .map(|((partition, first), next)| (partition, first, next))
                .collect(),
            deadline: Instant::now() + READ_TIMEOUT,
        })
    }

    /// Letters of this pipeline at `from..to`.
    pub(super) fn window(&mut self, partition: &TopicPartition, from: i64, to: i64) -> Result<Vec<Letter>, Refusal> {
        let (mut letters, mut fetched) = (Vec::new(), Vec::new());
        self.consumer.assign(&[(partition.clone(), from)])?;
        while self.consumer.position(partition)?.unwrap_or(0) < to {
            if Instant::now() > self.deadline {
                let message = format!(
                    "`{}` was not read to its end in {READ_TIMEOUT:?}\nhint: narrow it with --since or --limit",
                    partition.topic
                );
                return Err(Refusal::new(Fault::Unavailable, "unavailable", message));
            }
            self.consumer
                .poll(Duration::from_millis(50), WINDOW as usize, &mut fetched)?;
            for batch in fetched.drain(..) {
                letters.extend((0..batch.records.len()).filter_map(|row| Letter::read(&batch, row)));
            }
        }
        self.consumer.unassign(std::slice::from_ref(partition))?;
        letters.retain(|letter| letter.id.1 < to && self.is_own(letter));
        Ok(letters)
    }

    fn is_own(&self, letter: &Letter) -> bool {
        let pipeline = letter.cause("pipeline");
        pipeline.is_empty() || pipeline == self.pipeline
    }

    /// At most `limit` letters that fit, the newest first.
    pub(super) fn newest(
        &mut self,
        since: Option<i64>,
        limit: usize,
        fits: impl Fn(&Letter) -> bool,
    ) -> Result<Vec<Letter>, Refusal> {
        let mut newest = Vec::new();
        for (partition, first, next) in self.partitions.clone() {
            let (mut end, mut found) = (next, Vec::new());
            while end > first && found.len() < limit {
                let from = first.max(end - WINDOW);
                let letters = self.window(&partition, from, end)?;
                let last_at = letters.iter().filter_map(Letter::at).max();
                found.extend(letters.into_iter().rev().filter(&fits));
                end = from;
                if let (Some(since), Some(last_at)) = (since, last_at)
                    && last_at < since - CLOCKS_DIFFER_MS
                {
                    break;
                }
            }
            found.truncate(limit);
            newest.extend(found);
        }
        newest.sort_by_key(|letter| std::cmp::Reverse((letter.at(), letter.id.1)));
        newest.truncate(limit);
        Ok(newest)
    }

    pub(super) fn one(&mut self, id: Id) -> Result<Letter, Refusal> {
        let place = self
            .partitions
            .iter()
            .find(|(partition, ..)| partition.partition == id.0);
        let found = match place.cloned() {
            Some((partition, first, next)) if (first..next).contains(&id.1) => {
                self.window(&partition, id.1, id.1 + 1)?
            }
            _ => Vec::new(),
        };
        found.into_iter().next().ok_or_else(|| {
            let message = format!("`{}` has no dead letter {}:{}", self.pipeline, id.0, id.1);
            Refusal::not_found(format!(
                "{message}\nhint: `wasmill dead-letters list {}`",
                self.pipeline
            ))
        })
    }
}
