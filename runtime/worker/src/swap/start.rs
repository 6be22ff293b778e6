//! What a task runs when it starts: the record says it, and while tasks switch, the task's own marker.

use super::marker::Marker;
use super::terms::{Phase, Swap, Versions};
use super::thread::same_code;
use crate::control::PipelineRecord;
use crate::mutant::Mutant;
use crate::options::{MakeError, Prepare};
use crate::slot::Slot;
use crate::worker::Worker;
use task::{Task, TaskId};

/// Whether a restored task has the processors that it must start with.
pub(crate) enum Code {
    Set,
    /// They are being made.
    Later,
    /// They cannot be had here.
    Refused(String),
}

impl Worker {
    /// Makes a task with what runs when no swap is under way; which version it starts with is known after its restore.
    pub(crate) fn make_task(&mut self, slot: &mut Slot) -> Result<Task, MakeError> {
        let Some(record) = &self.record else {
            let cause = "the pipeline's record is gone".to_owned();
            return Err(MakeError { again: true, cause });
        };
        slot.versions = record.versions.clone();
        self.tasks.make(slot.id, record, &slot.versions)
    }

    /// After a restore and before the start: another version than the task was made with takes its place where the
    /// record says so.
    pub(crate) fn set_code(&mut self, slot: &mut Slot) -> Result<Code, task::Error> {
        let (Some(record), Some(task)) = (&self.record, &mut slot.task) else {
            return Ok(Code::Later);
        };
        let ignored = self.mutant(Mutant::RecordNotCompared);
        let wanted = if ignored {
            record.versions.clone()
        } else {
            versions(record, slot.id, task)?
        };
        if !same_code(task, &slot.versions, &wanted) {
            match self.tasks.prepare(slot.id, record, &slot.versions, &wanted) {
                Prepare::Later => return Ok(Code::Later),
                Prepare::Refused(reason) => return Ok(Code::Refused(reason)),
                Prepare::Ready(processors) => task.place(processors)?,
            }
        }
        slot.versions = wanted;
        Ok(Code::Set)
    }
}

fn has_switched(task: &mut Task, swap: &Swap) -> Result<bool, task::Error> {
    let marker = task.marker()?.and_then(|m| Marker::decode(&m));
    Ok(marker.and_then(|m| m.switched_by(swap.id)).is_some())
}

fn versions(record: &PipelineRecord, id: TaskId, task: &mut Task) -> Result<Versions, task::Error> {
    let Some(swap) = record.swap.as_ref().filter(|s| s.concerns(id)) else {
        return Ok(record.versions.clone());
    };
    let to = match swap.phase {
        // What was migrated and committed is for `to` alone; the task says so and waits.
        Phase::RollingBack => swap.migrates(task) && has_switched(task, swap)?,
        Phase::Watching => true,
        Phase::Switching => has_switched(task, swap)?,
    };
    Ok(if to {
        swap.versions(&record.versions)
    } else {
        record.versions.clone()
    })
}
