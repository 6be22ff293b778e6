//! Joins with tables that emit on commit.
//!
//! In a batch, a join learns what a table had at a row from the table's next row of that key (`operators::table_join`).
//! A table that emits on commit sends no rows in a run. So there the join counts as a user of the table's store, and the
//! rules of [`crate::plan::Order`] do the rest: one row at a time.

use topology::Emit;

use crate::error::Error;
use crate::plan::{PlanNode, Work};

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
        let Work::TableJoin(join) = &node.work else { continue };
        let on_commit = |(_, store): &(u8, usize)| emit.get(*store) == Some(&Emit::OnCommit);
        let shared: Vec<usize> = join.tables().filter(on_commit).map(|(_, store)| store).collect();
        node.stores.extend(shared);
    }
}
