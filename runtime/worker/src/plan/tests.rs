//! Random walks: threads come, die, come back and confirm in any order; the plan must keep every task with one holder
//! and come to rest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::placement::{Node, NodeState, Record, Released, Start, Started};
use uuid::Uuid;

const RUN: Run = Run {
    incarnation: Uuid::from_u128(1),
    epoch: 1,
};

/// Xorshift: the same walk for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// The topic, the group, and what each thread really holds.
struct Walk {
    view: View,
    offset: i64,
    live: BTreeSet<String>,
    tasks: Vec<TaskId>,
    /// Threads whose producer could still write for a task.
    holders: BTreeMap<TaskId, BTreeSet<String>>,
    mutant: Option<Mutant>,
    /// Whether nodes keep copies of tasks, and which tasks have state.
    follows: bool,
    stateful: BTreeSet<TaskId>,
    standbys: usize,
}

fn thread(node: &str, n: u32) -> String {
    format!("p-{node}-{n}")
}

impl Walk {
    fn new(tasks: i32, mutant: Option<Mutant>) -> Self {
        Self {
            view: View::default(),
            offset: 0,
            live: BTreeSet::new(),
            tasks: (0..tasks)
                .map(|partition| TaskId {
                    sub_topology: 0,
                    partition,
                })
                .collect(),
            holders: BTreeMap::new(),
            mutant,
            follows: false,
            stateful: BTreeSet::new(),
            standbys: 0,
        }
    }

    /// All tasks but the last have state, and nodes keep copies of it.
    fn with_standbys(mut self, standbys: usize) -> Self {
        self.follows = true;
        self.standbys = standbys;
        self.stateful = self.tasks.iter().rev().skip(1).copied().collect();
        self
    }

    fn write(&mut self, record: &Record) {
        let (key, value) = record.encode().unwrap();
        self.view.apply(self.offset, &key, value.as_deref()).unwrap();
        self.offset += 1;
    }

    fn says(&mut self, node: &str, state: NodeState, threads: u32) {
        self.live.insert(node.to_owned());
        let threads = (0..threads).map(|n| thread(node, n)).collect();
        let warm = self.view.nodes.get(node).map(|n| n.warm.clone()).unwrap_or_default();
        let node_record = Node {
            run: RUN,
            state,
            threads,
            address: None,
            rack: None,
            follows: self.follows,
            warm,
        };
        self.write(&Record::Node(node.to_owned(), Some(node_record)));
    }

    /// The copies that a node is to keep lack little now.
    fn warms(&mut self, node: &str) {
        let warm = self.view.followed(RUN, node).iter().map(TaskId::to_string).collect();
        if let Some(known) = self.view.nodes.get(node).cloned() {
            self.write(&Record::Node(node.to_owned(), Some(Node { warm, ..known })));
        }
    }

    fn plan(&self) -> Plan {
        let Self {
            view,
            live,
            tasks,
            mutant,
            stateful,
            ..
        } = self;
        plan(&Facts {
            run: RUN,
            tasks,
            stateful,
            standbys: self.standbys,
            view,
            live,
            mutant: *mutant,
        })
    }

    /// The leader's turn: fence the dead, plan, publish.
    fn lead(&mut self) -> usize {
        for id in dead_threads(RUN, &self.view, &self.live) {
            self.fence(&id);
        }
        let (before, plan) = (self.view.clone(), self.plan());
        for node in &plan.gone {
            self.write(&Record::Node(node.clone(), None));
        }
        let alive = live_threads(RUN, &before, &self.live);
        for (task, placement) in &plan.placements {
            let records = before.tasks.get(task);
            let old = records.and_then(|r| r.placement.clone());
            assert_eq!(placement.task_epoch, old.as_ref().map_or(1, |p| p.task_epoch + 1));
            assert!(alive.contains(&placement.owner), "{task} goes to a dead thread");
            if let (Some(old), Some(records)) = (old, records) {
                let parties: Vec<&String> = std::iter::once(&old.owner).chain(&old.previous).collect();
                let died = parties.iter().any(|p| !alive.contains(*p));
                assert!(
                    died || records.started_for(&old),
                    "{task} moves again before its start was confirmed"
                );
            }
            self.check_warm_up(*task, placement, &before);
            self.write(&Record::Placement(*task, Some(placement.clone())));
        }
        for (task, standbys) in &plan.standbys {
            self.check_standbys(*task, standbys, &before);
            self.write(&Record::Standbys(*task, Some(standbys.clone())));
        }
        plan.placements.len() + plan.standbys.len()
    }

    /// A task with state that moves for balance alone finds it there.
    fn check_warm_up(&self, task: TaskId, placement: &Placement, before: &View) {
        let Some(old) = before.placement(RUN, task).filter(|_| self.stateful.contains(&task)) else {
            return;
        };
        let (from, to) = (before.node_of(&old.owner), before.node_of(&placement.owner).unwrap());
        let ready = |name: &str| self.live.contains(name) && before.nodes[name].state == NodeState::Ready;
        let balance = before.tasks[&task].started_for(old) && from.is_some_and(ready);
        if balance && from != Some(to) && before.nodes[to].follows {
            let warm = before.nodes[to].warm.contains(&task.to_string());
            assert!(warm, "{task} moves to `{to}`, which has nothing of it");
        }
    }

    /// Apart from each other and from the task (whose placement is written already), and only where they can be.
    fn check_standbys(&self, task: TaskId, standbys: &Standbys, before: &View) {
        let nodes: BTreeSet<&String> = standbys.nodes.iter().collect();
        assert_eq!(
            nodes.len(),
            standbys.nodes.len(),
            "{task} is twice on a node: {standbys:?}"
        );
        assert!(self.stateful.contains(&task), "{task} has no state to follow");
        let owner = self.view.placement(RUN, task).and_then(|p| self.view.node_of(&p.owner));
        for name in nodes {
            assert!(Some(name.as_str()) != owner, "{task} has a standby beside it");
            let new = !before.standbys(RUN, task).contains(name);
            let ready = self.live.contains(name) && before.nodes[name].state == NodeState::Ready;
            assert!(ready || !new, "{task} has a standby on `{name}`, which takes none");
        }
    }

    /// A fenced id writes nothing more. (The mutant walk leaves the leader's fencing out, as a slow leader would.)
    fn fence(&mut self, id: &str) {
        if self.mutant.is_none() {
            self.holders.values_mut().for_each(|h| {
                h.remove(id);
            });
        }
    }

    /// A living thread does what the rules let it do for one task; `Err` when a task has two holders.
    fn act(&mut self, task: TaskId, alive: &BTreeSet<String>) -> Result<(), String> {
        let Some(placement) = self.view.placement(RUN, task).cloned() else {
            return Ok(());
        };
        if let Some(previous) = placement.previous.clone().filter(|p| alive.contains(p)) {
            let owes = self.view.owed(RUN, &previous).any(|(id, _)| id == task);
            if owes {
                self.holders.entry(task).or_default().remove(&previous);
                let released = Released {
                    run: RUN,
                    task_epoch: placement.task_epoch,
                    thread: previous,
                };
                self.write(&Record::Released(task, Some(released)));
                return Ok(());
            }
        }
        if !alive.contains(&placement.owner) {
            return Ok(());
        }
        let Some(Start::Fence(suspects)) = self.view.start(RUN, task) else {
            return Ok(());
        };
        let holders = self.holders.entry(task).or_default();
        for suspect in &suspects {
            holders.remove(suspect);
        }
        holders.insert(placement.owner.clone());
        if holders.len() > 1 {
            return Err(format!("{task} has holders {holders:?} under {placement:?}"));
        }
        let started = Started {
            run: RUN,
            task_epoch: placement.task_epoch,
            owner: placement.owner,
        };
        self.write(&Record::Started(task, Some(started)));
        Ok(())
    }

    fn step(&mut self, dice: &mut Dice) -> Result<(), String> {
        let node = ["n1", "n2", "n3"][dice.below(3)];
        match dice.below(14) {
            12..14 => self.warms(node),
            0 => {
                self.live.remove(node);
            }
            1 => self.says(node, NodeState::Ready, 1 + dice.below(2) as u32),
            2 => self.says(node, NodeState::Leaving, 2),
            3..6 => {
                self.lead();
            }
            _ => {
                let alive = live_threads(RUN, &self.view, &self.live);
                let task = self.tasks[dice.below(self.tasks.len())];
                self.act(task, &alive)?;
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<(), String> {
        for node in ["n1", "n2"] {
            self.says(node, NodeState::Ready, 2);
        }
        let alive = live_threads(RUN, &self.view, &self.live);
        for _ in 0..40 {
            for node in ["n1", "n2", "n3"] {
                self.warms(node);
            }
            let planned = self.lead();
            for task in self.tasks.clone() {
                for _ in 0..3 {
                    self.act(task, &alive)?;
                }
            }
            if planned == 0 && self.plan().is_empty() {
                return Ok(());
            }
        }
        Err("the plan does not come to rest".into())
    }
}

/// Every other walk has tasks with state, and nought to two standbys of each.
fn walk(seed: u64, mutant: Option<Mutant>) -> Result<Walk, String> {
    let (mut dice, mut walk) = (Dice(seed * 2_654_435_769 + 1), Walk::new(5, mutant));
    if seed.is_multiple_of(2) {
        walk = walk.with_standbys(seed as usize / 2 % 3);
    }
    for _ in 0..120 {
        walk.step(&mut dice)?;
    }
    walk.rest()?;
    Ok(walk)
}

#[test]
fn a_task_has_one_holder_and_the_plan_comes_to_rest() {
    for seed in 1..=500 {
        let walk = walk(seed, None).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let mut load: BTreeMap<String, usize> = live_threads(RUN, &walk.view, &walk.live)
            .into_iter()
            .map(|t| (t, 0))
            .collect();
        load.retain(|t, _| !t.starts_with("p-n3") || walk.view.nodes["n3"].state == NodeState::Ready);
        for task in &walk.tasks {
            *load
                .get_mut(&walk.view.placement(RUN, *task).unwrap().owner)
                .expect("placed on a ready thread") += 1;
        }
        let (low, high) = (load.values().min().unwrap(), load.values().max().unwrap());
        assert!(high - low <= 1, "seed {seed}: {load:?}");
        walk.check_rest(seed);
    }
}

/// The suspects alone keep a task with one holder, even where the leader did not get to fence anybody.
#[test]
fn suspects_carry_the_safety() {
    let without_leader = (1..=500)
        .filter(|seed| walk_without_leader_fencing(*seed, None).is_err())
        .count();
    assert_eq!(without_leader, 0);
}

impl Walk {
    /// As many standbys as are wanted and have a place, on nodes with about as many each.
    fn check_rest(&self, seed: u64) {
        let takes = |node: &&Node| node.state == NodeState::Ready && node.follows;
        let live = self.view.nodes.iter().filter(|(name, _)| self.live.contains(*name));
        let nodes = live.filter(|(_, node)| takes(node)).count();
        let wanted = self.standbys.min(nodes.saturating_sub(1));
        let mut load: BTreeMap<&String, usize> = BTreeMap::new();
        for task in &self.stateful {
            let standbys = self.view.standbys(RUN, *task);
            assert_eq!(standbys.len(), wanted, "seed {seed}: {task} has {standbys:?}");
            standbys.iter().for_each(|name| *load.entry(name).or_default() += 1);
        }
        let (low, high) = (load.values().min(), load.values().max());
        if wanted > 0 && load.len() == nodes {
            // One more than even: the last one may have no place that is not its task's.
            assert!(high.unwrap() - low.unwrap() <= 2, "seed {seed}: {load:?}");
        }
    }
}

fn walk_without_leader_fencing(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
    let (mut dice, mut walk) = (Dice(seed * 2_654_435_769 + 1), Walk::new(5, mutant));
    // Any mutant of the threads makes the walk's leader fence nobody and leaves the plan as it is.
    walk.mutant = Some(mutant.unwrap_or(Mutant::NoReadAfterInit));
    for _ in 0..120 {
        walk.step(&mut dice)?;
    }
    Ok(())
}

#[cfg(feature = "mutants")]
#[test]
fn forgotten_suspects_are_caught() {
    let caught = (1..=500).find(|seed| walk_without_leader_fencing(*seed, Some(Mutant::SuspectsForgotten)).is_err());
    assert!(caught.is_some(), "no walk noticed");
}

#[test]
fn a_bounce_moves_nothing_and_a_leaver_is_emptied() {
    let mut walk = Walk::new(4, None);
    walk.says("n1", NodeState::Ready, 2);
    walk.rest().unwrap();
    let placed = walk.view.clone();
    walk.says("n1", NodeState::Ready, 2);
    assert!(walk.plan().is_empty());
    assert_eq!(walk.view.tasks, placed.tasks);
    walk.says("n1", NodeState::Leaving, 2);
    assert_eq!(
        walk.plan().placements.len(),
        2,
        "both tasks of the leaver, and no other"
    );
}
