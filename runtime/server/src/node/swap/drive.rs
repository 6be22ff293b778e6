//! Driving swaps: the node that leads a pipeline writes the next word of its record when the reports say so. It keeps
//! nothing of its own: a new leader, or the same after a restart, goes on from the record and the reports.

use crate::node::{Node, lock};
use crate::refusal::Refusal;
use crate::registry::{Entry, PipelineEntry, now_ms};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uuid::Uuid;
use worker::control::{self, PipelineRecord};
use worker::swap::drive::{self, Step};

impl Node {
    /// Takes every step that is due. Whether a swap is under way anywhere, so that the caller comes back soon.
    pub(in crate::node) fn drive_swaps(self: &Arc<Self>) -> bool {
        let under_way = |entry: &&PipelineEntry| entry.record.swap.is_some();
        let entries: Vec<PipelineEntry> = self
            .registry()
            .view()
            .pipelines
            .values()
            .filter(under_way)
            .cloned()
            .collect();
        for entry in &entries {
            if let Err(refusal) = self.drive_swap(entry) {
                let pipeline = &entry.details.topology.name;
                tracing::warn!(%pipeline, "the swap waits, and is tried again: {refusal}");
            }
        }
        !entries.is_empty()
    }

    fn drive_swap(self: &Arc<Self>, entry: &PipelineEntry) -> Result<(), Refusal> {
        let name = &entry.details.topology.name;
        let Some(swap) = &entry.record.swap else { return Ok(()) };
        let Some(shared) = self.shared(name).filter(|shared| shared.leads.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let view = lock(&shared.view).clone();
        let Some(step) = drive::next(&entry.record, &view, now_ms()) else {
            return Ok(());
        };
        tracing::info!(pipeline = %name, swap = %swap.id, "{}", said(&step));
        self.take_step(name, swap.id, &step)?;
        self.reconcile();
        Ok(())
    }

    /// Writes the record with this step taken; one that does not belong to what it says by then changes nothing.
    pub(super) fn take_step(&self, name: &str, id: Uuid, step: &Step) -> Result<(), Refusal> {
        self.change_swap(name, id, |record| record.stepped(step, now_ms()))
    }

    pub(super) fn change_swap(
        &self,
        name: &str,
        id: Uuid,
        change: impl Fn(&PipelineRecord) -> PipelineRecord,
    ) -> Result<(), Refusal> {
        self.registry().write(|view| {
            let entry = view.pipelines.get(name).ok_or_else(|| format!("`{name}` is gone"))?;
            if entry.record.swap.as_ref().is_none_or(|swap| swap.id != id) {
                return Ok(Vec::new());
            }
            let next = changed(entry, change(&entry.record)).map_err(|refusal| refusal.message)?;
            Ok(if next == entry.record {
                Vec::new()
            } else {
                vec![(control::key(name), Some(Entry::Pipeline(next)))]
            })
        })?;
        Ok(())
    }
}

/// The server's own part of a record follows: where the swap has ended, the topology is the winner's.
fn changed(entry: &PipelineEntry, mut next: PipelineRecord) -> Result<PipelineRecord, Refusal> {
    if next.swap.is_some() {
        return Ok(next);
    }
    let kept = next.versions != entry.record.versions;
    let mut details = entry.details.clone();
    if let Some(topology) = details.next.take().filter(|_| kept) {
        details.topology = topology;
    }
    details.put_into(&mut next)?;
    Ok(next)
}

fn said(step: &Step) -> String {
    match step {
        Step::Watch => "every task has switched".to_owned(),
        Step::RollBack { reason } => format!("the swap goes back: {reason}"),
        Step::Forward { reason } => format!("the swap cannot go back any more and goes on: {reason}"),
        Step::Keep => "the swap is done".to_owned(),
        Step::WentBack { .. } => "every task runs its former version".to_owned(),
    }
}
