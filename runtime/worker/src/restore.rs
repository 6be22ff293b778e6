//! From committed offsets to a task that runs: design §8, «Restore» and «Whose state is it».

use crate::control::Run;
use crate::crash::CrashPoint;
use crate::metadata::Metadata;
use crate::mutant::Mutant;
use crate::opening::Asked;
use crate::options::{Error, Now};
use crate::slot::{Slot, SlotState, StoreRestore};
use crate::swap::Code;
use crate::worker::Worker;
use broker::{CommittedOffset, Consumer, ConsumerOptions, ErrorKind, Isolation, OffsetAt};
use record::{Batch, Fetched, TopicPartition};
use std::time::Duration;
use task::{Task, TaskId};

/// Rows of changelogs applied in one step, so that running tasks are not held up for long.
const RESTORE_RECORDS_MAX: usize = 10_000;
/// From the end of a restore to the stamp that vouches for it: by then the disk has most of it.
const STAMP_SOON_MS: i64 = 5_000;
/// Bytes of changelogs that may wait in the client.
const RESTORE_QUEUE_BYTES_MAX: usize = 32 << 20;
/// Pause before offsets that were unstable are asked for again; markers take this long on an idle broker.
pub(crate) const UNSTABLE_PAUSE_MS: i64 = 5;

/// Why an opening did not get through.
pub(crate) enum NotOpen {
    Ends(Error),
    /// Somebody's transaction over these offsets is not settled yet: a matter of milliseconds, and no trouble.
    Unstable,
    /// To be tried again after a pause.
    Later(String),
    Stop(String),
    Task(Box<task::Error>),
}

impl From<broker::Error> for NotOpen {
    fn from(error: broker::Error) -> Self {
        match error.kind {
            ErrorKind::Unstable => Self::Unstable,
            ErrorKind::Configuration | ErrorKind::Corrupt => Self::Stop(error.to_string()),
            _ => Self::Later(error.to_string()),
        }
    }
}

impl From<crate::options::MakeError> for NotOpen {
    fn from(error: crate::options::MakeError) -> Self {
        if error.again {
            Self::Later(error.cause)
        } else {
            Self::Stop(error.cause)
        }
    }
}

impl From<task::Error> for NotOpen {
    fn from(error: task::Error) -> Self {
        Self::Task(Box::new(error))
    }
}

impl Worker {
    /// Opens tasks whose start is confirmed and reads on in the changelogs of those that restore.
    pub(crate) fn open_and_restore(&mut self, now: Now) -> Result<bool, Error> {
        let Some(run) = self.run else { return Ok(false) };
        let opening = |s: &&Slot| matches!(s.state, SlotState::Opening) && !s.backoff.waits(now.monotonic_ms);
        let opening: Vec<TaskId> = self.slots.values().filter(opening).map(|s| s.id).collect();
        let mut worked = false;
        let (mut sources, mut changelogs) = (Vec::new(), Vec::new());
        let mut made = Vec::new();
        for id in opening {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            let result = self.make(&mut slot);
            if let Some(task) = slot.task.as_ref().filter(|_| result.is_ok()) {
                sources.extend_from_slice(task.sources());
                changelogs.extend_from_slice(task.changelogs());
                made.push(id);
            }
            let kept = self.keep_or_stop(&mut slot, result, now);
            self.slots.insert(id, slot);
            kept?;
        }
        let asked = match made.as_slice() {
            [] => Asked::default(),
            _ => self.ask_for(&sources, &changelogs),
        };
        for id in made {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            let opened = self.open(&mut slot, &asked, run, now);
            worked |= opened.is_ok();
            let kept = self.keep_or_stop(&mut slot, opened, now);
            self.slots.insert(id, slot);
            kept?;
        }
        let restoring = self
            .slots
            .values()
            .any(|s| matches!(s.state, SlotState::Restoring { .. }));
        if restoring {
            worked |= self.restore_some(now)?;
        }
        self.assign_started(now)?;
        Ok(worked)
    }

    /// Gives the consumer the partitions of all tasks that began to run in this round: an assignment costs two answers
    /// of the broker, however many partitions it names.
    fn assign_started(&mut self, now: Now) -> Result<(), Error> {
        let started = std::mem::take(&mut self.started);
        let slots = started.iter().filter_map(|id| self.slots.get(id));
        let positions: Vec<_> = slots.flat_map(|s| s.positions.iter().cloned()).collect();
        if positions.is_empty() {
            return Ok(());
        }
        let assigned = self.consumer().and_then(|consumer| consumer.assign(&positions));
        let Err(error) = assigned else { return Ok(()) };
        for id in started {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            let kept = self.keep_or_stop(&mut slot, Err(error.clone().into()), now);
            self.slots.insert(id, slot);
            kept?;
        }
        Ok(())
    }

    fn keep_or_stop(&mut self, slot: &mut Slot, result: Result<(), NotOpen>, now: Now) -> Result<(), Error> {
        match result {
            Ok(()) => Ok(()),
            Err(NotOpen::Ends(e)) => Err(e),
            Err(NotOpen::Unstable) => {
                slot.backoff.until_ms = now.monotonic_ms + UNSTABLE_PAUSE_MS;
                Ok(())
            }
            Err(NotOpen::Later(cause)) => {
                self.close_task(slot);
                slot.state = SlotState::Opening;
                self.back_off_slot(slot, now, cause);
                Ok(())
            }
            Err(NotOpen::Stop(reason)) => {
                self.stop_task(slot, reason);
                Ok(())
            }
            Err(NotOpen::Task(error)) => {
                self.fail_task(slot, *error, now);
                Ok(())
            }
        }
    }

    fn make(&mut self, slot: &mut Slot) -> Result<(), NotOpen> {
        if slot.task.is_none() {
            slot.task = Some(self.make_task(slot)?);
        }
        Ok(())
    }

    fn open(&mut self, slot: &mut Slot, asked: &Asked, run: Run, now: Now) -> Result<(), NotOpen> {
        let Some(mut task) = slot.task.take() else {
            return Ok(());
        };
        let changelogs = task.changelogs().to_vec();
        let result = self.prepare(slot, &mut task, asked, run, now);
        slot.task = Some(task);
        let stores = result?;
        if stores.is_empty() {
            return self.begin_running(slot, now, false);
        }
        let starts: Vec<_> = stores
            .iter()
            .filter_map(|s| Some((changelogs.get(s.store)?.clone(), s.from)))
            .collect();
        self.restorer()?.assign(&starts)?;
        slot.state = SlotState::Restoring { stores };
        Ok(())
    }

    /// Steps 1 and 2 of a restore and the state of the directory. Gives the stores that have to be read further.
    fn prepare(
        &mut self,
        slot: &mut Slot,
        task: &mut Task,
        asked: &Asked,
        run: Run,
        now: Now,
    ) -> Result<Vec<StoreRestore>, NotOpen> {
        let changelogs = &task.changelogs().to_vec();
        let committed = self.committed_offsets(asked, task.sources())?;
        self.step(CrashPoint::OffsetsRead).map_err(NotOpen::Ends)?;
        let metadata = committed.first().and_then(|c| c.metadata.parse::<Metadata>().ok());
        let metadata = metadata.filter(|m| m.run.incarnation == run.incarnation);
        slot.stream_time = metadata.as_ref().map_or(-1, |m| m.stream_time);
        slot.positions = committed.into_iter().map(|c| (c.partition, c.offset)).collect();
        slot.targets = self.restore_targets(asked, metadata, run, changelogs)?;
        self.step(CrashPoint::TargetsKnown).map_err(NotOpen::Ends)?;
        self.prove_directory(slot, task, asked, run, now)?;
        let mut starts = Vec::new();
        for (store, target) in slot.targets.iter().enumerate() {
            starts.push((store, task.restored_offset(store)?, *target));
        }
        if starts
            .iter()
            .all(|(_, stored, target)| stored.is_some_and(|s| s >= *target) || *target <= 0)
        {
            return Ok(Vec::new());
        }
        let earliest = self.earliest_of(asked, changelogs)?;
        let restore = |((store, stored, target), earliest): ((usize, Option<i64>, i64), i64)| {
            let from = stored.unwrap_or(earliest).max(earliest);
            (from < target).then_some(StoreRestore {
                store,
                from,
                at: from,
                target,
            })
        };
        Ok(starts.into_iter().zip(earliest).filter_map(restore).collect())
    }

    fn committed_offsets(
        &mut self,
        asked: &Asked,
        sources: &[TopicPartition],
    ) -> Result<Vec<CommittedOffset>, NotOpen> {
        let group = self.options.pipeline.clone();
        let committed = self.committed_of(asked, sources)?;
        let each = committed.into_iter().zip(sources).map(|(offset, source)| {
            offset.ok_or_else(|| {
                NotOpen::Stop(format!(
                    "group `{group}` has no committed offset for `{source}`\nhint: set one with `wasmill pipeline reset`"
                ))
            })
        });
        each.collect()
    }

    /// The target of each store: from the metadata; without it the end of what anybody wrote, asked after step 1.
    /// Never the last stable offset: markers reach each partition on their own.
    fn restore_targets(
        &mut self,
        asked: &Asked,
        metadata: Option<Metadata>,
        run: Run,
        changelogs: &[TopicPartition],
    ) -> Result<Vec<i64>, NotOpen> {
        if changelogs.is_empty() {
            return Ok(Vec::new());
        }
        if self.mutant(Mutant::RestoreToStableOffset) {
            return Ok(self
                .admin()?
                .offsets(changelogs, OffsetAt::End(Isolation::ReadCommitted))?);
        }
        let known = metadata.filter(|m| m.run == run && m.targets.len() == changelogs.len() && self.exactly_once());
        match known {
            Some(metadata) => Ok(metadata.targets),
            None => Ok(self.ends_of(asked, changelogs)?),
        }
    }

    fn restorer(&mut self) -> Result<&mut Box<dyn Consumer>, broker::Error> {
        let restorer = match self.restorer.take() {
            Some(restorer) => restorer,
            None => self.broker.consumer(&ConsumerOptions {
                group: None,
                client_id: format!("{}-restore", self.options.thread),
                isolation: Isolation::ReadCommitted,
                queue_bytes_max: RESTORE_QUEUE_BYTES_MAX,
                headers: false,
            })?,
        };
        Ok(self.restorer.insert(restorer))
    }

    fn restore_some(&mut self, now: Now) -> Result<bool, Error> {
        let running = self.slots.values().any(Slot::is_running);
        let wait = if running { Duration::ZERO } else { self.fetch_wait() };
        let mut fetched = Vec::new();
        let Some(restorer) = &mut self.restorer else {
            return Ok(false);
        };
        match restorer.poll(wait, RESTORE_RECORDS_MAX, &mut fetched) {
            Ok(()) => {}
            Err(e) if e.kind == ErrorKind::OffsetOutOfRange => {
                self.wipe_restoring();
                return Ok(true);
            }
            Err(e) => {
                self.wait_or_end(now, e)?;
                return Ok(false);
            }
        }
        let mut worked = !fetched.is_empty();
        for fetched in fetched {
            self.restore_rows(fetched, now)?;
        }
        let restoring = |s: &&Slot| matches!(s.state, SlotState::Restoring { .. });
        let restoring: Vec<TaskId> = self.slots.values().filter(restoring).map(|s| s.id).collect();
        for id in restoring {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            let checked = self.check_targets(&mut slot, now);
            worked |= slot.is_running();
            let kept = self.keep_or_stop(&mut slot, checked, now);
            self.slots.insert(id, slot);
            kept?;
        }
        Ok(worked)
    }

    /// The log begins after where a restore wanted to read: what the directories hold cannot be continued.
    fn wipe_restoring(&mut self) {
        let ids: Vec<TaskId> = self.slots.keys().copied().collect();
        for id in ids {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            if matches!(slot.state, SlotState::Restoring { .. }) {
                self.close_task(&mut slot);
                slot.wipe = true;
                slot.state = SlotState::Opening;
            }
            self.slots.insert(id, slot);
        }
    }

    fn restore_rows(&mut self, fetched: Fetched, now: Now) -> Result<(), Error> {
        let place = self.slots.values().find_map(|slot| {
            let SlotState::Restoring { .. } = slot.state else {
                return None;
            };
            let changelogs = slot.task.as_ref()?.changelogs();
            changelogs
                .iter()
                .position(|c| *c == fetched.partition)
                .map(|store| (slot.id, store))
        });
        let Some((id, store)) = place else { return Ok(()) };
        let Some(mut slot) = self.slots.remove(&id) else {
            return Ok(());
        };
        let restored = slot
            .task
            .as_mut()
            .map(|t| t.restore(store, &fetched.records, fetched.next))
            .transpose();
        self.counters.records_restored += fetched.records.len() as u64;
        if let Err(error) = restored {
            self.fail_task(&mut slot, error, now);
        }
        self.slots.insert(id, slot);
        self.step(CrashPoint::RestoredSome)
    }

    /// Step 3: a store is through when the read-committed position has reached its target.
    fn check_targets(&mut self, slot: &mut Slot, now: Now) -> Result<(), NotOpen> {
        let SlotState::Restoring { stores } = &mut slot.state else {
            return Ok(());
        };
        let Some(task) = &mut slot.task else { return Ok(()) };
        let Some(restorer) = &mut self.restorer else {
            return Ok(());
        };
        let changelogs = task.changelogs().to_vec();
        let mut through = Vec::new();
        for store in stores.iter_mut() {
            let Some(changelog) = changelogs.get(store.store) else {
                continue;
            };
            let Some(at) = restorer.position(changelog)? else {
                continue;
            };
            if at >= store.target {
                // Control records after the last row belong to what was read.
                task.restore(store.store, &Batch::empty(), at)?;
                through.push(changelog.clone());
            }
            store.at = at;
        }
        if !through.is_empty() {
            restorer.unassign(&through)?;
        }
        stores.retain(|s| s.at < s.target);
        if stores.is_empty() {
            self.begin_running(slot, now, true)
        } else {
            Ok(())
        }
    }

    /// `restored`: rows were read for it.
    fn begin_running(&mut self, slot: &mut Slot, now: Now, restored: bool) -> Result<(), NotOpen> {
        self.step(CrashPoint::Restored).map_err(NotOpen::Ends)?;
        if restored {
            // Waiting for the disk would keep the task from its records. Until the stamp is renewed the one that was there
            // before the restore holds: it says less.
            if let Some(task) = &mut slot.task {
                task.begin_flush_state()?;
            }
            slot.stamped_ms = now.monotonic_ms - self.options.stamp_interval_ms + STAMP_SOON_MS;
        } else if let Some(stamp) = &mut slot.stamp {
            // The stamp vouches for what the directory holds.
            if let Some(task) = &mut slot.task {
                task.flush_state()?;
            }
            stamp.caught_up_ms = now.wall_ms;
            self.tasks.set_stamp(slot.id, Some(stamp))?;
        }
        match self.set_code(slot)? {
            Code::Set => {}
            Code::Later => return Err(NotOpen::Unstable),
            Code::Refused(reason) => return Err(NotOpen::Later(reason)),
        }
        if let Some(task) = &mut slot.task {
            for (source, offset) in &slot.positions {
                task.set_position(source, *offset);
            }
            task.start(slot.stream_time, now.wall_ms)?;
        }
        self.started.push(slot.id);
        for (source, _) in &slot.positions {
            self.by_source.insert(source.clone(), slot.id);
        }
        slot.state = SlotState::Running;
        slot.last_commit_ms = now.monotonic_ms;
        slot.backoff.clear();
        slot.trouble = None;
        slot.paused.clear();
        Ok(())
    }

    pub(crate) fn consumer(&mut self) -> Result<&mut Box<dyn Consumer>, broker::Error> {
        let isolation = if self.exactly_once() {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        };
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => self.broker.consumer(&ConsumerOptions {
                group: Some(self.options.pipeline.clone()),
                client_id: self.options.thread.clone(),
                isolation,
                queue_bytes_max: self.options.fetch_queue_bytes_max,
                headers: self.options.headers,
            })?,
        };
        Ok(self.consumer.insert(consumer))
    }
}
