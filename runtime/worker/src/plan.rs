//! Who runs what: observed facts in, placements out (design §9). No I/O, no clock, no memory.
//!
//! The plan is sticky and balances the number of tasks over the threads of nodes that said ready. Weights, standbys
//! and racks have no say yet; they would enter as more [`Facts`]. Fencing the dead before the facts are read, and
//! publishing, is the `coordinator`'s.

use crate::control::Run;
use crate::mutant::{self, Mutant};
use crate::placement::{NodeState, Placement, TaskRecords, View};
use std::collections::{BTreeMap, BTreeSet};
use task::TaskId;

/// What the leader knows when it plans: the placement topic read to its end after the dead were fenced.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub run: Run,
    /// Every task of the run, in order.
    pub tasks: &'a [TaskId],
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
    /// Nodes whose `h:` record is to be deleted: the group does not know them any more.
    pub gone: Vec<String>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.placements.is_empty() && self.gone.is_empty()
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
    let mut load = Load::of(facts);
    if load.tasks.is_empty() {
        // Nobody can take a task: what is placed stays until somebody says ready.
        return Plan {
            placements: Vec::new(),
            gone,
        };
    }
    let none = TaskRecords::default();
    let (mut placements, mut movable) = (BTreeMap::new(), Vec::new());
    for task in facts.tasks {
        let records = facts.view.tasks.get(task).unwrap_or(&none);
        match judge(facts, records, &alive) {
            Verdict::Stays => {}
            Verdict::MayMove => movable.push(*task),
            Verdict::Needs {
                epoch,
                owner,
                previous,
                suspects,
                wishes,
            } => {
                let owner = owner.unwrap_or_else(|| load.choose(&wishes));
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
    for (task, from, to) in load.even_out(&movable) {
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
    Plan {
        placements: placements.into_iter().collect(),
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
fn judge(facts: &Facts<'_>, records: &TaskRecords, alive: &BTreeSet<String>) -> Verdict {
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
        if ready(facts, &current.owner) {
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

/// Whether the node of a thread takes tasks.
fn ready(facts: &Facts<'_>, thread: &str) -> bool {
    let lists = |(name, node): (&String, &crate::placement::Node)| {
        facts.live.contains(name)
            && node.run == facts.run
            && node.state == NodeState::Ready
            && node.threads.iter().any(|t| t == thread)
    };
    facts.view.nodes.iter().any(lists)
}

/// Tasks of each thread that takes tasks.
struct Load {
    tasks: BTreeMap<String, Vec<TaskId>>,
}

impl Load {
    /// Every ready thread, with the tasks that are placed on it and live there.
    fn of(facts: &Facts<'_>) -> Self {
        let alive = live_threads(facts.run, facts.view, facts.live);
        let mut tasks: BTreeMap<String, Vec<TaskId>> = alive
            .into_iter()
            .filter(|t| ready(facts, t))
            .map(|t| (t, Vec::new()))
            .collect();
        for task in facts.tasks {
            let owner = facts.view.placement(facts.run, *task).map(|p| p.owner.as_str());
            if let Some(mine) = owner.and_then(|o| tasks.get_mut(o)) {
                mine.push(*task);
            }
        }
        Self { tasks }
    }

    fn least(&self) -> Option<(&String, usize)> {
        self.tasks
            .iter()
            .map(|(t, tasks)| (t, tasks.len()))
            .min_by_key(|(_, n)| *n)
    }

    fn choose(&self, wishes: &[String]) -> String {
        let wished = wishes.iter().find(|w| self.tasks.contains_key(*w));
        wished.or(self.least().map(|(t, _)| t)).cloned().unwrap_or_default()
    }

    fn add(&mut self, thread: &str, task: TaskId) {
        if let Some(tasks) = self.tasks.get_mut(thread)
            && !tasks.contains(&task)
        {
            tasks.push(task);
        }
    }

    /// The fewest moves of `movable` tasks after which no thread has two more than another, if they allow it.
    fn even_out(&mut self, movable: &[TaskId]) -> Vec<(TaskId, String, String)> {
        let (mut moves, mut free): (Vec<_>, BTreeSet<TaskId>) = (Vec::new(), movable.iter().copied().collect());
        // Each round moves one task for good, so there are at most as many as tasks.
        for _ in 0..movable.len() {
            let Some((to, low)) = self.least().map(|(t, n)| (t.clone(), n)) else {
                break;
            };
            let from = self.tasks.iter().filter(|(_, tasks)| tasks.len() > low + 1);
            let richest = from.filter_map(|(t, tasks)| {
                let last = tasks.iter().rev().find(|task| free.contains(*task))?;
                Some((tasks.len(), t.clone(), *last))
            });
            let Some((_, from, task)) = richest.max_by_key(|(n, _, _)| *n) else {
                break;
            };
            free.remove(&task);
            if let Some(tasks) = self.tasks.get_mut(&from) {
                tasks.retain(|t| *t != task);
            }
            self.add(&to, task);
            moves.push((task, from, to));
        }
        moves
    }
}

#[cfg(test)]
mod tests;
