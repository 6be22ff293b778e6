//! What an `apply` has to do with versions: module versions that alone have changed are a swap, and a file that names
//! an older version than a swap has brought does not silently take it back.

use super::prepare::{module_steps, versions_of};
use crate::api::{ApplyRequest, KeptVersions};
use crate::registry::{PipelineEntry, now_ms};
use std::collections::BTreeMap;
use topology::{Change, Topology};
use worker::swap::{ModuleVersion, Outcome, Ran};

/// A step in which the file still names what it named when it was applied, and something else runs by now.
pub(in crate::node) struct Stale {
    pub step: String,
    pub file: ModuleVersion,
    pub runs: ModuleVersion,
}

/// Steps in which a swap has gone on from what the file names.
pub(in crate::node) fn stale(there: &PipelineEntry, file: &Topology) -> Vec<Stale> {
    let (running, named) = (versions_of(&there.details.topology), versions_of(file));
    let stale = |(step, file): (String, ModuleVersion)| {
        let runs = running.get(&step)?.clone();
        let before = there.details.file_modules.get(&step)?;
        (*before == file.digest && runs.digest != file.digest).then_some(Stale { step, file, runs })
    };
    named.into_iter().filter_map(stale).collect()
}

/// Why such a file is not applied, and what can be done.
pub(in crate::node) fn stale_refusal(there: &PipelineEntry, stale: &Stale) -> String {
    let Stale { step, file, runs } = stale;
    let history = there.record.history.iter().rev();
    let tried = history
        .clone()
        .find(|ran| ran.versions.get(step).is_some_and(|v| v.digest == file.digest));
    let came = history
        .clone()
        .find(|ran| ran.versions.get(step).is_some_and(|v| v.digest == runs.digest));
    let name = &there.details.topology.name;
    if let Some(ran) = tried.filter(|ran| ran.outcome == Outcome::RolledBack) {
        let reason = ran.reason.as_deref().unwrap_or("it was asked for");
        return format!(
            "step `{step}`: {file} was rolled back at {}, and {runs} runs: {reason}\n\
             hint: name a version that mends it; --force tries this one again, --keep-versions applies the rest",
            time(ran.until.unwrap_or(ran.since))
        );
    }
    let who = came.map_or_else(String::new, |ran| {
        let who = if ran.who.is_empty() {
            String::new()
        } else {
            format!(" by {}", ran.who)
        };
        format!(" since {} ({}{who})", time(ran.since), ran.why)
    });
    format!(
        "step `{step}`: the file names {file}, and {runs} runs there{who}\n\
         hint: --keep-versions keeps what runs, --force takes the file's, and \
         `wasmill swap {name} {step}={runs} --write FILE` writes into the file what runs"
    )
}

/// Why nothing else is applied meanwhile.
pub(in crate::node) fn under_way(name: &str) -> String {
    format!(
        "a swap of it is under way\n\
         hint: `wasmill versions {name}` shows it; `wasmill promote {name}` and `wasmill rollback {name}` end it"
    )
}

/// UTC, to the second.
fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.0}"))
}

/// Whether only module versions change (and what follows from that for their stores).
pub(in crate::node) fn is_swap(running: &Topology, next: &Topology) -> bool {
    let changes = topology::compatibility(running, next);
    let modules = |change: &Change| matches!(change, Change::Swap { .. } | Change::Migrate { .. });
    changes.iter().any(Change::is_swap) && changes.iter().all(modules)
}

/// Step → `name@version` of the steps that change.
pub(in crate::node) fn changed_steps(running: &Topology, next: &Topology) -> BTreeMap<String, String> {
    let running = versions_of(running);
    module_steps(next)
        .filter(|(step, module)| running.get(*step).is_some_and(|now| now.digest != module.digest))
        .map(|(step, module)| (step.to_owned(), format!("{}@{}", module.module, module.version)))
        .collect()
}

/// Digests of what the file names, by step. `kept`: the file's own, where something else was applied.
pub(in crate::node) fn file_modules(file: &Topology) -> BTreeMap<String, String> {
    module_steps(file)
        .map(|(step, module)| (step.to_owned(), module.digest.clone()))
        .collect()
}

/// The file with what runs in the steps that are stale.
pub(in crate::node) fn kept(request: &ApplyRequest, stale: &[Stale]) -> Result<ApplyRequest, String> {
    let modules = stale.iter().map(|stale| (stale.step.clone(), stale.runs.to_string()));
    Ok(ApplyRequest {
        file: pipeline::with_modules(&request.file, &modules.collect()).map_err(|problems| problems.join("\n"))?,
        versions: KeptVersions::Ask,
        ..request.clone()
    })
}

/// The history with what an `apply` brings.
pub(in crate::node) fn history(there: Option<&PipelineEntry>, next: &Topology, by: &str) -> Vec<Ran> {
    let (now, to) = (now_ms(), versions_of(next));
    let from = there
        .map(|entry| versions_of(&entry.details.topology))
        .unwrap_or_default();
    let changed: BTreeMap<_, _> = to
        .into_iter()
        .filter(|(step, version)| from.get(step) != Some(version))
        .collect();
    let mut history = there.map(|entry| entry.record.history.clone()).unwrap_or_default();
    if changed.is_empty() {
        return history;
    }
    for ran in history.iter_mut().filter(|ran| ran.outcome == Outcome::Runs) {
        if ran.versions.keys().all(|step| changed.contains_key(step)) {
            ran.outcome = Outcome::Replaced;
            ran.until = Some(now);
        }
    }
    history.push(Ran {
        swap: None,
        from: from
            .into_iter()
            .filter(|(step, _)| changed.contains_key(step))
            .collect(),
        versions: changed,
        since: now,
        until: None,
        why: "applied".to_owned(),
        who: by.to_owned(),
        outcome: Outcome::Runs,
        reason: None,
        offsets: Vec::new(),
    });
    let gone = history.len().saturating_sub(worker::swap::terms::HISTORY_MAX);
    history.drain(..gone);
    history
}
