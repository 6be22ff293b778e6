//! The hot swap as a node offers it: prepare, record, drive to its end, show (design §11).
//!
//! What tasks do is `worker`'s, what comes next is decided in [`worker::swap::drive`]; here is who asks, what is
//! checked before the record is written, and who writes it on: the node that leads the pipeline.

pub(super) mod applied;
mod drive;
mod fit;
pub(super) mod migrated;
mod prepare;
mod progress;
mod shown;

pub(crate) use prepare::versions_of;

use super::Node;
use crate::api::{self, ApplyRequest, SwapRequest, SwapTerms};
use crate::refusal::Refusal;
use crate::registry::{Entry, PipelineDetails, PipelineEntry, now_ms};
use prepare::Ready;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;
use worker::control::{self, PipelineRecord};
use worker::swap::drive::{Step, beyond_return};
use worker::swap::{Bounds, Outcome, Phase, Probation, Swap};

/// How long the old version is kept ready unless the request says otherwise.
const WATCH_MS: u64 = 10_000;
/// The longest watch: the old version's instances stay in memory for it.
const WATCH_MS_MAX: u64 = 24 * 3_600_000;

impl Node {
    /// Prepares the versions beside the running ones, then records the swap. Returns when it has begun.
    pub fn swap(self: &Arc<Self>, name: &str, request: &SwapRequest) -> Result<api::Swap, Refusal> {
        self.begin_swap(name, request, "swap", None)
    }

    /// `file`: the pipeline file that asks for it, with the digests of the modules that it names.
    pub(super) fn begin_swap(
        self: &Arc<Self>,
        name: &str,
        request: &SwapRequest,
        why: &str,
        file: Option<(&ApplyRequest, BTreeMap<String, String>)>,
    ) -> Result<api::Swap, Refusal> {
        let entry = self.entry(name)?;
        let id = Uuid::new_v4();
        let ready = self.prepare_swap(&entry, request)?;
        if ready.changes.is_empty() {
            return Ok(api::Swap {
                pipeline: name.to_owned(),
                phase: "swapped".to_owned(),
                mode: "all".to_owned(),
                notes: ready.notes,
                ..api::Swap::default()
            });
        }
        let (prepared, notes) = (ready.prepared.clone(), ready.notes.clone());
        let swap = recorded(&entry, request, &ready, id, why)?;
        self.record_swap(name, &entry, swap, ready, file)?;
        self.reconcile();
        Ok(api::Swap {
            prepared,
            notes,
            ..self.swap_progress(name, None)?
        })
    }

    fn record_swap(
        &self,
        name: &str,
        planned: &PipelineEntry,
        swap: Swap,
        ready: Ready,
        file: Option<(&ApplyRequest, BTreeMap<String, String>)>,
    ) -> Result<(), Refusal> {
        let mut details = PipelineDetails {
            next: Some(ready.next),
            ..planned.details.clone()
        };
        if let Some((request, modules)) = file {
            details.file.clone_from(&request.file);
            details.vars.clone_from(&request.vars);
            details.file_modules = modules;
        }
        let mut record = PipelineRecord {
            versions: versions_of(&planned.details.topology),
            swap: Some(swap),
            ..planned.record.clone()
        };
        details.put_into(&mut record)?;
        self.registry().write(|view| {
            details.next.iter().try_for_each(|next| view.check_modules(next))?;
            let now = view.pipelines.get(name).map(|entry| &entry.record);
            if now == Some(&planned.record) {
                Ok(vec![(control::key(name), Some(Entry::Pipeline(record.clone())))])
            } else {
                Err(format!(
                    "`{name}` was changed by somebody else meanwhile; look at it and try again"
                ))
            }
        })?;
        Ok(())
    }

    /// Ends the swap that is under way by going back, or swaps to the versions before the last change.
    pub fn rollback(self: &Arc<Self>, name: &str, request: &api::Asked) -> Result<api::Swap, Refusal> {
        let entry = self.entry(name)?;
        let Some(swap) = &entry.record.swap else {
            return self.back_to_before(&entry, request);
        };
        let id = swap.id;
        if swap.forward || beyond_return(&entry.record, &self.told_of_tasks(name).0) {
            return Err(Refusal::conflict(format!(
                "the swap of `{name}` cannot go back: stores that it migrated are committed, and the old version cannot \
                 read them\nhint: swap to a later version when it has ended"
            )));
        }
        if swap.phase != Phase::RollingBack {
            let reason = match request.by.as_str() {
                "" => "asked for".to_owned(),
                by => format!("asked for by {by}"),
            };
            self.take_step(name, id, &Step::RollBack { reason })?;
            self.reconcile();
        }
        self.swap_progress(name, Some(&id.to_string()))
    }

    fn back_to_before(self: &Arc<Self>, entry: &PipelineEntry, request: &api::Asked) -> Result<api::Swap, Refusal> {
        let name = &entry.details.topology.name;
        let history = &entry.record.history;
        let last = history
            .iter()
            .rev()
            .find(|ran| ran.outcome == Outcome::Runs && !ran.from.is_empty());
        let last = last.ok_or_else(|| {
            let hint = format!("hint: `wasmill versions {name}` shows what ran");
            Refusal::conflict(format!(
                "`{name}` runs what it ran first: there is nothing to go back to\n{hint}"
            ))
        })?;
        let steps = last
            .from
            .iter()
            .map(|(step, version)| (step.clone(), version.to_string()));
        let request = SwapRequest {
            steps: steps.collect(),
            // It has run here before, and a breach would bring back what is being left.
            terms: SwapTerms {
                watch_ms: Some(0),
                ..SwapTerms::default()
            },
            by: request.by.clone(),
        };
        self.begin_swap(name, &request, "rollback", None)
    }

    /// A canary or a shadow becomes a swap of all tasks; a watch ends.
    pub fn promote(self: &Arc<Self>, name: &str, _: &api::Asked) -> Result<api::Swap, Refusal> {
        let entry = self.entry(name)?;
        let Some(swap) = &entry.record.swap else {
            let hint = format!("hint: `wasmill swap {name} STEP=MODULE` begins one");
            return Err(Refusal::conflict(format!("no swap of `{name}` is under way\n{hint}")));
        };
        let id = swap.id;
        match swap.phase {
            Phase::RollingBack => Err(Refusal::conflict(format!(
                "the swap of `{name}` goes back already: {}",
                swap.reason.as_deref().unwrap_or("it was asked for")
            ))),
            Phase::Watching => {
                self.take_step(name, id, &Step::Keep)?;
                self.reconcile();
                self.swap_progress(name, Some(&id.to_string()))
            }
            Phase::Switching => {
                self.change_swap(name, id, |record| record.promoted(now_ms()))?;
                self.reconcile();
                self.swap_progress(name, Some(&id.to_string()))
            }
        }
    }

    /// The swap that is under way, or with `id` how that one ended.
    pub fn swap_progress(&self, name: &str, id: Option<&str>) -> Result<api::Swap, Refusal> {
        let entry = self.entry(name)?;
        let asked = |swap: &&Swap| id.is_none_or(|id| swap.id.to_string() == id);
        if let Some(swap) = entry.record.swap.as_ref().filter(asked) {
            let (view, here) = self.told_of_tasks(name);
            return Ok(shown::running(&entry, swap, &view, &here));
        }
        let mut ended = entry
            .record
            .history
            .iter()
            .rev()
            .filter_map(|ran| Some((ran.swap?.to_string(), ran)));
        let found = ended.find(|(swap, _)| id.is_none_or(|id| id == swap));
        found.map(|(id, ran)| shown::ended(&entry, &id, ran)).ok_or_else(|| {
            let which = id.map(|id| format!(" {id}")).unwrap_or_default();
            Refusal::not_found(format!(
                "`{name}` has no swap{which} under way and none in its history\nhint: `wasmill versions {name}`"
            ))
        })
    }

    /// The swap that is under way.
    pub(super) fn shown_swap(&self, entry: &PipelineEntry) -> Option<api::Swap> {
        let swap = entry.record.swap.as_ref()?;
        let (view, here) = self.told_of_tasks(&entry.details.topology.name);
        Some(shown::running(entry, swap, &view, &here))
    }

    /// What runs, what ran, and why it changed.
    pub fn versions(&self, name: &str) -> Result<api::Versions, Refusal> {
        let entry = self.entry(name)?;
        Ok(api::Versions {
            pipeline: name.to_owned(),
            running: shown::module_ids(&versions_of(&entry.details.topology)),
            swap: self.shown_swap(&entry),
            history: shown::history(&entry.record.history),
        })
    }
}

/// The request with defaults for what it leaves open.
fn recorded(entry: &PipelineEntry, request: &SwapRequest, ready: &Ready, id: Uuid, why: &str) -> Result<Swap, Refusal> {
    let terms: &SwapTerms = &request.terms;
    let invalid = |text: String| Refusal::invalid("invalid-swap", text);
    let tasks: i64 = ready.parts.iter().map(|part| i64::from(part.tasks)).sum();
    if let Some(canary) = terms.canary
        && (canary == 0 || i64::from(canary) >= tasks)
    {
        return Err(invalid(format!(
            "a canary of {canary} tasks: the swap concerns {tasks}\n\
             hint: choose fewer than {tasks} and at least one, or leave --canary out"
        )));
    }
    if terms.canary.is_some() && terms.shadow {
        return Err(invalid("a swap is a canary or a shadow, not both".to_owned()));
    }
    if terms.shadow && !ready.migrations.is_empty() {
        return Err(prepare::refusal(
            entry,
            "a shadow runs on the state of the running version, and this one has another schema",
        ));
    }
    if terms.canary.is_some() && !ready.migrations.is_empty() {
        return Err(prepare::refusal(
            entry,
            "canaries could not go back once they have committed stores of another schema",
        ));
    }
    let probation_ms_max = worker::swap::terms::PROBATION_MS_MAX;
    if terms.probation_ms.is_some_and(|ms| ms > probation_ms_max) {
        return Err(invalid(format!(
            "a probation takes at most {probation_ms_max} ms, since readers of its topics wait for it\n\
             hint: the watch may take longer"
        )));
    }
    let default = Probation::default();
    Ok(Swap {
        id,
        steps: ready.changes.clone(),
        parts: ready.parts.clone(),
        phase: Phase::Switching,
        phase_at: now_ms(),
        canary: terms.canary,
        shadow: terms.shadow,
        probation: Probation {
            ms: terms.probation_ms.unwrap_or(default.ms),
            // Only a time was given: records end it no earlier.
            records: terms.probation_records.unwrap_or(match terms.probation_ms {
                Some(_) => u64::MAX,
                None => default.records,
            }),
        },
        watch_ms: terms.watch_ms.unwrap_or(WATCH_MS).min(WATCH_MS_MAX),
        bounds: bounds(&terms.bounds)?,
        migrations: ready.migrations.clone(),
        forward: false,
        reason: None,
        began_at: now_ms(),
        why: why.to_owned(),
        who: request.by.clone(),
    })
}

fn bounds(asked: &api::SwapBounds) -> Result<Bounds, Refusal> {
    let default = Bounds::default();
    let invalid = |text: &str| Refusal::invalid("invalid-swap", text);
    if asked.dead_letters.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        return Err(invalid("a share of dead letters lies between 0 and 1"));
    }
    if asked.slower.is_some_and(|factor| !factor.is_finite() || factor <= 0.0) {
        return Err(invalid("how many times slower is a number above 0"));
    }
    Ok(Bounds {
        traps: asked.traps.unwrap_or(default.traps),
        failed_share: asked.dead_letters.unwrap_or(default.failed_share),
        latency_factor: asked.slower.or(default.latency_factor),
        call_us: asked.call_us.or(default.call_us),
        ..default
    })
}
