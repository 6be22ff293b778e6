//! A stream thread's part in a swap: it follows the record, makes other versions beside the running ones, and exchanges
//! them at a commit boundary. The time in which that can be undone is in `hold`, the way back in `back`.

use super::ballot::Round;
use super::drive;
use super::marker::Marker;
use super::part::{Part, State};
use super::report::{Report, ReportState};
use super::terms::{Phase, Swap, Versions};
use crate::crash::CrashPoint;
use crate::mutant::Mutant;
use crate::options::{Error, Now, Prepare};
use crate::placement::Record;
use crate::slot::{Slot, SlotState};
use crate::worker::Worker;
use broker::{Isolation, OffsetAt};
use record::TopicPartition;
use std::collections::BTreeMap;
use task::{Task, TaskId};
use uuid::Uuid;

/// Half of a migration could be committed.
const NO_MIGRATION: &str = "stores are migrated in one transaction, and the pipeline's guarantee is at-least-once\n\
                            hint: keep the schema, or set `guarantee = \"exactly-once\"`";

/// What the thread knows of the swap that the record names.
pub(crate) struct Exchange {
    pub id: Uuid,
    pub hold: Option<Hold>,
    /// To go with the next commit.
    pub reports: BTreeMap<TaskId, Report>,
    /// Nothing is tried before, after a hold that ended without a verdict.
    pub retry_ms: i64,
    /// The record's word that there is no way back has been heard.
    pub forward: bool,
}

/// The first transaction under `to`, held open.
pub(crate) struct Hold {
    pub round: Round,
    pub since_ms: i64,
    pub voted: bool,
    /// The verdict is there: it may be committed.
    pub passed: bool,
}

impl Worker {
    /// To be called before anything is fetched; does nothing while no swap is under way.
    pub(crate) fn advance_exchange(&mut self, now: Now) -> Result<bool, Error> {
        let swap = self.record.as_ref().and_then(|r| r.swap.clone());
        let known = self.exchange.as_ref().map(|e| e.id);
        if known != swap.as_ref().map(|s| s.id) {
            self.end_exchange(now)?;
            self.exchange = swap.as_ref().map(|swap| {
                Box::new(Exchange {
                    id: swap.id,
                    hold: None,
                    reports: BTreeMap::new(),
                    retry_ms: i64::MIN,
                    forward: false,
                })
            });
            if let Some(swap) = &swap {
                self.revive(swap);
            }
        }
        let Some(swap) = swap else { return Ok(known.is_some()) };
        self.take_parts(&swap);
        self.turn_around(&swap);
        match swap.phase {
            _ if self.stop.is_some() || self.holds() || self.flushing.is_some() => Ok(false),
            Phase::Switching | Phase::Watching => self.go(now, &swap),
            Phase::RollingBack => self.go_back(now, &swap),
        }
    }

    /// The record names this swap no more: what was kept ready goes.
    fn end_exchange(&mut self, now: Now) -> Result<(), Error> {
        if self.exchange.is_none() {
            return Ok(());
        }
        self.interrupt_hold(now)?;
        self.step(CrashPoint::SwapEnded)?;
        self.exchange = None;
        let versions = self.record.as_ref().map(|r| r.versions.clone()).unwrap_or_default();
        let mut others = Vec::new();
        for slot in self.slots.values_mut() {
            slot.part = None;
            let Some(task) = &mut slot.task else { continue };
            task.forget_aside();
            task.unshadow();
            if !same_code(task, &slot.versions, &versions) && slot.is_running() {
                others.push(slot.id);
            }
        }
        if others.is_empty() {
            return Ok(());
        }
        // The record was changed from outside: what was not committed belongs to nobody.
        self.drop_transaction(now)?;
        for id in others {
            if let Some(mut slot) = self.slots.remove(&id) {
                self.close_task(&mut slot);
                slot.state = SlotState::Opening;
                self.slots.insert(id, slot);
            }
        }
        Ok(())
    }

    /// A record was read: tasks whose code is what it names are known under its versions. A swap of steps that a task does
    /// not have may have begun and ended since the last reading, and no more is heard of it.
    pub(crate) fn name_versions(&mut self) {
        let Some(record) = &self.record else { return };
        for slot in self.slots.values_mut() {
            if let Some(task) = &slot.task
                && slot.versions != record.versions
                && same_code(task, &slot.versions, &record.versions)
            {
                slot.versions.clone_from(&record.versions);
            }
        }
    }

    /// Tasks that stopped under `from` get another try with `to`.
    fn revive(&mut self, swap: &Swap) {
        if swap.phase != Phase::Switching {
            return;
        }
        for slot in self.slots.values_mut() {
            if matches!(slot.state, SlotState::Stopped { .. }) && swap.switches(slot.id) {
                slot.state = SlotState::Opening;
                slot.revived = true;
            }
        }
    }

    /// Every running task that the swap concerns has a part in it.
    fn take_parts(&mut self, swap: &Swap) {
        let Some(record) = &self.record else { return };
        let to = swap.versions(&record.versions);
        let mut switched = Vec::new();
        for slot in self.slots.values_mut() {
            let (true, Some(task)) = (slot.is_running(), &mut slot.task) else {
                continue;
            };
            if !swap.concerns(slot.id) || slot.part.as_ref().is_some_and(|p| p.swap == swap.id) {
                continue;
            }
            let runs_to = same_code(task, &slot.versions, &to);
            let mut part = Part::new(swap.id, if runs_to { State::Switched } else { State::Preparing });
            // A task that goes back may have been started with `from` already: its marker knows what `to` did.
            let marker = task.marker().ok().flatten().and_then(|m| Marker::decode(&m));
            let written = marker.clone().map(|m| m.back_from(swap.id)).unwrap_or_default();
            let ends = marker.and_then(|m| m.switched_by(swap.id));
            part.resumed = ends.is_some();
            let migrates = swap.migrates(task);
            part.migrates = migrates;
            part.begin(swap, task, ends.unwrap_or_default());
            part.note_written(written);
            part.revived = std::mem::take(&mut slot.revived);
            slot.part = Some(Box::new(part));
            let told = drive::report(&self.view, record.run(), swap.id, slot.id)
                .is_some_and(|r| r.state == ReportState::Switched);
            // What was migrated stays: whoever leads has to know it, and turns the way back around.
            if runs_to && !told && (swap.phase != Phase::RollingBack || migrates) {
                switched.push(slot.id);
            }
        }
        for id in switched {
            self.tell(id, ReportState::Switched, None);
        }
    }

    /// Once it is said that there is no way back: tasks that have gone back or failed try `to` again, once, and those that
    /// broke a bound under it run on.
    fn turn_around(&mut self, swap: &Swap) {
        let Some(exchange) = self.exchange.as_mut().filter(|e| swap.forward && !e.forward) else {
            return;
        };
        exchange.forward = true;
        let mut switched = Vec::new();
        for slot in self.slots.values_mut() {
            let Some(part) = slot.part.as_mut() else { continue };
            match part.state {
                State::Back | State::Failed { .. } => part.state = State::Preparing,
                State::Broken { .. } => {
                    part.state = State::Switched;
                    switched.push(slot.id);
                }
                _ => {}
            }
        }
        for id in switched {
            self.tell(id, ReportState::Switched, None);
        }
    }

    /// Puts a report of a task into the next commit.
    pub(crate) fn tell(&mut self, id: TaskId, state: ReportState, reason: Option<String>) {
        let (Some(run), Some(exchange), Some(slot)) = (self.run, &mut self.exchange, self.slots.get(&id)) else {
            return;
        };
        let mut offsets = Vec::new();
        if state != ReportState::Switched {
            // What an earlier run of the task has said stays said.
            let said = self.view.tasks.get(&id).and_then(|r| r.version.as_ref());
            let said = said.filter(|r| r.swap == exchange.id).map(|r| r.offsets.as_slice());
            let written = slot.part.as_ref().map(|p| p.written()).unwrap_or_default();
            offsets = drive::merged(said.unwrap_or_default().iter().chain(&written));
        }
        let found = slot.part.as_ref().and_then(|p| p.found());
        let said = self.view.tasks.get(&id).and_then(|r| r.version.as_ref());
        let said = said.filter(|r| r.swap == exchange.id).and_then(|r| r.shadow.as_ref());
        let shadow = found.as_ref().or(said);
        let report = Report {
            run,
            task_epoch: slot.task_epoch,
            swap: exchange.id,
            state,
            migrated: state == ReportState::Switched && slot.part.as_ref().is_some_and(|p| p.migrates),
            untried: false,
            reason,
            offsets,
            shadow: shadow.cloned(),
        };
        exchange.reports.insert(id, report);
    }

    /// Reports of tasks that are here, for the records of a commit.
    pub(crate) fn reports(&self) -> impl Iterator<Item = Record> + '_ {
        let reports = self.exchange.iter().flat_map(|e| &e.reports);
        let here = |id: &TaskId, report: &Report| {
            let slot = self.slots.get(id);
            slot.is_some_and(|s| s.is_running() && s.task_epoch == report.task_epoch)
        };
        reports
            .filter(move |(id, report)| here(id, report))
            .map(|(id, report)| Record::Version(*id, Some(report.clone())))
    }

    fn go(&mut self, now: Now, swap: &Swap) -> Result<bool, Error> {
        let Some(exchange) = &self.exchange else {
            return Ok(false);
        };
        if exchange.hold.is_some() || now.monotonic_ms < exchange.retry_ms {
            return Ok(false);
        }
        let (exchange_id, thread) = (exchange.id, self.options.thread.clone());
        if !swap.shadow {
            self.end_shadows();
        }
        let mut worked = self.prepare_parts_of_swap(swap)?;
        if swap.shadow {
            self.options.ballot.stand_aside(exchange_id, &thread);
            return Ok(self.tend_shadows(now, swap)? || worked);
        }
        let count = |state: fn(&State) -> bool| {
            let parts = self.slots.values().filter(|s| s.is_running());
            parts
                .filter_map(|s| s.part.as_ref())
                .filter(|p| state(&p.state))
                .count()
        };
        let ready = count(|s| matches!(s, State::Prepared(_)));
        let failed = count(|s| matches!(s, State::Failed { .. }));
        let preparing = self
            .slots
            .values()
            .any(|s| s.part.as_ref().is_some_and(|p| matches!(p.state, State::Preparing)) && swap.switches(s.id));
        let over = failed > 0 && !swap.forward;
        if ready == 0 || over {
            let coming =
                |s: &Slot| swap.switches(s.id) && !s.is_running() && !matches!(s.state, SlotState::Stopped { .. });
            if over || !(preparing || self.slots.values().any(coming)) {
                self.options.ballot.stand_aside(exchange_id, &thread);
            }
            return Ok(worked);
        }
        let turn = self.run.is_some_and(|run| drive::turn(swap, run, &self.view, &thread));
        if preparing || !(turn || swap.forward || swap.phase == Phase::Watching) {
            return Ok(worked);
        }
        // Where there is nothing to decide any more, nobody is asked.
        let round = match swap.forward {
            true => Some(Round::MAX),
            false => self.options.ballot.enrol(exchange_id, &thread, now.monotonic_ms),
        };
        let Some(round) = round else { return Ok(worked) };
        if !self.at_boundary() {
            self.commit_now = true;
            return Ok(worked);
        }
        worked = true;
        let ends = match self.output_ends(|part| matches!(part.state, State::Prepared(_))) {
            Ok(ends) => ends,
            Err(error) => {
                self.wait_or_end(now, error)?;
                return Ok(worked);
            }
        };
        self.switch(now, swap, round, &ends)?;
        Ok(worked)
    }

    /// Asks for processors of `to` wherever they are missing.
    fn prepare_parts_of_swap(&mut self, swap: &Swap) -> Result<bool, Error> {
        let Some(record) = self.record.clone() else {
            return Ok(false);
        };
        let to = swap.versions(&record.versions);
        let exactly_once = self.exactly_once();
        let mut refused = Vec::new();
        let mut worked = false;
        for slot in self.slots.values_mut() {
            let running = slot.is_running() && !slot.leaving;
            let Some(part) = &mut slot.part else { continue };
            let wanted = swap.shadow || swap.switches(slot.id);
            if !running || !matches!(part.state, State::Preparing) || !wanted {
                continue;
            }
            if !exactly_once && part.migrates {
                // Nothing was touched: the store stays as it is.
                refused.push((slot.id, NO_MIGRATION.to_owned()));
                continue;
            }
            match self.tasks.prepare(slot.id, &record, &slot.versions, &to) {
                Prepare::Later => {}
                Prepare::Ready(processors) => {
                    part.state = State::Prepared(processors);
                    worked = true;
                }
                Prepare::Refused(reason) => refused.push((slot.id, reason)),
            }
        }
        for (id, reason) in refused {
            self.fail_part(id, reason);
            worked = true;
        }
        if worked {
            self.step(CrashPoint::SwapPrepared)?;
        }
        Ok(worked)
    }

    /// The task stays with `from`, and the record will go back.
    pub(crate) fn fail_part(&mut self, id: TaskId, reason: String) {
        if let Some(part) = self.slots.get_mut(&id).and_then(|s| s.part.as_mut()) {
            part.state = State::Failed { reason: reason.clone() };
            part.revived = false;
        }
        self.tell(id, ReportState::Failed, Some(reason));
    }

    /// Nothing is uncommitted in any task of the thread.
    pub(crate) fn at_boundary(&self) -> bool {
        let uncommitted = |s: &Slot| s.is_running() && s.task.as_ref().is_some_and(Task::uncommitted);
        !self.transaction.open && self.transaction.sent.is_empty() && !self.slots.values().any(uncommitted)
    }

    /// Ends of every partition that the tasks with such a part write to.
    pub(crate) fn output_ends(
        &mut self,
        of: impl Fn(&Part) -> bool,
    ) -> Result<BTreeMap<TopicPartition, i64>, broker::Error> {
        let mut partitions = std::collections::BTreeSet::new();
        for slot in self.slots.values() {
            let meant = slot.is_running() && slot.part.as_ref().is_some_and(|p| of(p));
            let Some(task) = slot.task.as_ref().filter(|_| meant) else {
                continue;
            };
            for (topic, count) in task.outputs() {
                partitions.extend((0..count).map(|p| TopicPartition::new(topic, p)));
            }
        }
        let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ends = self
            .admin()?
            .offsets(&partitions, OffsetAt::End(Isolation::ReadUncommitted))?;
        Ok(partitions.into_iter().zip(ends).collect())
    }

    /// Exchanges the processors of every task that is prepared.
    fn switch(
        &mut self,
        now: Now,
        swap: &Swap,
        round: Round,
        ends: &BTreeMap<TopicPartition, i64>,
    ) -> Result<(), Error> {
        let Some(record) = &self.record else { return Ok(()) };
        let to = swap.versions(&record.versions);
        let mark = !self.mutant(Mutant::MarkerAfterwards);
        let rewrites = swap.rewrites();
        let mut failed = None;
        for slot in self.slots.values_mut().filter(|s| s.is_running()) {
            let (Some(part), Some(task)) = (&mut slot.part, &mut slot.task) else {
                continue;
            };
            let since_ms = now.monotonic_ms;
            match std::mem::replace(&mut part.state, State::Held { since_ms }) {
                State::Prepared(processors) => {
                    part.measure_from(swap, task);
                    let of_task = |p: &TopicPartition| task.outputs().any(|(topic, _)| *p.topic == *topic);
                    let own = ends.iter().filter(|(p, _)| of_task(p)).map(|(p, e)| (p.clone(), *e));
                    let own = own.collect();
                    let marker = mark.then(|| Marker::switched(swap.id, &own).encode());
                    if let Err(error) = task.switch_migrating(processors, &rewrites, marker.as_deref(), now.wall_ms) {
                        failed = Some((slot.id, error.to_string()));
                        break;
                    }
                    part.begin(swap, task, own);
                }
                other => part.state = other,
            }
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.hold = Some(Hold {
                round,
                since_ms: now.monotonic_ms,
                voted: false,
                passed: false,
            });
        }
        if let Some((id, reason)) = failed {
            if swap.forward {
                self.interrupt_hold(now)?;
                self.fail_part(id, reason);
                return Ok(());
            }
            return self.fail_hold(now, swap, &format!("task {id}: {reason}"));
        }
        for slot in self.slots.values_mut() {
            if slot.part.as_ref().is_some_and(|p| p.is_held()) {
                slot.versions.clone_from(&to);
            }
        }
        self.step(CrashPoint::SwapSwitched)
    }
}

/// Whether two sets of versions give a task the same code.
pub(super) fn same_code(task: &Task, one: &Versions, other: &Versions) -> bool {
    task.module_steps().all(|step| one.get(step) == other.get(step))
}
