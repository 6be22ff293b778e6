//! Copies records from topic to topic through the broker trait and prints what it costs.
//!
//! `copy ADDRESS [RECORDS [transactions]]`: fills a topic of 8 partitions with 12-byte keys and 100-byte values, reads
//! it and writes each record to the same partition of another; flushes every second, or commits every 100 ms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use broker::{Broker, Cleanup, CommittedOffset, ConsumerOptions, Isolation, NewTopic, Partitioning, ProducerOptions};
use kafka::Kafka;
use record::{BatchBuilder, TopicPartition};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PARTITIONS: i32 = 8;
const POLL_RECORDS_MAX: usize = 4_000;

/// CPU seconds of this process so far, user and system.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(2).map(|f| f.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

fn options(transactional: Option<&str>) -> ProducerOptions {
    ProducerOptions {
        client_id: "copy".into(),
        transactional_id: transactional.map(str::to_owned),
        transaction_timeout: Duration::from_secs(10),
        delivery_timeout: Duration::from_secs(30),
        upserts_only: false,
    }
}

fn fill(kafka: &Kafka, topic: &str, records: usize) {
    let mut producer = kafka.producer(&options(None)).unwrap();
    let value = [b'v'; 100];
    let mut sent = 0;
    while sent < records {
        let rows = (records - sent).min(10_000);
        let mut builder = BatchBuilder::with_capacity(rows, rows * 12, rows * 100);
        for row in sent..sent + rows {
            builder.push(
                Some(format!("k{row:011}").as_bytes()),
                Some(&value),
                1_700_000_000_000 + row as i64,
            );
        }
        producer
            .send(topic, Partitioning::ByKey { count: PARTITIONS }, &builder.finish(), 0)
            .unwrap();
        sent += rows;
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    assert!(producer.take_failures().is_empty());
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().expect("copy ADDRESS [RECORDS [transactions]]");
    let records: usize = arguments.next().map_or(1_000_000, |n| n.parse().unwrap());
    let transactions = arguments.next().is_some();
    let kafka = Kafka::new(&address, BTreeMap::new()).unwrap();
    let run = format!(
        "copy-{}",
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
    );
    let (input, output) = (format!("{run}-in"), format!("{run}-out"));
    let topics: Vec<NewTopic> = [&input, &output]
        .map(|name| NewTopic {
            name: name.clone(),
            partitions: PARTITIONS,
            cleanup: Cleanup::Delete,
            settings: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
        })
        .to_vec();
    kafka.admin().unwrap().create(&topics).unwrap();
    fill(&kafka, &input, records);
    std::thread::sleep(Duration::from_millis(500));

    let mut consumer = kafka
        .consumer(&ConsumerOptions {
            group: Some(run.clone()),
            client_id: run.clone(),
            isolation: Isolation::ReadCommitted,
            queue_bytes_max: 32 << 20,
            headers: false,
        })
        .unwrap();
    let mut producer = kafka.producer(&options(transactions.then_some(run.as_str()))).unwrap();
    producer.init().unwrap();
    let (since, cpu_since) = (Instant::now(), cpu());
    let all: Vec<_> = (0..PARTITIONS)
        .map(|p| (TopicPartition::new(input.as_str(), p), 0))
        .collect();
    consumer.assign(&all).unwrap();
    let (mut copied, mut commits, mut polls) = (0, 0, 0);
    let (mut fetched, mut positions) = (Vec::new(), BTreeMap::new());
    let every = Duration::from_millis(if transactions { 100 } else { 1000 });
    let mut last = Instant::now();
    if transactions {
        producer.begin().unwrap();
    }
    while copied < records {
        consumer
            .poll(Duration::from_millis(100), POLL_RECORDS_MAX, &mut fetched)
            .unwrap();
        polls += 1;
        for f in fetched.drain(..) {
            producer
                .send(&output, Partitioning::Fixed(f.partition.partition), &f.records, 0)
                .unwrap();
            copied += f.records.len();
            positions.insert(f.partition.clone(), f.next);
        }
        if last.elapsed() >= every || copied == records {
            if transactions {
                let offsets: Vec<_> = positions
                    .iter()
                    .map(|(p, o)| CommittedOffset {
                        partition: p.clone(),
                        offset: *o,
                        metadata: String::new(),
                    })
                    .collect();
                producer.send_offsets(&run, &offsets, None).unwrap();
                producer.commit().unwrap();
                producer.begin().unwrap();
            } else {
                producer.flush(Duration::from_secs(60)).unwrap();
            }
            commits += 1;
            last = Instant::now();
        }
    }
    let (took, used) = (since.elapsed().as_secs_f64(), cpu() - cpu_since);
    let million = copied as f64 / 1e6;
    println!(
        "{copied} records, {:.0} records/s, {:.2} CPU s per million, {commits} commits, {polls} polls",
        copied as f64 / took,
        used / million
    );
    producer.abort().unwrap();
    kafka.admin().unwrap().delete(&[input, output]).unwrap();
}
