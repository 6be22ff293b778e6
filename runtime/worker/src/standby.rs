//! A node's standbys of one pipeline: copies of the state of tasks that run elsewhere.
//!
//! One consumer follows the changelogs of all of them, read committed, whatever their number; it belongs to no group.
//! Which tasks those are the placement says ([`crate::placement::View::followed`]). A directory is kept where it is
//! provably of this run, as a task's is. [`Shelf`] keeps a task and its standby from having the same stores open.

mod shelf;

use crate::options::{MakeError, Now};
use crate::slot::Backoff;
use crate::stamp::{self, Stamp, Verdict};
use broker::{Admin, Broker, Consumer, ConsumerOptions, ErrorKind, Isolation, OffsetAt};
use record::{Fetched, TopicPartition};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use task::{Standby, TaskId};
use uuid::Uuid;

use shelf::Held;
pub use shelf::{Lease, Progress, Shelf, StandbySnapshot};

/// Records taken by one poll.
const RECORDS_MAX: usize = 10_000;
/// Standbys that are opened in one poll, so that those that follow are not held up for long.
const OPENED_MAX: usize = 8;
/// How often what was read is made durable and stamped.
const STAMP_EVERY_MS: i64 = 60_000;
/// Pause before a standby that failed is opened again.
const BACKOFF_MS_MIN: i64 = 1_000;
const BACKOFF_MS_MAX: i64 = 60_000;

/// Where the stores of standbys lie.
pub trait Source {
    /// Opens the directory.
    ///
    /// # Errors
    /// What a person has to know; it is tried again.
    fn make(&mut self, id: TaskId) -> Result<Standby, MakeError>;

    /// What was made has failed: the directory is opened anew at the next time.
    fn forget(&mut self, id: TaskId);

    /// As [`crate::TaskFactory::schemas`].
    fn schemas(&self, id: TaskId) -> Vec<u32>;

    /// As [`crate::TaskFactory::stamp`].
    ///
    /// # Errors
    /// Those of the directory.
    fn stamp(&mut self, id: TaskId) -> Result<Option<Stamp>, MakeError>;

    /// As [`crate::TaskFactory::set_stamp`].
    ///
    /// # Errors
    /// Those of the directory.
    fn set_stamp(&mut self, id: TaskId, stamp: Option<&Stamp>) -> Result<(), MakeError>;
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Of the pipeline's run.
    pub incarnation: Uuid,
    pub client_id: String,
    /// Fetched bytes that wait in the client.
    pub queue_bytes_max: usize,
    /// The changelogs' `delete.retention.ms`.
    pub tombstones_ms: i64,
}

struct Followed {
    changelogs: Vec<TopicPartition>,
    stamp: Stamp,
    stamped_ms: i64,
}

/// Why a standby is not open.
struct Trouble {
    backoff: Backoff,
    cause: String,
}

/// See the page of the module.
pub struct Follower {
    broker: Arc<dyn Broker>,
    shelf: Arc<Shelf>,
    options: Options,
    admin: Option<Box<dyn Admin>>,
    consumer: Option<Box<dyn Consumer>>,
    followed: BTreeMap<TaskId, Followed>,
    stores: HashMap<TopicPartition, (TaskId, usize)>,
    troubles: BTreeMap<TaskId, Trouble>,
}

impl Follower {
    /// Makes no call to the broker yet.
    pub fn new(broker: Arc<dyn Broker>, shelf: Arc<Shelf>, options: Options) -> Self {
        Self {
            broker,
            shelf,
            options,
            admin: None,
            consumer: None,
            followed: BTreeMap::new(),
            stores: HashMap::new(),
            troubles: BTreeMap::new(),
        }
    }

    /// One step: lets go of what is not `wanted`, opens what is, and reads on. Waits at most `wait` for records. Whether
    /// there was something to do.
    ///
    /// # Errors
    /// Those of the broker. Where trying again may help, standbys that are open stay so; else [`Follower::reset`] is due.
    pub fn poll(
        &mut self,
        wanted: &BTreeSet<TaskId>,
        source: &mut dyn Source,
        now: Now,
        wait: Duration,
    ) -> Result<bool, broker::Error> {
        self.troubles.retain(|id, _| wanted.contains(id));
        self.let_go(|id| wanted.contains(&id), source, now)?;
        let opened = self.open(wanted, source, now)?;
        if self.followed.is_empty() {
            return Ok(opened);
        }
        let read = self.read(source, now, wait)?;
        self.renew_stamps(source, now);
        Ok(opened || read)
    }

    /// Closes all. What was read is on the disk then.
    pub fn close(mut self, source: &mut dyn Source, now: Now) {
        if let Err(error) = self.let_go(|_| false, source, now) {
            tracing::debug!(%error, "changelogs of closed standbys are still fetched");
        }
    }

    /// After a failure: the next poll opens everything anew.
    pub fn reset(&mut self, source: &mut dyn Source, now: Now) {
        // What cannot be unassigned goes with its consumer.
        drop(self.let_go(|_| false, source, now));
        self.consumer = None;
        self.admin = None;
    }

    /// Of all that are open, and of those that cannot be opened.
    pub fn progress(&self, now: Now) -> Vec<Progress> {
        let mut all = self.shelf.progress(now.monotonic_ms);
        all.extend(self.troubles.iter().map(|(task, trouble)| Progress {
            task: *task,
            lag: None,
            warm: false,
            caught_up: false,
            trouble: Some(trouble.cause.clone()),
        }));
        all
    }

    fn let_go(
        &mut self,
        stays: impl Fn(TaskId) -> bool,
        source: &mut dyn Source,
        now: Now,
    ) -> Result<(), broker::Error> {
        // What a stream thread took has left the shelf.
        let leaves = |id: &TaskId| !stays(*id) || !self.shelf.holds(*id);
        let ids: Vec<TaskId> = self.followed.keys().copied().filter(leaves).collect();
        let mut unread = Vec::new();
        for id in ids {
            let Some(followed) = self.followed.remove(&id) else {
                continue;
            };
            unread.extend(followed.changelogs.iter().cloned());
            let Followed { stamp, .. } = followed;
            let closed = self.shelf.remove(id, |held| save(held, stamp, source, now));
            if let Some(Err(cause)) = closed {
                tracing::warn!(task = %id, %cause, "standby not written to the disk; the changelog has its content");
                source.forget(id);
            }
        }
        self.unassign(&unread)
    }

    fn unassign(&mut self, changelogs: &[TopicPartition]) -> Result<(), broker::Error> {
        if changelogs.is_empty() {
            return Ok(());
        }
        for changelog in changelogs {
            self.stores.remove(changelog);
        }
        self.consumer.as_mut().map_or(Ok(()), |c| c.unassign(changelogs))
    }

    /// The standby is closed and tried again after a pause.
    fn fail(&mut self, id: TaskId, cause: String, source: &mut dyn Source, now: Now) -> Result<(), broker::Error> {
        tracing::warn!(task = %id, %cause, "standby waits");
        self.shelf.drop_standby(id);
        source.forget(id);
        let trouble = self.troubles.entry(id).or_insert_with(|| Trouble {
            backoff: Backoff::default(),
            cause: String::new(),
        });
        trouble.cause = cause;
        trouble.backoff.fail(now.monotonic_ms, BACKOFF_MS_MIN, BACKOFF_MS_MAX);
        match self.followed.remove(&id) {
            Some(followed) => self.unassign(&followed.changelogs),
            None => Ok(()),
        }
    }

    fn open(&mut self, wanted: &BTreeSet<TaskId>, source: &mut dyn Source, now: Now) -> Result<bool, broker::Error> {
        let waits = |id: &TaskId| self.troubles.get(id).is_some_and(|t| t.backoff.waits(now.monotonic_ms));
        let closed = wanted.iter().filter(|id| !self.followed.contains_key(id) && !waits(id));
        // A task that runs here still is waited for.
        let reserved = closed.filter(|id| self.shelf.reserve(**id)).take(OPENED_MAX);
        let reserved: Vec<TaskId> = reserved.copied().collect();
        let mut made = Vec::new();
        for id in reserved {
            match source.make(id) {
                Ok(standby) => made.push(standby),
                Err(error) => self.fail(id, error.cause, source, now)?,
            }
        }
        if made.is_empty() {
            return Ok(false);
        }
        let ids: Vec<TaskId> = made.iter().map(Standby::id).collect();
        let answers = self.ask(&made);
        let answers = answers.inspect_err(|_| ids.iter().for_each(|id| self.shelf.drop_standby(*id)))?;
        let mut begins = Vec::new();
        for (standby, answer) in made.into_iter().zip(answers) {
            let id = standby.id();
            match self.begin(standby, answer, source, now) {
                Ok(begin) => begins.extend(begin),
                Err(cause) => self.fail(id, cause, source, now)?,
            }
        }
        let assigned = self.consumer().and_then(|consumer| consumer.assign(&begins));
        if let Err(error) = assigned {
            // Nobody would read for them.
            for id in ids {
                self.shelf.drop_standby(id);
                self.followed.remove(&id);
            }
            return Err(error);
        }
        Ok(true)
    }

    /// What opening needs of the broker, in three questions for all.
    fn ask(&mut self, made: &[Standby]) -> Result<Vec<Answer>, broker::Error> {
        let all: Vec<TopicPartition> = made.iter().flat_map(|s| s.changelogs().iter().cloned()).collect();
        let names: BTreeSet<String> = all.iter().map(|c| c.topic.to_string()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let admin = match &mut self.admin {
            Some(admin) => admin,
            none => none.insert(self.broker.admin()?),
        };
        let described = admin.describe(&names)?;
        let topics: BTreeMap<String, Option<String>> = names
            .into_iter()
            .zip(described.into_iter().map(|topic| topic.map(|t| t.id)))
            .collect();
        let mut earliest = admin.offsets(&all, OffsetAt::Earliest)?.into_iter();
        let mut ends = admin
            .offsets(&all, OffsetAt::End(Isolation::ReadUncommitted))?
            .into_iter();
        let answer = |standby: &Standby| {
            let count = standby.changelogs().len();
            let id = |c: &TopicPartition| Some((c.topic.to_string(), topics.get(&*c.topic)?.clone()?));
            Answer {
                topic_ids: standby.changelogs().iter().filter_map(id).collect(),
                earliest: earliest.by_ref().take(count).collect(),
                ends: ends.by_ref().take(count).collect(),
            }
        };
        Ok(made.iter().map(answer).collect())
    }

    /// Proves the directory, and where to read on. The standby is on the shelf then.
    fn begin(
        &mut self,
        mut standby: Standby,
        answer: Answer,
        source: &mut dyn Source,
        now: Now,
    ) -> Result<Vec<(TopicPartition, i64)>, String> {
        let id = standby.id();
        let changelogs = standby.changelogs().to_vec();
        let topics = changelogs.iter().map(|c| c.topic.to_string());
        if let Some(topic) = topics.clone().find(|topic| !answer.topic_ids.contains_key(topic)) {
            return Err(format!("there is no changelog `{topic}`"));
        }
        let stamp = Stamp {
            incarnation: self.options.incarnation,
            schemas: topics.zip(source.schemas(id)).collect(),
            topic_ids: answer.topic_ids,
            caught_up_ms: now.wall_ms,
        };
        let within = (answer.earliest.as_slice(), answer.ends.as_slice());
        let stored = prove(&mut standby, &stamp, within, self.options.tombstones_ms, source)?;
        let begin = stored.iter().zip(&answer.earliest);
        let begin: Vec<i64> = begin.map(|(stored, first)| stored.unwrap_or(*first)).collect();
        let held = Held::new(standby, begin.clone(), answer.ends, now.monotonic_ms);
        self.shelf.put(id, held);
        for (store, changelog) in changelogs.iter().enumerate() {
            self.stores.insert(changelog.clone(), (id, store));
        }
        let begins = changelogs.iter().cloned().zip(begin).collect();
        let followed = Followed {
            changelogs,
            stamp,
            stamped_ms: now.monotonic_ms,
        };
        self.followed.insert(id, followed);
        self.troubles.remove(&id);
        Ok(begins)
    }

    fn consumer(&mut self) -> Result<&mut Box<dyn Consumer>, broker::Error> {
        Ok(match &mut self.consumer {
            Some(consumer) => consumer,
            none => none.insert(self.broker.consumer(&ConsumerOptions {
                group: None,
                client_id: self.options.client_id.clone(),
                isolation: Isolation::ReadCommitted,
                queue_bytes_max: self.options.queue_bytes_max,
                headers: false,
            })?),
        })
    }

    fn read(&mut self, source: &mut dyn Source, now: Now, wait: Duration) -> Result<bool, broker::Error> {
        let mut fetched = Vec::new();
        match self.consumer()?.poll(wait, RECORDS_MAX, &mut fetched) {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::OffsetOutOfRange => {
                // Whose it is the proof of the directories finds out.
                tracing::warn!(%error, "a changelog begins after what a standby has; standbys are opened anew");
                self.reset(source, now);
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
        let read = !fetched.is_empty();
        for part in fetched {
            self.take(&part, source, now)?;
        }
        self.look(source, now)?;
        Ok(read)
    }

    fn take(&mut self, part: &Fetched, source: &mut dyn Source, now: Now) -> Result<(), broker::Error> {
        let Some((id, store)) = self.stores.get(&part.partition).copied() else {
            return Ok(());
        };
        let taken = self.shelf.with(id, |held| held.follow(store, &part.records, part.next));
        match taken {
            Some(Err(error)) => self.fail(id, error.to_string(), source, now),
            // Taken by a stream thread: the task reads on from what was written.
            None | Some(Ok(())) => Ok(()),
        }
    }

    /// Where the consumer is: control records count, and so does what it has heard of the ends.
    fn look(&mut self, source: &mut dyn Source, now: Now) -> Result<(), broker::Error> {
        let Some(consumer) = &mut self.consumer else {
            return Ok(());
        };
        let mut failed = Vec::new();
        for (id, followed) in &self.followed {
            let mut seen = Vec::with_capacity(followed.changelogs.len());
            for changelog in &followed.changelogs {
                seen.push((consumer.position(changelog)?, consumer.end_hint(changelog)));
            }
            if let Some(Err(error)) = self.shelf.with(*id, |held| held.look(&seen, now.monotonic_ms)) {
                failed.push((*id, error.to_string()));
            }
        }
        for (id, cause) in failed {
            self.fail(id, cause, source, now)?;
        }
        Ok(())
    }

    fn renew_stamps(&mut self, source: &mut dyn Source, now: Now) {
        for (id, followed) in &mut self.followed {
            if now.monotonic_ms - followed.stamped_ms < STAMP_EVERY_MS {
                continue;
            }
            followed.stamped_ms = now.monotonic_ms;
            let stamp = followed.stamp.clone();
            if let Some(Err(cause)) = self.shelf.with(*id, |held| save(held, stamp, source, now)) {
                tracing::warn!(task = %id, %cause, "standby not stamped");
            }
        }
    }
}

/// Of one standby's changelogs.
struct Answer {
    topic_ids: BTreeMap<String, String>,
    earliest: Vec<i64>,
    ends: Vec<i64>,
}

/// Empties the directory unless what it holds is of this run, fresh, and within the changelogs. Gives the offsets to
/// read on from.
fn prove(
    standby: &mut Standby,
    stamp: &Stamp,
    (earliest, ends): (&[i64], &[i64]),
    tombstones_ms: i64,
    source: &mut dyn Source,
) -> Result<Vec<Option<i64>>, String> {
    let id = standby.id();
    let found = source.stamp(id).map_err(|e| e.cause)?;
    let verdict = stamp::verdict(found.as_ref(), stamp, tombstones_ms);
    let stored = (0..standby.changelogs().len()).map(|store| standby.offset(store));
    let stored: Vec<Option<i64>> = stored.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let within = |(stored, (first, end)): (&Option<i64>, (&i64, &i64))| stored.is_none_or(|s| *first <= s && s <= *end);
    let within = stored.iter().zip(earliest.iter().zip(ends)).all(within);
    if verdict == Verdict::Keep && within {
        return Ok(stored);
    }
    if stored.iter().any(Option::is_some) {
        tracing::warn!(task = %id, ?verdict, within, "the directory of a standby is emptied, its changelogs are read again");
    }
    if found.is_some() {
        source.set_stamp(id, None).map_err(|e| e.cause)?;
    }
    standby.wipe().map_err(|e| e.to_string())?;
    // What is read from now on is of now: one that is killed on its way goes on from where it was.
    source.set_stamp(id, Some(stamp)).map_err(|e| e.cause)?;
    Ok(vec![None; stored.len()])
}

/// Writes what was read to the disk, and when it last had everything.
fn save(held: &mut Held, mut stamp: Stamp, source: &mut dyn Source, now: Now) -> Result<(), String> {
    held.standby.flush().map_err(|e| e.to_string())?;
    if let Some(reached_ms) = held.reached_ms() {
        stamp.caught_up_ms = now.wall_ms - (now.monotonic_ms - reached_ms);
        source.set_stamp(held.standby.id(), Some(&stamp)).map_err(|e| e.cause)?;
    }
    Ok(())
}
