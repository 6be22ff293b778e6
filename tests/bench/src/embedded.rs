//! The same jobs without a broker: on the embedded log, which the node carries itself.

use crate::Bench;
use crate::process::{Process, cpu_seconds, peak_mib};
use crate::programs::{App, System};
use crate::rows::{Cell, Row};
use crate::topic::{self, Keys};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Every look costs the node an answer with all its tasks.
const LOOK: Duration = Duration::from_millis(20);
const STALL_MAX: Duration = Duration::from_secs(120);

/// Fills a log before the node opens it, lets the node work it off, and checks what is in it afterwards.
pub fn run(bench: &Bench, cell: &Cell, round: u32) -> Result<Row> {
    let mut row = Row::new(cell, System::Wasmill, round);
    let app = App {
        embedded: true,
        ..bench.app(cell, System::Wasmill, "in")
    };
    let folder = app.state().join("log");
    std::fs::create_dir_all(&folder)?;
    let keys = Keys::Random(cell.keys);
    let log = local::Log::open(&folder, local::Options::default())?;
    topic::create(&log, &["in", &app.output])?;
    topic::fill(&log, "in", keys, cell.records)?;
    log.close()?;

    let began = Instant::now();
    let mut process = app.start(&bench.programs)?;
    let samples = watch(&app, &mut process, cell.records as f64)?;
    let took = began.elapsed();
    row.set("peak-mib", peak_mib(process.pid()));
    row.set("whole-records-per-second", cell.records as f64 / took.as_secs_f64());
    process.stop()?;
    if let (Some(first), Some(last)) = (samples.first(), samples.last()) {
        let records = last.done - first.done;
        if records > 0.0 {
            row.set("records-per-second", records / (last.at - first.at).as_secs_f64());
            row.set("cpu-s-per-million", (last.cpu - first.cpu) / records * 1e6);
        }
    }
    let log = local::Log::open(&folder, local::Options::default())?;
    topic::check(&log, &app.output, app.job, app.guarantee, keys, cell.records)?;
    log.close()?;
    app.remove()?;
    Ok(row)
}

struct Sample {
    at: Instant,
    done: f64,
    cpu: f64,
}

/// What the node says it has not committed yet, from the first commit on.
fn watch(app: &App, process: &mut Process, records: f64) -> Result<Vec<Sample>> {
    let address = format!("http://127.0.0.1:{}/v1/pipelines/{}", app.port, app.name);
    let (mut samples, mut moved): (Vec<Sample>, Instant) = (Vec::new(), Instant::now());
    loop {
        process.must_live()?;
        let done = lag(&address).map_or(0.0, |lag| records - lag);
        if done > samples.last().map_or(0.0, |s| s.done) {
            moved = Instant::now();
            samples.push(Sample {
                at: moved,
                done,
                cpu: cpu_seconds(process.pid()),
            });
        }
        if done >= records {
            return Ok(samples);
        }
        ensure!(
            moved.elapsed() < STALL_MAX,
            "{done} of {records} records, then nothing for {STALL_MAX:?}:\n{}",
            process.tail()
        );
        std::thread::sleep(LOOK);
    }
}

/// `None` while the node does not know it, as at its start.
fn lag(address: &str) -> Option<f64> {
    answer(address)?.get("lag")?.as_f64()
}

/// What the node's REST says there; `None` while it does not answer.
pub fn answer(address: &str) -> Option<Value> {
    let text = ureq::get(address).call().ok()?.body_mut().read_to_string().ok()?;
    serde_json::from_str(&text).ok()
}
