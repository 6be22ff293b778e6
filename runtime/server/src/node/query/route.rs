//! Which node runs which task of a store, as the placement topic says.

use super::super::peers::Peer;
use super::super::runner::Shared;
use super::{Place, lock};
use crate::registry::PipelineEntry;
use task::TaskId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// This one, or nobody who has begun: then it says so.
    Here,
    There(Peer),
    /// A node that says no address.
    Hidden(String),
    /// Whoever keeps a copy of the one partition of the part, one after another.
    Copies(Vec<Holder>),
}

/// Partitions that one node answers for, in ascending order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub holder: Holder,
    pub partitions: Vec<i32>,
}

/// Of every partition, in their order. A task whose new owner has not confirmed it yet is nobody's: the old one may go on
/// for a moment, and what it commits then would be missing.
pub(super) fn holders(node: &str, entry: &PipelineEntry, place: &Place, shared: Option<&Shared>) -> Vec<Holder> {
    let Some(shared) = shared else {
        return vec![Holder::Here; place.tasks.max(0) as usize];
    };
    let (run, view) = (entry.record.run(), lock(&shared.view));
    let holder = |partition| {
        let task = TaskId {
            sub_topology: place.sub_topology,
            partition,
        };
        let records = view.tasks.get(&task)?;
        let placement = records.placement.as_ref().filter(|p| p.run == run)?;
        if !records.started_for(placement) {
            return None;
        }
        let (name, owner) = view.nodes.iter().find(|(_, n)| n.threads.contains(&placement.owner))?;
        if name == node {
            return None;
        }
        Some(match &owner.address {
            Some(address) => Holder::There(Peer {
                node: name.clone(),
                address: address.clone(),
            }),
            None => Holder::Hidden(name.clone()),
        })
    };
    (0..place.tasks)
        .map(|partition| holder(partition).unwrap_or(Holder::Here))
        .collect()
}

/// Nodes that keep a copy of a task: this one first, which is asked without a detour.
pub(super) fn copies(node: &str, entry: &PipelineEntry, task: TaskId, shared: &Shared) -> Vec<Holder> {
    let view = lock(&shared.view);
    let standbys = view.standbys(entry.record.run(), task);
    let mut copies: Vec<Holder> = standbys
        .iter()
        .any(|name| name == node)
        .then_some(Holder::Here)
        .into_iter()
        .collect();
    let others = standbys.iter().filter(|name| *name != node);
    copies.extend(others.filter_map(|name| {
        let address = view.nodes.get(name)?.address.clone()?;
        Some(Holder::There(Peer {
            node: name.clone(),
            address,
        }))
    }));
    copies
}

/// One part for each holder, or, where the order of partitions counts, for each run of partitions with one holder.
pub(super) fn parts(holders: Vec<Holder>, gathered: bool) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (partition, holder) in (0..).zip(holders) {
        let known = match gathered {
            true => parts.iter_mut().find(|part| part.holder == holder),
            false => parts.last_mut().filter(|part| part.holder == holder),
        };
        match known {
            Some(part) => part.partitions.push(partition),
            None => parts.push(Part {
                holder,
                partitions: vec![partition],
            }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_gathered_or_keep_the_order() {
        let there = Holder::There(Peer {
            node: "b".into(),
            address: "127.0.0.1:1".into(),
        });
        let holders = || vec![Holder::Here, there.clone(), there.clone(), Holder::Here];
        let numbers = |parts: Vec<Part>| -> Vec<Vec<i32>> { parts.into_iter().map(|part| part.partitions).collect() };
        assert_eq!(numbers(parts(holders(), true)), [vec![0, 3], vec![1, 2]]);
        assert_eq!(numbers(parts(holders(), false)), [vec![0], vec![1, 2], vec![3]]);
    }
}
