//! Looking at rows between nodes while they pass: what `wasmill tap` shows.
//!
//! Rows of a run are handed over once the run has passed: a run that failed and was undone is not seen. The commit comes
//! later, so rows of a transaction that is aborted are seen, and again in the replay. While nobody looks, a run costs one
//! question.

use std::fmt::Debug;
use std::sync::Arc;

use record::{Batch, TopicPartition};

use crate::call::Run;
use crate::options::TaskId;
use crate::plan::Plan;
use crate::rows::Rows;

/// Who looks. Called in the thread of the task, so it must not wait.
pub trait Watch: Send + Sync + Debug {
    /// Whether anybody looks. Asked once a run.
    fn is_on(&self) -> bool;

    /// How many rows there is room for of what `node` sends from its output `port`; `None`: nobody looks there. Rows that
    /// a sink or a repartition node writes are those of its port 0.
    fn room(&self, node: &str, port: u32) -> Option<usize>;

    /// Rows that passed, at most as many as there was room for, and how many there were in all.
    fn saw(&self, seen: &Seen<'_>);
}

/// What one node sent in one run.
#[derive(Debug)]
pub struct Seen<'a> {
    pub task: TaskId,
    pub node: &'a str,
    pub port: u32,
    pub rows: Batch,
    pub rows_in_all: usize,
    /// Where the source record of each row was read; `None` for rows that began in a punctuation or a flush.
    pub origins: Vec<Option<(TopicPartition, i64)>>,
}

/// Rows that are seen if the run passes.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    node: usize,
    port: u32,
    rows: Batch,
    rows_in_all: usize,
    roots: Vec<u32>,
}

/// Collects through one run; `None` while nobody looks.
pub(crate) type Watching = Option<Vec<Kept>>;

pub(crate) fn begin(watch: Option<&Arc<dyn Watch>>) -> Watching {
    watch.is_some_and(|watch| watch.is_on()).then(Vec::new)
}

/// Keeps what `node` sends, as far as it is wanted.
pub(crate) fn keep(watching: &mut Watching, plan: &Plan, node: usize, port: u32, rows: &Rows) {
    let (Some(kept), Some(watch), Some(planned)) = (watching, &plan.watch, plan.nodes.get(node)) else {
        return;
    };
    let Some(room) = watch.room(&planned.name, port).filter(|_| rows.len() > 0) else {
        return;
    };
    let count = room.min(rows.len());
    kept.push(Kept {
        node,
        port,
        rows: rows.batch.slice(0, count),
        rows_in_all: rows.len(),
        roots: (0..count).map(|row| rows.root(row)).collect(),
    });
}

/// The run has passed.
pub(crate) fn tell(plan: &Plan, run: &Run, watching: Watching) {
    let Some(watch) = &plan.watch else { return };
    for kept in watching.into_iter().flatten() {
        let Some(node) = plan.nodes.get(kept.node) else {
            continue;
        };
        let origin = |root: &u32| run.origin.as_ref()?.get(*root, &plan.sources);
        watch.saw(&Seen {
            task: plan.task,
            node: &node.name,
            port: kept.port,
            origins: kept.roots.iter().map(origin).collect(),
            rows: kept.rows,
            rows_in_all: kept.rows_in_all,
        });
    }
}
