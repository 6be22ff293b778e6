//! Who runs what: observed facts in, placements out (design §9). No I/O, no clock, no memory.
//!
//! The plan is sticky and balances the number of tasks over the threads of nodes that said ready (`load`). A task that
//! needs a new owner goes where its state is followed, and one that moves for balance waits until it is (`standbys`).
//! Fencing the dead before the facts are read, and publishing, is the `coordinator`'s.

mod load;
mod standbys;

use crate::control::Run;
use crate::mutant::{self, Mutant};
use crate::placement::{Placement, Standbys, TaskRecords, View};
use load::Load;
use standbys::Places;
use std::collections::{BTreeMap, BTreeSet};
use task::TaskId;

/// What the leader knows when it plans: the placement topic read to its end after the dead were fenced.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub run: Run,
    /// Every task of the run, in order.
    pub tasks: &'a [TaskId],
    /// Those of them that have stores: only they have standbys.
    pub stateful: &'a BTreeSet<TaskId>,
    /// How many each of those is to have.
    pub standbys: usize,
    pub view: &'a View,
    /// Nodes that the group knows now.
    pub live: &'a BTreeSet<String>,
    /// Only for tests.
    pub mutant: Option<Mutant>,
}

/// What to publish. Empty: all is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub placements: Vec<(TaskId, Placement)>,
    pub standbys: Vec<(TaskId, Standbys)>,
    /// Nodes whose `h:` record is to be deleted: the group does not know them any more.
    pub gone: Vec<String>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.placements.is_empty() && self.standbys.is_empty() && self.gone.is_empty()
    }
}

/// Threads that advance: listed by a node that the group knows.
pub fn live_threads(run: Run, view: &View, live: &BTreeSet<String>) -> BTreeSet<String> {
    let nodes = view
        .nodes
        .iter()
        .filter(|(name, node)| node.run == run && live.contains(*name));
    nodes.flat_map(|(_, node)| node.threads.iter().cloned()).collect()
}

/// Transactional ids of threads that a placement or a node's record names and that do not live: their open
/// transactions hide what was written after them, so the leader fences them before it reads and plans.
pub fn dead_threads(run: Run, view: &View, live: &BTreeSet<String>) -> BTreeSet<String> {
    let alive = live_threads(run, view, live);
    let placed = view
        .tasks
        .values()
        .filter_map(|t| t.placement.as_ref().filter(|p| p.run == run));
    let named = placed.flat_map(|p| std::iter::once(&p.owner).chain(&p.previous));
    // A living node whose record is of another run has not spoken yet: whoever began this run has fenced its threads.
    let silent = |(name, node): &(&String, &crate::placement::Node)| node.run != run && live.contains(*name);
    let listed = view.nodes.iter().filter(|n| !silent(n)).flat_map(|(_, n)| &n.threads);
    named.chain(listed).filter(|id| !alive.contains(*id)).cloned().collect()
}

/// Decides. The same facts give the same plan, and a plan that was carried out gives an empty one.
pub fn plan(facts: &Facts<'_>) -> Plan {
    let alive = live_threads(facts.run, facts.view, facts.live);
    let gone: Vec<String> = facts
        .view
        .nodes
        .keys()
        .filter(|n| !facts.live.contains(*n))
        .cloned()
        .collect();
    let places = Places::of(facts);
    let mut load = Load::of(facts, &places);
    if load.is_empty() {
        // Nobody can take a task: what is placed stays until somebody says ready.
        return Plan {
            gone,
            ..Plan::default()
        };
    }
    let none = TaskRecords::default();
    let (mut placements, mut movable) = (BTreeMap::new(), Vec::new());
    for task in facts.tasks {
        let records = facts.view.tasks.get(task).unwrap_or(&none);
        match judge(facts, records, &alive, &places) {
            Verdict::Stays => {}
            Verdict::MayMove => movable.push(*task),
            Verdict::Needs {
                epoch,
                owner,
                previous,
                suspects,
                wishes,
            } => {
                let owner = owner.unwrap_or_else(|| load.choose(&wishes, |thread| places.distance(*task, thread)));
                load.add(&owner, *task);
                let previous = previous.filter(|p| *p != owner);
                placements.insert(
                    *task,
                    Placement {
                        run: facts.run,
                        task_epoch: epoch,
                        owner,
                        previous,
                        suspects,
                    },
                );
            }
        }
    }
    let moves = load.even_out(&movable, places.warm_ups_left(), |task, from, to| {
        places.reach(task, from, to)
    });
    for (task, from, to) in moves.at_once {
        let Some(current) = facts.view.placement(facts.run, task) else {
            continue;
        };
        let placement = Placement {
            run: facts.run,
            task_epoch: current.task_epoch + 1,
            owner: to,
            previous: Some(from),
            suspects: Vec::new(),
        };
        placements.insert(task, placement);
    }
    let standbys = places.standbys(&placements, &moves.warm_ups);
    Plan {
        placements: placements.into_iter().collect(),
        standbys,
        gone,
    }
}

enum Verdict {
    /// A move is under way and its parties live, or there is nobody better.
    Stays,
    /// Confirmed by a thread that lives and is ready: free to move for balance.
    MayMove,
    Needs {
        epoch: u64,
        /// `None`: whoever has least to do, rather one of `wishes`.
        owner: Option<String>,
        previous: Option<String>,
        suspects: Vec<String>,
        wishes: Vec<String>,
    },
}

/// The rules of design §9 for one task.
fn judge(facts: &Facts<'_>, records: &TaskRecords, alive: &BTreeSet<String>, places: &Places<'_>) -> Verdict {
    let Some(current) = records.placement.as_ref().filter(|p| p.run == facts.run) else {
        return Verdict::Needs {
            epoch: 1,
            owner: None,
            previous: None,
            suspects: Vec::new(),
            wishes: Vec::new(),
        };
    };
    let confirmed = records.started_for(current);
    let owner_lives = alive.contains(&current.owner);
    if owner_lives && confirmed {
        if places.node_of(&current.owner).is_some() {
            return Verdict::MayMove;
        }
        let previous = Some(current.owner.clone());
        let (epoch, suspects) = (current.task_epoch + 1, Vec::new());
        return Verdict::Needs {
            epoch,
            owner: None,
            previous,
            suspects,
            wishes: Vec::new(),
        };
    }
    // From here on the owner died, or has not confirmed. A previous owner matters until it released or `s:` came.
    let owed = current
        .previous
        .as_ref()
        .filter(|_| !confirmed && !records.released_for(current));
    let previous_died = owed.is_some_and(|p| !alive.contains(p));
    if owner_lives && !previous_died {
        return Verdict::Stays;
    }
    let mut suspects = BTreeSet::new();
    if !confirmed && !mutant::on(facts.mutant, Mutant::SuspectsForgotten) {
        suspects.extend(current.suspects.iter().cloned());
    }
    if !owner_lives {
        suspects.insert(current.owner.clone());
    }
    suspects.extend(
        current
            .previous
            .iter()
            .filter(|p| !confirmed && !alive.contains(*p))
            .cloned(),
    );
    let previous = owed.filter(|_| !previous_died).cloned();
    Verdict::Needs {
        epoch: current.task_epoch + 1,
        owner: owner_lives.then(|| current.owner.clone()),
        wishes: previous.iter().cloned().collect(),
        previous,
        suspects: suspects.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests;
