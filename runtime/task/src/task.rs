//! The task itself: what it holds, and the calls of its worker that are not runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use record::{Fetched, TopicPartition};
use state::{Backend, Snapshot, Stores};
use topology::{NodeId, Topology};

use crate::error::Error;
use crate::failure::Trouble;
use crate::idle::Quiet;
use crate::metrics::{Metrics, NodeMetrics};
use crate::options::{Buffered, Options, Staged, TaskId};
use crate::plan::{Plan, Work};
use crate::processor::{Context, Processor};
use crate::queue::{Queue, Rejects};
use crate::schedules::{Running, ScheduleId};
use crate::shadow::Shadows;
use crate::stage::Stage;
use crate::swap::Aside;

/// See the crate page. Every call is made by the worker that owns the task, in one thread.
pub struct Task {
    pub(crate) id: TaskId,
    pub(crate) plan: Plan,
    pub(crate) options: Options,
    /// By node.
    pub(crate) processors: Vec<Option<Box<dyn Processor>>>,
    pub(crate) context: Context,
    pub(crate) queues: Vec<Queue>,
    pub(crate) rejects: Rejects,
    /// Records rejected since the last commit.
    pub(crate) rejected: usize,
    pub(crate) stage: Stage,
    pub(crate) stream_time: i64,
    pub(crate) committed_stream_time: i64,
    /// What an abort goes back to: the last commit, or what the processors had started when the task began.
    pub(crate) committed_schedules: BTreeMap<ScheduleId, Running>,
    /// Those of them that no commit has written yet.
    pub(crate) unwritten_schedules: BTreeSet<ScheduleId>,
    pub(crate) trouble: Trouble,
    /// Rows met without paths once; they are kept everywhere since.
    pub(crate) all_paths: bool,
    /// Every run goes row by row, depth first.
    pub(crate) row_by_row: bool,
    /// Tables flushed for the commit to come.
    pub(crate) flushed: Vec<usize>,
    /// Something passed since the last commit.
    pub(crate) worked: bool,
    pub(crate) started: bool,
    pub(crate) metrics: Metrics,
    pub(crate) aside: Aside,
    /// By node: rows that code before the one that runs there now has worked on.
    pub(crate) rows_before: Vec<u64>,
    pub(crate) shadows: Shadows,
    /// `None`: an input has rows, or may have some.
    pub(crate) quiet: Option<Quiet>,
}

impl Task {
    /// `topology` is the whole pipeline's; the task runs sub-topology `id.sub_topology` on partition `id.partition`.
    /// `processors`: one for each module node of the sub-topology. `backend` numbers stores as
    /// [`changelogs`](Self::changelogs) does.
    ///
    /// # Errors
    /// [`Error::Contract`] when the topology does not fit: a sub-topology, processor or partition count or global table is missing.
    pub fn new(
        topology: Arc<Topology>,
        id: TaskId,
        mut processors: HashMap<NodeId, Box<dyn Processor>>,
        backend: Box<dyn Backend>,
        options: Options,
    ) -> Result<Self, Error> {
        let plan = Plan::new(&topology, id, &options)?;
        let mut by_node = Vec::with_capacity(plan.nodes.len());
        for node in &plan.nodes {
            let processor = processors.remove(&node.id);
            if processor.is_none() && matches!(node.work, Work::Module { .. }) {
                return Err(Error::Contract(format!("step `{}` has no processor", node.name)));
            }
            by_node.push(processor);
        }
        let globals = plan.globals.iter().map(|name| {
            let table = options.globals.get(name);
            let table = table.ok_or_else(|| Error::Contract(format!("there is no global table `{name}`")))?;
            Ok(table.reader())
        });
        let globals = globals.collect::<Result<Vec<_>, Error>>()?;
        let stores = Stores::new(plan.stores.clone(), backend, options.cache_bytes_max);
        let nodes = plan.nodes.iter().map(|n| NodeMetrics {
            name: Arc::clone(&n.name),
            ..NodeMetrics::default()
        });
        let metrics = Metrics {
            nodes: nodes.collect(),
            ..Metrics::default()
        };
        Ok(Self {
            id,
            processors: by_node,
            context: Context {
                stores,
                globals,
                ..Context::default()
            },
            queues: plan
                .sources
                .iter()
                .zip(&plan.row_times)
                .map(|(source, times)| Queue::new(source.clone(), times.clone()))
                .collect(),
            plan,
            options,
            rejects: Rejects::new(),
            rejected: 0,
            stage: Stage::default(),
            stream_time: -1,
            committed_stream_time: -1,
            committed_schedules: BTreeMap::new(),
            unwritten_schedules: BTreeSet::new(),
            trouble: Trouble::default(),
            all_paths: false,
            row_by_row: false,
            flushed: Vec::new(),
            worked: false,
            started: false,
            rows_before: vec![0; metrics.nodes.len()],
            metrics,
            aside: Aside::default(),
            shadows: Shadows::default(),
            quiet: None,
        })
    }

    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Input partitions in the order in which ties go. The first one carries the commit metadata.
    pub fn sources(&self) -> &[TopicPartition] {
        &self.plan.sources
    }

    /// Changelog partition of each store; a store's number is its position.
    pub fn changelogs(&self) -> &[TopicPartition] {
        &self.plan.changelogs
    }

    /// The store that holds the task's stream time, its timers and the marker of a swap.
    pub fn times_store(&self) -> Option<usize> {
        self.plan.times
    }

    /// Queues fetched rows of one of [`sources`](Self::sources).
    ///
    /// # Errors
    /// [`Error::Contract`] for another partition, or columns of different lengths.
    pub fn add(&mut self, fetched: Fetched) -> Result<(), Error> {
        if fetched.offsets.len() != fetched.records.len() {
            return Err(Error::Contract(format!(
                "rows of {} without an offset each",
                fetched.partition
            )));
        }
        let queue = self.queues.iter_mut().find(|q| q.partition == fetched.partition);
        let queue = queue.ok_or_else(|| Error::Contract(format!("{} is no source of the task", fetched.partition)))?;
        queue.add(fetched);
        Ok(())
    }

    /// What waits in the queue of a source, for back-pressure.
    pub fn buffered(&self, source: &TopicPartition) -> Buffered {
        self.queues
            .iter()
            .find(|q| q.partition == *source)
            .map(Queue::buffered)
            .unwrap_or_default()
    }

    /// Records that wait in all queues.
    pub fn buffered_records(&self) -> usize {
        self.queues.iter().map(|q| q.buffered().records).sum()
    }

    /// What the worker knows of a source: whether everything that is on the broker now was added. To be called after
    /// each poll, since an input that is empty here and not caught up is waited for.
    pub fn set_end(&mut self, source: &TopicPartition, caught_up: bool) {
        if let Some(queue) = self.queues.iter_mut().find(|q| q.partition == *source) {
            queue.caught_up = caught_up;
        }
    }

    /// Rows for topics, staged since the last call, in order per topic.
    pub fn take_staged(&mut self) -> Vec<Staged> {
        self.stage.take()
    }

    /// Next offset to read of every source whose position is known, after what was processed.
    pub fn positions(&self) -> Vec<(TopicPartition, i64)> {
        self.queues
            .iter()
            .filter_map(|q| q.position.map(|p| (q.partition.clone(), p)))
            .collect()
    }

    /// Sets where a source begins, from the committed offsets.
    pub fn set_position(&mut self, source: &TopicPartition, offset: i64) {
        if let Some(queue) = self.queues.iter_mut().find(|q| q.partition == *source) {
            queue.position = Some(offset);
            queue.committed = Some(offset);
        }
    }

    /// Largest timestamp seen, in milliseconds; -1 before the first record.
    pub fn stream_time(&self) -> i64 {
        self.stream_time
    }

    /// Whether there is anything to commit: records that passed, positions, state, schedules.
    pub fn uncommitted(&self) -> bool {
        self.worked
            || !self.stage.is_empty()
            || self.context.stores.overlay_bytes() > 0
            || self.context.schedules.has_changed()
            || self.queues.iter().any(|q| q.position != q.committed)
    }

    /// The broker has committed. The overlay goes to the backend in one write, with the next changelog offset of each
    /// store that had own deliveries.
    ///
    /// # Errors
    /// Those of the backend: the task is to be closed, reopened and caught up.
    pub fn committed(&mut self, changelog_next: &[(usize, i64)]) -> Result<(), Error> {
        self.context.stores.applied(changelog_next)?;
        self.stage.clear();
        self.flushed.clear();
        self.committed_stream_time = self.stream_time;
        self.committed_schedules = self
            .context
            .schedules
            .running()
            .map(|(id, r)| (id.clone(), *r))
            .collect();
        self.unwritten_schedules.clear();
        for queue in &mut self.queues {
            queue.committed = queue.position;
            queue.latest.committed();
        }
        let positions: Vec<Option<i64>> = self.queues.iter().map(|q| q.position).collect();
        self.rejects.retain(|(queue, offset), _| {
            positions
                .get(*queue)
                .copied()
                .flatten()
                .is_none_or(|position| position <= *offset)
        });
        self.rejected = 0;
        self.trouble.committed();
        self.worked = false;
        Ok(())
    }

    /// Drops everything since the last commit, and the queues. The positions to seek to.
    pub fn aborted(&mut self) -> Vec<(TopicPartition, i64)> {
        self.context.stores.discard();
        self.context
            .schedules
            .restore(self.committed_schedules.clone(), self.unwritten_schedules.clone());
        self.stage.clear();
        self.flushed.clear();
        self.stream_time = self.committed_stream_time;
        self.trouble.aborted();
        self.worked = false;
        for queue in &mut self.queues {
            queue.clear();
            queue.position = queue.committed;
        }
        self.positions()
    }

    /// Where the record was read from which row `row` of the staged batch `tag` came; `None` for what came of no record.
    pub fn origin_of(&self, tag: u64, row: u32) -> Option<(TopicPartition, i64)> {
        self.stage.origin_of(tag, row, &self.plan.sources)
    }

    /// What came of this record was refused by the broker: in the replay it is not processed, but sent to the dead
    /// letters.
    pub fn reject(&mut self, source: TopicPartition, offset: i64, reason: String) {
        if let Some(queue) = self.plan.sources.iter().position(|s| *s == source) {
            self.rejected += 1;
            self.trouble.refused(queue, offset);
            self.rejects.insert((queue, offset), reason);
        }
    }

    /// Makes what was applied durable: before a stop or a pause.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn flush_state(&mut self) -> Result<(), Error> {
        Ok(self.context.stores.flush()?)
    }

    /// Begins to make it durable, and does not wait for it.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn begin_flush_state(&mut self) -> Result<(), Error> {
        Ok(self.context.stores.begin_flush()?)
    }

    /// What is committed, for queries.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn snapshot(&mut self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(self.context.stores.snapshot()?)
    }

    /// From now on every row is walked on its own, depth first: what batches must be equal to. Slow; for tests of
    /// modules and of this crate.
    pub fn walk_row_by_row(&mut self) {
        self.row_by_row = true;
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Estimate of the memory that uncommitted changes hold.
    pub fn overlay_bytes(&self) -> usize {
        self.context.stores.overlay_bytes()
    }

    /// Bytes of memory that the instances of the task hold now.
    pub fn instance_bytes(&self) -> usize {
        let aside = self.aside.memory_bytes();
        self.processors
            .iter()
            .flatten()
            .map(|p| p.memory_bytes())
            .sum::<usize>()
            + aside
    }

    /// Closes the processors. Uncommitted work is dropped.
    pub fn close(mut self) {
        self.forget_aside();
        for processor in self.processors.iter_mut().flatten() {
            processor.close();
        }
    }
}
