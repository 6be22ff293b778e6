//! A swap as it is shown: from the record, the reports of the tasks and what threads here say of themselves.

use super::progress;
use crate::api;
use crate::registry::{PipelineEntry, now_ms};
use std::collections::BTreeMap;
use task::TaskId;
use worker::placement::View;
use worker::swap::{Change, Outcome, Phase, Ran, Report, ReportState, Shadow, Swap, Versions, Written, drive};

pub(super) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Switching => "switching",
        Phase::Watching => "watching",
        Phase::RollingBack => "rolling-back",
    }
}

/// `words tokenize@1 -> tokenize@2`.
pub(super) fn steps(steps: &BTreeMap<String, Change>) -> String {
    let shown = |(step, change): (&String, &Change)| format!("{step} {} -> {}", change.from, change.to);
    steps.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn swap_steps(steps: &BTreeMap<String, Change>) -> Vec<api::SwapStep> {
    let shown = |(step, change): (&String, &Change)| api::SwapStep {
        step: step.clone(),
        from: change.from.to_string(),
        to: change.to.to_string(),
    };
    steps.iter().map(shown).collect()
}

/// A swap that is under way. `here`: what the threads of this node say of their tasks.
pub(super) fn running(
    entry: &PipelineEntry,
    swap: &Swap,
    view: &View,
    here: &BTreeMap<TaskId, worker::TaskStatus>,
) -> api::Swap {
    let run = entry.record.run();
    let task = |id: TaskId| {
        let report = drive::report(view, run, swap.id, id);
        let thread = view.placement(run, id).map(|placed| placed.owner.clone());
        shown_task(swap, id, thread.unwrap_or_default(), report, here.get(&id))
    };
    let watch_left = swap.phase_at + i64::try_from(swap.watch_ms).unwrap_or(i64::MAX) - now_ms();
    api::Swap {
        id: swap.id.to_string(),
        pipeline: entry.details.topology.name.clone(),
        phase: phase(swap.phase).to_owned(),
        mode: match (swap.shadow, swap.canary) {
            (true, _) => "shadow",
            (false, Some(_)) => "canary",
            (false, None) => "all",
        }
        .to_owned(),
        steps: swap_steps(&swap.steps),
        by: swap.who.clone(),
        began_at: swap.began_at,
        reason: swap.reason.clone(),
        tasks: swap.tasks().map(task).collect(),
        watch_left_ms: (swap.phase == Phase::Watching).then_some(watch_left.max(0).unsigned_abs()),
        ..api::Swap::default()
    }
}

fn shown_task(
    swap: &Swap,
    id: TaskId,
    thread: String,
    report: Option<&Report>,
    here: Option<&worker::TaskStatus>,
) -> api::SwapTask {
    let state = match report.map(|report| report.state) {
        Some(ReportState::Switched) if swap.phase == Phase::RollingBack => "going-back",
        Some(ReportState::Switched) => "switched",
        Some(ReportState::RolledBack) => "rolled-back",
        Some(ReportState::Failed) => "failed",
        Some(ReportState::Shadowing) => "shadow",
        None if swap.phase == Phase::RollingBack => "going-back",
        None if !swap.shadow && !swap.switches(id) => "left-alone",
        None => progress::state(swap.id, here).unwrap_or("waiting"),
    };
    api::SwapTask {
        task: id.to_string(),
        thread,
        state: state.to_owned(),
        untried: report.is_some_and(|report| report.untried),
        reason: report.and_then(|report| report.reason.clone()),
        written: report.map(|report| written(&report.offsets)).unwrap_or_default(),
        shadow: progress::shadow(swap.id, here)
            .or_else(|| report.and_then(|report| report.shadow.as_ref()))
            .map(shadow),
    }
}

pub(super) fn written(offsets: &[Written]) -> Vec<api::SwapOffsets> {
    let shown = |range: &Written| api::SwapOffsets {
        topic: range.topic.clone(),
        partition: range.partition,
        first: range.first,
        last: range.last,
    };
    offsets.iter().map(shown).collect()
}

fn shadow(shadow: &Shadow) -> api::SwapShadow {
    let none = || "nothing".to_owned();
    let sample = |sample: &worker::swap::Sample| api::SwapSample {
        step: sample.step.clone(),
        input: sample.input.clone(),
        from: sample.from.clone().unwrap_or_else(none),
        to: sample.to.clone().unwrap_or_else(none),
    };
    api::SwapShadow {
        records: shadow.records,
        different: shadow.differences,
        failures: shadow.failures,
        samples: shadow.samples.iter().map(sample).collect(),
    }
}

/// How a swap ended, from its entry in the history.
pub(super) fn ended(entry: &PipelineEntry, id: &str, ran: &Ran) -> api::Swap {
    let kept = matches!(ran.outcome, Outcome::Runs | Outcome::Replaced);
    api::Swap {
        id: id.to_owned(),
        pipeline: entry.details.topology.name.clone(),
        phase: if kept { "swapped" } else { "rolled-back" }.to_owned(),
        mode: if ran.outcome == Outcome::Shadowed {
            "shadow"
        } else {
            "all"
        }
        .to_owned(),
        steps: ran_steps(ran),
        by: ran.who.clone(),
        began_at: ran.since,
        ended_at: ran.until,
        reason: ran.reason.clone(),
        written: written(&ran.offsets),
        ..api::Swap::default()
    }
}

fn ran_steps(ran: &Ran) -> Vec<api::SwapStep> {
    let shown = |(step, version): (&String, &worker::swap::ModuleVersion)| api::SwapStep {
        step: step.clone(),
        from: ran.from.get(step).map(ToString::to_string).unwrap_or_default(),
        to: version.to_string(),
    };
    ran.versions.iter().map(shown).collect()
}

pub(super) fn history(history: &[Ran]) -> Vec<api::VersionChange> {
    let shown = |ran: &Ran| api::VersionChange {
        swap: ran.swap.map(|id| id.to_string()),
        at: ran.since,
        until: ran.until,
        why: ran.why.clone(),
        outcome: match ran.outcome {
            Outcome::Runs => "running",
            Outcome::Replaced => "replaced",
            Outcome::RolledBack => "rolled-back",
            Outcome::Shadowed => "shadowed",
        }
        .to_owned(),
        by: ran.who.clone(),
        steps: ran_steps(ran),
        reason: ran.reason.clone(),
        written: written(&ran.offsets),
    };
    history.iter().rev().map(shown).collect()
}

pub(super) fn module_ids(versions: &Versions) -> BTreeMap<String, api::ModuleId> {
    let shown = |(step, version): (&String, &worker::swap::ModuleVersion)| {
        let id = api::ModuleId {
            module: version.to_string(),
            digest: version.digest.clone(),
        };
        (step.clone(), id)
    };
    versions.iter().map(shown).collect()
}
