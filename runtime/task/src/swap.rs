//! Another version of a step's code in a running task (design §11): processors are exchanged between two commits, and
//! everything else stays: stores, times, schedules, positions.

use std::collections::HashMap;

use topology::NodeId;

use crate::error::Error;
use crate::failure::Trouble;
use crate::migrate::Rewrite;
use crate::plan::Work;
use crate::processor::Processor;
use crate::task::Task;
use crate::times;

/// What tells one version's behaviour from another's; totals since the task was made, or since its processors were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Source records.
    pub records: u64,
    /// Of them, how many ended as dead letters or were skipped.
    pub failed: u64,
    /// Of the nodes asked for: calls that failed as a whole, and why the last one did.
    pub failures: u64,
    pub last_failure: Option<String>,
    /// Of the nodes asked for: calls that went well.
    pub calls: u64,
    /// Of the code that runs there now: rows that went well, and the time in it, in nanoseconds.
    pub rows: u64,
    pub busy_ns: u64,
}

/// What a task puts aside for the time in which a switch may be undone.
#[derive(Default)]
pub(crate) struct Aside {
    processors: Vec<Replaced>,
}

struct Replaced {
    node: usize,
    processor: Box<dyn Processor>,
    /// Rows of the node that it has worked on.
    rows: u64,
}

impl Aside {
    pub(crate) fn memory_bytes(&self) -> usize {
        self.processors.iter().map(|old| old.processor.memory_bytes()).sum()
    }
}

impl Task {
    /// Exchanges processors and opens the new ones; to be called after a commit, before anything else passes.
    /// `marker` is written with it, in the transaction to come. [`Task::switch_back`] undoes it.
    ///
    /// # Errors
    /// A new processor does not open; the old ones are back then, and nothing has changed.
    /// [`Error::Contract`] where there is something uncommitted.
    pub fn switch(
        &mut self,
        processors: HashMap<NodeId, Box<dyn Processor>>,
        marker: Option<&[u8]>,
        wall_time: i64,
    ) -> Result<(), Error> {
        self.switch_migrating(processors, &[], marker, wall_time)
    }

    /// As [`Task::switch`], with stores that the new code writes anew before it opens.
    ///
    /// # Errors
    /// As [`Task::switch`]; entries that do not go through `migrate`, or are more than
    /// [`MIGRATED_BYTES_MAX`](crate::MIGRATED_BYTES_MAX).
    pub fn switch_migrating(
        &mut self,
        processors: HashMap<NodeId, Box<dyn Processor>>,
        rewrites: &[Rewrite],
        marker: Option<&[u8]>,
        wall_time: i64,
    ) -> Result<(), Error> {
        if self.uncommitted() {
            return Err(Error::Contract(format!("task {} has uncommitted work", self.id)));
        }
        self.forget_aside();
        let nodes = self.put(processors, true)?;
        let savepoint = self.context.stores.savepoint();
        self.context.schedules.savepoint();
        let rewritten = self.rewrite(rewrites);
        let opened = rewritten.and_then(|()| nodes.iter().try_for_each(|node| self.open(*node, wall_time)));
        let written = opened.and_then(|()| self.set_marker(marker));
        if let Err(error) = written {
            self.context.stores.rollback_to(&savepoint);
            self.context.schedules.rollback();
            self.restore_schedules();
            self.switch_back();
            return Err(error);
        }
        self.trouble = Trouble::of_new_code();
        Ok(())
    }

    /// Puts processors in the place of those of a task that was not started, which opens them.
    ///
    /// # Errors
    /// [`Error::Contract`] for a node that is no module's.
    pub fn place(&mut self, processors: HashMap<NodeId, Box<dyn Processor>>) -> Result<(), Error> {
        self.put(processors, false).map(|_| ())
    }

    fn put(&mut self, processors: HashMap<NodeId, Box<dyn Processor>>, aside: bool) -> Result<Vec<usize>, Error> {
        let mut nodes = Vec::with_capacity(processors.len());
        for (id, processor) in processors {
            let found = self.plan.nodes.iter().position(|n| n.id == id);
            let place = found.and_then(|node| Some((node, self.processors.get_mut(node)?.as_mut()?)));
            let Some((node, place)) = place else {
                return Err(Error::Contract(format!("task {} has no module at node {id}", self.id)));
            };
            let mut old = std::mem::replace(place, processor);
            let rows = self.rows_of_code(node);
            self.begin_code(node, 0);
            if aside {
                self.aside.processors.push(Replaced {
                    node,
                    processor: old,
                    rows,
                });
            } else {
                old.close();
            }
            nodes.push(node);
        }
        nodes.sort_unstable();
        self.ask_columns();
        Ok(nodes)
    }

    /// The columns that the code asks for may be others than the step's.
    pub(crate) fn ask_columns(&mut self) {
        for (node, processor) in self.plan.nodes.iter_mut().zip(&self.processors) {
            if let (Work::Module { step, .. }, Some(processor)) = (&mut node.work, processor)
                && let Some(needs) = processor.needs_origin()
            {
                step.needs_origin = needs;
            }
        }
    }

    /// What ran before [`Task::switch`] runs again. What passed since is to be dropped by [`Task::aborted`], or committed
    /// before.
    pub fn switch_back(&mut self) {
        for old in std::mem::take(&mut self.aside.processors) {
            if let Some(Some(place)) = self.processors.get_mut(old.node) {
                std::mem::replace(place, old.processor).close();
                self.begin_code(old.node, old.rows);
            }
        }
        self.ask_columns();
        self.trouble = Trouble::default();
    }

    /// Whether [`Task::switch_back`] would bring something back.
    pub fn can_switch_back(&self) -> bool {
        !self.aside.processors.is_empty()
    }

    /// Closes what was put aside.
    pub fn forget_aside(&mut self) {
        for mut old in std::mem::take(&mut self.aside.processors) {
            old.processor.close();
        }
    }

    /// Rows of a node that the code which runs there now has worked on.
    fn rows_of_code(&self, node: usize) -> u64 {
        let rows = self.metrics.nodes.get(node).map_or(0, |n| n.rows);
        rows.saturating_sub(self.rows_before.get(node).copied().unwrap_or(0))
    }

    /// The code that runs at a node now has worked on so many of its rows.
    fn begin_code(&mut self, node: usize, rows: u64) {
        let all = self.metrics.nodes.get(node).map_or(0, |n| n.rows);
        if let Some(before) = self.rows_before.get_mut(node) {
            *before = all.saturating_sub(rows);
        }
    }

    fn restore_schedules(&mut self) {
        self.context
            .schedules
            .restore(self.committed_schedules.clone(), self.unwritten_schedules.clone());
    }

    /// How far the task is in a swap, as its worker wrote it; uncommitted where it was just set.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn marker(&mut self) -> Result<Option<Vec<u8>>, Error> {
        times::marker(&self.plan, &mut self.context.stores)
    }

    /// Goes with the next commit, like everything that passes. Without an internal store there is nothing to mark.
    ///
    /// # Errors
    /// None that a valid plan can cause.
    pub fn set_marker(&mut self, marker: Option<&[u8]>) -> Result<(), Error> {
        let timestamp = self.stream_time.max(0);
        times::set_marker(&self.plan, &mut self.context.stores, marker, timestamp)
    }

    /// Counts of the task, with those of calls and time summed up over `steps`.
    pub fn measured(&self, steps: &dyn Fn(&str) -> bool) -> Measured {
        let mut measured = Measured {
            records: self.metrics.records_in,
            failed: self.metrics.dead_letters + self.metrics.skipped,
            ..Measured::default()
        };
        for (number, (node, processor)) in self.metrics.nodes.iter().zip(&self.processors).enumerate() {
            let Some(processor) = processor.as_ref().filter(|_| steps(&node.name)) else {
                continue;
            };
            measured.failures += node.failed_calls;
            if node.last_failure.is_some() {
                measured.last_failure.clone_from(&node.last_failure);
            }
            measured.rows += self.rows_of_code(number);
            measured.calls += node.calls;
            measured.busy_ns += processor.busy_ns();
        }
        measured
    }

    /// Steps with a module in it.
    pub fn module_steps(&self) -> impl Iterator<Item = &str> {
        let modules = self.plan.nodes.iter().filter(|n| matches!(n.work, Work::Module { .. }));
        modules.map(|n| &*n.name)
    }

    /// Topics that the task writes rows to, with their partitions.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, i32)> {
        let count = |to| match to {
            crate::options::To::ByKey { count } | crate::options::To::ByWindowedKey { count, .. } => count,
            crate::options::To::Fixed(partition) => partition + 1,
        };
        self.plan.outputs.iter().map(move |o| (&*o.topic, count(o.to)))
    }
}
