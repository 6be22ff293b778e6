//! One task's part in a swap: how far it is, and what its new version did since.

use super::report::{Sample, Shadow};
use super::terms::{Bounds, Swap, Written};
use crate::options::Processors;
use crate::status::SwapProgress;
use record::TopicPartition;
use std::collections::BTreeMap;
use task::shadow::{Findings, Found};
use task::{Measured, Task};
use uuid::Uuid;

/// Time in the module from which on a few rows tell that it is too slow: a busy machine takes a thread away for less.
const SURE_NS: u64 = 100_000_000;
/// From here on it may be.
const SUSPECT_NS: u64 = 20_000_000;

pub(crate) enum State {
    /// Runs `from`; processors of `to` are being made.
    Preparing,
    Prepared(Processors),
    /// Runs `to` in a transaction that is held open.
    Held {
        since_ms: i64,
    },
    /// Runs `to`, and has committed it.
    Switched,
    /// Runs `from` and does not try again.
    Failed {
        reason: String,
    },
    /// `to` broke a bound after it was committed: nothing runs until the record goes back.
    Broken {
        reason: String,
    },
    /// Runs `from` again, or still, and says so.
    Back,
    /// Runs `from`, and `to` beside it.
    Shadowing {
        findings: Findings,
        told_ms: i64,
    },
}

pub(crate) struct Part {
    pub swap: Uuid,
    pub state: State,
    /// At the switch.
    base: Measured,
    /// Nanoseconds that `from` took for a row, where it was measured.
    from_row_ns: Option<f64>,
    /// Ends of the output partitions before the switch.
    ends: BTreeMap<TopicPartition, i64>,
    /// Last own row in them since.
    last: BTreeMap<TopicPartition, i64>,
    /// Started with `to`: what an earlier run of the task wrote under it is not in `last`.
    pub resumed: bool,
    /// It was stopped under `from`, and is not to run under it once more.
    pub revived: bool,
    /// Once it is committed, `from` cannot read the task's stores.
    pub migrates: bool,
}

impl Part {
    pub(crate) fn new(swap: Uuid, state: State) -> Self {
        Self {
            swap,
            state,
            base: Measured::default(),
            from_row_ns: None,
            ends: BTreeMap::new(),
            last: BTreeMap::new(),
            resumed: false,
            revived: false,
            migrates: false,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    pub(crate) fn runs_to(&self) -> bool {
        matches!(self.state, State::Held { .. } | State::Switched | State::Broken { .. })
    }

    /// Whether the task must not run now.
    pub(crate) fn holds_back(&self) -> bool {
        match self.state {
            State::Broken { .. } => true,
            State::Preparing | State::Prepared(_) => self.revived,
            _ => false,
        }
    }

    /// Before the switch: what `from` was like.
    pub(crate) fn measure_from(&mut self, swap: &Swap, task: &Task) {
        let from = measured(swap, task);
        let known = from.busy_ns > 0 && from.rows >= swap.bounds.latency_of_rows.max(1);
        self.from_row_ns = known.then(|| from.busy_ns as f64 / from.rows as f64);
    }

    /// From here on `to` is measured. `ends`: of the output partitions.
    pub(crate) fn begin(&mut self, swap: &Swap, task: &Task, ends: BTreeMap<TopicPartition, i64>) {
        self.base = measured(swap, task);
        self.ends = ends;
        self.last.clear();
    }

    /// Source records since the switch.
    pub(crate) fn records(&self, swap: &Swap, task: &Task) -> u64 {
        measured(swap, task).records.saturating_sub(self.base.records)
    }

    /// Why `to` cannot stay, by what it did since the switch.
    pub(crate) fn breach(&self, swap: &Swap, task: &Task) -> Option<String> {
        breach(&swap.bounds, &self.base, &measured(swap, task), self.from_row_ns)
    }

    /// Whether a row takes longer than it may, so far, and too little has passed to be sure.
    pub(crate) fn seems_slow(&self, swap: &Swap, task: &Task) -> bool {
        let (rows, busy_ns) = since(&self.base, &measured(swap, task));
        let allowed = row_ns_max(&swap.bounds, self.from_row_ns);
        busy_ns >= SUSPECT_NS && allowed.is_some_and(|most| busy_ns as f64 > most * rows as f64)
    }

    pub(crate) fn note_delivered(&mut self, partition: &TopicPartition, last: i64) {
        if self.ends.contains_key(partition) {
            self.last.insert(partition.clone(), last);
        }
    }

    /// Whatever `to` wrote lies before these ends.
    pub(crate) fn note_ends(&mut self, ends: &BTreeMap<TopicPartition, i64>) {
        for (partition, end) in ends {
            if self.ends.contains_key(partition) {
                self.last.insert(partition.clone(), end - 1);
            }
        }
    }

    /// What `to` wrote before the task went back, in an earlier run of it.
    pub(crate) fn note_written(&mut self, written: Vec<Written>) {
        for range in written {
            let partition = TopicPartition::new(range.topic.as_str(), range.partition);
            self.ends.insert(partition.clone(), range.first);
            self.last.insert(partition, range.last);
        }
    }

    /// What `to` has written.
    pub(crate) fn written(&self) -> Vec<Written> {
        let range = |(partition, last): (&TopicPartition, &i64)| {
            let first = self.ends.get(partition).copied().filter(|first| first <= last)?;
            Some(Written {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                first,
                last: *last,
            })
        };
        self.last.iter().filter_map(range).collect()
    }

    /// What its shadow has found.
    pub(crate) fn found(&self) -> Option<Shadow> {
        match &self.state {
            State::Shadowing { findings, .. } => Some(shadow(findings.get())),
            _ => None,
        }
    }

    pub(crate) fn progress(&self, records: u64, now_ms: i64) -> SwapProgress {
        match &self.state {
            State::Preparing => SwapProgress::Preparing,
            State::Prepared(_) => SwapProgress::Waiting,
            State::Held { since_ms } => SwapProgress::Probation {
                held_ms: now_ms - since_ms,
                records,
            },
            State::Switched => SwapProgress::Switched,
            State::Failed { reason } | State::Broken { reason } => SwapProgress::Failed { reason: reason.clone() },
            State::Back => SwapProgress::RolledBack,
            State::Shadowing { findings, .. } => SwapProgress::Shadowing(shadow(findings.get())),
        }
    }
}

/// What a shadow run has found, as a report says it.
pub(crate) fn shadow(found: Found) -> Shadow {
    let sample = |d: task::shadow::Difference| Sample {
        step: d.step,
        input: d.input.map(|(partition, offset)| format!("{partition}-{offset}")),
        from: d.from,
        to: d.to,
    };
    Shadow {
        records: found.records,
        rows_from: found.rows_from,
        rows_to: found.rows_to,
        differences: found.differences,
        failures: found.failures,
        last_failure: found.last_failure,
        samples: found.samples.into_iter().map(sample).collect(),
    }
}

fn measured(swap: &Swap, task: &Task) -> Measured {
    task.measured(&|step| swap.steps.contains_key(step))
}

/// Rows and nanoseconds since `base`.
fn since(base: &Measured, now: &Measured) -> (u64, u64) {
    (
        now.rows.saturating_sub(base.rows),
        now.busy_ns.saturating_sub(base.busy_ns),
    )
}

/// Nanoseconds that a row may take.
fn row_ns_max(bounds: &Bounds, from_row_ns: Option<f64>) -> Option<f64> {
    Some(bounds.latency_factor? * from_row_ns?)
}

fn breach(bounds: &Bounds, base: &Measured, now: &Measured, from_row_ns: Option<f64>) -> Option<String> {
    let failures = now.failures.saturating_sub(base.failures);
    if failures > bounds.traps {
        return Some(format!(
            "{failures} calls failed, {} may{}",
            bounds.traps,
            now.last_failure
                .as_ref()
                .map(|f| format!("; the last: {f}"))
                .unwrap_or_default()
        ));
    }
    let (records, failed) = (
        now.records.saturating_sub(base.records),
        now.failed.saturating_sub(base.failed),
    );
    if records >= bounds.failed_of_records.max(1) && failed as f64 > bounds.failed_share * records as f64 {
        return Some(format!(
            "{failed} of {records} records failed, {:.0} % may",
            bounds.failed_share * 100.0
        ));
    }
    let ((rows, busy_ns), calls) = (since(base, now), now.calls.saturating_sub(base.calls));
    let enough = bounds.latency_of_rows.max(1);
    // Fewer rows do, where they took longer than so many may: no row to come makes up for it.
    let counted = rows.max(if busy_ns >= SURE_NS { enough } else { 0 });
    if counted < enough || busy_ns == 0 {
        return None;
    }
    if let (Some(most), Some(from)) = (row_ns_max(bounds, from_row_ns), from_row_ns)
        && busy_ns as f64 > most * counted as f64
    {
        return Some(format!(
            "a row takes {:.1} µs, with the old version {:.1} µs, and {} times as much is allowed",
            busy_ns as f64 / 1e3 / rows.max(1) as f64,
            from / 1e3,
            most / from,
        ));
    }
    if rows < enough {
        return None;
    }
    let call_us = busy_ns as f64 / 1e3 / calls.max(1) as f64;
    match bounds.call_us {
        Some(most) if call_us > most as f64 => Some(format!("a call takes {call_us:.0} µs, {most} µs are allowed")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seen(records: u64, failed: u64, failures: u64, rows: u64, busy_us: u64) -> Measured {
        Measured {
            records,
            failed,
            failures,
            rows,
            calls: rows / 100,
            busy_ns: busy_us * 1_000,
            ..Measured::default()
        }
    }

    #[test]
    fn each_bound_is_met_from_its_number_of_records_on() {
        let bounds = Bounds {
            call_us: Some(900),
            latency_factor: Some(5.0),
            latency_of_rows: 500,
            ..Bounds::default()
        };
        let base = seen(1_000, 10, 3, 1_000, 0);
        let of = |now: Measured, from| breach(&bounds, &base, &now, from);
        assert_eq!(of(base.clone(), Some(1_000.0)), None);
        assert_eq!(of(seen(2_000, 10, 3, 2_000, 4_900), Some(1_000.0)), None);
        assert!(
            of(seen(2_000, 10, 4, 2_000, 0), None)
                .unwrap()
                .starts_with("1 calls failed")
        );
        assert_eq!(of(seen(1_049, 59, 3, 1_000, 0), None), None);
        assert!(
            of(seen(1_050, 21, 3, 1_000, 0), None)
                .unwrap()
                .starts_with("11 of 50 records")
        );
        let slow = of(seen(2_000, 10, 3, 2_000, 5_100), Some(1_000.0)).unwrap();
        assert!(slow.starts_with("a row takes 5.1 µs"), "{slow}");
        assert_eq!(of(seen(1_499, 10, 3, 1_499, 5_100), Some(1_000.0)), None);
        // Ten rows took longer than five hundred may.
        let slow = of(seen(1_010, 10, 3, 1_010, 100_001), Some(1_000.0)).unwrap();
        assert!(slow.starts_with("a row takes 10000.1 µs"), "{slow}");
        assert_eq!(of(seen(1_010, 10, 3, 1_010, 99_999), Some(1_000.0)), None);
        assert_eq!(of(seen(1_010, 10, 3, 1_010, 100_001), Some(50_000.0)), None);
        let slow = of(seen(2_000, 10, 3, 2_000, 9_100), None).unwrap();
        assert!(slow.starts_with("a call takes 910 µs"), "{slow}");
    }
}
