//! Records in, runs, outputs to the producer.

use crate::crash::CrashPoint;
use crate::options::{Error, Now};
use crate::recover::Trouble;
use crate::slot::{Slot, SlotState};
use crate::status::TaskCounts;
use crate::worker::{Sent, Worker};
use broker::{ErrorKind, OffsetAt, Partitioning};
use record::{Batch, Fetched, TopicPartition};
use std::time::Duration;
use task::{Ran, Task, TaskId, To};

impl Worker {
    /// Takes what was fetched and gives every running task one run.
    pub(crate) fn fetch_and_run(&mut self, now: Now, busy: bool) -> Result<bool, Error> {
        let worked = self.fetch(now, busy)?;
        let running: Vec<TaskId> = self
            .slots
            .values()
            .filter(|s| s.is_running() && s.stopping.is_none() && !s.is_held_back())
            .map(|s| s.id)
            .collect();
        self.ran = false;
        for id in running {
            match self.run_task(id, now) {
                Ok(ran) => self.ran |= ran,
                Err(trouble) => {
                    self.recover(now, trouble)?;
                    return Ok(true);
                }
            }
        }
        if !worked && !self.ran && self.unsent && !self.exactly_once() {
            // Nothing else comes now, and readers wait for these; exactly-once they wait for the commit.
            self.unsent = false;
            if let Some(producer) = &mut self.producer {
                producer.hasten();
            }
        }
        if let Err(trouble) = self.check_deliveries() {
            self.recover(now, trouble)?;
            return Ok(true);
        }
        Ok(worked || self.ran)
    }

    fn fetch(&mut self, now: Now, busy: bool) -> Result<bool, Error> {
        if !self.slots.values().any(Slot::is_running) {
            return Ok(false);
        }
        // Tasks that have much and go on with it are not given more: the consumer's queue holds it as well, and a
        // partition that has to be paused is fetched again when it is resumed.
        let tasks = self.slots.values().filter_map(|s| s.task.as_ref());
        if self.ran && tasks.map(Task::buffered_records).sum::<usize>() >= self.options.fetch_records_max {
            return Ok(false);
        }
        let wait = if busy || !self.idle {
            Duration::ZERO
        } else {
            self.wait_until_due(now)
        };
        let records_max = self.options.fetch_records_max;
        let mut fetched = Vec::new();
        let Some(consumer) = &mut self.consumer else {
            return Ok(false);
        };
        match consumer.poll(wait, records_max, &mut fetched) {
            Ok(()) => {}
            Err(e) if e.kind == ErrorKind::OffsetOutOfRange => {
                self.stop_out_of_range(now)?;
                return Ok(true);
            }
            Err(e) => {
                self.wait_or_end(now, e)?;
                return Ok(false);
            }
        }
        let worked = !fetched.is_empty();
        for fetched in fetched {
            self.queue(fetched, now)?;
        }
        self.tell_ends();
        Ok(worked)
    }

    /// Whether something was sent that is not committed.
    pub(crate) fn sends(&self) -> bool {
        self.transaction.open || !self.transaction.sent.is_empty()
    }

    fn wait_until_due(&self, now: Now) -> Duration {
        let due = (self.last_commit_ms + self.options.commit_interval_ms - now.monotonic_ms).max(0);
        let wait = self.fetch_wait();
        if self.sends() {
            wait.min(Duration::from_millis(due.unsigned_abs()))
        } else {
            wait
        }
    }

    fn queue(&mut self, fetched: Fetched, now: Now) -> Result<(), Error> {
        let Some(id) = self.by_source.get(&fetched.partition).copied() else {
            return Ok(());
        };
        let Some(mut slot) = self.slots.remove(&id) else {
            return Ok(());
        };
        let source = fetched.partition.clone();
        let added = slot.task.as_mut().map(|task| {
            task.add(fetched)?;
            Ok::<_, task::Error>(task.buffered(&source))
        });
        let mut paused = Ok(());
        match added.transpose() {
            Ok(Some(buffered)) => {
                let full = buffered.records > self.options.buffered_records_max
                    || buffered.bytes > self.options.buffered_bytes_max;
                if full && slot.paused.insert(source.clone()) {
                    paused = self
                        .consumer
                        .as_mut()
                        .map_or(Ok(()), |c| c.pause(std::slice::from_ref(&source)));
                }
            }
            Ok(None) => {}
            Err(error) => {
                // Nothing of these rows was taken in; what passed before goes with the next commit.
                slot.stopping = Some(error.to_string());
                self.commit_now = true;
            }
        }
        self.slots.insert(id, slot);
        paused.or_else(|e| self.wait_or_end(now, e).map(|_| ()))
    }

    /// Tells tasks with several inputs, or with an idle rule, which of the empty ones have more on the broker.
    fn tell_ends(&mut self) {
        let Some(consumer) = &mut self.consumer else { return };
        for slot in self.slots.values_mut().filter(|s| s.is_running()) {
            let Some(task) = &mut slot.task else { continue };
            let sources = task.sources().to_vec();
            if sources.len() < 2 && !task.goes_on_when_idle() {
                continue;
            }
            for source in &sources {
                if task.buffered(source).records == 0 {
                    let at = consumer.position(source).ok().flatten();
                    let end = consumer.end_hint(source);
                    task.set_end(source, at.zip(end).is_some_and(|(at, end)| at >= end));
                }
            }
        }
    }

    fn run_task(&mut self, id: TaskId, now: Now) -> Result<bool, Trouble> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(false);
        };
        let Some(task) = &mut slot.task else { return Ok(false) };
        let before = TaskCounts::of(task.metrics());
        let ran = task.run(now.wall_ms);
        self.counters.add_task(before, TaskCounts::of(task.metrics()));
        let ran = match ran {
            Ok(ran) => ran,
            Err(task::Error::State(error)) => return Err(Trouble::task(id, error)),
            Err(error) => {
                // The run was undone; the runs before it are whole and go with the next commit.
                slot.stopping = Some(error.to_string());
                self.commit_now = true;
                return Ok(true);
            }
        };
        match ran {
            Ran::Idle { .. } => return Ok(false),
            Ran::Worked { rows } => self.counters.records_processed += rows as u64,
            Ran::Full => self.commit_now = true,
        }
        self.step(CrashPoint::RanSome)?;
        self.send_staged(id)?;
        self.step(CrashPoint::OutputsSent)?;
        self.resume_drained(id)?;
        Ok(true)
    }

    pub(crate) fn send_staged(&mut self, id: TaskId) -> Result<(), Trouble> {
        let Some(task) = self.slots.get_mut(&id).and_then(|s| s.task.as_mut()) else {
            return Ok(());
        };
        for staged in task.take_staged() {
            let to = match staged.to {
                To::ByKey { count } => Partitioning::ByKey { count },
                To::ByWindowedKey { count, window_bytes } => Partitioning::ByWindowedKey { count, window_bytes },
                To::Fixed(partition) => Partitioning::Fixed(partition),
            };
            self.send(
                &staged.topic,
                to,
                &staged.batch,
                Sent::Output {
                    task: id,
                    tag: staged.tag,
                },
            )?;
        }
        Ok(())
    }

    /// Hands rows to the producer, in the open transaction or a new one.
    pub(crate) fn send(&mut self, topic: &str, to: Partitioning, batch: &Batch, sent: Sent) -> Result<(), Trouble> {
        if batch.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let tag = self.transaction.sent.len() as u64;
        self.transaction.sent.push(sent);
        self.transaction.bytes += batch.bytes();
        let Some(producer) = &mut self.producer else {
            return Ok(());
        };
        producer.send(topic, to, batch, tag)?;
        self.unsent = true;
        if self.transaction.bytes > self.options.transaction_bytes_max {
            self.commit_now = true;
        }
        Ok(())
    }

    pub(crate) fn begin(&mut self) -> Result<(), Trouble> {
        if self.transaction.open || !self.exactly_once() {
            return Ok(());
        }
        if let Some(producer) = &mut self.producer {
            producer.begin()?;
            self.transaction.open = true;
        }
        Ok(())
    }

    /// Failures that are known already, so that a transaction that cannot commit ends early.
    fn check_deliveries(&mut self) -> Result<(), Trouble> {
        if self.transaction.sent.is_empty() {
            return Ok(());
        }
        let Some(producer) = &mut self.producer else {
            return Ok(());
        };
        producer.poll();
        let failures = producer.take_failures();
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Trouble::Deliveries(failures))
        }
    }

    fn resume_drained(&mut self, id: TaskId) -> Result<(), broker::Error> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        let (Some(task), Some(consumer)) = (&slot.task, &mut self.consumer) else {
            return Ok(());
        };
        let (records_max, bytes_max) = (
            self.options.buffered_records_max / 2,
            self.options.buffered_bytes_max / 2,
        );
        let drained = |source: &&TopicPartition| {
            let buffered = task.buffered(source);
            buffered.records <= records_max && buffered.bytes <= bytes_max
        };
        let drained: Vec<TopicPartition> = slot.paused.iter().filter(drained).cloned().collect();
        if !drained.is_empty() {
            slot.paused.retain(|p| !drained.contains(p));
            consumer.resume(&drained)?;
        }
        Ok(())
    }

    /// A position is not in the log any more: the tasks that it belongs to stop and name what to do.
    fn stop_out_of_range(&mut self, now: Now) -> Result<(), Error> {
        let sources: Vec<TopicPartition> = self.by_source.keys().cloned().collect();
        let bounds = self.admin().and_then(|admin| {
            let earliest = admin.offsets(&sources, OffsetAt::Earliest)?;
            let end = admin.offsets(&sources, OffsetAt::End(broker::Isolation::ReadUncommitted))?;
            Ok(earliest.into_iter().zip(end).collect::<Vec<_>>())
        });
        let bounds = match bounds {
            Ok(bounds) => bounds,
            Err(e) => return self.wait_or_end(now, e).map(|_| ()),
        };
        for (source, (earliest, end)) in sources.into_iter().zip(bounds) {
            let Some(consumer) = &mut self.consumer else {
                return Ok(());
            };
            let at = consumer.position(&source)?.unwrap_or(earliest);
            if (earliest..=end).contains(&at) {
                continue;
            }
            let Some(slot) = self.by_source.get(&source).and_then(|id| self.slots.get_mut(id)) else {
                continue;
            };
            if matches!(slot.state, SlotState::Running) {
                slot.stopping = Some(format!(
                    "offset {at} of `{source}` is not in the log ({earliest} to {end})\nhint: set another with `wasmill pipeline reset`"
                ));
                self.commit_now = true;
            }
            consumer.unassign(&[source])?;
        }
        Ok(())
    }
}
