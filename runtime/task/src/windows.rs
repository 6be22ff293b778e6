//! Windowed operators and stores in a task.

use operators::{Applied, Windowed};
use record::Batch;

use crate::answer::{Out, ordinals};
use crate::call::Halt;
use crate::error::Error;
use crate::plan::Work;
use crate::rows::Lineage;
use crate::tables::of_a_table;
use crate::task::Task;

/// What an operator made that gives any number of rows for each.
pub fn results(made: Applied) -> Vec<Out> {
    if made.rows.is_empty() {
        return Vec::new();
    }
    let ordinals = made.causes.as_deref().map(ordinals);
    vec![Out {
        port: 0,
        batch: made.rows,
        lineage: Lineage {
            causes: made.causes,
            ordinals,
        },
    }]
}

/// What windows made of `input`: results at port 0, rows that came too late at port 1 where there is one. A row that
/// came too late has no results.
pub fn outs(made: Windowed, input: &Batch, ports: usize) -> Result<Vec<Out>, Halt> {
    let mut outs = results(made.applied);
    if ports > 1 && !made.late.is_empty() {
        outs.push(Out {
            port: 1,
            batch: input.take(&made.late)?,
            lineage: Lineage {
                causes: Some(made.late),
                ordinals: None,
            },
        });
    }
    Ok(outs)
}

impl Task {
    /// Before the changelog rows of a commit: what has expired leaves the windowed stores.
    pub(crate) fn sweep(&mut self) -> Result<(), Error> {
        // A sweep has no row that could fail.
        for node in &self.plan.nodes {
            match &node.work {
                Work::Windows(windows) => operators::sweep(windows, &mut self.context.stores).map_err(of_a_table)?,
                Work::StreamJoin(joiner) => joiner.sweep(&mut self.context.stores).map_err(of_a_table)?,
                _ => {}
            }
        }
        Ok(())
    }
}
