//! One node and the rows that came to it: a native operator, or one call of a module.

use arrow_buffer::ScalarBuffer;
use record::Batch;

use crate::answer::{self, Out};
use crate::error::Error;
use crate::metrics::NodeCounts;
use crate::plan::{Child, Plan, Work};
use crate::processor::{Context, Failure, Input, Now, Origin, Processor, RowOutcome};
use crate::rows::{Lineage, Rows};
use crate::stage::{Cause, Collected, RunOrigin, dead_letter};
use crate::watch::{self, Watching};
use crate::windows;

/// What a source row is to suffer because of a row that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Retry {
        after_ms: u32,
        reason: String,
    },
    Fail {
        stage: &'static str,
        reason: String,
    },
    /// A dead letter with nowhere to go.
    Unroutable {
        reason: String,
    },
}

/// Why a run ends before its end. Everything is to be undone.
#[derive(Debug)]
pub enum Halt {
    /// The first source row that must not go on, as far as the walk has come.
    Row {
        root: u32,
        node: usize,
        fault: Fault,
    },
    /// A call failed as a whole; which row it was is not known.
    Call {
        node: usize,
        failure: Failure,
    },
    /// A punctuation falls due after this many rows.
    Cut {
        rows: usize,
    },
    /// Rows met that came without their paths.
    Paths,
    Stop(Error),
}

impl From<record::Error> for Halt {
    fn from(error: record::Error) -> Self {
        Self::Stop(error.into())
    }
}

impl From<state::Error> for Halt {
    fn from(error: state::Error) -> Self {
        Self::Stop(error.into())
    }
}

/// A dead letter whose reason begins so is of that stage (`wasmill:streams/answers`).
const DESERIALIZATION: &str = "deserialization: ";

/// The source rows of a run, or rows that a punctuation or a flush began with.
#[derive(Clone, Debug)]
pub struct Run {
    pub rows: usize,
    /// Stream time at each row; never decreasing.
    pub stream_times: ScalarBuffer<i64>,
    pub wall_time: i64,
    /// `None` in a punctuation or a flush.
    pub origin: Option<std::sync::Arc<RunOrigin>>,
    /// The rows as they began, for dead letters.
    pub records: Batch,
    /// What goes to which node, at which position among the children of its beginning.
    pub entries: Vec<Entry>,
    /// Of what it began with, in a punctuation or a flush: what is looked at.
    pub watching: Watching,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub child: Child,
    pub position: u32,
    pub batch: Batch,
    /// Rows of the run that these are; `None`: all.
    pub roots: Option<Vec<u32>>,
}

/// What counts of a run once it has passed.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub dead_letters: u64,
    /// By node.
    pub nodes: Vec<NodeCounts>,
}

/// Everything a walk works with.
pub struct Floor<'a> {
    pub plan: &'a Plan,
    pub processors: &'a mut [Option<Box<dyn Processor>>],
    pub context: &'a mut Context,
    pub run: &'a Run,
    pub collected: Collected,
    pub counts: Counts,
    pub watching: Watching,
}

impl Floor<'_> {
    /// Lets `node` work on `rows`, which are at least one.
    pub fn work(&mut self, node: usize, rows: &Rows) -> Result<Vec<Out>, Halt> {
        let outs = self.work_on(node, rows)?;
        if self.watching.is_some() {
            for out in &outs {
                let made = rows.derive(out.batch.clone(), &out.lineage, 0, false);
                watch::keep(&mut self.watching, self.plan, node, out.port, &made);
            }
        }
        Ok(outs)
    }

    fn work_on(&mut self, node: usize, rows: &Rows) -> Result<Vec<Out>, Halt> {
        let Some(planned) = self.plan.nodes.get(node) else {
            return Ok(Vec::new());
        };
        self.count(node, rows.len());
        let one = |batch, lineage| {
            Ok(vec![Out {
                port: 0,
                batch,
                lineage,
            }])
        };
        let applied = match &planned.work {
            Work::Source | Work::Merge => return one(rows.batch.clone(), Lineage::default()),
            Work::Output { .. } => return Ok(Vec::new()),
            Work::Module { step, stores } => return self.call(node, rows, step, stores),
            Work::Branch(branching) => {
                let ports = branching.ports(&rows.batch).map_err(|e| fault(e, node, rows))?;
                let targets: Vec<u32> = ports.iter().map(|p| p.unwrap_or(u32::MAX)).collect();
                self.drop_rows(node, ports.iter().filter(|p| p.is_none()).count() as u64);
                return answer::by_port(&rows.batch, &Lineage::default(), &targets, planned.ports.len())
                    .map_err(|e| Halt::Stop(Error::Contract(e)));
            }
            Work::Route(routing) => {
                let targets = routing.ports(&rows.batch).map_err(|e| fault(e, node, rows))?;
                return answer::by_port(&rows.batch, &Lineage::default(), &targets, planned.ports.len())
                    .map_err(|e| Halt::Stop(Error::Contract(e)));
            }
            Work::SelectKey(selector) => selector.apply(&rows.batch),
            Work::Filter(filtering) => filtering.apply(&rows.batch),
            Work::Map(mapping) => mapping.apply(&rows.batch),
            Work::Aggregate(aggregator) => aggregator.apply(&rows.batch, &mut self.context.stores),
            Work::Table(table) => table.apply(&rows.batch, &mut self.context.stores),
            work => return self.work_in_time(node, work, rows),
        };
        let applied = applied.map_err(|e| fault(e, node, rows))?;
        self.drop_rows(node, applied.dropped);
        if applied.rows.is_empty() {
            return Ok(Vec::new());
        }
        let ordinals = applied.causes.as_deref().and_then(answer::repeated);
        one(
            applied.rows,
            Lineage {
                causes: applied.causes,
                ordinals,
            },
        )
    }

    /// What gives rows with causes of its own, and may have several ports.
    fn work_in_time(&mut self, node: usize, work: &Work, rows: &Rows) -> Result<Vec<Out>, Halt> {
        let stores = &mut self.context.stores;
        let (outs, dropped) = match work {
            Work::Suppress(suppressor) => {
                let made = suppressor.apply(&rows.batch, stores);
                let made = made.map_err(|e| fault(e, node, rows))?;
                let dropped = made.dropped;
                (windows::results(made), dropped)
            }
            Work::StreamJoin(joiner) => {
                let made = joiner.apply(&rows.batch, &rows.ports, stores);
                let made = made.map_err(|e| fault(e, node, rows))?;
                let dropped = made.dropped;
                (windows::results(made), dropped)
            }
            Work::GlobalJoin(joiner, table) => {
                let table = self.context.globals.get_mut(*table);
                let table = table.ok_or_else(|| Halt::Stop(Error::Contract("a global table is not there".into())))?;
                let made = joiner.apply(&rows.batch, table);
                let made = made.map_err(|e| fault(e, node, rows))?;
                let dropped = made.dropped;
                (windows::results(made), dropped)
            }
            Work::Windows(aggregator) => {
                let made = aggregator.apply(&rows.batch, stores);
                let made = made.map_err(|e| fault(e, node, rows))?;
                let dropped = made.applied.dropped;
                let ports = self.plan.nodes.get(node).map_or(1, |n| n.ports.len());
                (windows::outs(made, &rows.batch, ports)?, dropped)
            }
            Work::Tables(work) => {
                let stream_times = stream_times(self.run, rows);
                let made = work.apply(rows, &stream_times, stores);
                made.map_err(|e| fault(e, node, rows))?
            }
            _ => return Ok(Vec::new()),
        };
        self.drop_rows(node, dropped);
        Ok(outs)
    }

    /// Rows that came to an output node.
    pub fn output(&mut self, node: usize, mut rows: Rows) -> Result<(), Halt> {
        let Some(Work::Output { topic, keyed }) = self.plan.nodes.get(node).map(|n| &n.work) else {
            return Ok(());
        };
        rows.batch = rows.batch.without_olds();
        self.count(node, rows.len());
        watch::keep(&mut self.watching, self.plan, node, 0, &rows);
        let keys = rows.batch.keys();
        let nulls = arrow_array::Array::null_count(keys);
        if !*keyed || nulls == 0 {
            self.collected.push(*topic, rows);
            return Ok(());
        }
        let kept: Vec<u32> = (0..rows.len() as u32)
            .filter(|r| rows.batch.key(*r as usize).is_some())
            .collect();
        self.drop_rows(node, nulls as u64);
        let batch = rows.batch.take(&kept)?;
        let lineage = Lineage {
            causes: Some(kept),
            ordinals: None,
        };
        self.collected
            .push(*topic, rows.derive(batch, &lineage, 0, rows.paths.is_some()));
        Ok(())
    }

    fn count(&mut self, node: usize, rows: usize) {
        if let Some(counts) = self.counts.nodes.get_mut(node) {
            counts.calls += 1;
            counts.rows += rows as u64;
            counts.call_rows_max = counts.call_rows_max.max(rows as u64);
        }
    }

    fn drop_rows(&mut self, node: usize, rows: u64) {
        if let Some(counts) = self.counts.nodes.get_mut(node) {
            counts.dropped += rows;
        }
    }

    fn call(
        &mut self,
        node: usize,
        rows: &Rows,
        step: &topology::ModuleStep,
        stores: &[usize],
    ) -> Result<Vec<Out>, Halt> {
        let Some(Some(processor)) = self.processors.get_mut(node) else {
            return Err(Halt::Stop(Error::Contract(format!("step `{}` has no processor", node))));
        };
        let (origin, stream_times) = whereabouts(self.plan, self.run, rows);
        let stream_time = stream_times.last().copied().unwrap_or(-1);
        let now = Now {
            stream_time,
            wall_time: self.run.wall_time,
        };
        let input = Input {
            batch: rows.batch.clone(),
            ports: if step.inputs.len() > 1 && rows.ports.is_empty() {
                vec![0; rows.len()]
            } else {
                rows.ports.clone()
            },
            stream_times: stream_times.clone(),
            origin: if step.needs_origin {
                origin.clone()
            } else {
                Origin::default()
            },
        };
        enter(self.context, node, stores, now);
        self.context.origin = origin;
        self.context.stream_times = stream_times;
        let answer = processor.process(self.context, now, &input);
        self.context.origin = Origin::default();
        self.context.stream_times = ScalarBuffer::default();
        let answer = answer.map_err(|failure| failed(node, failure))?;
        let (outs, outcomes) =
            answer::outputs(answer, &rows.batch, step.outputs.len()).map_err(|reason| Halt::Call {
                node,
                failure: Failure::Contract(reason),
            })?;
        self.outcomes(node, rows, outcomes)?;
        self.due_within()?;
        Ok(outs)
    }

    fn outcomes(&mut self, node: usize, rows: &Rows, outcomes: Vec<(u32, RowOutcome)>) -> Result<(), Halt> {
        let mut letters = Vec::new();
        for (row, outcome) in outcomes {
            let root = rows.root(row as usize);
            let halt = |fault| Err(Halt::Row { root, node, fault });
            match outcome {
                RowOutcome::Drop(_) => self.drop_rows(node, 1),
                RowOutcome::DeadLetter(reason) if self.plan.dead_letters.is_none() => {
                    return halt(Fault::Unroutable { reason });
                }
                RowOutcome::DeadLetter(reason) => letters.push((row, reason)),
                RowOutcome::Retry { after_ms, reason } => return halt(Fault::Retry { after_ms, reason }),
                RowOutcome::Fail(reason) => {
                    return halt(Fault::Fail {
                        stage: "processing",
                        reason,
                    });
                }
            }
        }
        let (Some(topic), false) = (self.plan.dead_letters, letters.is_empty()) else {
            return Ok(());
        };
        let name = self.plan.nodes.get(node).map(|n| &*n.name).unwrap_or_default();
        let module = self
            .processors
            .get(node)
            .and_then(|p| p.as_ref())
            .map(|p| p.module())
            .unwrap_or_default();
        let mut batches = Vec::new();
        for (row, reason) in &letters {
            let root = rows.root(*row as usize);
            let origin = self.run.origin.as_ref().and_then(|o| o.get(root, &self.plan.sources));
            // The contract's way for a guest to say that it could not read the record.
            let (stage, reason) = match reason.strip_prefix(DESERIALIZATION) {
                Some(reason) => ("deserialization", reason),
                None => ("processing", reason.as_str()),
            };
            let cause = Cause {
                pipeline: &self.plan.pipeline,
                task: self.plan.task,
                at: self.run.wall_time,
                stage,
                reason,
                backtrace: "",
                module,
                step: name,
                origin,
            };
            batches.push(dead_letter(&self.run.records, root as usize, &cause));
        }
        let batch = Batch::concat(&batches.iter().collect::<Vec<_>>())?;
        self.counts.dead_letters += letters.len() as u64;
        let lineage = Lineage {
            causes: Some(letters.into_iter().map(|(row, _)| row).collect()),
            ordinals: None,
        };
        self.collected
            .push(topic, rows.derive(batch, &lineage, 0, rows.paths.is_some()));
        Ok(())
    }

    /// Whether a schedule that the last call started falls due before the last row.
    fn due_within(&mut self) -> Result<(), Halt> {
        let Some(due) = self.context.schedules.take_started().into_iter().min() else {
            return Ok(());
        };
        let rows = self.run.stream_times.partition_point(|t| *t < due) + 1;
        if rows < self.run.rows {
            Err(Halt::Cut { rows })
        } else {
            Ok(())
        }
    }
}

/// Prepares the context for a call of `node`.
pub fn enter(context: &mut Context, node: usize, stores: &[usize], now: Now) {
    context.store_of.clear();
    context.store_of.extend_from_slice(stores);
    context.schedules.enter(node as u32);
    context.now = now;
}

/// A call that failed: the host's own failures stop the task, the guest's are looked into.
pub fn failed(node: usize, failure: Failure) -> Halt {
    match failure {
        Failure::Host(cause) => Halt::Stop(Error::State(state::Error::Storage {
            doing: "serve a guest's call".into(),
            cause,
        })),
        failure => Halt::Call { node, failure },
    }
}

fn fault(error: operators::Error, node: usize, rows: &Rows) -> Halt {
    match error {
        operators::Error::Row { row, stage, reason } => Halt::Row {
            root: rows.root(row as usize),
            node,
            fault: Fault::Fail {
                stage: stage.as_str(),
                reason,
            },
        },
        operators::Error::State(error) => error.into(),
        operators::Error::Batch(error) => error.into(),
    }
}

/// The task's stream time at each row.
fn stream_times(run: &Run, rows: &Rows) -> ScalarBuffer<i64> {
    match &rows.roots {
        None => run.stream_times.clone(),
        Some(roots) => roots
            .iter()
            .map(|r| run.stream_times.get(*r as usize).copied().unwrap_or(-1))
            .collect(),
    }
}

/// Origin and stream time of each row.
fn whereabouts(plan: &Plan, run: &Run, rows: &Rows) -> (Origin, ScalarBuffer<i64>) {
    let stream_times = stream_times(run, rows);
    let Some(from) = &run.origin else {
        return (Origin::default(), stream_times);
    };
    let (partition_of, offsets) = match &rows.roots {
        None => (from.queue_of.clone(), from.offsets.clone()),
        Some(roots) => {
            let pick = |root: &u32| {
                let root = *root as usize;
                (
                    from.queue_of.get(root).copied().unwrap_or_default(),
                    from.offsets.get(root).copied().unwrap_or(-1),
                )
            };
            roots.iter().map(pick).unzip()
        }
    };
    (
        Origin {
            partitions: plan.sources.clone(),
            partition_of,
            offsets,
        },
        stream_times,
    )
}
