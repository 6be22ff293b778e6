//! Whether another version of a module fits into a running pipeline without anything being rebuilt.

use std::collections::BTreeSet;
use topology::{Change, ModuleStep, NodeKind, Topology};

/// What the swap of some steps means for the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fit {
    pub migrations: Vec<Migration>,
    /// Changes that come along and stop nothing.
    pub notes: Vec<String>,
    /// Why it cannot be swapped.
    pub refused: Vec<String>,
}

/// A store whose entries are to be written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Migration {
    pub store: String,
    pub from: u32,
    pub to: u32,
}

/// Compares the topology that runs with the one that has other modules in some steps.
pub(crate) fn fit(running: &Topology, next: &Topology) -> Fit {
    let mut fit = Fit::default();
    for change in topology::compatibility(running, next) {
        match change {
            Change::Swap { .. } => {}
            Change::Migrate { store, from, to } if to > from => fit.migrations.push(Migration { store, from, to }),
            Change::Migrate { store, from, to } => fit.refused.push(format!(
                "store `{store}` has schema {from} and the new version writes schema {to}: entries are migrated to \
                 higher schemas only\nhint: give the store a higher schema in that version"
            )),
            Change::Settings { what, from, to } if what.starts_with("store ") => fit.refused.push(format!(
                "{what}: {from}, then {to}; tasks get stores when they are built\n\
                 hint: name the version in the pipeline file and `wasmill apply` it: that restarts the tasks"
            )),
            Change::Settings { what, from, to } => fit.notes.push(format!("{what}: {from} -> {to}")),
            Change::Renamed { from, to } => fit.refused.push(format!("store `{from}` would be called `{to}`")),
            Change::Refused { what, reason, hint } => fit.refused.push(format!("{what}: {reason}\nhint: {hint}")),
        }
    }
    for (step, was, is) in modules(running, next) {
        fit.refused.extend(misfits(step, was, is));
    }
    fit
}

/// Module steps that are in both, with another module in each.
fn modules<'t>(
    running: &'t Topology,
    next: &'t Topology,
) -> impl Iterator<Item = (&'t str, &'t ModuleStep, &'t ModuleStep)> {
    running.nodes.iter().filter_map(|node| {
        let other = next.nodes.iter().find(|other| other.name == node.name)?;
        match (&node.kind, &other.kind) {
            (NodeKind::Module(was), NodeKind::Module(is)) if was.digest != is.digest => {
                Some((node.name.as_str(), was, is))
            }
            _ => None,
        }
    })
}

/// What a task settles when it is built, for the one version as for the other.
fn misfits(step: &str, was: &ModuleStep, is: &ModuleStep) -> Vec<String> {
    let id = format!("{}@{}", is.module, is.version);
    let mut refused = Vec::new();
    for (side, before, after) in [
        ("inputs", &was.inputs, &is.inputs),
        ("outputs", &was.outputs, &is.outputs),
    ] {
        if before != after {
            refused.push(format!(
                "step `{step}`: the {side} of {id} are {}, and those of the running version are {}\n\
                 hint: a version with other ports comes with `wasmill apply`, which restarts the tasks",
                listed(after),
                listed(before)
            ));
        }
    }
    let wants = [
        ("headers", was.needs_headers, is.needs_headers),
        ("origins", was.needs_origin, is.needs_origin),
        ("stream times", was.needs_stream_times, is.needs_stream_times),
    ];
    for (what, _, _) in wants.iter().filter(|(_, before, after)| *after && !*before) {
        refused.push(format!(
            "step `{step}`: {id} asks for the {what} of records, which the running tasks do not fetch\n\
             hint: name the version in the pipeline file and `wasmill apply` it: that restarts the tasks"
        ));
    }
    refused
}

fn listed(names: &[String]) -> String {
    let names: BTreeSet<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "none".to_owned(),
        _ => names.into_iter().collect::<Vec<_>>().join(", "),
    }
}
