//! Probation: the first transaction under `to` is held open, measured, voted on, and committed or undone (design §11.4);
//! and the bounds after it.

use super::ballot::{Verdict, Vote};
use super::part::{Part, State};
use super::report::ReportState;
use super::terms::{PROBATION_MS_MAX, Phase, Swap};
use crate::control::State as PipelineState;
use crate::crash::CrashPoint;
use crate::mutant::Mutant;
use crate::options::{Error, Now};
use crate::placement::Record;
use crate::slot::Slot;
use crate::worker::Worker;
use record::TopicPartition;
use std::collections::HashMap;
use task::TaskId;

/// A hold without a verdict ends after this: a thread of the round is stuck, and readers of committed data wait.
const HOLD_MS_MAX: i64 = 2 * PROBATION_MS_MAX as i64;
/// Pause before the next try after a hold that was given up.
const RETRY_MS: i64 = 100;

impl Worker {
    /// The open transaction must not be committed yet.
    pub(crate) fn is_holding(&self) -> bool {
        self.exchange
            .as_ref()
            .and_then(|e| e.hold.as_ref())
            .is_some_and(|h| !h.passed)
    }

    /// Nothing more goes into a held transaction that is full, or whose thread has voted: what was judged is what is
    /// committed.
    pub(crate) fn is_hold_closed(&self) -> bool {
        let hold = self.exchange.as_ref().and_then(|e| e.hold.as_ref());
        hold.is_some_and(|h| !h.passed && (h.voted || self.commit_now))
    }

    /// To be called after tasks have run and before anything is committed.
    pub(crate) fn check_exchange(&mut self, now: Now) -> Result<bool, Error> {
        let Some(swap) = self.record.as_ref().and_then(|r| r.swap.clone()) else {
            return Ok(false);
        };
        let Some(exchange) = self.exchange.as_ref().filter(|e| e.id == swap.id) else {
            return Ok(false);
        };
        let holds = exchange.hold.is_some();
        if exchange.hold.as_ref().is_some_and(|h| h.passed) {
            return Ok(false);
        }
        // What has switched before, as a canary has, shares the transaction that others hold open.
        Ok(self.check_switched(now, &swap)? || (holds && self.tend_hold(now, &swap)?))
    }

    fn tend_hold(&mut self, now: Now, swap: &Swap) -> Result<bool, Error> {
        let held = |s: &&Slot| s.part.as_ref().is_some_and(|p| p.is_held());
        let gone = self.slots.values().filter(held).any(|s| s.leaving || !s.is_running());
        let none = !self.slots.values().any(|s| held(&s));
        let running = self.record.as_ref().is_some_and(|r| r.state == PipelineState::Running);
        let Some(hold) = self.exchange.as_ref().and_then(|e| e.hold.as_ref()) else {
            return Ok(false);
        };
        let elapsed_ms = now.monotonic_ms - hold.since_ms;
        let (round, voted) = (hold.round, hold.voted);
        let interrupted = gone || none || self.stop.is_some() || self.paused || !running;
        // A transaction that is left open for too long is aborted by the broker.
        let most_ms =
            i64::try_from(self.options.transaction_timeout_ms / 2).map_or(HOLD_MS_MAX, |t| t.min(HOLD_MS_MAX));
        if interrupted || swap.phase == Phase::RollingBack || elapsed_ms > most_ms {
            self.interrupt_hold(now)?;
            // Whoever was waited for in vain is not waited for again.
            self.options.ballot.withdraw(&self.options.thread);
            return Ok(true);
        }
        if swap.forward {
            return self.pass_hold(swap).map(|()| true);
        }
        if let Some(reason) = self.breach_in_hold(swap)
            && !self.mutant(Mutant::CommitFailedProbation)
        {
            self.options
                .ballot
                .vote(swap.id, round, &self.options.thread, Vote::Failed(reason.clone()));
            self.fail_hold(now, swap, &reason)?;
            return Ok(true);
        }
        if !voted {
            let records: u64 = self.slots.values().filter(held).map(|s| records_of(s, swap)).sum();
            let most_ms = swap.probation.ms.min(PROBATION_MS_MAX).cast_signed();
            let most_ms = if self.seems_slow(swap) {
                PROBATION_MS_MAX.cast_signed()
            } else {
                most_ms
            };
            let through = elapsed_ms >= most_ms || records >= swap.probation.records || !self.exactly_once();
            if !through {
                return Ok(false);
            }
            self.step(CrashPoint::SwapVoted)?;
            self.options
                .ballot
                .vote(swap.id, round, &self.options.thread, Vote::Passed);
            if let Some(hold) = self.exchange.as_mut().and_then(|e| e.hold.as_mut()) {
                hold.voted = true;
            }
        }
        match self.options.ballot.verdict(swap.id, round) {
            Verdict::Failed { thread, reason } => {
                self.fail_hold(now, swap, &format!("{thread}: {reason}"))?;
                Ok(true)
            }
            Verdict::Open if !self.mutant(Mutant::CommitBeforeAllVoted) => Ok(false),
            Verdict::Open | Verdict::Passed => self.pass_hold(swap).map(|()| true),
        }
    }

    /// Of the tasks whose transaction is held open: the first reason why it must not be committed.
    fn breach_in_hold(&self, swap: &Swap) -> Option<String> {
        let held = self
            .slots
            .values()
            .filter(|s| s.part.as_ref().is_some_and(|p| p.is_held()));
        held.filter_map(|slot| {
            let (part, task) = (slot.part.as_ref()?, slot.task.as_ref()?);
            let reason = slot.stopping.clone().or_else(|| part.breach(swap, task))?;
            Some(format!("task {}: {reason}", slot.id))
        })
        .next()
    }

    /// Of the tasks whose transaction is held open, one takes longer than it may, so far.
    fn seems_slow(&self, swap: &Swap) -> bool {
        self.slots.values().any(|slot| match (&slot.part, &slot.task) {
            (Some(part), Some(task)) => part.is_held() && part.seems_slow(swap, task),
            _ => false,
        })
    }

    /// The reports go with the transaction, which is due.
    fn pass_hold(&mut self, swap: &Swap) -> Result<(), Error> {
        let held = |s: &&Slot| s.part.as_ref().is_some_and(|p| p.is_held());
        let held: Vec<(TaskId, bool)> = self
            .slots
            .values()
            .filter(held)
            .map(|s| (s.id, records_of(s, swap) == 0))
            .collect();
        for (id, untried) in held {
            self.tell(id, ReportState::Switched, None);
            if let Some(report) = self.exchange.as_mut().and_then(|e| e.reports.get_mut(&id)) {
                report.untried = untried;
            }
        }
        if let Some(hold) = self.exchange.as_mut().and_then(|e| e.hold.as_mut()) {
            hold.passed = true;
        }
        self.commit_now = true;
        self.step(CrashPoint::SwapPassed)
    }

    /// The probation failed: nothing of it is published, `from` runs on, and every task of the thread that took part
    /// says why.
    pub(crate) fn fail_hold(&mut self, now: Now, swap: &Swap, reason: &str) -> Result<(), Error> {
        self.step(CrashPoint::SwapFailed)?;
        let held = |s: &&Slot| s.part.as_ref().is_some_and(|p| p.is_held());
        let held: Vec<TaskId> = self.slots.values().filter(held).map(|s| s.id).collect();
        if let Some(hold) = self.exchange.as_ref().and_then(|e| e.hold.as_ref()) {
            let vote = Vote::Failed(reason.to_owned());
            self.options
                .ballot
                .vote(swap.id, hold.round, &self.options.thread, vote);
        }
        self.abort(now)?;
        for id in held {
            self.fail_part(id, reason.to_owned());
        }
        self.step(CrashPoint::SwapUndone)
    }

    /// The held transaction cannot go on for a reason that is not the new version's: `from` runs on, and the switch is
    /// tried again.
    pub(crate) fn interrupt_hold(&mut self, now: Now) -> Result<(), Error> {
        let Some(exchange) = self.exchange.as_mut().filter(|e| e.hold.is_some()) else {
            return Ok(());
        };
        exchange.retry_ms = now.monotonic_ms + RETRY_MS;
        self.abort(now)
    }

    /// Every abort ends a hold: what runs in the replay is `from`. What failed is not to stop the task then.
    pub(crate) fn undo_hold(&mut self) {
        let Some(exchange) = self.exchange.as_mut().filter(|e| e.hold.is_some()) else {
            return;
        };
        exchange.hold = None;
        let versions = self.record.as_ref().map(|r| r.versions.clone()).unwrap_or_default();
        for slot in self.slots.values_mut() {
            let Some(part) = slot.part.as_mut().filter(|p| p.is_held()) else {
                continue;
            };
            part.state = State::Preparing;
            exchange.reports.remove(&slot.id);
            slot.stopping = None;
            slot.versions.clone_from(&versions);
            if let Some(task) = &mut slot.task {
                task.switch_back();
            }
        }
        if self.stop.is_some() {
            self.options.ballot.withdraw(&self.options.thread);
        } else {
            self.options.ballot.revoke(&self.options.thread);
        }
    }

    /// With the producer goes what it held; tasks were dropped, or wait for what became of their commit.
    pub(crate) fn forget_hold(&mut self) {
        self.options.ballot.withdraw(&self.options.thread);
        let Some(exchange) = &mut self.exchange else { return };
        if exchange.hold.take().is_some() {
            let slots = &self.slots;
            let held = |id: &TaskId| slots.get(id).and_then(|s| s.part.as_ref()).is_some_and(|p| p.is_held());
            exchange.reports.retain(|id, _| !held(id));
        }
    }

    /// After a commit: what it brought.
    pub(crate) fn exchange_committed(&mut self, records: &[Record]) -> Result<(), Error> {
        let Some(exchange) = &mut self.exchange else {
            return Ok(());
        };
        for record in records {
            if let Record::Version(id, Some(report)) = record
                && exchange.reports.get(id) == Some(report)
            {
                exchange.reports.remove(id);
            }
        }
        if exchange.hold.take_if(|h| h.passed).is_none() {
            return Ok(());
        }
        for part in self.slots.values_mut().filter_map(|s| s.part.as_mut()) {
            part.committed();
        }
        self.options.ballot.withdraw(&self.options.thread);
        self.step(CrashPoint::SwapCommitted)?;
        self.mark_afterwards();
        Ok(())
    }

    /// A mutant's marker, in a transaction too late.
    fn mark_afterwards(&mut self) {
        if !self.mutant(Mutant::MarkerAfterwards) {
            return;
        }
        for slot in self.slots.values_mut() {
            if let (Some(part), Some(task)) = (&slot.part, &mut slot.task) {
                let marker = super::marker::Marker::switched(part.swap, &Default::default()).encode();
                let _ = task.set_marker(Some(&marker));
            }
        }
    }

    /// Last own offsets in output partitions, as a commit brought them.
    pub(crate) fn note_delivered(&mut self, delivered: &HashMap<TopicPartition, i64>) {
        if self.exchange.is_none() {
            return;
        }
        for part in self.slots.values_mut().filter_map(|s| s.part.as_mut()) {
            if part.runs_to() {
                delivered
                    .iter()
                    .for_each(|(partition, last)| part.note_delivered(partition, *last));
            }
        }
    }

    /// The bounds after the probation: what breaks one goes back to its last commit and waits for the record.
    fn check_switched(&mut self, now: Now, swap: &Swap) -> Result<bool, Error> {
        let broken: Vec<(TaskId, String)> = self
            .slots
            .values()
            .filter(|s| s.is_running())
            .filter_map(|slot| {
                let (part, task) = (slot.part.as_ref()?, slot.task.as_ref()?);
                // What cannot go back is treated as a pipeline's `on-error` says.
                if !matches!(part.state, State::Switched) || part.migrates || swap.forward {
                    return None;
                }
                Some((slot.id, slot.stopping.clone().or_else(|| part.breach(swap, task))?))
            })
            .collect();
        if broken.is_empty() {
            return Ok(false);
        }
        if !self.mutant(Mutant::BackWithoutAbort) {
            self.abort(now)?;
        }
        for (id, reason) in broken {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.stopping = None;
            if let Some(part) = &mut slot.part {
                part.state = State::Broken { reason: reason.clone() };
            }
            self.tell(id, ReportState::Failed, Some(reason));
        }
        self.commit_now = true;
        self.step(CrashPoint::SwapBroken)?;
        Ok(true)
    }
}

impl Part {
    /// The transaction that was held, or whose outcome was unknown, is committed.
    pub(crate) fn committed(&mut self) {
        if self.is_held() {
            self.state = State::Switched;
        }
    }
}

fn records_of(slot: &Slot, swap: &Swap) -> u64 {
    match (&slot.part, &slot.task) {
        (Some(part), Some(task)) => part.records(swap, task),
        _ => 0,
    }
}
