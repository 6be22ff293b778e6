//! How many records a second the log takes and gives: `cargo run -p local --example throughput [RECORDS]`.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use broker::{Broker, Cleanup, ConsumerOptions, Error, Isolation, NewTopic, Partitioning, ProducerOptions};
use local::{Log, Options};
use record::{BatchBuilder, TopicPartition};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;
const BATCH: usize = 500;
const COMMIT: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let records: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let log = Log::open(dir.path(), Options::default())?;
    let topic = NewTopic {
        name: "t".into(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete,
        settings: BTreeMap::new(),
    };
    log.admin()?.create(&[topic])?;
    let begin = Instant::now();
    produce(&log, records)?;
    let produced = begin.elapsed();
    let begin = Instant::now();
    fetch(&log, records)?;
    let fetched = begin.elapsed();
    for (what, took) in [("produced", produced), ("fetched", fetched)] {
        let rate = records as f64 / took.as_secs_f64();
        println!("{what} {records} records of 100 bytes in {took:.2?}: {rate:.0} a second");
    }
    Ok(())
}

/// Transactions of [`COMMIT`] records by key.
fn produce(log: &Log, records: usize) -> Result<(), Error> {
    let mut producer = log.producer(&ProducerOptions {
        client_id: "throughput".into(),
        transactional_id: Some("throughput".into()),
        transaction_timeout: Duration::from_secs(60),
        delivery_timeout: Duration::from_secs(60),
        upserts_only: false,
    })?;
    producer.init()?;
    let mut number = 0u64;
    for begin in (0..records).step_by(COMMIT) {
        producer.begin()?;
        for from in (begin..records.min(begin + COMMIT)).step_by(BATCH) {
            let count = BATCH.min(records - from);
            let mut batch = BatchBuilder::with_capacity(count, 8 * count, 92 * count);
            for _ in 0..count {
                number += 1;
                let mut value = [0u8; 92];
                for (place, byte) in value.iter_mut().enumerate() {
                    *byte = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (place % 56)) as u8;
                }
                batch.push(Some(&number.to_be_bytes()), Some(&value), number as i64);
            }
            producer.send("t", Partitioning::ByKey { count: PARTITIONS }, &batch.finish(), 0)?;
        }
        producer.commit()?;
    }
    Ok(())
}

fn fetch(log: &Log, records: usize) -> Result<(), Error> {
    let mut consumer = log.consumer(&ConsumerOptions {
        group: None,
        client_id: "throughput".into(),
        isolation: Isolation::ReadCommitted,
        queue_bytes_max: 16 << 20,
        headers: false,
    })?;
    let from: Vec<_> = (0..PARTITIONS).map(|p| (TopicPartition::new("t", p), 0)).collect();
    consumer.assign(&from)?;
    let (mut count, mut fetched) = (0, Vec::new());
    while count < records {
        consumer.poll(Duration::from_secs(1), 10_000, &mut fetched)?;
        count += fetched.drain(..).map(|f| f.records.len()).sum::<usize>();
    }
    Ok(())
}
