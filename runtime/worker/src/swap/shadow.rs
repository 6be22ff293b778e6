//! A shadow run: `to` runs beside `from` on scratch stores, nothing of it is published, and differences are reported.

use super::part::{State, shadow};
use super::report::ReportState;
use super::terms::Swap;
use crate::options::{Error, Now};
use crate::worker::Worker;
use task::TaskId;

/// How often what changed is reported.
const TELL_MS: i64 = 1_000;

impl Worker {
    /// Starts shadows where processors are ready, and reports what they have found.
    pub(crate) fn tend_shadows(&mut self, now: Now, swap: &Swap) -> Result<bool, Error> {
        let prepared = |state: &State| matches!(state, State::Prepared(_));
        let ready: Vec<TaskId> = self
            .slots
            .values()
            .filter(|s| s.is_running() && s.part.as_ref().is_some_and(|p| prepared(&p.state)))
            .map(|s| s.id)
            .collect();
        if !ready.is_empty() && !self.at_boundary() {
            // The scratch stores begin with what is committed.
            self.commit_now = true;
            return Ok(false);
        }
        for id in &ready {
            match self.start_shadow(*id, now) {
                Ok(()) => self.tell(*id, ReportState::Shadowing, None),
                Err(reason) => self.fail_part(*id, reason),
            }
        }
        let mut due = Vec::new();
        for slot in self.slots.values_mut() {
            let Some(State::Shadowing { findings, told_ms }) = slot.part.as_mut().map(|p| &mut p.state) else {
                continue;
            };
            if now.monotonic_ms - *told_ms < TELL_MS {
                continue;
            }
            *told_ms = now.monotonic_ms;
            let said = self.view.tasks.get(&slot.id).and_then(|r| r.version.as_ref());
            let said = said.filter(|r| r.swap == swap.id).and_then(|r| r.shadow.as_ref());
            if said != Some(&shadow(findings.get())) {
                due.push(slot.id);
            }
        }
        for id in due {
            self.tell(id, ReportState::Shadowing, None);
        }
        Ok(!ready.is_empty())
    }

    fn start_shadow(&mut self, id: TaskId, now: Now) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        let (Some(part), Some(task)) = (&mut slot.part, &mut slot.task) else {
            return Ok(());
        };
        let State::Prepared(processors) = std::mem::replace(&mut part.state, State::Preparing) else {
            return Ok(());
        };
        // What is committed and waits in memory belongs to the copy.
        task.flush_state().map_err(|e| e.to_string())?;
        let mut shadows = Vec::with_capacity(processors.len());
        for (node, processor) in processors {
            let scratch = self.tasks.scratch(id);
            let scratch = scratch.map_err(|e| format!("scratch stores for the shadow: {e}"))?;
            shadows.push((node, processor, scratch));
        }
        let findings = task.shadow(shadows, now.wall_ms).map_err(|e| e.to_string())?;
        part.state = State::Shadowing {
            findings,
            told_ms: now.monotonic_ms,
        };
        Ok(())
    }

    /// The run is over, or `to` is to take the place of `from` now.
    pub(crate) fn end_shadows(&mut self) {
        for slot in self.slots.values_mut() {
            if let (Some(part), Some(task)) = (&mut slot.part, &mut slot.task)
                && matches!(part.state, State::Shadowing { .. })
            {
                task.unshadow();
                part.state = State::Preparing;
            }
        }
    }
}
