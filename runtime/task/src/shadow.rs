//! A shadow run (design §11): another version of a step's code sees the same calls, on stores of its own; what it
//! answers is compared with what the running version answers, and dropped.
//!
//! [`Shadowed`] stands in the place of the running processor, so nothing else in a task knows of it. The shadow sees a
//! record once: rows of calls that are repeated (after an undone run, an abort) are left out by their origin.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use record::{Batch, TopicPartition};
use state::{Backend, Stores};
use topology::NodeId;

use crate::answer;
use crate::call::enter;
use crate::error::Error;
use crate::plan::Work;
use crate::processor::{Answer, Context, Emission, Failure, Input, Now, Processor, RowOutcome};
use crate::task::Task;

/// Differences that are kept whole.
const SAMPLES_MAX: usize = 10;
/// Bytes of a key or value that a sample shows.
const SHOWN_BYTES_MAX: usize = 200;
/// Memory of what the shadow has changed; above it the shadow writes it to its scratch store.
const OVERLAY_BYTES_MAX: usize = 16 << 20;

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Records that both versions saw.
    pub records: u64,
    /// Rows that each sent on, outcomes included.
    pub rows_from: u64,
    pub rows_to: u64,
    /// Rows that only one of them sent, or that differ.
    pub differences: u64,
    /// Calls of the shadow that failed, and why the last one did.
    pub failures: u64,
    pub last_failure: Option<String>,
    /// The first differences.
    pub samples: Vec<Difference>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub step: String,
    pub input: Option<(TopicPartition, i64)>,
    /// What each version sent on: port, key and value as text.
    pub from: Option<String>,
    pub to: Option<String>,
}

/// Shared by the shadows of a task and whoever reports.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Mutex<Found>>);

impl Findings {
    pub fn get(&self) -> Found {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The running processor, which outlives its shadow.
type Running = Arc<Mutex<Box<dyn Processor>>>;

fn lock(running: &Running) -> MutexGuard<'_, Box<dyn Processor>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Shadowed {
    step: String,
    name: String,
    outputs: usize,
    running: Running,
    shadow: Box<dyn Processor>,
    /// The shadow's: scratch stores, schedules that never fire.
    context: Context,
    findings: Findings,
    /// Next offset that the shadow has not seen.
    seen: BTreeMap<TopicPartition, i64>,
    /// It failed and could not be made anew.
    gone: bool,
}

impl Shadowed {
    /// Whether the shadow has seen none of these rows. A call that mixes seen and new ones is left out: it comes of a
    /// repeated run that is cut elsewhere.
    fn is_new(&mut self, context: &Context) -> bool {
        let origin = &context.origin;
        let row = |(n, offset): (&u32, &i64)| Some((origin.partitions.get(*n as usize)?.clone(), *offset));
        let rows: Vec<_> = origin
            .partition_of
            .iter()
            .zip(&origin.offsets)
            .filter_map(row)
            .collect();
        let new = rows
            .iter()
            .all(|(p, offset)| self.seen.get(p).is_none_or(|next| offset >= next));
        for (partition, offset) in rows {
            let next = self.seen.entry(partition).or_insert(offset + 1);
            *next = (*next).max(offset + 1);
        }
        new
    }

    fn follow(&mut self, context: &Context, now: Now, input: &Input, answer: &Answer) {
        if self.gone || !self.is_new(context) {
            return;
        }
        self.context.store_of.clone_from(&context.store_of);
        self.context.origin.clone_from(&context.origin);
        self.context.stream_times.clone_from(&context.stream_times);
        self.context.now = now;
        let savepoint = self.context.stores.savepoint();
        match self.shadow.process(&mut self.context, now, input) {
            Ok(answered) => {
                self.context.stores.release();
                self.compare(context, input, answer, answered);
            }
            Err(failure) => {
                self.context.stores.rollback_to(&savepoint);
                self.failed(&failure);
            }
        }
        self.context.schedules.take_started();
        if self.context.stores.overlay_bytes() > OVERLAY_BYTES_MAX && self.context.stores.applied(&[]).is_err() {
            self.gone = true;
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.findings.change(|found| {
            found.failures += 1;
            found.last_failure = Some(failure.to_string());
        });
        let again = match failure {
            Failure::Guest(_) => Ok(()),
            _ => self.shadow.renew().and_then(|()| self.shadow.open(&mut self.context)),
        };
        self.context.schedules.take_started();
        self.gone = again.is_err();
    }

    fn compare(&mut self, context: &Context, input: &Input, from: &Answer, to: Answer) {
        let (from, to) = (
            sent(from.clone(), &input.batch, self.outputs),
            sent(to, &input.batch, self.outputs),
        );
        let step = &self.step;
        self.findings.change(|found| {
            found.records += input.batch.len() as u64;
            for row in 0..input.batch.len() as u32 {
                let empty = Vec::new();
                let (one, other) = (from.get(&row).unwrap_or(&empty), to.get(&row).unwrap_or(&empty));
                found.rows_from += one.len() as u64;
                found.rows_to += other.len() as u64;
                for n in 0..one.len().max(other.len()) {
                    let (one, other) = (one.get(n), other.get(n));
                    if one == other {
                        continue;
                    }
                    found.differences += 1;
                    if found.samples.len() < SAMPLES_MAX {
                        found.samples.push(Difference {
                            step: step.clone(),
                            input: origin(context, row),
                            from: one.cloned(),
                            to: other.cloned(),
                        });
                    }
                }
            }
        });
    }
}

/// The code of a node in another version, and stores of its own.
pub type Shadow = (NodeId, Box<dyn Processor>, Box<dyn Backend>);

/// What a task keeps of its shadows.
#[derive(Default)]
pub(crate) struct Shadows {
    running: Vec<(usize, Running)>,
}

impl Task {
    /// Lets processors of another version see what those of this task see, from now on; to be called after a commit.
    /// `scratch`: for each of them the stores of the task as they are committed now, its own to change.
    ///
    /// # Errors
    /// A processor does not open; nothing has changed then. [`Error::Contract`] for a node that is no module's.
    pub fn shadow(&mut self, processors: Vec<Shadow>, wall_time: i64) -> Result<Findings, Error> {
        self.unshadow();
        let findings = Findings::default();
        for (id, mut shadow, scratch) in processors {
            let found = self.plan.nodes.iter().position(|n| n.id == id);
            let planned = found.and_then(|node| Some((node, self.plan.nodes.get(node)?)));
            let Some((node, (planned, Work::Module { stores, .. }))) = planned.map(|(node, p)| (node, (p, &p.work)))
            else {
                self.unshadow();
                return Err(Error::Contract(format!("task {} has no module at node {id}", self.id)));
            };
            let mut context = Context {
                stores: Stores::new(self.plan.stores.clone(), scratch, self.options.cache_bytes_max),
                ..Context::default()
            };
            let now = Now {
                stream_time: self.stream_time,
                wall_time,
            };
            enter(&mut context, node, stores, now);
            let (step, outputs) = (planned.name.to_string(), planned.ports.len());
            if let Err(failure) = shadow.open(&mut context) {
                let module = shadow.module().to_owned();
                self.unshadow();
                return Err(Error::Stop {
                    step,
                    module,
                    origin: None,
                    failure,
                });
            }
            context.schedules.take_started();
            let Some(place) = self.processors.get_mut(node) else {
                continue;
            };
            let Some(old) = place.take() else { continue };
            let name = old.module().to_owned();
            let running = Arc::new(Mutex::new(old));
            self.shadows.running.push((node, running.clone()));
            *place = Some(Box::new(Shadowed {
                step,
                name,
                outputs,
                running,
                shadow,
                context,
                findings: findings.clone(),
                seen: BTreeMap::new(),
                gone: false,
            }));
        }
        self.ask_columns();
        Ok(findings)
    }

    /// Ends a shadow run; what ran goes on.
    pub fn unshadow(&mut self) {
        for (node, running) in std::mem::take(&mut self.shadows.running) {
            let Some(place) = self.processors.get_mut(node) else {
                continue;
            };
            // Its own end would close the running processor too.
            drop(place.take());
            *place = Arc::into_inner(running).map(|r| r.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        self.ask_columns();
    }
}

fn origin(context: &Context, row: u32) -> Option<(TopicPartition, i64)> {
    let origin = &context.origin;
    let partition = *origin.partition_of.get(row as usize)? as usize;
    Some((
        origin.partitions.get(partition)?.clone(),
        *origin.offsets.get(row as usize)?,
    ))
}

/// What each input row caused, in order, as text.
fn sent(answer: Answer, input: &Batch, outputs: usize) -> BTreeMap<u32, Vec<String>> {
    let mut sent: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (row, outcome) in &answer.outcomes {
        let text = match outcome {
            RowOutcome::Drop(_) => continue,
            RowOutcome::DeadLetter(reason) => format!("dead letter: {reason}"),
            RowOutcome::Retry { reason, .. } => format!("retry: {reason}"),
            RowOutcome::Fail(reason) => format!("failure: {reason}"),
        };
        sent.entry(*row).or_default().push(text);
    }
    match answer::outputs(answer, input, outputs) {
        Ok((outs, _)) => {
            for out in outs {
                for row in 0..out.batch.len() {
                    let cause = match &out.lineage.causes {
                        Some(causes) => causes.get(row).copied().unwrap_or_default(),
                        None => row as u32,
                    };
                    let mut text = format!("port {}: ", out.port);
                    show(&mut text, out.batch.key(row));
                    text.push_str(" = ");
                    show(&mut text, out.batch.value(row));
                    if let Some(timestamp) = out.batch.timestamps().get(row) {
                        let _ = write!(text, " @ {timestamp}");
                    }
                    sent.entry(cause).or_default().push(text);
                }
            }
        }
        Err(broken) => sent.entry(0).or_default().push(format!("a broken answer: {broken}")),
    }
    sent
}

fn show(into: &mut String, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else {
        into.push_str("null");
        return;
    };
    let shown = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    let _ = write!(into, "{}", shown.escape_ascii());
    if shown.len() < bytes.len() {
        // The rest still decides whether two rows are the same.
        let hash = foldhash::quality::FixedState::default();
        let _ = write!(
            into,
            "… ({} bytes, {:x})",
            bytes.len(),
            std::hash::BuildHasher::hash_one(&hash, bytes)
        );
    }
}

impl Processor for Shadowed {
    fn open(&mut self, context: &mut Context) -> Result<(), Failure> {
        lock(&self.running).open(context)
    }

    fn process(&mut self, context: &mut Context, now: Now, input: &Input) -> Result<Answer, Failure> {
        let answer = lock(&self.running).process(context, now, input)?;
        self.follow(context, now, input, &answer);
        Ok(answer)
    }

    fn punctuate(&mut self, context: &mut Context, now: Now, name: &str) -> Result<Emission, Failure> {
        let emission = lock(&self.running).punctuate(context, now, name)?;
        if !self.gone {
            self.context.store_of.clone_from(&context.store_of);
            self.context.now = now;
            // What a punctuation sends has no cause to compare by; its effect on the stores shows in later rows.
            if let Err(failure) = self.shadow.punctuate(&mut self.context, now, name) {
                self.failed(&failure);
            }
        }
        Ok(emission)
    }

    fn renew(&mut self) -> Result<(), Failure> {
        lock(&self.running).renew()
    }

    fn close(&mut self) {
        lock(&self.running).close();
        self.shadow.close();
    }

    fn module(&self) -> &str {
        &self.name
    }

    fn memory_bytes(&self) -> usize {
        lock(&self.running).memory_bytes() + self.shadow.memory_bytes()
    }

    fn is_worn(&self) -> bool {
        lock(&self.running).is_worn()
    }

    fn busy_ns(&self) -> u64 {
        lock(&self.running).busy_ns()
    }

    fn needs_origin(&self) -> Option<bool> {
        // What one of them did not ask for does not reach it.
        match (lock(&self.running).needs_origin(), self.shadow.needs_origin()) {
            (Some(running), Some(shadow)) => Some(running || shadow),
            (running, _) => running,
        }
    }
}

#[cfg(test)]
mod tests;
