//! Runs: what is due next, done whole or undone whole.

use std::sync::Arc;

use crate::call::{Entry, Halt, Run};
use crate::error::Error;
use crate::failure::What;
use crate::options::Ran;
use crate::queue::{Limits, Picked, Taken, pick};
use crate::rows::Rows;
use crate::schedules::Clock;
use crate::stage::RunOrigin;
use crate::task::Task;
use crate::walk::{Made, walk};
use crate::watch;

/// Failing again and again with ever fewer rows must end: half a run a time, a cut, a change of paths, a change of mode.
const ATTEMPTS_MAX: usize = 100_000;

impl Task {
    /// One run at most: a punctuation that is due, else rows. Everything it makes is staged.
    ///
    /// # Errors
    /// Everything of the run was undone. [`Error::Stop`] when a failure is not to be gone past.
    pub fn run(&mut self, wall_time: i64) -> Result<Ran, Error> {
        let ran = self.run_one(wall_time);
        self.release_globals();
        ran
    }

    /// What comes next may find the global tables as they are then; within a run they stand still.
    pub(crate) fn release_globals(&mut self) {
        for table in &mut self.context.globals {
            table.release();
        }
    }

    fn run_one(&mut self, wall_time: i64) -> Result<Ran, Error> {
        if !self.started {
            return Err(Error::Contract(format!("task {} was not started", self.id)));
        }
        if let Some(until) = self.trouble.waits(wall_time) {
            return Ok(Ran::Idle { until: Some(until) });
        }
        if self.context.stores.overlay_bytes() >= self.options.overlay_bytes_max {
            return Ok(Ran::Full);
        }
        self.recycle(wall_time)?;
        if let Some(id) = self.context.schedules.due(Clock::StreamTime, self.stream_time) {
            return self.punctuate(&id, Clock::StreamTime, wall_time);
        }
        if let Some(id) = self.context.schedules.due(Clock::WallTime, wall_time) {
            return self.punctuate(&id, Clock::WallTime, wall_time);
        }
        self.run_rows(wall_time)
    }

    fn run_rows(&mut self, wall_time: i64) -> Result<Ran, Error> {
        // A cut that a halted attempt asked for.
        let mut cut = usize::MAX;
        for _ in 0..ATTEMPTS_MAX {
            let (rows, suspected) = self.trouble.limit(self.options.run_records_max);
            let (rows, by_row) = (rows.min(cut), suspected || self.row_by_row);
            let limits = Limits {
                rows,
                bytes: self.options.run_bytes_max,
                stream_time: self.stream_time,
                stream_due: self.context.schedules.next_due(Clock::StreamTime),
                idle_ms: self.options.max_task_idle_ms,
                wall_time,
            };
            let taken = match pick(&mut self.queues, &self.rejects, limits)? {
                Picked::Rows(taken) => taken,
                Picked::Unfit { queue, unfit } => return self.leave_out_unfit(queue, unfit, wall_time),
                Picked::Wait { until } => return self.rest(until, wall_time),
            };
            let counts = taken.counts.clone();
            let run = self.source_run(*taken, wall_time)?;
            let halt = match self.attempt(&run, by_row) {
                Ok(made) => return Ok(self.pass(&run, &counts, made)),
                Err(halt) => halt,
            };
            match halt {
                Halt::Stop(error) => return Err(error),
                Halt::Paths => self.all_paths = true,
                Halt::Cut { rows } => cut = cut.min(rows),
                Halt::Row { root: 0, node, fault } if by_row && run.rows == 1 => {
                    return self.act(&run, &counts, node, What::Row(fault));
                }
                Halt::Row { root, .. } => {
                    self.trouble.suspect_row(root as usize);
                    cut = usize::MAX;
                }
                Halt::Call { node, failure } => {
                    self.renew(node, &failure, wall_time)?;
                    if by_row && run.rows == 1 && !self.trouble.is_first_of_new_code() {
                        return self.act(&run, &counts, node, What::Call(failure));
                    }
                    self.trouble.suspect(run.rows);
                    // Such a call may have taken all the time that it may. The worker must be able to commit what
                    // passed before, and to be seen alive, between one such call and the next.
                    return Ok(Ran::Worked { rows: 0 });
                }
            }
        }
        Err(Error::Contract(format!(
            "task {} found no way past a failing run",
            self.id
        )))
    }

    /// Walks `run`, without a savepoint.
    pub(crate) fn walk_on(&mut self, run: &Run, by_row: bool) -> Result<Made, Halt> {
        walk(
            &self.plan,
            &mut self.processors,
            &mut self.context,
            run,
            by_row,
            self.all_paths,
        )
    }

    /// Walks `run`; what it did to stores and schedules is undone when it halts.
    pub(crate) fn attempt(&mut self, run: &Run, by_row: bool) -> Result<Made, Halt> {
        let savepoint = self.context.stores.savepoint();
        self.context.schedules.savepoint();
        match self.walk_on(run, by_row) {
            Ok(made) => {
                self.context.stores.release();
                Ok(made)
            }
            Err(halt) => {
                self.context.stores.rollback_to(&savepoint);
                self.context.schedules.rollback();
                Err(halt)
            }
        }
    }

    fn pass(&mut self, run: &Run, counts: &[usize], made: Made) -> Ran {
        for (queue, count) in self.queues.iter_mut().zip(counts) {
            queue.consume(*count);
        }
        self.stream_time = run.stream_times.last().copied().unwrap_or(self.stream_time);
        self.metrics.records_in += run.rows as u64;
        self.flushed.clear();
        self.quiet = None;
        self.keep(run, made);
        self.went_well(run.rows);
        Ran::Worked { rows: run.rows }
    }

    /// Stages and counts what a run made.
    pub(crate) fn keep(&mut self, run: &Run, made: Made) {
        self.worked = true;
        self.metrics.runs += 1;
        self.metrics.dead_letters += made.counts.dead_letters;
        for (total, node) in self.metrics.nodes.iter_mut().zip(made.counts.nodes) {
            total.add(node);
        }
        watch::tell(&self.plan, run, run.watching.clone());
        watch::tell(&self.plan, run, made.watching);
        self.metrics.records_out += self.stage.add(&self.plan.outputs, made.outputs, run.origin.as_ref());
    }

    fn source_run(&self, taken: Taken, wall_time: i64) -> Result<Run, Error> {
        let Taken {
            batch,
            queue_of,
            offsets,
            stream_times,
            counts,
        } = taken;
        let mut entries = Vec::with_capacity(self.plan.roots.len());
        let mut watching = watch::begin(self.plan.watch.as_ref());
        let mut watched = None;
        for (position, root) in (0..).zip(&self.plan.roots) {
            let reads = |queue: usize| root.queues.get(queue).copied().unwrap_or(false);
            let all = counts
                .iter()
                .enumerate()
                .all(|(queue, count)| *count == 0 || reads(queue));
            let read = || (0..).zip(&queue_of).filter(|(_, q)| reads(**q as usize));
            let roots: Option<Vec<u32>> = (!all).then(|| read().map(|(row, _)| row).collect());
            let batch = match &roots {
                None => batch.clone(),
                Some(roots) if roots.is_empty() => continue,
                Some(roots) => batch.take(roots)?,
            };
            if watching.is_some() && watched.replace(root.node) != Some(root.node) {
                let rows = Rows {
                    batch: batch.clone(),
                    ports: Vec::new(),
                    roots: roots.as_ref().map(|roots| roots.iter().copied().collect()),
                    paths: None,
                };
                watch::keep(&mut watching, &self.plan, root.node, 0, &rows);
            }
            entries.push(Entry {
                child: root.child,
                position,
                batch,
                roots,
            });
        }
        Ok(Run {
            rows: batch.len(),
            stream_times: stream_times.into(),
            wall_time,
            origin: Some(Arc::new(RunOrigin { queue_of, offsets })),
            records: batch,
            entries,
            watching,
        })
    }

    pub(crate) fn idle_until(&self, until: Option<i64>) -> Option<i64> {
        [until, self.context.schedules.next_due(Clock::WallTime)]
            .into_iter()
            .flatten()
            .min()
    }
}
