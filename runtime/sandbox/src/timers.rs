//! `wasmill:timers`: what a processor asks to be called for. The task holds the schedules and calls.

use task::schedules::{Clock, Schedule};
use wasmtime::{Result, bail};

use crate::bindings::wasmill::timers::timers as wit;
use crate::host::{Host, Phase};

impl wit::Host for Host {
    fn start(&mut self, name: String, schedule: wit::Schedule, row: Option<u32>) -> Result<()> {
        const IMPORT: &str = "timers.start";
        self.allow(IMPORT, |phase| {
            matches!(phase, Phase::Open | Phase::Process { .. } | Phase::Punctuate)
        })?;
        // The rest of the contract's rules is checked where schedules live.
        let row = match (self.phase, row) {
            (Phase::Process { rows }, Some(row)) if row < rows => Some(row),
            (Phase::Process { rows }, Some(row)) => bail!("`{IMPORT}`: row {row} of a call with {rows} rows"),
            (Phase::Process { .. }, None) => bail!("`{IMPORT}`: a call from `process` must name its row"),
            _ => None,
        };
        let clock = match schedule.clock {
            wit::Clock::StreamTime => Clock::StreamTime,
            wit::Clock::WallTime => Clock::WallTime,
        };
        let schedule = Schedule {
            every_ms: schedule.every_ms,
            clock,
            anchor: schedule.anchor,
        };
        let started = self.context.start_schedule(&name, schedule, row);
        started.or_else(|refused| bail!("`{IMPORT}`: {refused}"))
    }

    fn stop(&mut self, name: String) -> Result<()> {
        self.allow("timers.stop", |phase| {
            matches!(phase, Phase::Open | Phase::Process { .. } | Phase::Punctuate)
        })?;
        self.context.schedules.stop(&name);
        Ok(())
    }
}
