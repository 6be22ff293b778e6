//! What changes when one topology takes another's place, for `plan` and `apply`.
//!
//! State is found again by the names of topics: a store is its changelog, a task is a sub-topology's topics.
//! A change that would leave one of them behind is refused here, before anything is stopped.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{Aggregate, AggregateFunction, Guarantee, NodeKind, Store, SubTopology, Topology};

mod steps;

/// One difference. No differences: applying changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Another component in a step: a hot swap. `from` and `to` are `name@version`, with the digest where those agree.
    Swap { step: String, from: String, to: String },
    /// Takes effect when the tasks are rebuilt at a commit; state and positions stay.
    Settings { what: String, from: String, to: String },
    /// A store has another name and keeps its changelog (`was`).
    Renamed { from: String, to: String },
    /// A module's store has another schema: its entries go through the new version's `migrate`.
    Migrate { store: String, from: u32, to: u32 },
    /// Would orphan state, positions or tasks, or change what stored bytes mean.
    Refused { what: String, reason: String, hint: String },
}

impl Change {
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    pub fn is_swap(&self) -> bool {
        matches!(self, Self::Swap { .. })
    }

    fn settings(what: impl Into<String>, from: impl ToString, to: impl ToString) -> Self {
        Self::Settings {
            what: what.into(),
            from: from.to_string(),
            to: to.to_string(),
        }
    }

    fn refused(what: impl Into<String>, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            reason: reason.into(),
            hint: hint.into(),
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Swap { step, from, to } => write!(f, "swap {step}: {from} -> {to}"),
            Self::Settings { what, from, to } => write!(f, "change {what}: {from} -> {to}"),
            Self::Renamed { from, to } => write!(f, "rename {from} -> {to}, its state stays"),
            Self::Migrate { store, from, to } => write!(f, "migrate store {store}: schema {from} -> {to}"),
            Self::Refused { what, reason, hint } => write!(f, "refuse {what}: {reason}; hint: {hint}"),
        }
    }
}

const NEW_PIPELINE: &str = "give the pipeline another name, or delete it first";
const RENAME: &str = "if a step was renamed, say `was = \"OLD NAME\"` in it; else give the pipeline another name";

/// What is different in `new`, both validated. In the order: pipeline, tasks, stores, steps.
pub fn compatibility(old: &Topology, new: &Topology) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.name != new.name {
        let reason = format!("it is called `{}` now and was `{}`", new.name, old.name);
        changes.push(Change::refused(
            "the pipeline",
            reason,
            "apply it as a pipeline of its own",
        ));
        return changes;
    }
    if old.guarantee != new.guarantee {
        changes.push(Change::settings(
            "guarantee",
            guarantee(old.guarantee),
            guarantee(new.guarantee),
        ));
    }
    if old.max_task_idle_ms != new.max_task_idle_ms {
        let ms = |t: &Topology| format!("{} ms", t.max_task_idle_ms);
        changes.push(Change::settings("`max-task-idle`", ms(old), ms(new)));
    }
    if old.standbys != new.standbys {
        changes.push(Change::settings(
            "`standbys`",
            old.standbys.to_string(),
            new.standbys.to_string(),
        ));
    }
    let letters = |t: &Topology| {
        t.dead_letters
            .as_ref()
            .map_or("nowhere".to_string(), |d| d.topic.clone())
    };
    if letters(old) != letters(new) {
        changes.push(Change::settings("dead letters", letters(old), letters(new)));
    }
    tasks(old, new, &mut changes);
    stores(old, new, &mut changes);
    globals(old, new, &mut changes);
    steps::steps(old, new, &mut changes);
    changes
}

fn guarantee(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::ExactlyOnce => "exactly-once",
        Guarantee::AtLeastOnce => "at-least-once",
    }
}

/// A task is known by its sub-topology's number, so numbers must keep their topics.
fn tasks(old: &Topology, new: &Topology, changes: &mut Vec<Change>) {
    let (was, is) = (topics(old), topics(new));
    for topic in was.difference(&is) {
        let reason = "it is read today, and its position and what is left in it would be given up";
        changes.push(Change::refused(format!("topic `{topic}`"), reason, RENAME));
    }
    for topic in is.difference(&was) {
        let reason = "it is not read today, and reading it needs another table of tasks";
        changes.push(Change::refused(format!("topic `{topic}`"), reason, NEW_PIPELINE));
    }
    if was != is {
        return;
    }
    let sets = |t: &Topology| -> Vec<BTreeSet<String>> { t.sub_topologies.iter().map(topic_set).collect() };
    if sets(old) != sets(new) {
        let reason = format!(
            "the topics are divided otherwise among its sub-topologies ({} before, {} now)",
            old.sub_topologies.len(),
            new.sub_topologies.len()
        );
        let hint = "keep the order of sources and steps, and what connects them; else give the pipeline another name";
        changes.push(Change::refused("the table of tasks", reason, hint));
    }
}

fn topic_set(sub: &SubTopology) -> BTreeSet<String> {
    sub.topics.iter().cloned().collect()
}

fn topics(topology: &Topology) -> BTreeSet<String> {
    topology.sub_topologies.iter().flat_map(topic_set).collect()
}

fn stores(old: &Topology, new: &Topology, changes: &mut Vec<Change>) {
    for (id, store) in old.stores.iter().enumerate() {
        let what = format!("store `{}`", store.name);
        let Some(at) = new.stores.iter().position(|other| other.changelog == store.changelog) else {
            // The internal store goes with the last module of its sub-topology: no times are left to keep.
            if old.store_owner(id).is_some() {
                changes.push(Change::refused(
                    what,
                    "it holds state that no step would own any more",
                    RENAME,
                ));
            }
            continue;
        };
        let Some(other) = new.stores.get(at) else { continue };
        if other.name != store.name {
            changes.push(Change::Renamed {
                from: store.name.clone(),
                to: other.name.clone(),
            });
        }
        if home(old, id) != home(new, at) {
            changes.push(Change::refused(
                what,
                "tasks of another sub-topology would own it",
                NEW_PIPELINE,
            ));
        } else if let Some(reason) = meaning(store, other) {
            changes.push(Change::refused(what, reason, NEW_PIPELINE));
        } else if let Some(reason) = aggregate_meaning(aggregate_of(old, id), aggregate_of(new, at)) {
            changes.push(Change::refused(what, reason, NEW_PIPELINE));
        } else if other.schema != store.schema {
            changes.push(Change::Migrate {
                store: other.name.clone(),
                from: store.schema,
                to: other.schema,
            });
        }
    }
    for (id, store) in new.stores.iter().enumerate() {
        if new.store_owner(id).is_some() && !old.stores.iter().any(|other| other.changelog == store.changelog) {
            changes.push(Change::settings(
                format!("store `{}`", store.name),
                "none",
                "a new, empty one",
            ));
        }
    }
}

/// A global table has no state but its topic's: another one is read from its beginning.
fn globals(old: &Topology, new: &Topology, changes: &mut Vec<Change>) {
    let shown = |topology: &Topology, name: &str| {
        let table = topology.globals.iter().find(|table| table.name == name);
        table.map_or("none".to_string(), |table| {
            let formats = format!("{} -> {}", table.key.word(), table.value.word());
            format!("topic {}, {formats}", table.topic)
        })
    };
    let names: BTreeSet<&str> = old
        .globals
        .iter()
        .chain(&new.globals)
        .map(|t| t.name.as_str())
        .collect();
    for name in names {
        let (was, is) = (shown(old, name), shown(new, name));
        if was != is {
            changes.push(Change::settings(format!("global table `{name}`"), was, is));
        }
    }
}

/// The sub-topology whose tasks hold a store: a changelog partition belongs to one task.
fn home(topology: &Topology, store: usize) -> Option<u32> {
    topology
        .sub_topologies
        .iter()
        .find(|sub| sub.stores.contains(&store))
        .map(|sub| sub.id)
}

fn meaning(old: &Store, new: &Store) -> Option<String> {
    if old.kind != new.kind {
        return Some(format!("it is {:?} and would be {:?}", old.kind, new.kind));
    }
    // What values are may change with the schema: they are written anew.
    let kept = old.schema == new.schema;
    for (what, was, is) in [("keys", old.key, new.key), ("values", old.value, new.value)] {
        if was != is && (kept || what == "keys") {
            return Some(format!("its {what} are `{}` and would be `{}`", was.word(), is.word()));
        }
    }
    None
}

fn aggregate_of(topology: &Topology, store: usize) -> Option<&Aggregate> {
    match &topology.nodes.get(topology.store_owner(store)?)?.kind {
        NodeKind::Aggregate(aggregate) => Some(aggregate),
        NodeKind::WindowAggregate(window) => Some(&window.aggregate),
        _ => None,
    }
}

fn aggregate_meaning(old: Option<&Aggregate>, new: Option<&Aggregate>) -> Option<String> {
    let (Some(old), Some(new)) = (old, new) else {
        return (old.is_some() != new.is_some()).then(|| "another kind of step would own it".to_string());
    };
    if old.function != new.function {
        return Some(format!(
            "it holds a `{}` and would hold a `{}`",
            old.function.word(),
            new.function.word()
        ));
    }
    if old.function != AggregateFunction::Count && old.of != new.of {
        return Some(format!(
            "it is made of `{}` and would be of `{}`",
            old.of.word(),
            new.of.word()
        ));
    }
    None
}
