//! What a failure in or before a commit leads to: abort and replay, a new producer, or a look at what became of a
//! commit whose answer was lost (design §10).

use crate::commit::Parts;
use crate::crash::CrashPoint;
use crate::metadata::Metadata;
use crate::mutant::Mutant;
use crate::options::{Error, Now};
use crate::restore::UNSTABLE_PAUSE_MS;
use crate::slot::{Slot, SlotState};
use crate::worker::{Phase, Sent, Transaction, Worker};
use broker::{DeliveryFailure, Disposition, ErrorKind};
use record::TopicPartition;
use std::time::Duration;
use task::TaskId;

/// A failure while there is something uncommitted.
pub(crate) enum Trouble {
    /// The thread ends here.
    Ends(Error),
    /// A call before the commit itself.
    Before(broker::Error),
    Commit {
        error: broker::Error,
        parts: Parts,
    },
    Task(TaskId, Box<task::Error>),
    Deliveries(Vec<DeliveryFailure>),
    /// At-least-once: state is applied, positions are not committed.
    Positions(broker::Error),
    /// A call without a producer; only a defect here leads to it.
    NoProducer,
}

impl Trouble {
    pub(crate) fn task(id: TaskId, error: impl Into<task::Error>) -> Self {
        Self::Task(id, Box::new(error.into()))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Ends(error)
    }
}

impl From<broker::Error> for Trouble {
    fn from(error: broker::Error) -> Self {
        Self::Before(error)
    }
}

impl Worker {
    pub(crate) fn recover(&mut self, now: Now, trouble: Trouble) -> Result<(), Error> {
        match trouble {
            Trouble::Ends(error) => Err(error),
            Trouble::NoProducer => {
                self.lose_producer(now, &"there is none");
                Ok(())
            }
            Trouble::Positions(error) => {
                self.back_off(now, &error);
                Ok(())
            }
            Trouble::Task(id, error) => {
                self.abort(now)?;
                self.fail_task_by_id(id, *error, now);
                Ok(())
            }
            Trouble::Deliveries(failures) => self.refuse(now, failures),
            Trouble::Before(error) => match error.disposition() {
                Disposition::Retry | Disposition::Abort => self.abort_and_wait(now, &error),
                Disposition::NewProducer | Disposition::UnknownOutcome | Disposition::Stop => {
                    self.lose_producer(now, &error);
                    Ok(())
                }
            },
            Trouble::Commit { error, parts } => match error.disposition() {
                Disposition::Abort => self.abort_and_wait(now, &error),
                Disposition::NewProducer => {
                    self.lose_producer(now, &error);
                    Ok(())
                }
                Disposition::Retry | Disposition::UnknownOutcome | Disposition::Stop => self.doubt(now, &error, parts),
            },
        }
    }

    fn abort_and_wait(&mut self, now: Now, error: &broker::Error) -> Result<(), Error> {
        self.abort(now)?;
        self.back_off(now, error);
        Ok(())
    }

    /// Ends the transaction without effect and takes every task back to its last commit.
    pub(crate) fn abort(&mut self, now: Now) -> Result<(), Error> {
        self.step(CrashPoint::BeforeAbort)?;
        self.counters.aborts += 1;
        let ahead = self.changelogs_ahead();
        if let Err(error) = self.abort_transaction() {
            self.lose_producer(now, &error);
            return Ok(());
        }
        self.step(CrashPoint::Aborted)?;
        for id in ahead {
            if let Some(mut slot) = self.slots.remove(&id) {
                self.close_task(&mut slot);
                slot.state = SlotState::Opening;
                self.slots.insert(id, slot);
            }
        }
        self.roll_back(now)
    }

    /// At-least-once nothing takes changelog rows back: tasks that sent some without applying them read them again, so
    /// that their stores equal their changelogs.
    fn changelogs_ahead(&self) -> Vec<TaskId> {
        if self.exactly_once() {
            return Vec::new();
        }
        let changelog = |sent: &Sent| match sent {
            Sent::Changelog { task } => Some(*task),
            Sent::Output { .. } | Sent::Records => None,
        };
        let running = |id: &TaskId| self.slots.get(id).is_some_and(Slot::is_running);
        self.transaction
            .sent
            .iter()
            .filter_map(changelog)
            .filter(running)
            .collect()
    }

    fn abort_transaction(&mut self) -> Result<(), broker::Error> {
        let open = std::mem::take(&mut self.transaction).open;
        self.flushing = None;
        let wait = Duration::from_millis(self.options.delivery_timeout_ms);
        let exactly_once = self.exactly_once();
        let Some(producer) = &mut self.producer else {
            return Ok(());
        };
        if open {
            producer.abort()?;
        } else if !exactly_once {
            // What was sent stays; its reports must not be taken for those of the replay.
            producer.flush(wait)?;
        }
        producer.take_delivered();
        producer.take_failures();
        Ok(())
    }

    fn roll_back(&mut self, now: Now) -> Result<(), Error> {
        self.undo_hold();
        let mut seeks = Vec::new();
        let mut resumed = Vec::new();
        for slot in self.slots.values_mut().filter(|s| s.is_running()) {
            let Some(task) = &mut slot.task else { continue };
            task.aborted();
            // The last commit's positions, which may lie past control records that the task does not know of.
            for (source, offset) in &slot.positions {
                task.set_position(source, *offset);
            }
            seeks.extend(slot.positions.iter().cloned());
            resumed.extend(slot.paused.drain());
        }
        let Some(consumer) = &mut self.consumer else {
            return Ok(());
        };
        let moved = consumer.assign(&seeks).and_then(|()| consumer.resume(&resumed));
        moved.or_else(|e| self.wait_or_end(now, e).map(|_| ()))
    }

    /// Rule 4: all tasks are dropped with what they did not commit, and a new producer starts from rule 1.
    pub(crate) fn lose_producer(&mut self, now: Now, cause: &dyn std::fmt::Display) {
        self.counters.producers_lost += 1;
        if self.mutant(Mutant::KeepTasksWhenFenced) {
            let _ = self.roll_back(now);
        } else {
            self.drop_tasks();
        }
        self.forget_producer();
        self.back_off(now, cause);
    }

    pub(crate) fn forget_producer(&mut self) {
        self.producer = None;
        self.transaction = Transaction::default();
        self.flushing = None;
        self.forget_hold();
        self.phase = Phase::Connect;
    }

    /// A commit without an answer: its tasks wait until a new init of the same id has settled it; the others, which
    /// committed nothing in it, start again.
    fn doubt(&mut self, now: Now, error: &broker::Error, parts: Parts) -> Result<(), Error> {
        tracing::warn!(thread = %self.options.thread, cause = %error, "outcome of a commit is unknown");
        self.counters.unknown_outcomes += 1;
        self.forget_producer();
        self.step(CrashPoint::UnknownOutcome)?;
        if self.mutant(Mutant::RewindAfterUnknown) {
            return self.roll_back(now);
        }
        let mut parts = parts;
        let ids: Vec<TaskId> = self.slots.keys().copied().collect();
        for id in ids {
            match (parts.remove(&id), self.slots.get_mut(&id)) {
                (Some(part), Some(slot)) if slot.is_running() => slot.state = SlotState::InDoubt(part),
                _ => self.drop_task(id),
            }
        }
        Ok(())
    }

    /// Looks up what became of commits in doubt, once the records were read again: exactly our tag means done.
    pub(crate) fn settle(&mut self, now: Now) -> Result<bool, Error> {
        let doubtful = |s: &&Slot| matches!(s.state, SlotState::InDoubt(_)) && !s.backoff.waits(now.monotonic_ms);
        let ids: Vec<TaskId> = self.slots.values().filter(doubtful).map(|s| s.id).collect();
        let mut settled = false;
        for id in ids {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            let result = self.settle_one(&mut slot, now);
            self.slots.insert(id, slot);
            settled |= result?;
        }
        Ok(settled)
    }

    fn settle_one(&mut self, slot: &mut Slot, now: Now) -> Result<bool, Error> {
        let SlotState::InDoubt(part) = &slot.state else {
            return Ok(false);
        };
        let part = part.clone();
        let sources: Vec<TopicPartition> = part.positions.iter().map(|(p, _)| p.clone()).collect();
        let group = self.options.pipeline.clone();
        let committed = match self.admin().and_then(|admin| admin.committed(&group, &sources)) {
            Ok(committed) => committed,
            Err(e) if e.kind == ErrorKind::Unstable => {
                slot.backoff.until_ms = now.monotonic_ms + UNSTABLE_PAUSE_MS;
                return Ok(false);
            }
            Err(e) => {
                self.back_off_slot(slot, now, e.to_string());
                return Ok(false);
            }
        };
        let first = committed.into_iter().next().flatten();
        let metadata = first.and_then(|c| c.metadata.parse::<Metadata>().ok());
        slot.backoff.clear();
        slot.trouble = None;
        if metadata.is_some_and(|m| m.tag == part.tag) {
            self.step(CrashPoint::SettledDone)?;
            slot.state = SlotState::Running;
            let applied = slot.task.as_mut().map_or(Ok(()), |task| task.committed(&part.next));
            slot.settle(part, now.monotonic_ms);
            if let Some(part) = &mut slot.part {
                part.committed();
            }
            self.commit_now |= slot.stopping.is_some();
            if let Err(error) = applied {
                self.fail_task(slot, error, now);
            }
        } else {
            self.step(CrashPoint::SettledVoid)?;
            self.close_task(slot);
            slot.state = SlotState::Opening;
        }
        Ok(true)
    }

    /// Records that the broker will never take go to the dead letters in the replay; every other failure is the
    /// broker's and met again or not.
    fn refuse(&mut self, now: Now, failures: Vec<DeliveryFailure>) -> Result<(), Error> {
        let fatal = failures.iter().find(|f| {
            !of_the_record(&f.error) && !matches!(f.error.disposition(), Disposition::Retry | Disposition::Abort)
        });
        if let Some(failure) = fatal {
            self.lose_producer(now, &failure.error);
            return Ok(());
        }
        let refused: Vec<_> = failures.iter().filter(|f| of_the_record(&f.error)).collect();
        let found: Vec<_> = refused
            .iter()
            .map(|f| (self.cause_of(f), f.error.to_string()))
            .collect();
        self.abort(now)?;
        if found.is_empty() {
            if let Some(failure) = failures.first() {
                self.back_off(now, &failure.error);
            }
            return Ok(());
        }
        for (cause, reason) in found {
            match cause {
                Cause::Record { task, source, offset } => self.reject(task, source, offset, reason),
                Cause::Task(task) => self.stop_task_by_id(task, format!("a record was refused: {reason}")),
                Cause::Records => {
                    self.back_off(now, &reason);
                }
            }
        }
        Ok(())
    }

    fn cause_of(&self, failure: &DeliveryFailure) -> Cause {
        let refused = failure.error.kind == ErrorKind::Refused;
        let sent = usize::try_from(failure.tag)
            .ok()
            .and_then(|tag| self.transaction.sent.get(tag));
        match sent {
            Some(Sent::Output { task, tag }) => {
                let of = self.slots.get(task).and_then(|s| s.task.as_ref());
                match of.and_then(|t| t.origin_of(*tag, failure.row)) {
                    Some((source, offset)) if refused => Cause::Record {
                        task: *task,
                        source,
                        offset,
                    },
                    _ => Cause::Task(*task),
                }
            }
            Some(Sent::Changelog { task }) => Cause::Task(*task),
            Some(Sent::Records) | None => Cause::Records,
        }
    }

    fn reject(&mut self, id: TaskId, source: TopicPartition, offset: i64, reason: String) {
        let rejected_max = self.options.rejected_per_commit_max;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        self.counters.records_rejected += 1;
        slot.rejected += 1;
        if slot.rejected > rejected_max {
            let reason = format!("more than {rejected_max} records of one commit were refused, the last: {reason}");
            self.stop_task_by_id(id, reason);
        } else if let Some(task) = &mut slot.task {
            task.reject(source, offset, reason);
        }
    }
}

/// Whether sending the same record again would fail again: it was refused, or its topic is not there.
fn of_the_record(error: &broker::Error) -> bool {
    matches!(error.kind, ErrorKind::Refused | ErrorKind::NotFound)
}

/// Whose record was refused.
enum Cause {
    Record {
        task: TaskId,
        source: TopicPartition,
        offset: i64,
    },
    Task(TaskId),
    Records,
}
