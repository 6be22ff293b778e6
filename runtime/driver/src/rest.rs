//! How the driver comes to rest: runs until nothing is left to do, commits, restarts.

use task::Staged;

use crate::Driver;
use crate::error::Error;
use crate::log::Record;
use crate::slot::Slot;

/// Runs without a record piped or time moved: a topology that needs more goes in a circle.
const RUNS_MAX: usize = 1_000_000;

/// Rounds of a commit: each takes what the tables of the one before set going further down, in a circle at worst.
const COMMIT_ROUNDS_MAX: usize = 1_000;

/// What a restarted task gets its state from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreFrom {
    /// The stores, as after a bounce of the process.
    Stores,
    /// The changelogs, as on another node. They must give what the stores held.
    Changelogs,
}

/// Runs a task until it has nothing to do; whether there was anything.
fn run_out(slot: &mut Slot, wall_time: i64, runs: &mut usize) -> Result<bool, Error> {
    let mut worked = false;
    while slot.run(wall_time)? {
        worked = true;
        *runs += 1;
        if *runs > RUNS_MAX {
            return Err(Error::Restless { runs: RUNS_MAX });
        }
    }
    Ok(worked)
}

impl Driver {
    /// Commits every task, those upstream first, so that a table emits once what changed in it; until nothing is left
    /// to commit.
    ///
    /// # Errors
    /// [`Error::Task`] when a task must stop, [`Error::Restless`].
    pub fn commit(&mut self) -> Result<(), Error> {
        for _ in 0..COMMIT_ROUNDS_MAX {
            if !self.slots.iter().any(Slot::uncommitted) {
                return Ok(());
            }
            for slot in self.commit_order.clone() {
                self.commit_slot(slot)?;
                self.settle()?;
            }
        }
        Err(Error::Restless {
            runs: COMMIT_ROUNDS_MAX,
        })
    }

    fn commit_slot(&mut self, slot: usize) -> Result<(), Error> {
        let wall_time = self.wall_time;
        let Some(slot) = self.slots.get_mut(slot) else {
            return Ok(());
        };
        if !slot.uncommitted() {
            return Ok(());
        }
        let staged = slot.flush_tables(wall_time)?;
        slot.commit()?;
        self.write(&staged);
        Ok(())
    }

    /// Commits, throws away all tasks with their processors, and starts new ones.
    ///
    /// # Errors
    /// As [`Driver::commit`] and [`Driver::new`]; [`Error::Changelog`].
    pub fn restart(&mut self, from: RestoreFrom) -> Result<(), Error> {
        self.commit()?;
        for slot in &mut self.slots {
            let made_of = (&self.new_processor, &self.globals);
            slot.restart(&self.topology, made_of, from, self.wall_time)?;
        }
        self.settle()
    }

    /// Runs until nothing is left to do at this wall time.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        let mut runs = 0;
        loop {
            self.run_all(&mut runs)?;
            // What was piped behind a record that waits for its retry waits too. One that waits for an input must get it.
            let waits_for_inputs = self.topology.max_task_idle_ms > 0;
            if !waits_for_inputs && self.slots.iter().any(|slot| slot.queued() > 0) {
                return Ok(());
            }
            let next = self.stretches.take();
            if next.is_empty() {
                return Ok(());
            }
            runs = 0;
            // Rows of a global table come alone, or with others of it.
            if let Some(first) = next.first().filter(|first| self.stretches.is_global(&first.topic)) {
                let records: Vec<Record> = next.iter().map(|piped| piped.record.clone()).collect();
                self.globals.push(&first.topic, &records)?;
            }
            for piped in next {
                self.logs.entry(piped.topic).or_default().push(piped.record);
            }
        }
    }

    fn run_all(&mut self, runs: &mut usize) -> Result<(), Error> {
        loop {
            let mut worked = false;
            for number in 0..self.slots.len() {
                let Some(slot) = self.slots.get_mut(number) else {
                    continue;
                };
                slot.fetch(&self.logs)?;
                let ran = run_out(slot, self.wall_time, runs);
                let staged = slot.take_staged();
                // What passed before a failure stands.
                self.write(&staged);
                worked |= ran?;
            }
            if !worked {
                return Ok(());
            }
        }
    }

    fn write(&mut self, staged: &[Staged]) {
        for rows in staged {
            self.logs.entry(rows.topic.clone()).or_default().append(&rows.batch);
        }
    }
}
