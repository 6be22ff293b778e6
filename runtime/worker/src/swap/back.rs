//! The way back: tasks that have committed under `to` return to `from` at their last commit, and say what `to` wrote.

use super::marker::Marker;
use super::part::{Part, State};
use super::report::ReportState;
use super::terms::Swap;
use crate::crash::CrashPoint;
use crate::mutant::Mutant;
use crate::options::{Error, Now, Prepare};
use crate::worker::Worker;
use task::{Task, TaskId};

impl Worker {
    /// The record is rolling back: every task of the swap runs `from`, and reports it.
    pub(crate) fn go_back(&mut self, now: Now, swap: &Swap) -> Result<bool, Error> {
        self.interrupt_hold(now)?;
        self.options.ballot.stand_aside(swap.id, &self.options.thread);
        let Some(record) = self.record.clone() else {
            return Ok(false);
        };
        let (still, back) = self.parts_to_go_back();
        if let Err(error) = self.note_what_earlier_runs_wrote() {
            self.wait_or_end(now, error)?;
            return Ok(true);
        }
        for id in &still {
            self.say_back(*id)?;
        }
        if back.is_empty() {
            return Ok(!still.is_empty());
        }
        if !self.at_boundary() {
            // What `to` did since the last commit is dropped, where dropping it is possible.
            if self.exactly_once() {
                self.abort(now)?;
            }
            if !self.at_boundary() {
                self.commit_now = true;
                return Ok(true);
            }
        }
        let mut worked = !still.is_empty();
        for id in back {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            let Some(task) = slot
                .task
                .as_mut()
                .filter(|_| matches!(slot.state, crate::slot::SlotState::Running))
            else {
                continue;
            };
            let back = match task.can_switch_back() {
                true => {
                    task.switch_back();
                    Ok(true)
                }
                false => {
                    let prepared = self.tasks.prepare(id, &record, &slot.versions, &record.versions);
                    made_again(task, prepared, now)
                }
            };
            match back {
                Ok(true) => {}
                Ok(false) => continue,
                Err(cause) => {
                    slot.trouble = Some(cause);
                    continue;
                }
            }
            slot.trouble = None;
            slot.versions.clone_from(&record.versions);
            worked = true;
            self.say_back(id)?;
            self.step(CrashPoint::SwapBack)?;
        }
        Ok(worked)
    }

    /// Tasks that never left `from`, and those that run `to` and can go back, of those that have not said so yet.
    fn parts_to_go_back(&self) -> (Vec<TaskId>, Vec<TaskId>) {
        let (mut still, mut back) = (Vec::new(), Vec::new());
        for slot in self.slots.values().filter(|s| s.is_running()) {
            match &slot.part {
                Some(part) if matches!(part.state, State::Back) => {}
                // The old version cannot read what is committed. The report says so, and the record turns around.
                Some(part) if part.runs_to() && part.migrates && !self.mutant(Mutant::BackAfterMigration) => {}
                Some(part) if part.runs_to() => back.push(slot.id),
                Some(_) => still.push(slot.id),
                None => {}
            }
        }
        (still, back)
    }

    /// A task that was started again does not know the last rows that it wrote before.
    fn note_what_earlier_runs_wrote(&mut self) -> Result<(), broker::Error> {
        let resumed = |part: &Part| part.resumed && !matches!(part.state, State::Back);
        let ends = self.output_ends(resumed)?;
        for part in self.slots.values_mut().filter_map(|s| s.part.as_mut()) {
            if resumed(part) {
                part.note_ends(&ends);
                part.resumed = false;
            }
        }
        Ok(())
    }

    /// The task runs `from`: the marker names what `to` wrote, or goes, and the report comes, in one commit.
    fn say_back(&mut self, id: TaskId) -> Result<(), Error> {
        self.tell(id, ReportState::RolledBack, None);
        let said = self.exchange.as_ref().and_then(|e| e.reports.get(&id));
        let said = said.filter(|report| !report.offsets.is_empty());
        let wanted = said.map(|report| Marker::back(report.swap, report.offsets.clone()).encode());
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        if let Some(part) = &mut slot.part {
            part.state = State::Back;
        }
        if let Some(task) = &mut slot.task {
            let set = task.marker().and_then(|marker| match marker == wanted {
                true => Ok(()),
                false => task.set_marker(wanted.as_deref()),
            });
            if let Err(cause) = set {
                // Once the swap is over it says nothing.
                tracing::warn!(task = %id, %cause, "the marker of a swap stays as it was");
            }
        }
        Ok(())
    }
}

/// The way back of a task that was started with `to`: `from` is made again. `false`: not yet.
fn made_again(task: &mut Task, prepared: Prepare, now: Now) -> Result<bool, String> {
    match prepared {
        Prepare::Later => Ok(false),
        Prepare::Refused(cause) => Err(format!("the old version cannot be had: {cause}")),
        Prepare::Ready(processors) => {
            let switched = task.switch(processors, None, now.wall_ms);
            switched.map_err(|cause| format!("the old version does not open: {cause}"))?;
            task.forget_aside();
            Ok(true)
        }
    }
}
