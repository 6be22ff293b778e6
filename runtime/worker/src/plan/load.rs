//! Tasks by thread, and who is to get one.

use super::standbys::Places;
use super::{Facts, live_threads};
use std::collections::{BTreeMap, BTreeSet};
use task::TaskId;

/// What a move of a task for balance would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nothing is to be read there first, or nobody would read it before the move.
    AtOnce,
    /// Its state is followed there and is not there yet.
    Following,
    /// It is to be followed there first.
    Far,
}

/// Moves that even out the tasks.
#[derive(Debug, Default)]
pub struct Moves {
    /// Task, from which thread, to which.
    pub at_once: Vec<(TaskId, String, String)>,
    /// Tasks that would move and wait for their state: to which thread.
    pub warm_ups: BTreeMap<TaskId, String>,
}

/// Tasks of each thread that takes tasks.
pub struct Load {
    tasks: BTreeMap<String, Vec<TaskId>>,
}

impl Load {
    /// Every ready thread, with the tasks that are placed on it and live there.
    pub fn of(facts: &Facts<'_>, places: &Places<'_>) -> Self {
        let alive = live_threads(facts.run, facts.view, facts.live);
        let mut tasks: BTreeMap<String, Vec<TaskId>> = alive
            .into_iter()
            .filter(|t| places.node_of(t).is_some())
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

    /// Whether no thread takes tasks.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    fn least(&self) -> Option<(&String, usize)> {
        self.tasks
            .iter()
            .map(|(t, tasks)| (t, tasks.len()))
            .min_by_key(|(_, n)| *n)
    }

    /// The first of `wishes` that takes tasks, else who has least to do among the nearest.
    pub fn choose(&self, wishes: &[String], distance: impl Fn(&str) -> u8) -> String {
        let wished = wishes.iter().find(|w| self.tasks.contains_key(*w));
        let threads = self.tasks.iter();
        let nearest = threads
            .min_by_key(|(thread, tasks)| (distance(thread), tasks.len()))
            .map(|(thread, _)| thread);
        wished.or(nearest).cloned().unwrap_or_default()
    }

    pub fn add(&mut self, thread: &str, task: TaskId) {
        if let Some(tasks) = self.tasks.get_mut(thread)
            && !tasks.contains(&task)
        {
            tasks.push(task);
        }
    }

    /// The fewest moves of `movable` tasks after which no thread has two more than another, if they allow it. Those that
    /// cost least go first. At most `far_max` tasks that are far are among them.
    pub fn even_out(
        &mut self,
        movable: &[TaskId],
        mut far_max: usize,
        reach: impl Fn(TaskId, &str, &str) -> Reach,
    ) -> Moves {
        let (mut moves, mut free): (_, BTreeSet<TaskId>) = (Moves::default(), movable.iter().copied().collect());
        // Each round moves one task for good, so there are at most as many as tasks.
        for _ in 0..movable.len() {
            let Some((to, low)) = self.least().map(|(t, n)| (t.clone(), n)) else {
                break;
            };
            let from = self.tasks.iter().filter(|(_, tasks)| tasks.len() > low + 1);
            let richest = from.filter_map(|(thread, tasks)| {
                let own = tasks.iter().rev().filter(|task| free.contains(*task));
                let reached = own.map(|task| (reach(*task, thread, &to), *task));
                let allowed = reached.filter(|(reach, _)| *reach != Reach::Far || far_max > 0);
                // The first of equals: the last task.
                let (reach, task) = allowed.min_by_key(|(reach, _)| *reach)?;
                Some((tasks.len(), thread.clone(), task, reach))
            });
            let Some((_, from, task, reach)) = richest.max_by_key(|(n, ..)| *n) else {
                break;
            };
            free.remove(&task);
            if let Some(tasks) = self.tasks.get_mut(&from) {
                tasks.retain(|t| *t != task);
            }
            self.add(&to, task);
            match reach {
                Reach::AtOnce => moves.at_once.push((task, from, to)),
                Reach::Following => _ = moves.warm_ups.insert(task, to),
                Reach::Far => {
                    far_max -= 1;
                    moves.warm_ups.insert(task, to);
                }
            }
        }
        moves
    }
}
