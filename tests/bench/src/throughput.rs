//! Steady processing of a full topic, seen from outside: positions and ends on the broker, seconds in `/proc`.

use crate::Bench;
use crate::process::{Process, cpu_seconds, peak_mib};
use crate::programs::{App, Guarantee, Job, System};
use crate::rows::{Cell, Row};
use crate::topic::{self, Keys};
use anyhow::{Result, ensure};
use broker::{Broker, Isolation};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How often progress is asked for; before the first output, and then. Each asks the broker for one thing.
const LOOK_START: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(40);
/// A program without progress for this long has failed.
const STALL_MAX: Duration = Duration::from_secs(120);

/// How many inputs have their outputs committed.
pub struct Progress<'a> {
    bench: &'a Bench,
    app: &'a App,
    last: i64,
    /// Why the broker gave no answer the last time that it gave none.
    trouble: String,
}

impl<'a> Progress<'a> {
    pub fn new(bench: &'a Bench, app: &'a App) -> Self {
        Self {
            bench,
            app,
            last: 0,
            trouble: String::new(),
        }
    }

    /// Exactly-once: the group's committed positions, which are in the transaction of the outputs. At-least-once: the
    /// end of the output, since positions are committed seldom there; where updates are gathered, the positions.
    pub fn now(&mut self) -> Result<i64> {
        let by_output = self.app.guarantee == Guarantee::AtLeastOnce && self.app.job != Job::CountOnCommit;
        if by_output {
            let ends = topic::ends(&self.bench.kafka, &self.app.output, Isolation::ReadUncommitted)?;
            self.last = if self.app.job == Job::Pass { ends * 2 } else { ends };
            return Ok(self.last);
        }
        let mut partitions = topic::partitions(&self.app.input);
        if self.app.job == Job::StreamStream {
            partitions.extend(topic::partitions(&self.app.right));
        }
        match self.bench.kafka.admin()?.committed(&self.app.name, &partitions) {
            Ok(offsets) => self.last = offsets.iter().flatten().map(|o| o.offset).sum(),
            // A transaction with positions is on its way, or the coordinator loads: as it was. What lasts ends in a
            // stall, which says it.
            Err(error) => self.trouble = error.to_string(),
        }
        Ok(self.last)
    }

    /// Waits until `done` inputs are through.
    pub fn wait(&mut self, process: &mut Process, done: i64) -> Result<()> {
        let (mut before, mut since) = (self.last, Instant::now());
        while self.now()? < done {
            if self.last != before {
                (before, since) = (self.last, Instant::now());
            }
            process.must_live()?;
            ensure!(
                since.elapsed() < STALL_MAX,
                "{} of {done} records, then nothing for {STALL_MAX:?}: {}\n{}",
                self.last,
                self.trouble,
                process.tail()
            );
            std::thread::sleep(LOOK_START);
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Sample {
    at: f64,
    done: f64,
    cpu: f64,
    broker_cpu: f64,
}

fn watch(bench: &Bench, app: &App, process: &mut Process, began: Instant, records: u64) -> Result<Vec<Sample>> {
    let (mut progress, mut samples): (Progress, Vec<Sample>) = (Progress::new(bench, app), Vec::new());
    let mut profile = None;
    let mut moved = Instant::now();
    loop {
        let done = progress.now()?;
        let last = samples.last().map_or(0.0, |s| s.done);
        if done as f64 > last {
            moved = Instant::now();
            if let (Some(file), true) = (&bench.perf, samples.is_empty()) {
                profile = Some(profiled(process.pid(), file)?);
            }
            samples.push(Sample {
                at: began.elapsed().as_secs_f64(),
                done: done as f64,
                cpu: cpu_seconds(process.pid()),
                broker_cpu: bench.broker_pid.map_or(0.0, cpu_seconds),
            });
        }
        if done as u64 >= records {
            if let Some(profile) = profile {
                profile.interrupt()?;
            }
            return Ok(samples);
        }
        process.must_live()?;
        ensure!(
            moved.elapsed() < STALL_MAX,
            "{done} of {records} records, then nothing for {STALL_MAX:?}: {}\n{}",
            progress.trouble,
            process.tail()
        );
        std::thread::sleep(if samples.is_empty() { LOOK_START } else { LOOK });
    }
}

/// Samples all threads of a process. The CPU clock also ticks in virtual machines.
fn profiled(pid: u32, file: &Path) -> Result<Process> {
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-e", "cpu-clock", "-F", "1999"]);
    if let Ok(calls) = std::env::var("PERF_CALLS") {
        perf.arg(format!("--call-graph={calls}"));
    }
    perf.args(["-p", &pid.to_string(), "-o"]).arg(file);
    Process::start(perf, &file.with_extension("log"))
}

/// `first` to `last`: records/s, CPU seconds per million, the broker's.
fn between(row: &mut Row, prefix: &str, first: Sample, last: Sample) {
    let records = last.done - first.done;
    row.set(&format!("{prefix}records-per-second"), records / (last.at - first.at));
    row.set(
        &format!("{prefix}cpu-s-per-million"),
        (last.cpu - first.cpu) / records * 1e6,
    );
    let broker = last.broker_cpu - first.broker_cpu;
    if last.broker_cpu > 0.0 {
        row.set(&format!("{prefix}broker-cpu-s-per-million"), broker / records * 1e6);
    }
}

/// One run of one program over the whole input; `right` is that of a join.
pub fn run(bench: &Bench, cell: &Cell, system: System, round: u32, (input, right): (&str, &str)) -> Result<Row> {
    let mut row = Row::new(cell, system, round);
    let app = App {
        right: right.to_owned(),
        ..bench.app(cell, system, input)
    };
    topic::create(&bench.kafka, &[&app.output])?;
    let broker_before = bench.broker_pid.map_or(0.0, cpu_seconds);
    let began = Instant::now();
    let mut process = app.start(&bench.programs)?;
    let samples = watch(bench, &app, &mut process, began, cell.records)?;
    row.set("peak-mib", peak_mib(process.pid()));
    process.stop()?;
    let (Some(first), Some(last)) = (samples.first().copied(), samples.last().copied()) else {
        anyhow::bail!("nothing was seen of {} records", cell.records);
    };
    let nothing = Sample {
        at: 0.0,
        done: 0.0,
        cpu: 0.0,
        broker_cpu: broker_before,
    };
    row.set("start-s", first.at);
    between(&mut row, "whole-", nothing, last);
    // The steady part: from the first committed output on. Warm: from the middle on.
    if last.done > first.done {
        between(&mut row, "", first, last);
    }
    let middle = samples.iter().copied().find(|s| s.done >= last.done / 2.0);
    if let Some(middle) = middle.filter(|m| m.done < last.done) {
        between(&mut row, "warm-", middle, last);
    }
    // The floor counts nothing: only its `pass` can be checked.
    if system != System::Floor || app.job == Job::Pass {
        let keys = Keys::Random(cell.keys);
        topic::check(&bench.kafka, &app.output, app.job, app.guarantee, keys, cell.records)?;
    }
    bench.remove(&app)?;
    Ok(row)
}
