//! Ends of tasks: released, stopped, failed, dropped; and the end of the thread.

use crate::crash::CrashPoint;
use crate::options::{Error, Now};
use crate::slot::{Slot, SlotState};
use crate::worker::{Phase, Transaction, Worker};
use record::TopicPartition;
use task::TaskId;

impl Worker {
    /// The task is not placed here any more: one that runs goes with the next commit, any other holds nothing.
    pub(crate) fn leave_task(&mut self, id: TaskId) {
        match self.slots.get_mut(&id) {
            Some(slot) if slot.is_running() => slot.leaving = true,
            _ => self.drop_task(id),
        }
    }

    /// After a commit: closes what leaves or stops, renews stamps.
    pub(crate) fn end_committed(&mut self, now: Now) -> Result<(), Error> {
        let ids: Vec<TaskId> = self.slots.keys().copied().collect();
        for id in ids {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            if slot.is_running() && slot.leaving {
                self.flush_and_stamp(&mut slot, now);
                self.close_task(&mut slot);
                self.step(CrashPoint::Released)?;
                continue;
            }
            if slot.is_running()
                && let Some(reason) = slot.stopping.take()
            {
                self.flush_and_stamp(&mut slot, now);
                self.stop_task(&mut slot, reason);
            }
            if slot.is_running() && now.monotonic_ms - slot.stamped_ms >= self.options.stamp_interval_ms {
                slot.stamped_ms = now.monotonic_ms;
                self.flush_and_stamp(&mut slot, now);
            }
            self.slots.insert(id, slot);
        }
        Ok(())
    }

    fn flush_and_stamp(&mut self, slot: &mut Slot, now: Now) {
        match slot.task.as_mut().map_or(Ok(()), |t| t.flush_state()) {
            Ok(()) => self.write_stamp(slot, now),
            Err(cause) => {
                tracing::warn!(task = %slot.id, %cause, "stores not flushed; the changelog has their content")
            }
        }
    }

    fn write_stamp(&mut self, slot: &mut Slot, now: Now) {
        slot.stamped_ms = now.monotonic_ms;
        let Some(stamp) = &mut slot.stamp else { return };
        stamp.caught_up_ms = now.wall_ms;
        if let Err(cause) = self.tasks.set_stamp(slot.id, Some(stamp)) {
            tracing::warn!(task = %slot.id, %cause, "task directory not stamped");
        }
    }

    /// Takes the task off the consumers and closes its stores, without committing or flushing anything.
    pub(crate) fn close_task(&mut self, slot: &mut Slot) {
        let Some(task) = slot.task.take() else { return };
        let sources: Vec<TopicPartition> = task
            .sources()
            .iter()
            .filter(|s| self.by_source.remove(*s).is_some())
            .cloned()
            .collect();
        let unassigned = self
            .consumer
            .as_mut()
            .filter(|_| !sources.is_empty())
            .map(|c| c.unassign(&sources));
        let restoring = match &slot.state {
            SlotState::Restoring { stores } => stores
                .iter()
                .filter_map(|s| task.changelogs().get(s.store).cloned())
                .collect(),
            _ => Vec::new(),
        };
        let unread = self
            .restorer
            .as_mut()
            .filter(|_| !restoring.is_empty())
            .map(|c| c.unassign(&restoring));
        for result in [unassigned, unread].into_iter().flatten() {
            if let Err(cause) = result {
                tracing::warn!(task = %slot.id, %cause, "partitions of a closed task are still fetched");
            }
        }
        slot.paused.clear();
        slot.part = None;
        task.close();
    }

    pub(crate) fn drop_task(&mut self, id: TaskId) {
        if let Some(mut slot) = self.slots.remove(&id) {
            self.close_task(&mut slot);
        }
    }

    pub(crate) fn drop_tasks(&mut self) {
        while let Some(id) = self.slots.keys().next().copied() {
            self.drop_task(id);
        }
    }

    /// The transaction is void; if it cannot be ended, the producer is.
    pub(crate) fn drop_transaction(&mut self, now: Now) -> Result<(), Error> {
        if self.sends() { self.abort(now) } else { Ok(()) }
    }

    /// Stops one task; it keeps its placement and its last positions, and is released when it is placed elsewhere.
    pub(crate) fn stop_task(&mut self, slot: &mut Slot, reason: String) {
        tracing::error!(thread = %self.options.thread, task = %slot.id, %reason, "task stopped");
        self.close_task(slot);
        slot.stopping = None;
        slot.trouble = None;
        slot.state = SlotState::Stopped { reason };
    }

    pub(crate) fn stop_task_by_id(&mut self, id: TaskId, reason: String) {
        if let Some(mut slot) = self.slots.remove(&id) {
            self.stop_task(&mut slot, reason);
            self.slots.insert(id, slot);
        }
    }

    /// A failure of stores is tried again from a reopened directory; one of the task itself stops it.
    pub(crate) fn fail_task(&mut self, slot: &mut Slot, error: task::Error, now: Now) {
        match error {
            task::Error::State(cause) => {
                self.close_task(slot);
                slot.state = SlotState::Opening;
                self.back_off_slot(slot, now, cause.to_string());
            }
            error => self.stop_task(slot, error.to_string()),
        }
    }

    pub(crate) fn fail_task_by_id(&mut self, id: TaskId, error: task::Error, now: Now) {
        if let Some(mut slot) = self.slots.remove(&id) {
            self.fail_task(&mut slot, error, now);
            self.slots.insert(id, slot);
        }
    }

    pub(crate) fn flush_when_paused(&mut self, now: Now) {
        if !self.holds() {
            self.pause_flushed = false;
            return;
        }
        if self.pause_flushed || self.sends() {
            return;
        }
        let ids: Vec<TaskId> = self.slots.keys().copied().collect();
        for id in ids {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            if slot.is_running() {
                self.flush_and_stamp(&mut slot, now);
            }
            self.slots.insert(id, slot);
        }
        self.pause_flushed = true;
    }

    /// The end of the thread. What was not committed by now is dropped; whoever comes next replays it.
    pub(crate) fn close_all(&mut self, now: Now) -> Result<(), Error> {
        self.step(CrashPoint::Stopping)?;
        if self.transaction.open
            && let Some(producer) = &mut self.producer
        {
            // Left open it would hide what follows from readers until its timeout.
            let _ = producer.abort();
        }
        self.transaction = Transaction::default();
        while let Some(id) = self.slots.keys().next().copied() {
            let Some(mut slot) = self.slots.remove(&id) else {
                continue;
            };
            if slot.is_running() {
                self.flush_and_stamp(&mut slot, now);
            }
            self.close_task(&mut slot);
        }
        self.producer = None;
        self.consumer = None;
        self.restorer = None;
        self.reader = None;
        self.admin = None;
        self.phase = Phase::Stopped;
        Ok(())
    }
}
