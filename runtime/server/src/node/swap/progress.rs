//! What threads of this node say of a swap while it goes on.

use crate::node::{Node, lock};
use std::collections::BTreeMap;
use task::TaskId;
use uuid::Uuid;
use worker::SwapProgress;
use worker::placement::View;
use worker::swap::Shadow;

impl Node {
    /// The placement topic as this node's coordinator has read it, and the tasks that run here.
    pub(super) fn told_of_tasks(&self, name: &str) -> (View, BTreeMap<TaskId, worker::TaskStatus>) {
        let running = lock(&self.running);
        let Some(running) = running.get(name) else {
            return (View::default(), BTreeMap::new());
        };
        let mut here = BTreeMap::new();
        for thread in &running.shared.threads {
            for task in lock(&thread.status).iter().flat_map(|status| &status.tasks) {
                here.insert(task.task, task.clone());
            }
        }
        (lock(&running.shared.view).clone(), here)
    }
}

/// Where a task is in swap `id`, in a word, before it has reported.
pub(super) fn state(id: Uuid, task: Option<&worker::TaskStatus>) -> Option<&'static str> {
    let (swap, progress) = task?.swap.as_ref()?;
    (*swap == id).then_some(match progress {
        SwapProgress::Preparing => "preparing",
        SwapProgress::Waiting => "waiting",
        SwapProgress::Probation { .. } => "probation",
        SwapProgress::Switched => "switched",
        SwapProgress::Shadowing(_) => "shadow",
        SwapProgress::Failed { .. } => "failed",
        SwapProgress::RolledBack => "rolled-back",
    })
}

/// What the shadow of a task has found by now: newer than its report.
pub(super) fn shadow(id: Uuid, task: Option<&worker::TaskStatus>) -> Option<&Shadow> {
    match task?.swap.as_ref()? {
        (swap, SwapProgress::Shadowing(shadow)) if *swap == id => Some(shadow),
        _ => None,
    }
}
