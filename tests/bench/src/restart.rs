//! What a user waits for: a restart after a kill, and a restore from the changelog.

use crate::Bench;
use crate::embedded;
use crate::process::{Process, peak_mib};
use crate::programs::{App, System};
use crate::rows::{Cell, Row};
use crate::throughput::Progress;
use crate::topic::{self, PARTITIONS};
use anyhow::{Context, Result, ensure};
use broker::Partitioning;
use record::BatchBuilder;
use std::time::{Duration, Instant};

fn probe_key(partition: i32) -> String {
    format!("probe-{partition}")
}

/// One record to every partition, whose outputs show that the program works again, with the state it had.
pub fn probe(bench: &Bench, input: &str) -> Result<()> {
    let mut producer = topic::plain_producer(&bench.kafka)?;
    for partition in 0..PARTITIONS {
        let mut builder = BatchBuilder::default();
        builder.push(
            Some(probe_key(partition).as_bytes()),
            Some(b"0 probe"),
            1_700_000_000_000,
        );
        producer.send(input, Partitioning::Fixed(partition), &builder.finish(), 0)?;
    }
    producer.flush(Duration::from_secs(30))?;
    Ok(())
}

/// Seconds from the start of the program until `done` inputs are through.
fn timed(bench: &Bench, app: &App, done: i64, look: &mut dyn FnMut()) -> Result<(f64, Process)> {
    let began = Instant::now();
    let mut process = app.start(&bench.programs)?;
    let mut progress = Progress::new(bench, app);
    let since = Instant::now();
    while progress.now()? < done {
        process.must_live()?;
        look();
        ensure!(
            since.elapsed() < Duration::from_secs(180),
            "no output:\n{}",
            process.tail()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok((began.elapsed().as_secs_f64(), process))
}

/// The input is full of keys in turn and ends with one probe a partition. Counts it, stops, and starts again: with the
/// state, then without it.
pub fn restore(bench: &Bench, cell: &Cell, system: System, round: u32, input: &str) -> Result<Row> {
    let mut row = Row::new(cell, system, round);
    let mut app = bench.app(cell, system, input);
    app.static_member = true;
    topic::create(&bench.kafka, &[&app.output])?;
    let mut total = topic::ends(&bench.kafka, input, broker::Isolation::ReadUncommitted)?;
    let mut process = app.start(&bench.programs)?;
    Progress::new(bench, &app).wait(&mut process, total)?;
    process.stop()?;
    probe(bench, input)?;
    total += i64::from(PARTITIONS);
    let (kept, process) = timed(bench, &app, total, &mut || {})?;
    process.stop()?;
    std::fs::remove_dir_all(app.state()).context("remove the state")?;
    probe(bench, input)?;
    total += i64::from(PARTITIONS);
    let mut clock = RestoreClock::default();
    let (removed, process) = timed(bench, &app, total, &mut || {
        if system == System::Wasmill {
            clock.look(&app);
        }
    })?;
    row.set("peak-mib", peak_mib(process.pid()));
    let log = std::fs::read_to_string(&process.log).unwrap_or_default();
    process.stop()?;
    row.set("restart-with-state-s", kept);
    row.set("restart-without-state-s", removed);
    // Kafka Streams says itself how long its restore took, and so does a node, seen every few milliseconds. Where a
    // restore was too short to be seen: what the start without state took longer.
    let own = log
        .lines()
        .rev()
        .find_map(|l| l.strip_prefix("restored ")?.split(" in ").nth(1)?.strip_suffix(" s"));
    let own = own.and_then(|s| s.parse().ok()).or_else(|| clock.seconds());
    let restore = own.unwrap_or_else(|| (removed - kept).max(0.01));
    row.set("restore-s", restore);
    row.set("keys-per-second", cell.keys as f64 / restore);
    check_probes(bench, &app, total, cell.keys)?;
    bench.remove(&app)?;
    Ok(row)
}

/// When a node said first and last that a task restores.
#[derive(Default)]
struct RestoreClock(Option<(Instant, Instant)>);

impl RestoreClock {
    fn look(&mut self, app: &App) {
        let address = format!("http://127.0.0.1:{}/v1/pipelines/{}", app.port, app.name);
        let asked = Instant::now();
        let Some(answer) = embedded::answer(&address) else {
            return;
        };
        let tasks = answer.get("tasks").and_then(|tasks| tasks.as_array());
        let restoring = |task: &serde_json::Value| task.get("state").is_some_and(|state| state == "restoring");
        if tasks.is_some_and(|tasks| tasks.iter().any(restoring)) {
            let first = self.0.map_or(asked, |(first, _)| first);
            self.0 = Some((first, Instant::now()));
        }
    }

    fn seconds(&self) -> Option<f64> {
        self.0.map(|(first, last)| (last - first).as_secs_f64())
    }
}

/// The last count of every probe is that of all probes: the state before the restore was there after it.
fn check_probes(bench: &Bench, app: &App, total: i64, keys: u64) -> Result<()> {
    let expected = (total - keys as i64) / i64::from(PARTITIONS);
    let mut last = vec![0; PARTITIONS as usize];
    topic::read(&bench.kafka, &app.output, app.guarantee, |key, value| {
        let number = std::str::from_utf8(key)
            .ok()
            .and_then(|k| k.strip_prefix("probe-")?.parse::<usize>().ok());
        if let Some(last) = number.and_then(|n| last.get_mut(n)) {
            *last = value.try_into().map_or(-1, i64::from_be_bytes);
        }
    })?;
    ensure!(
        last.iter().all(|n| *n == expected),
        "after the restore the probes count {last:?}, {expected} would be right"
    );
    Ok(())
}

/// Killed in the middle of the input and started again at once.
pub fn crash(bench: &Bench, cell: &Cell, system: System, round: u32, input: &str) -> Result<Row> {
    let mut row = Row::new(cell, system, round);
    let mut app = bench.app(cell, system, input);
    app.static_member = true;
    topic::create(&bench.kafka, &[&app.output])?;
    let mut process = app.start(&bench.programs)?;
    let mut progress = Progress::new(bench, &app);
    progress.wait(&mut process, cell.records as i64 / 4)?;
    // Just after a commit, so that the position known is the last one.
    let (before, since) = (progress.now()?, Instant::now());
    while progress.now()? == before && since.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    process.kill()?;
    let at_kill = progress.now()?;
    ensure!(
        at_kill < cell.records as i64 * 9 / 10,
        "the input is too short for a crash in its middle: {at_kill} were through"
    );
    let (seconds, process) = timed(bench, &app, at_kill + 1, &mut || {})?;
    row.set("restart-to-output-s", seconds);
    process.kill()?;
    bench.remove(&app)?;
    Ok(row)
}
