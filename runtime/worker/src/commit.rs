//! The commit cycle (design §10).
//!
//! Exactly-once: flush outputs and changelogs, send offsets with their metadata, commit, apply state.
//! At-least-once: flush outputs, then changelogs, then the stores of times; apply state, commit positions, then the
//! records of the placement.

use crate::control::State;
use crate::crash::CrashPoint;
use crate::metadata::CommitTag;
use crate::mutant::Mutant;
use crate::options::{Error, Now};
use crate::placement::{self, Record, Released, Started};
use crate::recover::Trouble;
use crate::slot::{Prepared, Slot, SlotState};
use crate::worker::{Flushing, Sent, Transaction, Worker};
use broker::{Isolation, OffsetAt, Partitioning};
use record::{Batch, BatchBuilder, TopicPartition};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use task::TaskId;

/// The parts of one commit, by task.
pub(crate) type Parts = BTreeMap<TaskId, Prepared>;

/// Rows of a task's store of times in a commit at-least-once. They are sent when all that happened until then is
/// delivered: were they on the broker without the rest, the records that are read again would be late, and timers
/// would be taken for done.
struct Times {
    task: TaskId,
    changelog: TopicPartition,
    rows: Batch,
}

impl Worker {
    /// Once an interval; and at once when the first output comes after a quiet one, as after a start.
    pub(crate) fn commit_due(&self, now: Now) -> bool {
        let passed = |since: i64| now.monotonic_ms - since >= self.options.commit_interval_ms;
        self.commit_now
            || passed(self.looked_ms)
            || (self.sends() && passed(self.last_commit_ms))
            || (self.holds() && !self.pause_flushed)
            || self
                .slots
                .values()
                .any(|s| s.leaving || matches!(s.state, SlotState::Claiming))
            || !self.records().is_empty()
    }

    /// One commit of everything that there is to commit, or nothing. Gives whether there was something.
    pub(crate) fn commit(&mut self, now: Now) -> Result<bool, Error> {
        if self.is_holding() {
            return Ok(false);
        }
        if self.producer.is_none() || (!self.exactly_once() && !self.membership_is_fresh()) {
            return Ok(false);
        }
        match self.try_commit(now) {
            Ok(did) => Ok(did),
            Err(trouble) => {
                self.recover(now, trouble)?;
                Ok(true)
            }
        }
    }

    /// At-least-once nothing but this keeps a zombie from writing, and not for sure.
    fn membership_is_fresh(&mut self) -> bool {
        let ago_max = self.options.session_timeout_ms / 2;
        self.options
            .committer
            .as_mut()
            .and_then(|c| c.confirmed_ago_ms())
            .is_some_and(|ago| ago <= ago_max)
    }

    fn try_commit(&mut self, now: Now) -> Result<bool, Trouble> {
        let records = self.records();
        let participants = self.participants(now)?;
        self.looked_ms = now.monotonic_ms;
        if participants.is_empty() && records.is_empty() && self.transaction.sent.is_empty() {
            self.finish_commit(now, &[])?;
            return Ok(false);
        }
        self.step(CrashPoint::CommitBegin)?;
        for id in &participants {
            if !self.flush_tables(*id, now)? {
                return Ok(true);
            }
        }
        self.flushing = None;
        self.step(CrashPoint::TablesFlushed)?;
        if !self.exactly_once() {
            // Nothing takes a changelog row back here: a refused output, whose record the replay leaves out, must be
            // known before its effect is in a changelog.
            self.deliver()?;
        }
        let mut times = Vec::new();
        for id in &participants {
            times.extend(self.send_changelogs(*id)?);
        }
        self.step(CrashPoint::ChangelogsSent)?;
        if self.exactly_once() {
            self.commit_transaction(now, &participants, &records)?;
        } else {
            self.commit_positions(now, &participants, &times, &records)?;
        }
        self.counters.commits += 1;
        if !participants.is_empty() {
            self.last_commit_ms = now.monotonic_ms;
        }
        self.finish_commit(now, &records)?;
        self.step(CrashPoint::CommitDone)?;
        Ok(true)
    }

    fn commit_transaction(&mut self, now: Now, participants: &[TaskId], records: &[Record]) -> Result<(), Trouble> {
        self.send_records(records)?;
        self.step(CrashPoint::RecordsSent)?;
        let delivered = self.deliver()?;
        self.note_delivered(&delivered);
        self.step(CrashPoint::Delivered)?;
        let parts = self.prepare_parts(participants, &delivered)?;
        self.begin()?;
        let offsets = self
            .run
            .map(|run| parts.values().flat_map(|p| p.offsets(run)).collect::<Vec<_>>());
        let offsets = offsets.unwrap_or_default();
        let group = self.options.pipeline.clone();
        let producer = self.producer.as_mut().ok_or(Trouble::NoProducer)?;
        if !offsets.is_empty() {
            producer.send_offsets(&group, &offsets, None)?;
        }
        self.step(CrashPoint::OffsetsSent)?;
        let early = self.mutant(Mutant::ApplyBeforeCommit);
        if early {
            self.apply(now, parts.clone())?;
        }
        let producer = self.producer.as_mut().ok_or(Trouble::NoProducer)?;
        if let Err(error) = producer.commit() {
            return Err(Trouble::Commit { error, parts });
        }
        self.step(CrashPoint::Committed)?;
        self.transaction = Transaction::default();
        if early { Ok(()) } else { self.apply(now, parts) }
    }

    fn commit_positions(
        &mut self,
        now: Now,
        participants: &[TaskId],
        times: &[Times],
        records: &[Record],
    ) -> Result<(), Trouble> {
        let mut delivered = self.deliver()?;
        self.step(CrashPoint::StatesDelivered)?;
        for times in times {
            self.send_changelog(times.task, &times.changelog, &times.rows)?;
        }
        if !times.is_empty() {
            delivered.extend(self.deliver()?);
        }
        self.note_delivered(&delivered);
        self.step(CrashPoint::Delivered)?;
        let parts = self.prepare_parts(participants, &delivered)?;
        let offsets = self
            .run
            .map(|run| parts.values().flat_map(|p| p.offsets(run)).collect::<Vec<_>>());
        let offsets = offsets.unwrap_or_default();
        self.transaction = Transaction::default();
        self.apply(now, parts)?;
        for id in participants {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.owes_positions = true;
            }
        }
        self.step(CrashPoint::BeforePositions)?;
        if let (false, Some(committer)) = (offsets.is_empty(), &mut self.options.committer) {
            committer.commit(&offsets).map_err(Trouble::Positions)?;
        }
        for id in participants {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.owes_positions = false;
            }
        }
        self.send_records(records)?;
        self.step(CrashPoint::RecordsSent)?;
        self.deliver()?;
        Ok(())
    }

    /// Tasks whose positions go with this commit. A task that only waits goes when a marker moved its position, so
    /// that its lag is 0, or when its positions are to be kept from expiring.
    fn participants(&mut self, now: Now) -> Result<Vec<TaskId>, Trouble> {
        let mut participants = Vec::new();
        for slot in self.slots.values() {
            let old = now.monotonic_ms - slot.last_commit_ms >= self.options.idle_commit_ms;
            let due = match (&slot.state, &slot.task) {
                (SlotState::Running, Some(task)) => {
                    let consumer = self.consumer.as_deref_mut();
                    let moved = || Ok::<_, broker::Error>(caught_up_positions(slot, consumer)? != slot.positions);
                    task.uncommitted() || slot.owes_positions || old || moved()?
                }
                (SlotState::Stopped { .. }, _) => old && !slot.positions.is_empty(),
                _ => false,
            };
            if due {
                participants.push(slot.id);
            }
        }
        Ok(participants)
    }

    /// `false`: to be called again later, within a third of the transaction timeout.
    fn flush_tables(&mut self, id: TaskId, now: Now) -> Result<bool, Trouble> {
        let Some(task) = self.slots.get_mut(&id).and_then(|s| s.task.as_mut()) else {
            return Ok(true);
        };
        let flushed = task.flush_tables(now.wall_ms);
        self.send_staged(id)?;
        match flushed {
            Ok(()) => Ok(true),
            Err(task::Error::Retry {
                step,
                module,
                after_ms,
                failure,
            }) => {
                let since_ms = self.flushing.map_or(now.monotonic_ms, |f| f.since_ms);
                let next_ms = now.monotonic_ms.saturating_add_unsigned(after_ms.max(1));
                let limit_ms = i64::try_from(self.options.transaction_timeout_ms / 3).unwrap_or(i64::MAX);
                if next_ms - since_ms > limit_ms {
                    return Err(Trouble::task(
                        id,
                        task::Error::Stop {
                            step,
                            module,
                            origin: None,
                            failure,
                        },
                    ));
                }
                self.flushing = Some(Flushing { since_ms, next_ms });
                self.commit_now = true;
                Ok(false)
            }
            Err(error) => Err(Trouble::task(id, error)),
        }
    }

    /// Gives what has to wait until the rest is delivered. Nothing does in a transaction.
    fn send_changelogs(&mut self, id: TaskId) -> Result<Option<Times>, Trouble> {
        let Some(task) = self.slots.get_mut(&id).and_then(|s| s.task.as_mut()) else {
            return Ok(None);
        };
        let rows = task.changelog_rows().map_err(|e| Trouble::task(id, e))?;
        let times_store = task.times_store();
        let changelogs = task.changelogs().to_vec();
        let last = times_store.filter(|_| !self.exactly_once() && !self.mutant(Mutant::TimesWithStates));
        let mut times = None;
        for (store, rows) in rows {
            let Some(changelog) = changelogs.get(store).cloned() else {
                continue;
            };
            if last == Some(store) {
                let task = id;
                times = Some(Times { task, changelog, rows });
            } else {
                self.send_changelog(id, &changelog, &rows)?;
            }
        }
        Ok(times)
    }

    fn send_changelog(&mut self, task: TaskId, changelog: &TopicPartition, rows: &Batch) -> Result<(), Trouble> {
        let to = Partitioning::Fixed(changelog.partition);
        self.send(&changelog.topic, to, rows, Sent::Changelog { task })
    }

    /// `s:` of tasks that may start, then, last of all, `r:` of tasks that nothing is held of after this commit.
    pub(crate) fn records(&self) -> Vec<Record> {
        let Some(run) = self.run else { return Vec::new() };
        let thread = &self.options.thread;
        let claiming = self.slots.values().filter(|s| matches!(s.state, SlotState::Claiming));
        let started = claiming.map(|s| {
            Record::Started(
                s.id,
                Some(Started {
                    run,
                    task_epoch: s.task_epoch,
                    owner: thread.clone(),
                }),
            )
        });
        let release = |id: TaskId, task_epoch: u64| {
            Record::Released(
                id,
                Some(Released {
                    run,
                    task_epoch,
                    thread: thread.clone(),
                }),
            )
        };
        let free = |id: &TaskId| self.slots.get(id).is_none_or(|s| s.leaving);
        let owed = self
            .view
            .owed(run, thread)
            .filter(|(id, p)| free(id) && self.released.get(id) != Some(&p.task_epoch));
        let owed: Vec<(TaskId, u64)> = owed.map(|(id, p)| (id, p.task_epoch)).collect();
        let ending = self
            .record
            .as_ref()
            .is_some_and(|r| matches!(r.state, State::Draining | State::Deleted));
        let drained = self
            .slots
            .values()
            .filter(|s| ending && s.leaving && !owed.iter().any(|(id, _)| *id == s.id));
        let drained: Vec<(TaskId, u64)> = drained.map(|s| (s.id, s.task_epoch)).collect();
        started
            .chain(self.reports())
            .chain(owed.into_iter().chain(drained).map(|(id, epoch)| release(id, epoch)))
            .collect()
    }

    fn send_records(&mut self, records: &[Record]) -> Result<(), Trouble> {
        if records.is_empty() {
            return Ok(());
        }
        let mut batch = BatchBuilder::default();
        for record in records {
            let (key, value) = record.encode().map_err(|e| Error::Setting(e.to_string()))?;
            batch.push(Some(&key), value.as_deref(), 0);
        }
        let topic = placement::topic(&self.options.pipeline);
        self.send(&topic, Partitioning::Fixed(0), &batch.finish(), Sent::Records)
    }

    /// Waits until everything sent is on the broker. Gives the last own offset of each partition.
    fn deliver(&mut self) -> Result<HashMap<TopicPartition, i64>, Trouble> {
        let wait = Duration::from_millis(self.options.delivery_timeout_ms);
        let producer = self.producer.as_mut().ok_or(Trouble::NoProducer)?;
        let flushed = producer.flush(wait);
        let failures = producer.take_failures();
        if !failures.is_empty() {
            return Err(Trouble::Deliveries(failures));
        }
        flushed?;
        Ok(producer.take_delivered().into_iter().collect())
    }

    fn prepare_parts(
        &mut self,
        participants: &[TaskId],
        delivered: &HashMap<TopicPartition, i64>,
    ) -> Result<Parts, Trouble> {
        self.counter += 1;
        let tag = CommitTag {
            thread: self.options.thread.clone(),
            draw: self.draw,
            counter: self.counter,
        };
        let mut parts = Parts::new();
        for id in participants {
            let Some(slot) = self.slots.get(id) else { continue };
            let positions = caught_up_positions(slot, self.consumer.as_deref_mut())?;
            let mut targets = slot.targets.clone();
            let mut next = Vec::new();
            let changelogs = slot.task.as_ref().map_or(&[][..], |t| t.changelogs());
            for (store, changelog) in changelogs.iter().enumerate() {
                if let (Some(last), Some(target)) = (delivered.get(changelog), targets.get_mut(store)) {
                    *target = last + 1;
                    next.push((store, last + 1));
                }
            }
            let stream_time = slot.task.as_ref().map_or(slot.stream_time, |t| t.stream_time());
            parts.insert(
                *id,
                Prepared {
                    tag: tag.clone(),
                    next,
                    positions,
                    targets,
                    stream_time,
                },
            );
        }
        Ok(parts)
    }

    /// The broker has the commit: each task's stores get it in one write. A task whose stores fail is reopened.
    pub(crate) fn apply(&mut self, now: Now, parts: Parts) -> Result<(), Trouble> {
        for (id, part) in parts {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            let next = self.next_offsets(&slot, &part)?;
            let applied = slot.task.as_mut().map_or(Ok(()), |task| task.committed(&next));
            slot.settle(part, now.monotonic_ms);
            if let Err(error) = applied {
                self.fail_task(&mut slot, error, now);
            }
            self.slots.insert(id, slot);
            self.step(CrashPoint::Applied)?;
        }
        Ok(())
    }

    fn next_offsets(&mut self, slot: &Slot, part: &Prepared) -> Result<Vec<(usize, i64)>, Trouble> {
        if !self.mutant(Mutant::StoreEndOffset) {
            return Ok(part.next.clone());
        }
        let changelogs = slot.task.as_ref().map_or(Vec::new(), |t| t.changelogs().to_vec());
        let ends = self
            .admin()?
            .offsets(&changelogs, OffsetAt::End(Isolation::ReadUncommitted))?;
        Ok(ends.into_iter().enumerate().collect())
    }

    fn finish_commit(&mut self, now: Now, records: &[Record]) -> Result<(), Error> {
        self.transaction = Transaction::default();
        self.commit_now = false;
        for record in records {
            match record {
                Record::Started(id, _) => {
                    if let Some(slot) = self.slots.get_mut(id) {
                        slot.state = SlotState::Opening;
                    }
                }
                Record::Released(id, Some(released)) => {
                    self.released.insert(*id, released.task_epoch);
                }
                Record::Released(..)
                | Record::Version(..)
                | Record::Placement(..)
                | Record::Standbys(..)
                | Record::Node(..) => {}
            }
        }
        self.exchange_committed(records)?;
        self.end_committed(now)
    }
}

/// Positions in the order of the task's sources, each past the control records that follow what was processed.
fn caught_up_positions(
    slot: &Slot,
    consumer: Option<&mut (dyn broker::Consumer + 'static)>,
) -> Result<Vec<(TopicPartition, i64)>, broker::Error> {
    let (Some(task), Some(consumer)) = (&slot.task, consumer) else {
        return Ok(slot.positions.clone());
    };
    let known: HashMap<TopicPartition, i64> = task.positions().into_iter().collect();
    let mut positions = Vec::new();
    for source in task.sources() {
        let Some(processed) = known.get(source).copied() else {
            continue;
        };
        let fetched = if task.buffered(source).records == 0 {
            consumer.position(source)?
        } else {
            None
        };
        positions.push((source.clone(), fetched.unwrap_or(processed).max(processed)));
    }
    Ok(positions)
}
