//! Runs that begin with no record: punctuations, and the flush of on-commit tables.

use operators::changed_rows;
use record::Batch;

use crate::answer::{self, Out};
use crate::call::{Entry, Halt, Run, enter, failed};
use crate::error::Error;
use crate::options::Ran;
use crate::plan::Work;
use crate::processor::{Failure, Now};
use crate::rows::{Lineage, Rows};
use crate::schedules::{Clock, ScheduleId};
use crate::tables::of_a_table;
use crate::task::Task;
use crate::watch;

impl Task {
    /// Fires a punctuation that is due.
    pub(crate) fn punctuate(&mut self, id: &ScheduleId, clock: Clock, wall_time: i64) -> Result<Ran, Error> {
        let what = format!("{}\0{}", id.node, id.name);
        let fire = &mut |task: &mut Self| task.fire(id, clock, wall_time);
        let ran = self.begin(id.node as usize, &what, wall_time, fire)?;
        self.metrics.punctuations += u64::from(matches!(ran, Ran::Worked { .. }));
        Ok(ran)
    }

    /// A run that begins with what `begin` makes at `node`, which is undone with it. `what` names it where it is
    /// repeated.
    pub(crate) fn begin(
        &mut self,
        node: usize,
        what: &str,
        wall_time: i64,
        begin: &mut dyn FnMut(&mut Self) -> Result<Run, Halt>,
    ) -> Result<Ran, Error> {
        loop {
            let savepoint = self.context.stores.savepoint();
            self.context.schedules.savepoint();
            let began = begin(self).and_then(|run| {
                let made = self.walk_on(&run, self.row_by_row)?;
                Ok((run, made))
            });
            let halt = match began {
                Ok((run, made)) => {
                    self.context.stores.release();
                    self.keep(&run, made);
                    self.flushed.clear();
                    self.trouble.repeated_well();
                    return Ok(Ran::Worked { rows: run.rows });
                }
                Err(halt) => halt,
            };
            self.context.stores.rollback_to(&savepoint);
            self.context.schedules.rollback();
            if self.again_with_paths(&halt) {
                continue;
            }
            let (node, failure, after_ms) = self.without_record(node, halt, wall_time)?;
            return match self.once_more(what, node, after_ms) {
                Some(after_ms) => {
                    let until = wall_time.saturating_add(i64::try_from(after_ms).unwrap_or(i64::MAX));
                    self.trouble.wait_until(until);
                    Ok(Ran::Idle { until: Some(until) })
                }
                None => Err(self.stop(node, None, failure)),
            };
        }
    }

    /// Calls the processor, and makes what it sends on a run.
    fn fire(&mut self, id: &ScheduleId, clock: Clock, wall_time: i64) -> Result<Run, Halt> {
        let node = id.node as usize;
        let now = Now {
            stream_time: self.stream_time,
            wall_time,
        };
        let time = match clock {
            Clock::StreamTime => now.stream_time,
            Clock::WallTime => wall_time,
        };
        self.context.schedules.fired(id, time);
        let (Some(planned), Some(Some(processor))) = (self.plan.nodes.get(node), self.processors.get_mut(node)) else {
            return Err(Halt::Stop(Error::Contract(format!(
                "schedule `{}` has no step",
                id.name
            ))));
        };
        let stores = match &planned.work {
            Work::Module { stores, .. } => stores.as_slice(),
            _ => &[],
        };
        enter(&mut self.context, node, stores, now);
        let emission = processor
            .punctuate(&mut self.context, now, &id.name)
            .map_err(|f| failed(node, f))?;
        self.context.schedules.take_started();
        let outs = answer::rows(emission, None, planned.ports.len(), time).map_err(|reason| Halt::Call {
            node,
            failure: Failure::Contract(reason),
        })?;
        Ok(self.run_of(node, outs, wall_time)?)
    }

    /// A run that begins with what `node` sends on.
    pub(crate) fn run_of(&self, node: usize, outs: Vec<Out>, wall_time: i64) -> Result<Run, record::Error> {
        let ports = self
            .plan
            .nodes
            .get(node)
            .map(|n| n.ports.as_slice())
            .unwrap_or_default();
        let rows: usize = outs.iter().map(|o| o.batch.len()).sum();
        let mut entries = Vec::new();
        let mut records = vec![None; rows];
        for out in &outs {
            // Where there are several ports, the causes that the split left are the rows of the whole.
            let roots = (out.batch.len() < rows).then(|| out.lineage.causes.clone().unwrap_or_default());
            for row in 0..out.batch.len() {
                let root = roots
                    .as_ref()
                    .map_or(row, |r| r.get(row).copied().unwrap_or_default() as usize);
                if let Some(place) = records.get_mut(root) {
                    *place = Some(out.batch.slice(row, 1));
                }
            }
            for (position, child) in (0..).zip(ports.get(out.port as usize).into_iter().flatten()) {
                entries.push(Entry {
                    child: *child,
                    position,
                    batch: out.batch.clone(),
                    roots: roots.clone(),
                });
            }
        }
        let mut watching = watch::begin(self.plan.watch.as_ref());
        for out in &outs {
            let made = Rows {
                batch: out.batch.clone(),
                ports: Vec::new(),
                roots: None,
                paths: None,
            };
            watch::keep(&mut watching, &self.plan, node, out.port, &made);
        }
        let records = match outs.as_slice() {
            [only] => only.batch.clone(),
            _ => Batch::concat(&records.iter().flatten().collect::<Vec<_>>())?,
        };
        Ok(Run {
            rows,
            stream_times: vec![self.stream_time; rows].into(),
            wall_time,
            origin: None,
            records,
            entries,
            watching,
        })
    }

    fn again_with_paths(&mut self, halt: &Halt) -> bool {
        let paths = matches!(halt, Halt::Paths) && !self.all_paths;
        self.all_paths |= paths;
        paths
    }

    /// The node and failure of a run that has no record to blame, and the wait that a guest asked for.
    fn without_record(&mut self, began: usize, halt: Halt, wall_time: i64) -> Result<(usize, Failure, u32), Error> {
        use crate::call::Fault;
        match halt {
            Halt::Stop(error) => Err(error),
            Halt::Row {
                node,
                fault: Fault::Retry { after_ms, reason },
                ..
            } => Ok((node, Failure::Guest(reason), after_ms)),
            Halt::Row {
                node,
                fault: Fault::Fail { reason, .. } | Fault::Unroutable { reason },
                ..
            } => Ok((node, Failure::Guest(reason), 0)),
            Halt::Call { node, failure } => {
                self.renew(node, &failure, wall_time)?;
                Ok((node, failure, 0))
            }
            Halt::Cut { .. } | Halt::Paths => Ok((began, Failure::Contract("a run without records was cut".into()), 0)),
        }
    }

    /// How long to wait before the next attempt; `None`: there were enough.
    fn once_more(&mut self, what: &str, node: usize, after_ms: u32) -> Option<u64> {
        let retries = self.plan.nodes.get(node).map(|n| n.retries()).unwrap_or_default();
        if self.trouble.repeat(what.to_owned()) > retries.max {
            return None;
        }
        self.metrics.retries += 1;
        Some(u64::from(after_ms).clamp(
            retries.backoff_ms_min,
            retries.backoff_ms_max.max(retries.backoff_ms_min),
        ))
    }

    /// The last runs of a commit: each on-commit table sends on what changed since the last commit, in topology order,
    /// so that what this changes in tables further down is sent on too. Tables that were flushed already since the last
    /// run of records are left out, so that a call after [`Error::Retry`] goes on where it stopped.
    ///
    /// # Errors
    /// [`Error::Retry`]; [`Error::Stop`] when the retries of the failing step are used up.
    pub fn flush_tables(&mut self, wall_time: i64) -> Result<(), Error> {
        let flushed = self.flush_all(wall_time);
        self.release_globals();
        flushed
    }

    fn flush_all(&mut self, wall_time: i64) -> Result<(), Error> {
        let tables: Vec<(usize, usize)> = self.plan.on_commit_tables().collect();
        for (node, store) in tables {
            if self.flushed.contains(&node) {
                continue;
            }
            let olds = self.plan.nodes.get(node).is_some_and(|n| n.olds);
            let changed = changed_rows(&self.context.stores, store, self.stream_time, olds).map_err(of_a_table)?;
            let changed = match self.plan.layouts.get(store).copied().flatten() {
                Some(layout) => operators::wire_keys(layout, &changed),
                None => changed,
            };
            if !changed.is_empty() {
                self.flush_table(node, changed, wall_time)?;
            }
            self.flushed.push(node);
        }
        Ok(())
    }

    fn flush_table(&mut self, node: usize, changed: Batch, wall_time: i64) -> Result<(), Error> {
        let run = self.run_of(
            node,
            vec![Out {
                port: 0,
                batch: changed,
                lineage: Lineage::default(),
            }],
            wall_time,
        )?;
        loop {
            let halt = match self.attempt(&run, self.row_by_row) {
                Ok(made) => {
                    self.keep(&run, made);
                    self.trouble.repeated_well();
                    return Ok(());
                }
                Err(halt) => halt,
            };
            if self.again_with_paths(&halt) {
                continue;
            }
            let (node, failure, after_ms) = self.without_record(node, halt, wall_time)?;
            let again = self.once_more(&format!("{node}\0flush"), node, after_ms);
            let Some(after_ms) = again else {
                return Err(self.stop(node, None, failure));
            };
            return Err(Error::Retry {
                step: self.step(node),
                module: self.module(node),
                after_ms,
                failure,
            });
        }
    }
}
