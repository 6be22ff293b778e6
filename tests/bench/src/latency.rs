//! End-to-end latency at a steady rate: one producer, one reader, the same for every program under measurement.
//!
//! A value carries the microsecond at which it was handed to the producer, by a clock of this process. The reader reads
//! committed records for exactly-once.

use crate::Bench;
use crate::process::cpu_seconds;
use crate::programs::System;
use crate::rows::{Cell, Row};
use crate::topic::{self, PARTITIONS};
use anyhow::{Result, ensure};
use broker::{Broker, ConsumerOptions, Partitioning};
use kafka::Kafka;
use record::BatchBuilder;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Records a second.
const RATE: u64 = 5_000;
/// After this the JVM has compiled what it runs.
const WARM: Duration = Duration::from_secs(10);
const MEASURE: Duration = Duration::from_secs(20);
const FIRST_OUTPUT_MAX: Duration = Duration::from_secs(90);

/// A record that `pass` keeps: when it was made, in microseconds.
fn value(micros: u128) -> Vec<u8> {
    let mut value = format!("0 {micros:015} ").into_bytes();
    value.resize(100, b'x');
    value
}

fn micros(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value.get(2..17)?).ok()?.parse().ok()
}

pub fn run(bench: &Bench, cell: &Cell, system: System, round: u32) -> Result<Row> {
    let mut row = Row::new(cell, system, round);
    let mut app = bench.app(cell, system, "");
    app.input = format!("{}-in", app.name);
    if system == System::Streams && cell.variant == LINGER_0 {
        app.settings.push("producer.linger.ms=0".to_owned());
    }
    topic::create(&bench.kafka, &[&app.input, &app.output])?;
    let mut process = app.start(&bench.programs)?;
    let clock = Instant::now();
    let (stop, first) = (AtomicBool::new(false), AtomicBool::new(false));
    // Without lingering, so that what is measured is not the measurer's own waiting.
    let kafka = Kafka::new(
        &bench.programs.brokers,
        BTreeMap::from([("linger.ms".into(), "0".into())]),
    )?;
    let (seen, cpu) = std::thread::scope(|scope| {
        let isolation = app.guarantee.isolation();
        let (kafka, stop, first) = (&kafka, &stop, &first);
        let output = app.output.clone();
        let reader = scope.spawn(move || -> Result<Vec<(u64, u64)>> {
            let mut consumer = kafka.consumer(&ConsumerOptions {
                group: None,
                client_id: "bench-reader".into(),
                isolation,
                queue_bytes_max: 16 << 20,
                headers: false,
            })?;
            let from: Vec<_> = topic::partitions(&output).into_iter().map(|p| (p, 0)).collect();
            consumer.assign(&from)?;
            let (mut seen, mut fetched) = (Vec::new(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                consumer.poll(Duration::from_millis(50), 10_000, &mut fetched)?;
                let now = clock.elapsed().as_micros() as u64;
                for batch in fetched.drain(..) {
                    first.store(true, Ordering::Relaxed);
                    let made = (0..batch.records.len()).filter_map(|row| micros(batch.records.value(row)?));
                    seen.extend(made.map(|made| (made, now - made.min(now))));
                }
            }
            Ok(seen)
        });
        let sent = produce(kafka, &app.input, clock, first, process.pid());
        // The last ones arrive within a commit interval or they are none of the measured.
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        let seen = reader.join().map_err(|_| anyhow::anyhow!("the reader failed"))??;
        Ok::<_, anyhow::Error>((seen, sent?))
    })?;
    process.must_live()?;
    process.stop()?;
    let (from, to) = (cpu.from, cpu.to);
    let mut measured: Vec<u64> = seen
        .iter()
        .filter(|(made, _)| (from..to).contains(made))
        .map(|s| s.1)
        .collect();
    measured.sort_unstable();
    ensure!(
        measured.len() as u64 == cpu.records,
        "{} of {} records came out once",
        measured.len(),
        cpu.records
    );
    let at = |share: f64| {
        measured
            .get(((measured.len() - 1) as f64 * share) as usize)
            .map_or(f64::NAN, |m| *m as f64 / 1e3)
    };
    for (name, share) in [("p50-ms", 0.5), ("p90-ms", 0.9), ("p99-ms", 0.99), ("max-ms", 1.0)] {
        row.set(name, at(share));
    }
    row.set("cores", cpu.cpu / MEASURE.as_secs_f64());
    bench.remove(&app)?;
    Ok(row)
}

pub const LINGER_0: &str = "linger 0";

/// What was sent in the measured part: between two moments in microseconds.
struct Sent {
    from: u64,
    to: u64,
    records: u64,
    /// Seconds of the program in it.
    cpu: f64,
}

fn produce(kafka: &Kafka, input: &str, clock: Instant, first: &AtomicBool, pid: u32) -> Result<Sent> {
    let mut producer = topic::plain_producer(kafka)?;
    let mut send = |records: u64, number: &mut u64| -> Result<()> {
        let mut builder = BatchBuilder::default();
        for _ in 0..records {
            *number += 1;
            let key = format!("key-{:08}", *number % 1_000);
            builder.push(
                Some(key.as_bytes()),
                Some(&value(clock.elapsed().as_micros())),
                now_ms(),
            );
        }
        producer.send(input, Partitioning::ByKey { count: PARTITIONS }, &builder.finish(), 0)?;
        producer.poll();
        Ok(())
    };
    // Until something comes out at all.
    let mut number = 0;
    while !first.load(Ordering::Relaxed) {
        ensure!(
            clock.elapsed() < FIRST_OUTPUT_MAX,
            "nothing came out in {FIRST_OUTPUT_MAX:?}"
        );
        send(1, &mut number)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let began = Instant::now();
    let (mut sent, mut part): (u64, Option<Sent>) = (0, None);
    while began.elapsed() < WARM + MEASURE {
        let due = (began.elapsed().as_secs_f64() * RATE as f64) as u64;
        if part.is_none() && began.elapsed() >= WARM {
            part = Some(Sent {
                from: clock.elapsed().as_micros() as u64,
                to: 0,
                records: 0,
                cpu: cpu_seconds(pid),
            });
        }
        if due > sent {
            send(due - sent, &mut number)?;
            if let Some(part) = &mut part {
                part.records += due - sent;
            }
            sent = due;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let mut part = part.ok_or_else(|| anyhow::anyhow!("no time was measured"))?;
    part.to = clock.elapsed().as_micros() as u64;
    part.cpu = cpu_seconds(pid) - part.cpu;
    producer.flush(Duration::from_secs(30))?;
    Ok(part)
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |t| t.as_millis() as i64)
}

#[test]
fn a_value_says_when_it_was_made() {
    assert_eq!(micros(&value(123_456)), Some(123_456));
    assert_eq!(value(0).len(), 100);
}
