//! A node's reader of a pipeline's global tables: their topics whole, before anything of the pipeline runs here, and what
//! comes to them after that.
//!
//! It belongs to no group and to no task. A table's directory is kept where it is provably of this run and of this
//! topic, as a task's is; else it is emptied and the topic is read from its beginning.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{Admin, Broker, Consumer, ConsumerOptions, Isolation, OffsetAt};
use record::{Fetched, TopicPartition};
use state::GlobalTable;
use uuid::Uuid;

use crate::stamp::{self, Stamp, Verdict};

/// Records taken by one poll.
const RECORDS_MAX: usize = 10_000;
/// Kafka's default for a topic's `delete.retention.ms`, since a user's topic does not say: a table that was last caught up
/// longer ago than half of it may have missed that rows were deleted.
const TOMBSTONES_MS: i64 = 24 * 3_600_000;
/// How often a table that follows its topic is marked as caught up, which also makes it durable.
const STAMP_EVERY_MS: i64 = 600_000;
/// The form of what lies in a directory.
const FORM: u32 = 1;

/// What is kept beside a table, durably.
pub trait Stamps {
    /// `None`: there is none, or it says nothing.
    fn stamp(&mut self, table: &str) -> Result<Option<Stamp>, state::Error>;

    /// `None` removes it. Flushes the table.
    fn set_stamp(&mut self, table: &str, stamp: Option<&Stamp>) -> Result<(), state::Error>;
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Of the pipeline's run.
    pub incarnation: Uuid,
    pub client_id: String,
    /// Fetched bytes that wait in the client.
    pub queue_bytes_max: usize,
    /// Whether tasks read the tables already: then none is emptied.
    pub in_use: bool,
}

/// A table to be followed.
#[derive(Clone, Debug)]
pub struct Given {
    pub name: String,
    pub topic: String,
    pub table: Arc<GlobalTable>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Broker(#[from] broker::Error),
    #[error(transparent)]
    State(#[from] state::Error),
    /// For a person to look at.
    #[error("{0}")]
    Stop(String),
}

/// How far a table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub name: String,
    pub topic: String,
    /// Offsets gone through since this reader began, and how many there were when it began.
    pub read: i64,
    pub total: i64,
    /// Records without a key, which a table has no place for.
    pub dropped: u64,
}

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// The tables are not whole yet.
    Reading,
    /// They have all that was there when this reader began.
    Whole,
    /// As `Whole`, and runs of tasks hold what waits for them: try again after a moment.
    Held,
}

struct Followed {
    given: Given,
    stamp: Stamp,
    partitions: Vec<Part>,
    dropped: u64,
}

struct Part {
    partition: TopicPartition,
    begin: i64,
    position: i64,
    target: i64,
}

/// See the page of the module.
pub struct Globals {
    consumer: Box<dyn Consumer>,
    tables: Vec<Followed>,
    whole: bool,
    stamped_ms: i64,
}

impl Globals {
    /// Finds out where each table is, and begins to read. `wall_ms`: now.
    ///
    /// # Errors
    /// Those of the broker and of the tables; [`Error::Stop`] for a topic that is not there, and for a table in use that
    /// would have to be emptied.
    pub fn open(
        broker: &dyn Broker,
        given: Vec<Given>,
        options: &Options,
        stamps: &mut dyn Stamps,
        wall_ms: i64,
    ) -> Result<Self, Error> {
        let mut admin = broker.admin()?;
        let mut tables = Vec::with_capacity(given.len());
        for given in given {
            tables.push(opened(&mut *admin, given, options, stamps, wall_ms)?);
        }
        let mut consumer = broker.consumer(&ConsumerOptions {
            group: None,
            client_id: options.client_id.clone(),
            isolation: Isolation::ReadCommitted,
            queue_bytes_max: options.queue_bytes_max,
            headers: false,
        })?;
        let partitions = tables.iter().flat_map(|table| &table.partitions);
        let begin: Vec<(TopicPartition, i64)> = partitions.map(|p| (p.partition.clone(), p.begin)).collect();
        consumer.assign(&begin)?;
        Ok(Self {
            consumer,
            tables,
            whole: false,
            stamped_ms: wall_ms,
        })
    }

    /// Takes what is there, waiting at most `wait` for it.
    ///
    /// # Errors
    /// Those of the broker and of the tables: this reader is to be dropped and another one opened.
    pub fn poll(&mut self, wait: Duration, stamps: &mut dyn Stamps, wall_ms: i64) -> Result<Polled, Error> {
        let mut full = false;
        for Followed { given, .. } in &self.tables {
            full |= !given.table.settle()? && given.table.is_full();
        }
        if full {
            return Ok(Polled::Held);
        }
        let mut fetched = Vec::new();
        self.consumer.poll(wait, RECORDS_MAX, &mut fetched)?;
        for followed in &mut self.tables {
            let of_table = |part: &&Fetched| *part.partition.topic == *followed.given.topic;
            let parts: Vec<&Fetched> = fetched.iter().filter(of_table).collect();
            if !parts.is_empty() {
                followed.dropped += followed.given.table.push(&parts);
                followed.given.table.settle()?;
            }
            for one in &mut followed.partitions {
                if let Some(position) = self.consumer.position(&one.partition)? {
                    one.position = position;
                }
            }
        }
        let all = |followed: &Followed| followed.partitions.iter().all(|one| one.position >= one.target);
        if !self.whole && self.tables.iter().all(all) {
            self.whole = true;
            self.mark(stamps, wall_ms)?;
        }
        if self.whole && wall_ms - self.stamped_ms >= STAMP_EVERY_MS && self.is_at_the_end() {
            self.mark(stamps, wall_ms)?;
        }
        Ok(if self.whole { Polled::Whole } else { Polled::Reading })
    }

    /// Makes the tables durable, at the end. Nobody reads them any more.
    ///
    /// # Errors
    /// Those of the tables.
    pub fn close(mut self, stamps: &mut dyn Stamps, wall_ms: i64) -> Result<(), Error> {
        for Followed { given, .. } in &self.tables {
            given.table.settle()?;
        }
        if self.whole && self.is_at_the_end() {
            return self.mark(stamps, wall_ms);
        }
        for Followed { given, .. } in &self.tables {
            given.table.flush()?;
        }
        Ok(())
    }

    pub fn progress(&self) -> Vec<Progress> {
        let of = |followed: &Followed| {
            let sum = |of: fn(&Part) -> i64| followed.partitions.iter().map(of).sum();
            Progress {
                name: followed.given.name.clone(),
                topic: followed.given.topic.clone(),
                read: sum(|one| (one.position.min(one.target) - one.begin).max(0)),
                total: sum(|one| (one.target - one.begin).max(0)),
                dropped: followed.dropped,
            }
        };
        self.tables.iter().map(of).collect()
    }

    fn is_at_the_end(&mut self) -> bool {
        let Self { consumer, tables, .. } = self;
        let mut partitions = tables.iter().flat_map(|followed| &followed.partitions);
        partitions.all(|one| consumer.end_hint(&one.partition).is_some_and(|end| one.position >= end))
    }

    fn mark(&mut self, stamps: &mut dyn Stamps, wall_ms: i64) -> Result<(), Error> {
        self.stamped_ms = wall_ms;
        for followed in &mut self.tables {
            followed.stamp.caught_up_ms = wall_ms;
            stamps.set_stamp(&followed.given.name, Some(&followed.stamp))?;
        }
        Ok(())
    }
}

fn opened(
    admin: &mut dyn Admin,
    given: Given,
    options: &Options,
    stamps: &mut dyn Stamps,
    wall_ms: i64,
) -> Result<Followed, Error> {
    let topic = &given.topic;
    let described = admin.describe(std::slice::from_ref(topic))?;
    let described = described.into_iter().flatten().next();
    let described = described
        .ok_or_else(|| Error::Stop(format!("topic `{topic}` of global table `{}` is not there", given.name)))?;
    let stamp = Stamp {
        incarnation: options.incarnation,
        topic_ids: [(topic.clone(), described.id)].into(),
        schemas: [(topic.clone(), FORM)].into(),
        caught_up_ms: wall_ms,
    };
    let all: Vec<TopicPartition> = (0..described.partitions)
        .map(|partition| TopicPartition::new(topic.as_str(), partition))
        .collect();
    let earliest = admin.offsets(&all, OffsetAt::Earliest)?;
    let targets = admin.offsets(&all, OffsetAt::End(Isolation::ReadCommitted))?;
    let ends = admin.offsets(&all, OffsetAt::End(Isolation::ReadUncommitted))?;
    let mut stored = given.table.positions()?;
    let within = all
        .iter()
        .zip(earliest.iter().zip(&ends))
        .all(|(partition, (first, end))| {
            let stored = stored.get(&partition.partition);
            stored.is_none_or(|at| first <= at && at <= end)
        });
    let verdict = stamp::verdict(stamps.stamp(&given.name)?.as_ref(), &stamp, TOMBSTONES_MS);
    if verdict != Verdict::Keep || !within {
        empty(&given, &stamp, options, stamps, (verdict, within, stored.is_empty()))?;
        stored = BTreeMap::new();
    }
    let partitions = all.into_iter().zip(earliest.into_iter().zip(targets));
    let partitions = partitions.map(|(partition, (first, target))| {
        let begin = stored.get(&partition.partition).copied().unwrap_or(first);
        Part {
            partition,
            begin,
            position: begin,
            target,
        }
    });
    Ok(Followed {
        partitions: partitions.collect(),
        given,
        stamp,
        dropped: 0,
    })
}

/// Begins a table anew. `found`: why, and whether it was new.
fn empty(
    given: &Given,
    stamp: &Stamp,
    options: &Options,
    stamps: &mut dyn Stamps,
    (verdict, within, new): (Verdict, bool, bool),
) -> Result<(), Error> {
    if options.in_use {
        return Err(Error::Stop(format!(
            "global table `{}` stays as it was: topic `{}` was made anew, or lost records that were not read yet\n\
             hint: restart this node, which then reads the topic from its beginning",
            given.name, given.topic
        )));
    }
    if !new {
        let table = &given.name;
        tracing::warn!(%table, ?verdict, within, "the directory of a global table is emptied, its topic is read again");
    }
    stamps.set_stamp(&given.name, None)?;
    given.table.wipe()?;
    // What is read from now on is of now: a reader that is killed on its way goes on from where it was.
    stamps.set_stamp(&given.name, Some(stamp))?;
    Ok(())
}
