//! The idle rule: when all inputs of a task have been empty for a time, its stream time goes on as the wall clock does,
//! so that windows close, and what waits goes on, although nothing comes any more.
//!
//! What it did is state like all times: a row that comes late after it is late, before a restart and after it.

use crate::answer::Out;
use crate::call::{Halt, Run};
use crate::error::Error;
use crate::options::Ran;
use crate::plan::Work;
use crate::queue::Queue;
use crate::rows::Lineage;
use crate::tables::of_a_table;
use crate::task::Task;

/// Wall time between two steps in milliseconds: each is a run of every node that works by time.
const STEP_MS: i64 = 1_000;

/// Wall times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    since: i64,
    /// When the stream time went on last.
    told: i64,
}

impl Task {
    /// Whether the task has an idle rule, and so must be told when its inputs have no more.
    pub fn goes_on_when_idle(&self) -> bool {
        self.plan.idle_ms.is_some()
    }

    /// In the place of a run where there are no rows. `until`: the wall time of what else there is to wait for.
    pub(crate) fn rest(&mut self, until: Option<i64>, wall_time: i64) -> Result<Ran, Error> {
        let idle = |until| Ok(Ran::Idle { until });
        let until = self.idle_until(until);
        let Some(idle_ms) = self.plan.idle_ms.filter(|_| self.stream_time >= 0) else {
            return idle(until);
        };
        if !self.queues.iter().all(Queue::is_quiet) {
            self.quiet = None;
            return idle(until);
        }
        let quiet = *self.quiet.get_or_insert(Quiet {
            since: wall_time,
            told: wall_time,
        });
        let due = quiet.since.saturating_add(idle_ms).max(quiet.told + STEP_MS);
        if wall_time < due {
            return idle(Some(until.map_or(due, |until| until.min(due))));
        }
        self.quiet = Some(Quiet {
            told: wall_time,
            ..quiet
        });
        self.stream_time = self.stream_time.saturating_add(wall_time - quiet.told);
        self.worked = true;
        for node in 0..self.plan.nodes.len() {
            let work = self.plan.nodes.get(node).map(|n| &n.work);
            if matches!(work, Some(Work::Windows(_) | Work::StreamJoin(_) | Work::Suppress(_))) {
                let what = format!("{node}\0idle");
                let ran = self.begin(node, &what, wall_time, &mut |task| task.go_on(node, wall_time))?;
                if matches!(ran, Ran::Idle { .. }) {
                    return Ok(ran);
                }
            }
        }
        Ok(Ran::Worked { rows: 0 })
    }

    /// What a node sends on because time has come.
    fn go_on(&mut self, node: usize, wall_time: i64) -> Result<Run, Halt> {
        let (time, stores) = (self.stream_time, &mut self.context.stores);
        let made = match self.plan.nodes.get(node).map(|n| &n.work) {
            Some(Work::Windows(windows)) => windows.go_on(time, stores),
            Some(Work::StreamJoin(joiner)) => joiner.go_on(time, stores),
            Some(Work::Suppress(suppressor)) => suppressor.go_on(time, stores),
            _ => Ok(record::Batch::empty()),
        };
        let batch = made.map_err(|error| Halt::Stop(of_a_table(error)))?;
        let lineage = Lineage::default();
        let out = (!batch.is_empty()).then_some(Out {
            port: 0,
            batch,
            lineage,
        });
        Ok(self.run_of(node, out.into_iter().collect(), wall_time)?)
    }
}
