//! Joins with tables that emit on commit.
//!
//! In a batch, a join learns what a table had at a row from the table's next row of that key (`operators::table_join`).
//! A table that emits on commit sends no rows in a run. So there the join counts as a user of the table's store, and the
//! rules of [`crate::plan::Order`] do the rest: one row at a time.

use operators::Applied;
use topology::Emit;

use crate::answer::{self, Out};
use crate::error::Error;
use crate::plan::{PlanNode, Work};
use crate::rows::Lineage;

/// What a table suffered that has no record to blame.
pub fn of_a_table(error: operators::Error) -> Error {
    match error {
        operators::Error::State(error) => error.into(),
        operators::Error::Batch(error) => error.into(),
        operators::Error::Row { reason, .. } => Error::Contract(reason),
    }
}

/// Marks such joins as users of the stores they read. `emit` is that of the stores.
pub fn share_tables(nodes: &mut [PlanNode], emit: &[Emit]) {
    for node in nodes {
        let read: Vec<usize> = match &node.work {
            Work::TableJoin(join) => join.tables().collect(),
            Work::ForeignLookup(lookup) => vec![lookup.right()],
            Work::ForeignResolve(resolver) => vec![resolver.left()],
            _ => continue,
        };
        let on_commit = |store: &usize| emit.get(*store) == Some(&Emit::OnCommit);
        let shared: Vec<usize> = read.into_iter().filter(on_commit).collect();
        node.stores.extend(shared);
    }
}

/// Rows for port 0, then rows for port 1. The latter, one a cause, have the number `after` among those of their cause.
pub fn of_two(first: Applied, second: Applied, after: u32) -> Vec<Out> {
    let all = |rows: usize| (0..rows as u32).collect();
    let out = |port, applied: Applied, ordinals: fn(&[u32], u32) -> Vec<u32>| {
        let causes = applied.causes.unwrap_or_else(|| all(applied.rows.len()));
        let lineage = Lineage {
            ordinals: Some(ordinals(&causes, after)),
            causes: Some(causes),
        };
        Out {
            port,
            batch: applied.rows,
            lineage,
        }
    };
    let outs = [
        out(0, first, |causes, _| answer::ordinals(causes)),
        out(1, second, |causes, after| vec![after; causes.len()]),
    ];
    outs.into_iter().filter(|out| !out.batch.is_empty()).collect()
}
