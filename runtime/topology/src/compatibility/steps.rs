//! Changes of single steps: modules, settings, edges.

use super::{Change, NEW_PIPELINE};
use crate::{
    Aggregate, Cogroup, Format, ModuleStep, Node, NodeKind, Repartition, Sink, TableJoin, Topology, WindowAggregate,
};

pub(super) fn steps(old: &Topology, new: &Topology, changes: &mut Vec<Change>) {
    for node in &old.nodes {
        match counterpart(old, node, new) {
            Some(other) => step(old, node, new, other, changes),
            None if !made_by_a_step(node) => changes.push(Change::settings(label(node), "there", "gone")),
            None => {}
        }
    }
    for node in &new.nodes {
        if counterpart(new, node, old).is_none() && !made_by_a_step(node) {
            changes.push(Change::settings(label(node), "not there", "new"));
        }
    }
}

fn label(node: &Node) -> String {
    format!("{} `{}`", node.kind.word(), node.name)
}

/// The node of the same name, or the one that has the same changelogs or the same repartition topic.
fn counterpart<'t>(here: &Topology, node: &Node, there: &'t Topology) -> Option<&'t Node> {
    let same_sort = |other: &&Node| matches!(other.kind, NodeKind::Sink(_)) == matches!(node.kind, NodeKind::Sink(_));
    let by_name = there
        .nodes
        .iter()
        .filter(same_sort)
        .find(|other| other.name == node.name);
    by_name.or_else(|| {
        let kept = identity(here, node);
        if kept.is_empty() {
            return None;
        }
        there
            .nodes
            .iter()
            .filter(same_sort)
            .find(|other| identity(there, other) == kept)
    })
}

/// Nodes besides a step's own: the step's change says enough.
fn made_by_a_step(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Repartition(_) => true,
        NodeKind::Source(source) => source.kind == crate::SourceKind::Repartition,
        NodeKind::SelectKey(_) => node.name.ends_with("-select-key"),
        NodeKind::GroupTable(_) => true,
        _ => false,
    }
}

fn identity<'t>(topology: &'t Topology, node: &'t Node) -> Vec<&'t str> {
    match &node.kind {
        NodeKind::Repartition(repartition) => vec!["to", &repartition.topic],
        // The grouping of a renamed step must still be compared.
        NodeKind::SelectKey(_) | NodeKind::GroupTable(_) => match groups_of(topology, node) {
            Some(topic) => vec!["key of", topic],
            None => Vec::new(),
        },
        NodeKind::Source(source) => source.topics.iter().map(String::as_str).collect(),
        kind => kind
            .stores()
            .iter()
            .filter_map(|id| topology.stores.get(*id))
            .map(|s| s.changelog.as_str())
            .collect(),
    }
}

/// What every step has.
fn around(old: &Topology, a: &Node, new: &Topology, b: &Node, changes: &mut Vec<Change>) {
    // A feeder that only has another name is no change.
    let (before, after) = (feeders(old, a, Some(new)), feeders(new, b, None));
    if before != after && !made_by_a_step(b) {
        let list = |names: Vec<String>| {
            if names.is_empty() {
                "nothing".to_string()
            } else {
                names.join(", ")
            }
        };
        changes.push(Change::settings(
            format!("inputs of {}", label(b)),
            list(before),
            list(after),
        ));
    }
    if a.on_error != b.on_error && !made_by_a_step(b) {
        let what = format!("`on-error` of {}", label(b));
        changes.push(Change::settings(what, a.on_error.word(), b.on_error.word()));
    }
}

fn step(old: &Topology, a: &Node, new: &Topology, b: &Node, changes: &mut Vec<Change>) {
    around(old, a, new, b, changes);
    match (&a.kind, &b.kind) {
        (NodeKind::Module(was), NodeKind::Module(is)) => module(b, was, is, changes),
        (NodeKind::Repartition(was), NodeKind::Repartition(is)) => repartition(was, is, changes),
        (NodeKind::SelectKey(was), NodeKind::SelectKey(is)) if was != is => {
            selector(new, b, &was.word(), &is.word(), changes);
        }
        (NodeKind::Dedup(was), NodeKind::Dedup(is)) if was.within_ms != is.within_ms => {
            changes.push(time("within", b, was.within_ms, is.within_ms));
        }
        (NodeKind::ForeignSubscribe(was), NodeKind::ForeignSubscribe(is)) if was.on != is.on => {
            selector(new, b, &was.on.word(), &is.on.word(), changes);
        }
        (NodeKind::ForeignSubscribe(was), NodeKind::ForeignSubscribe(is)) if was != is => {
            changes.push(Change::settings(label(b), "its terms", "other terms"));
        }
        (NodeKind::TtlTable(was), NodeKind::TtlTable(is)) if was.ttl_ms != is.ttl_ms => {
            changes.push(time("ttl", b, was.ttl_ms, is.ttl_ms));
        }
        (NodeKind::VersionedTable(was), NodeKind::VersionedTable(is)) if was.history_ms != is.history_ms => {
            changes.push(time("versioned", b, was.history_ms, is.history_ms));
        }
        (NodeKind::GroupTable(was), NodeKind::GroupTable(is)) if was != is => {
            selector(new, b, &was.word(), &is.word(), changes);
        }
        (NodeKind::Aggregate(was), NodeKind::Aggregate(is))
        | (NodeKind::TableAggregate(was), NodeKind::TableAggregate(is))
            if was.emit != is.emit =>
        {
            changes.push(Change::settings(format!("`emit` of {}", label(b)), emit(was), emit(is)));
        }
        (NodeKind::WindowAggregate(was), NodeKind::WindowAggregate(is)) => windowed(b, was, is, changes),
        (NodeKind::Cogroup(was), NodeKind::Cogroup(is)) => cogrouped(b, was, is, changes),
        (NodeKind::StreamJoin(was), NodeKind::StreamJoin(is)) if was.describe() != is.describe() => {
            changes.push(Change::settings(label(b), was.describe(), is.describe()));
        }
        (NodeKind::Suppress(was), NodeKind::Suppress(is)) if was.describe() != is.describe() => {
            changes.push(Change::settings(label(b), was.describe(), is.describe()));
        }
        (NodeKind::Sink(was), NodeKind::Sink(is)) => sink(b, was, is, changes),
        (NodeKind::Source(was), NodeKind::Source(is)) => source(b, was, is, changes),
        (was, is) if was.word() != is.word() => {
            changes.push(Change::settings(format!("`{}`", b.name), was.word(), is.word()));
        }
        (NodeKind::Branch(was), NodeKind::Branch(is)) if was != is => {
            changes.push(Change::settings(label(b), "its conditions", "other conditions"));
        }
        (NodeKind::TableJoin(was), NodeKind::TableJoin(is)) if was.kind != is.kind || was.value != is.value => {
            let what = |join: &TableJoin| format!("{} join", join.kind.word());
            let (before, after) = match was.kind == is.kind {
                true => ("its value".to_string(), "another value".to_string()),
                false => (what(was), what(is)),
            };
            changes.push(Change::settings(label(b), before, after));
        }
        (NodeKind::TableJoin(was), NodeKind::TableJoin(is)) if grace_ms(was) != grace_ms(is) => {
            changes.push(time("grace", b, grace_ms(was), grace_ms(is)));
        }
        (NodeKind::GlobalJoin(was), NodeKind::GlobalJoin(is)) => {
            let terms = (old.global_join_details(was), new.global_join_details(is));
            global_join(b, terms, was.value != is.value, changes);
        }
        (was, is) if was.expressions() != is.expressions() => {
            changes.push(Change::settings(label(b), "its expressions", "other expressions"));
        }
        _ => {}
    }
}

fn global_join(node: &Node, (was, is): (String, String), revalued: bool, changes: &mut Vec<Change>) {
    if was != is {
        changes.push(Change::settings(label(node), was, is));
    } else if revalued {
        changes.push(Change::settings(label(node), "its value", "another value"));
    }
}

/// Windows of another size would lie among those that the store has.
fn windowed(node: &Node, was: &WindowAggregate, is: &WindowAggregate, changes: &mut Vec<Change>) {
    let (before, after) = (was.windowing.describe(), is.windowing.describe());
    if was.windowing.windows != is.windowing.windows {
        let reason = format!("its store has windows that are {before} and would have {after}");
        changes.push(Change::refused(label(node), reason, NEW_PIPELINE));
    } else if before != after {
        changes.push(Change::settings(format!("`window` of {}", label(node)), before, after));
    }
    if was.aggregate.emit != is.aggregate.emit {
        let (before, after) = (emit(&was.aggregate), emit(&is.aggregate));
        changes.push(Change::settings(format!("`emit` of {}", label(node)), before, after));
    }
}

fn grace_ms(join: &TableJoin) -> i64 {
    join.grace.map_or(0, |grace| grace.grace_ms)
}

/// Fields that are gone, or come from another reduction, would lie in its store as they were.
fn cogrouped(node: &Node, was: &Cogroup, is: &Cogroup, changes: &mut Vec<Change>) {
    let (before, after) = (was.describe(), is.describe());
    if before != after {
        let reason = format!("its store has {before} and would have {after}");
        changes.push(Change::refused(label(node), reason, NEW_PIPELINE));
    }
    if was.emit != is.emit {
        let what = format!("`emit` of {}", label(node));
        changes.push(Change::settings(what, emit_word(was.emit), emit_word(is.emit)));
    }
}

/// A setting that is a time.
fn time(key: &str, node: &Node, was: i64, is: i64) -> Change {
    let ms = |ms: i64| format!("{ms} ms");
    Change::settings(format!("`{key}` of {}", label(node)), ms(was), ms(is))
}

fn formats(key: Format, value: Format) -> String {
    format!("{} -> {}", key.word(), value.word())
}

fn repartition(was: &Repartition, is: &Repartition, changes: &mut Vec<Change>) {
    let what = || format!("topic `{}`", was.topic);
    let (before, after) = (formats(was.key, was.value), formats(is.key, is.value));
    if before != after {
        let reason = format!("rows written as {before} would be read as {after}");
        changes.push(Change::refused(what(), reason, NEW_PIPELINE));
    }
    if was.partitions != is.partitions {
        changes.push(Change::refused(what(), "keys would change partition", NEW_PIPELINE));
    }
}

fn sink(node: &Node, was: &Sink, is: &Sink, changes: &mut Vec<Change>) {
    if was.topic != is.topic {
        changes.push(Change::settings(
            format!("topic of {}", label(node)),
            &was.topic,
            &is.topic,
        ));
    }
    let (before, after) = (formats(was.key, was.value), formats(is.key, is.value));
    if before != after {
        changes.push(Change::settings(format!("formats of {}", label(node)), before, after));
    }
}

/// A key selector above a repartition topic decides which rows are in a group: the aggregate below would mix two.
fn selector(new: &Topology, node: &Node, was: &str, is: &str, changes: &mut Vec<Change>) {
    let what = label(node);
    match groups_of(new, node) {
        Some(topic) => {
            let reason = format!(
                "it groups by `{was}` and would group by `{is}`; behind `{topic}` lies state of the old groups"
            );
            changes.push(Change::refused(what, reason, NEW_PIPELINE));
        }
        None => changes.push(Change::settings(what, was, is)),
    }
}

/// The first repartition topic that rows of `node` reach within its sub-topology.
fn groups_of<'t>(topology: &'t Topology, node: &Node) -> Option<&'t str> {
    let mut reached: Vec<bool> = topology
        .nodes
        .iter()
        .map(|other| other.name == node.name && other.kind == node.kind)
        .collect();
    // Nodes are in topological order, so one pass reaches all.
    for (id, other) in topology.nodes.iter().enumerate() {
        if other.inputs.iter().any(|edge| reached.get(edge.from) == Some(&true)) {
            if let NodeKind::Repartition(repartition) = &other.kind {
                return Some(&repartition.topic);
            }
            if let Some(reached) = reached.get_mut(id) {
                *reached = true;
            }
        }
    }
    None
}

fn emit(aggregate: &Aggregate) -> &'static str {
    emit_word(aggregate.emit)
}

fn emit_word(emit: crate::Emit) -> &'static str {
    match emit {
        crate::Emit::EveryUpdate => "every-update",
        crate::Emit::OnCommit => "on-commit",
    }
}

fn source(node: &Node, was: &crate::Source, is: &crate::Source, changes: &mut Vec<Change>) {
    if was.start != is.start {
        let start = |s: &crate::Source| format!("{:?}", s.start).to_lowercase();
        changes.push(Change::settings(
            format!("`start` of {}", label(node)),
            start(was),
            start(is),
        ));
    }
    if was.timestamps != is.timestamps {
        let (before, after) = (was.timestamps.describe(), is.timestamps.describe());
        changes.push(Change::settings(
            format!("`timestamp` of {}", label(node)),
            before,
            after,
        ));
    }
    if was.kind != is.kind {
        changes.push(Change::settings(
            format!("kind of {}", label(node)),
            format!("{:?}", was.kind),
            format!("{:?}", is.kind),
        ));
    }
    // A repartition source's formats are reported where its topic is written.
    if was.kind != crate::SourceKind::Repartition && (was.key, was.value) != (is.key, is.value) {
        let formats = |s: &crate::Source| format!("{} -> {}", s.key.word(), s.value.word());
        changes.push(Change::settings(
            format!("formats of {}", label(node)),
            formats(was),
            formats(is),
        ));
    }
}

fn module(node: &Node, was: &ModuleStep, is: &ModuleStep, changes: &mut Vec<Change>) {
    if was.digest != is.digest || was.version != is.version || was.module != is.module {
        let short = |m: &ModuleStep| format!("{}@{}", m.module, m.version);
        let long = |m: &ModuleStep| format!("{} ({})", short(m), m.digest.get(..12).unwrap_or(&m.digest));
        let (from, to) = if short(was) == short(is) {
            (long(was), long(is))
        } else {
            (short(was), short(is))
        };
        changes.push(match was.is_swappable() && is.is_swappable() {
            true => Change::Swap {
                step: node.name.clone(),
                from,
                to,
            },
            false => Change::settings(format!("module of {}", label(node)), from, to),
        });
    }
    for (name, value) in &is.params {
        let before = was.params.get(name);
        if before != Some(value) {
            let before = before.map_or("unset".to_string(), ToString::to_string);
            changes.push(Change::settings(format!("`{name}` of {}", label(node)), before, value));
        }
    }
    for (name, value) in was.params.iter().filter(|(name, _)| !is.params.contains_key(*name)) {
        changes.push(Change::settings(format!("`{name}` of {}", label(node)), value, "unset"));
    }
    let debug = |m: &ModuleStep| {
        [
            format!("{:?}", m.retries),
            format!("{:?}", m.limits),
            m.grants.to_string(),
        ]
    };
    for ((what, from), to) in ["retries", "limits", "grants"]
        .into_iter()
        .zip(debug(was))
        .zip(debug(is))
    {
        if from != to {
            changes.push(Change::settings(format!("`{what}` of {}", label(node)), from, to));
        }
    }
}

/// `node`, `node.port`, with the input port that it feeds; called as `renamed` calls them.
fn feeders(topology: &Topology, node: &Node, renamed: Option<&Topology>) -> Vec<String> {
    let mut names: Vec<String> = node
        .inputs
        .iter()
        .filter_map(|edge| {
            let from = topology.nodes.get(edge.from)?;
            let port = from
                .kind
                .output_name(edge.from_port)
                .filter(|_| from.kind.output_ports() > 1);
            let to = if node.kind.input_ports() > 1 {
                format!("{}: ", edge.to_port)
            } else {
                String::new()
            };
            let now = renamed
                .and_then(|renamed| counterpart(topology, from, renamed))
                .unwrap_or(from);
            Some(format!(
                "{to}{}{}",
                now.name,
                port.map_or(String::new(), |port| format!(".{port}"))
            ))
        })
        .collect();
    names.sort_unstable();
    names
}
