//! What happens when a run fails: the failing source row is found, then `retry`, `on-error` or the bound decides.
//!
//! A row that answers `retry` or `fail` is known at once. A call that fails as a whole is run again with half of its
//! rows, until one row is left; that one is run row by row, so that the failure acted on is the one that the records
//! one by one would have met first.

use std::collections::BTreeMap;
use std::sync::Arc;

use record::{Batch, TopicPartition};
use topology::{InvalidTime, OnError};

use crate::call::{Fault, Run};
use crate::error::Error;
use crate::options::Ran;
use crate::processor::{Failure, Processor};
use crate::queue::{Queue, Unfit};
use crate::rows::Rows;
use crate::stage::{Cause, Collected, dead_letter};
use crate::task::Task;

/// Calls that may fail as a whole on one record after the other, with none going well between them: beyond it the
/// module is broken, not its input. Each costs a new instance.
pub const FAILED_RECORDS_IN_ROW_MAX: u32 = 100;

/// Beyond so many rows that went well since, a run is as large as ever.
const RAMP_ROWS_MAX: usize = 1024;

/// What the task knows of failures.
#[derive(Debug, Default)]
pub struct Trouble {
    /// So many rows from the head are known to hold a failing one; 0: none is known.
    suspects: usize,
    /// It is the last one of them.
    suspect_is_last: bool,
    /// The record that is being retried.
    retrying: Option<Retrying>,
    /// A failing punctuation, or table (by node) in a flush.
    repeating: Option<(String, u32)>,
    /// Nothing runs before this wall time.
    not_before: Option<i64>,
    failed_in_row: u32,
    /// Rows of the next run at most, doubling from 1 after a record whose call failed: where one is, others are, and
    /// each costs an instance for every halving. 0: no such bound.
    ramp: usize,
    /// No call of new code has failed yet.
    untroubled: bool,
    /// Records (queue and offset) whose dead letter was sent after a refusal by the broker, since the last commit; and
    /// whether that was refused as well.
    letters: BTreeMap<(usize, i64), bool>,
}

#[derive(Debug)]
struct Retrying {
    source: u32,
    offset: i64,
    attempts: u32,
}

impl Trouble {
    /// New code begins with one row, then two, then four: what is slow or fails shows before it was given many.
    pub fn of_new_code() -> Self {
        Self {
            ramp: 1,
            untroubled: true,
            ..Self::default()
        }
    }

    /// Whether this is the first call of new code that fails. Whoever watches the code has to see it before the record is
    /// taken for the culprit.
    pub fn is_first_of_new_code(&mut self) -> bool {
        std::mem::take(&mut self.untroubled)
    }

    /// Rows of the next run at most, and whether it goes row by row.
    pub fn limit(&self, rows_max: usize) -> (usize, bool) {
        let rows_max = if self.ramp > 0 {
            rows_max.min(self.ramp)
        } else {
            rows_max
        };
        match self.suspects {
            0 => (rows_max.max(1), rows_max <= 1),
            1 => (1, true),
            suspects if self.suspect_is_last => ((suspects - 1).min(rows_max).max(1), false),
            suspects => ((suspects / 2).min(rows_max).max(1), false),
        }
    }

    /// One of the first `rows` rows fails.
    pub fn suspect(&mut self, rows: usize) {
        self.suspects = rows;
        self.suspect_is_last = false;
    }

    /// Row `row` fails.
    pub fn suspect_row(&mut self, row: usize) {
        self.suspects = row + 1;
        self.suspect_is_last = true;
    }

    /// The first `rows` rows went well, or were dealt with.
    pub fn passed(&mut self, rows: usize) {
        self.suspects = self.suspects.saturating_sub(rows);
        self.not_before = None;
        self.ramp = if self.ramp < RAMP_ROWS_MAX { 2 * self.ramp } else { 0 };
    }

    /// The wall time before which nothing runs.
    pub fn waits(&self, wall_time: i64) -> Option<i64> {
        self.not_before.filter(|until| wall_time < *until)
    }

    pub fn wait_until(&mut self, until: i64) {
        self.not_before = Some(until);
    }

    /// One more attempt at a punctuation or flush; how many there were.
    pub fn repeat(&mut self, what: String) -> u32 {
        match &mut self.repeating {
            Some((known, attempts)) if *known == what => {
                *attempts += 1;
                *attempts
            }
            other => {
                *other = Some((what, 1));
                1
            }
        }
    }

    pub fn repeated_well(&mut self) {
        self.repeating = None;
        self.not_before = None;
    }

    /// The broker refused something that came of this record: its dead letter, where one was sent.
    pub fn refused(&mut self, queue: usize, offset: i64) {
        if let Some(refused) = self.letters.get_mut(&(queue, offset)) {
            *refused = true;
        }
    }

    pub fn committed(&mut self) {
        self.letters.clear();
    }

    /// Retries of a record outlive an abort; what is known of the rows at the head does not.
    pub fn aborted(&mut self) {
        self.suspects = 0;
    }
}

impl Task {
    /// Takes a new instance in place of one that trapped or does not keep to the contract.
    pub(crate) fn renew(&mut self, node: usize, failure: &Failure, wall_time: i64) -> Result<(), Error> {
        if let Some(counts) = self.metrics.nodes.get_mut(node) {
            counts.failed_calls += 1;
            counts.last_failure = Some(failure.to_string());
        }
        if matches!(failure, Failure::Guest(_) | Failure::Host(_)) {
            return Ok(());
        }
        self.metrics.traps += u64::from(matches!(failure, Failure::Trap { .. }));
        self.replace(node, wall_time)
    }

    /// Takes new instances in place of those that have grown too large. Between runs: nothing of an instance is kept.
    pub(crate) fn recycle(&mut self, wall_time: i64) -> Result<(), Error> {
        for node in 0..self.processors.len() {
            let worn = |processor: &Option<Box<dyn Processor>>| processor.as_ref().is_some_and(|p| p.is_worn());
            if self.processors.get(node).is_some_and(worn) {
                self.metrics.recycled += 1;
                self.replace(node, wall_time)?;
            }
        }
        Ok(())
    }

    fn replace(&mut self, node: usize, wall_time: i64) -> Result<(), Error> {
        if let Some(Some(processor)) = self.processors.get_mut(node) {
            let renewed = processor.renew();
            renewed.map_err(|failure| self.stop(node, None, failure))?;
        }
        // What `open` starts and stores was there when the task began. Here it would come at a moment that depends on how
        // the batch was cut, so it is undone.
        let savepoint = self.context.stores.savepoint();
        self.context.schedules.savepoint();
        let opened = self.open(node, wall_time);
        self.context.stores.rollback_to(&savepoint);
        self.context.schedules.rollback();
        opened
    }

    /// The only row of `run` fails at `node`, however it is run.
    pub(crate) fn act(&mut self, run: &Run, counts: &[usize], node: usize, what: What) -> Result<Ran, Error> {
        let origin = run.origin.as_ref().and_then(|o| o.get(0, &self.plan.sources));
        let wall_time = run.wall_time;
        let (stage, failure) = match what {
            What::Row(Fault::Unroutable { reason }) => return Err(self.stop(node, origin, Failure::Guest(reason))),
            What::Row(Fault::Fail { stage, reason }) => (stage, Failure::Guest(reason)),
            What::Row(Fault::Retry { after_ms, reason }) => match self.retry(run, node, after_ms, wall_time) {
                Ok(until) => {
                    self.trouble.suspect_row(0);
                    return Ok(Ran::Idle { until: Some(until) });
                }
                Err(attempts) => (
                    "processing",
                    Failure::Guest(format!("{reason} (after {attempts} retries)")),
                ),
            },
            What::Call(failure) => {
                self.trouble.failed_in_row += 1;
                if self.trouble.failed_in_row > FAILED_RECORDS_IN_ROW_MAX {
                    return Err(self.stop(node, origin, beyond_bound(failure)));
                }
                ("processing", failure)
            }
        };
        let on_error = self.plan.nodes.get(node).map_or(OnError::Stop, |n| n.on_error);
        match on_error {
            OnError::Stop => return Err(self.stop(node, origin, failure)),
            OnError::Skip => self.metrics.skipped += 1,
            OnError::DeadLetter if self.plan.dead_letters.is_none() => return Err(self.stop(node, origin, failure)),
            OnError::DeadLetter => {
                let (reason, backtrace) = told(&failure);
                let (module, step) = (self.module(node), self.step(node));
                let pipeline = Arc::clone(&self.plan.pipeline);
                let cause = Cause {
                    pipeline: &pipeline,
                    task: self.id,
                    at: wall_time,
                    stage,
                    reason,
                    backtrace,
                    module: &module,
                    step: &step,
                    origin,
                };
                self.send_dead_letter(run, &cause)?;
            }
        }
        self.trouble.retrying = None;
        self.leave_out(counts);
        Ok(Ran::Worked { rows: 1 })
    }

    /// When the record is to be tried again; `Err`: its retries are used up, here is how many there were.
    fn retry(&mut self, run: &Run, node: usize, after_ms: u32, wall_time: i64) -> Result<i64, u32> {
        let retries = self.plan.nodes.get(node).map(|n| n.retries()).unwrap_or_default();
        let place = run
            .origin
            .as_ref()
            .and_then(|o| Some((*o.queue_of.first()?, *o.offsets.first()?)));
        let (source, offset) = place.unwrap_or((u32::MAX, -1));
        let attempts = match &self.trouble.retrying {
            Some(known) if (known.source, known.offset) == (source, offset) => known.attempts,
            _ => 0,
        };
        if attempts >= retries.max {
            return Err(attempts);
        }
        self.trouble.retrying = Some(Retrying {
            source,
            offset,
            attempts: attempts + 1,
        });
        self.metrics.retries += 1;
        let wait = u64::from(after_ms).clamp(
            retries.backoff_ms_min,
            retries.backoff_ms_max.max(retries.backoff_ms_min),
        );
        let until = wall_time.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
        self.trouble.wait_until(until);
        Ok(until)
    }

    fn send_dead_letter(&mut self, run: &Run, cause: &Cause<'_>) -> Result<(), Error> {
        let Some(topic) = self.plan.dead_letters else {
            return Ok(());
        };
        let mut collected = Collected::new(&self.plan);
        let batch = dead_letter(&run.records, 0, cause);
        collected.push(
            topic,
            Rows {
                batch,
                ports: Vec::new(),
                roots: None,
                paths: None,
            },
        );
        let rows = collected
            .finish(true)
            .map_err(|_| Error::Contract("a dead letter does not fit".into()))?;
        self.metrics.records_out += self.stage.add(&self.plan.outputs, rows, run.origin.as_ref());
        self.metrics.dead_letters += 1;
        Ok(())
    }

    /// The records at the head are done with, without an effect.
    fn leave_out(&mut self, counts: &[usize]) {
        for (queue, count) in self.queues.iter_mut().zip(counts) {
            queue.consume(*count);
            self.metrics.records_in += *count as u64;
        }
        self.quiet = None;
        self.trouble.passed(1);
        if self.trouble.failed_in_row > 0 {
            self.trouble.ramp = 1;
        }
        self.worked = true;
    }

    /// The record at the head of `queue` is not to be processed at all.
    pub(crate) fn leave_out_unfit(&mut self, queue: usize, unfit: Unfit, wall_time: i64) -> Result<Ran, Error> {
        let mut counts = vec![0; self.queues.len()];
        if let Some(count) = counts.get_mut(queue) {
            *count = 1;
        }
        match unfit {
            Unfit::NegativeTimestamp => self.metrics.invalid_timestamps += 1,
            Unfit::InvalidTime(reason) => self.without_time(queue, &reason, wall_time)?,
            Unfit::Rejected(reason) => {
                let run = self.head_run(queue, wall_time)?;
                let origin = run.origin.as_ref().and_then(|o| o.get(0, &self.plan.sources));
                let offset = run.origin.as_ref().and_then(|o| o.offsets.first().copied());
                let refused = self.trouble.letters.insert((queue, offset.unwrap_or(-1)), false);
                if refused == Some(true) {
                    return Err(rejected(origin, format!("{reason}; and its dead letter too")));
                }
                if self.plan.dead_letters.is_none() || self.rejected > self.options.dead_letters_per_commit_max {
                    return Err(rejected(origin, reason));
                }
                self.send_head_letter(&run, "production", &reason, "")?;
            }
        }
        self.leave_out(&counts);
        Ok(Ran::Worked { rows: 1 })
    }

    /// The record at the head of `queue` has no time that its source could give it.
    fn without_time(&mut self, queue: usize, reason: &str, wall_time: i64) -> Result<(), Error> {
        let Some((node, invalid)) = self.queues.get(queue).and_then(Queue::when_invalid) else {
            return Ok(());
        };
        let run = self.head_run(queue, wall_time)?;
        let origin = run.origin.as_ref().and_then(|o| o.get(0, &self.plan.sources));
        let reason = format!("this record has no valid time: {reason}");
        match invalid {
            InvalidTime::Skip => {}
            InvalidTime::DeadLetter if self.plan.dead_letters.is_some() => {
                self.send_head_letter(&run, "deserialization", &reason, &self.step(node))?;
            }
            InvalidTime::Fail | InvalidTime::PartitionTime | InvalidTime::DeadLetter => {
                return Err(self.stop(node, origin, Failure::Guest(reason)));
            }
        }
        self.metrics.invalid_timestamps += 1;
        if let Some(counts) = self.metrics.nodes.get_mut(node) {
            counts.dropped += 1;
        }
        Ok(())
    }

    /// The dead letter of a record that was not processed at all: no module had it.
    fn send_head_letter(&mut self, run: &Run, stage: &'static str, reason: &str, step: &str) -> Result<(), Error> {
        let pipeline = Arc::clone(&self.plan.pipeline);
        let cause = Cause {
            pipeline: &pipeline,
            task: self.id,
            at: run.wall_time,
            stage,
            reason,
            backtrace: "",
            module: "",
            step,
            origin: run.origin.as_ref().and_then(|o| o.get(0, &self.plan.sources)),
        };
        self.send_dead_letter(run, &cause)
    }

    /// The record at the head of a queue, as a run of its own.
    fn head_run(&self, queue: usize, wall_time: i64) -> Result<Run, Error> {
        let (records, offsets) = match self.queues.get(queue) {
            Some(queue) => {
                let (records, offsets) = queue.head(1)?;
                match queue.own_time() {
                    Some(own) => (records.with_timestamps(vec![own.max(0)].into())?, offsets),
                    None => (records, offsets),
                }
            }
            None => (Batch::empty(), Vec::new()),
        };
        let origin = crate::stage::RunOrigin {
            queue_of: vec![queue as u32; offsets.len()],
            offsets,
        };
        Ok(Run {
            rows: records.len(),
            stream_times: Vec::new().into(),
            wall_time,
            origin: Some(Arc::new(origin)),
            records,
            entries: Vec::new(),
            watching: None,
        })
    }

    /// Rows went well: whatever failed before was the records' fault.
    pub(crate) fn went_well(&mut self, rows: usize) {
        self.trouble.failed_in_row = 0;
        self.trouble.retrying = None;
        self.trouble.passed(rows);
    }
}

/// What the one row met.
#[derive(Debug)]
pub enum What {
    Row(Fault),
    Call(Failure),
}

fn rejected(origin: Option<(TopicPartition, i64)>, reason: String) -> Error {
    let failure = Failure::Host(format!("the broker refused what came of this record: {reason}"));
    Error::Stop {
        step: "production".into(),
        module: String::new(),
        origin,
        failure,
    }
}

/// Reason and back-trace.
fn told(failure: &Failure) -> (&str, &str) {
    match failure {
        Failure::Trap { cause, backtrace } => (cause, backtrace),
        Failure::Guest(text) | Failure::Contract(text) | Failure::Host(text) => (text, ""),
    }
}

/// That it is the bound that stops the task, and not `on-error`.
fn beyond_bound(failure: Failure) -> Failure {
    let told = |cause| {
        format!("it failed on more than {FAILED_RECORDS_IN_ROW_MAX} records in a row, the last time so: {cause}")
    };
    match failure {
        Failure::Trap { cause, backtrace } => Failure::Trap {
            cause: told(cause),
            backtrace,
        },
        Failure::Guest(cause) => Failure::Guest(told(cause)),
        Failure::Contract(cause) => Failure::Contract(told(cause)),
        Failure::Host(cause) => Failure::Host(told(cause)),
    }
}
