//! Which nodes keep a copy of a task's state: standbys, and warm-ups before a task moves for balance.
//!
//! A standby lies on another node than its task and the other standbys of it, in another rack where there is one. It
//! stays where it is while its node is ready. A standby beyond the wanted number is given up only when those that stay
//! are warm; so one that moves is doubled for a while.

use super::Facts;
use super::load::Reach;
use crate::placement::{Node, NodeState, Placement, Standbys};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use task::TaskId;

/// Copies beyond the wanted number that are built up at a time, so that restoring does not take a cluster's disks and
/// network (Kafka Streams' `max.warmup.replicas`).
pub const WARM_UPS_MAX: usize = 2;

/// Nodes that take tasks, and what they have of the tasks' state.
pub struct Places<'a> {
    facts: &'a Facts<'a>,
    ready: BTreeMap<&'a str, &'a Node>,
    node_of: BTreeMap<&'a str, &'a str>,
    warm: BTreeSet<(TaskId, &'a str)>,
}

impl<'a> Places<'a> {
    pub fn of(facts: &'a Facts<'a>) -> Self {
        let takes = |(name, node): &(&String, &Node)| {
            facts.live.contains(*name) && node.run == facts.run && node.state == NodeState::Ready
        };
        let ready = facts.view.nodes.iter().filter(takes);
        let ready: BTreeMap<&str, &Node> = ready.map(|(name, node)| (name.as_str(), node)).collect();
        let threads = ready
            .iter()
            .flat_map(|(name, node)| node.threads.iter().map(|thread| (thread.as_str(), *name)));
        let warm = ready
            .iter()
            .flat_map(|(name, node)| node.warm.iter().filter_map(|task| Some((task.parse().ok()?, *name))));
        Self {
            facts,
            node_of: threads.collect(),
            warm: warm.collect(),
            ready,
        }
    }

    /// The node of a thread, if it takes tasks.
    pub fn node_of(&self, thread: &str) -> Option<&'a str> {
        self.node_of.get(thread).copied()
    }

    /// How much a thread's node lacks of a task's state, for choosing a new owner.
    pub fn distance(&self, task: TaskId, thread: &str) -> u8 {
        match self.node_of(thread).filter(|_| self.facts.stateful.contains(&task)) {
            Some(node) if self.is_warm(task, node) => 0,
            Some(node) if self.follows(task, node) => 1,
            _ => 2,
        }
    }

    /// What it would cost to move a running task.
    pub fn reach(&self, task: TaskId, from: &str, to: &str) -> Reach {
        let Some((name, node)) = self.node_of(to).and_then(|name| self.ready.get_key_value(name)) else {
            return Reach::AtOnce;
        };
        let same = self.node_of(from) == Some(*name);
        if same || !node.follows || !self.facts.stateful.contains(&task) || self.is_warm(task, name) {
            Reach::AtOnce
        } else if self.follows(task, name) {
            Reach::Following
        } else {
            Reach::Far
        }
    }

    /// How many copies beyond the wanted number may be begun now.
    pub fn warm_ups_left(&self) -> usize {
        let spare = |task: &&TaskId| self.kept(**task, self.owner(**task)).len() > self.facts.standbys;
        let under_way = self.facts.stateful.iter().filter(spare).count();
        WARM_UPS_MAX.saturating_sub(under_way)
    }

    /// What is to be published, given who is to run the tasks and which of them wait for their state elsewhere.
    pub fn standbys(
        &self,
        placements: &BTreeMap<TaskId, Placement>,
        warm_ups: &BTreeMap<TaskId, String>,
    ) -> Vec<(TaskId, Standbys)> {
        let mut copies = Copies::default();
        for task in self.facts.stateful {
            let owner = placements.get(task).map(|p| p.owner.as_str());
            let owner = owner.map_or(self.owner(*task), |thread| self.node_of(thread));
            let mut nodes = self.kept(*task, owner);
            let warm_up = warm_ups.get(task).and_then(|thread| self.node_of(thread));
            let begun = warm_up.filter(|name| !nodes.contains(name));
            nodes.extend(begun);
            copies.put(*task, owner, warm_up, nodes);
        }
        let tasks: Vec<TaskId> = self.facts.stateful.iter().copied().collect();
        for task in &tasks {
            self.fill(*task, &mut copies);
        }
        for task in &tasks {
            self.trim(*task, &mut copies);
        }
        let begun = warm_ups.keys().filter(|task| {
            let known = self.facts.view.standbys(self.facts.run, **task);
            copies.of.get(task).is_some_and(|copy| copy.nodes.len() > known.len())
        });
        self.spread(self.warm_ups_left().saturating_sub(begun.count()), &mut copies);
        let changed = copies.of.into_iter().filter_map(|(task, copy)| {
            let nodes: Vec<String> = copy.nodes.into_iter().map(str::to_owned).collect();
            let changed = nodes != self.facts.view.standbys(self.facts.run, task);
            let run = self.facts.run;
            changed.then_some((task, Standbys { run, nodes }))
        });
        changed.collect()
    }

    fn owner(&self, task: TaskId) -> Option<&'a str> {
        let placement = self.facts.view.placement(self.facts.run, task)?;
        self.node_of(&placement.owner)
    }

    fn is_warm(&self, task: TaskId, node: &str) -> bool {
        self.warm.contains(&(task, node)) && self.follows(task, node)
    }

    fn follows(&self, task: TaskId, node: &str) -> bool {
        let nodes = self.facts.view.standbys(self.facts.run, task);
        nodes.iter().any(|name| name == node)
    }

    /// Nodes that have a copy and go on with it.
    fn kept(&self, task: TaskId, owner: Option<&str>) -> Vec<&'a str> {
        let nodes = self.facts.view.standbys(self.facts.run, task).iter();
        let kept = nodes.filter(|name| self.can_follow(name) && owner != Some(name.as_str()));
        kept.map(String::as_str).collect()
    }

    fn can_follow(&self, node: &str) -> bool {
        self.ready.get(node).is_some_and(|node| node.follows)
    }

    /// Whether another copy of the task, or the task itself, lies in the rack of `node`.
    fn shares_rack(&self, node: &str, copy: &Kept<'a>) -> bool {
        let rack = |name: &str| self.ready.get(name).and_then(|node| node.rack.as_deref());
        let others = copy.nodes.iter().chain(copy.owner.iter()).filter(|name| **name != node);
        rack(node).is_some_and(|own| others.into_iter().any(|name| rack(name) == Some(own)))
    }

    /// Copies up to the wanted number: in other racks first, then where the state lies already for the task ran there.
    fn fill(&self, task: TaskId, copies: &mut Copies<'a>) {
        let placement = self.facts.view.placement(self.facts.run, task);
        let parties = placement.iter().flat_map(|p| p.previous.iter().chain([&p.owner]));
        let ran: Vec<&str> = parties.filter_map(|thread| self.node_of(thread)).collect();
        while let Some(copy) = copies.of.get(&task).filter(|copy| copy.lasting() < self.facts.standbys) {
            let free = self
                .ready
                .keys()
                .filter(|name| self.can_follow(name) && copy.owner != Some(**name) && !copy.nodes.contains(name));
            let best = free.min_by_key(|name| {
                let load = copies.count(name);
                (self.shares_rack(name, copy), !ran.contains(*name), load)
            });
            let Some(node) = best.copied() else { break };
            copies.add(task, node);
        }
    }

    /// Gives up what is beyond the wanted number.
    fn trim(&self, task: TaskId, copies: &mut Copies<'a>) {
        while let Some(copy) = copies.of.get(&task).filter(|copy| copy.lasting() > self.facts.standbys) {
            let lasting = copy.nodes.iter().filter(|name| copy.warm_up != Some(**name));
            let worst = lasting.clone().max_by_key(|name| {
                let load = copies.count(name);
                (self.shares_rack(name, copy), load, !self.is_warm(task, name), **name)
            });
            let Some(node) = worst.copied() else { break };
            let mut others = lasting.filter(|name| **name != node);
            if self.facts.standbys > 0 && !others.all(|name| self.is_warm(task, name)) {
                break;
            }
            copies.remove(task, node);
        }
    }

    /// Begins copies on nodes that have fewer than others: those on the others are given up once the new ones are warm.
    fn spread(&self, begin_max: usize, copies: &mut Copies<'a>) {
        if self.facts.standbys == 0 {
            return;
        }
        for _ in 0..begin_max {
            let nodes = self.ready.keys().filter(|name| self.can_follow(name));
            let Some(poorest) = nodes.min_by_key(|name| copies.count(name)).copied() else {
                return;
            };
            let low = copies.count(poorest);
            let settled = copies.of.iter().filter(|(task, copy)| {
                copy.nodes.len() == self.facts.standbys
                    && copy.warm_up.is_none()
                    && copy.owner.is_some_and(|owner| owner != poorest)
                    && !copy.nodes.contains(&poorest)
                    && !self.shares_rack(poorest, copy)
                    && copy.nodes.iter().all(|name| self.is_warm(**task, name))
            });
            let load = |(_, copy): &(&TaskId, &Kept<'a>)| copy.nodes.iter().map(|name| copies.count(name)).max();
            let richest = settled.max_by_key(|entry| (load(entry), Reverse(*entry.0)));
            let Some((task, _)) = richest.filter(|entry| load(entry).is_some_and(|high| high > low + 1)) else {
                return;
            };
            copies.add(*task, poorest);
        }
    }
}

/// One task's copies as they are to be.
struct Kept<'a> {
    owner: Option<&'a str>,
    /// The one that is to become the owner.
    warm_up: Option<&'a str>,
    nodes: Vec<&'a str>,
}

impl Kept<'_> {
    /// Copies that stay when the task has moved.
    fn lasting(&self) -> usize {
        self.nodes.iter().filter(|name| self.warm_up != Some(**name)).count()
    }
}

#[derive(Default)]
struct Copies<'a> {
    of: BTreeMap<TaskId, Kept<'a>>,
    counts: BTreeMap<&'a str, usize>,
}

impl<'a> Copies<'a> {
    fn put(&mut self, task: TaskId, owner: Option<&'a str>, warm_up: Option<&'a str>, nodes: Vec<&'a str>) {
        for node in &nodes {
            *self.counts.entry(node).or_default() += 1;
        }
        self.of.insert(task, Kept { owner, warm_up, nodes });
    }

    fn count(&self, node: &str) -> usize {
        self.counts.get(node).copied().unwrap_or(0)
    }

    fn add(&mut self, task: TaskId, node: &'a str) {
        if let Some(copy) = self.of.get_mut(&task) {
            copy.nodes.push(node);
            *self.counts.entry(node).or_default() += 1;
        }
    }

    fn remove(&mut self, task: TaskId, node: &str) {
        if let Some(copy) = self.of.get_mut(&task) {
            copy.nodes.retain(|name| *name != node);
            if let Some(count) = self.counts.get_mut(node) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
