//! What the log does beyond the contract: what survives, who may open it, what maintenance leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod maintenance;
mod offsets;
mod recovery;

use broker::{
    Broker, Cleanup, Consumer, ConsumerOptions, Isolation, NewTopic, OffsetAt, Partitioning, Producer, ProducerOptions,
};
use local::{Log, Options};
use record::{Batch, BatchBuilder, TopicPartition};
use std::path::Path;
use std::time::Duration;

fn open(dir: &Path) -> Log {
    Log::open(dir, Options::default()).unwrap()
}

fn create(log: &Log, name: &str, cleanup: Cleanup, settings: &[(&str, &str)]) -> TopicPartition {
    let settings = settings
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    log.admin()
        .unwrap()
        .create(&[NewTopic {
            name: name.to_owned(),
            partitions: 1,
            cleanup,
            settings,
        }])
        .unwrap();
    TopicPartition::new(name, 0)
}

fn producer(log: &Log, id: Option<&str>) -> Box<dyn Producer> {
    let options = ProducerOptions {
        client_id: "test".to_owned(),
        transactional_id: id.map(str::to_owned),
        transaction_timeout: Duration::from_secs(10),
        delivery_timeout: Duration::from_secs(10),
        upserts_only: false,
    };
    let mut producer = log.producer(&options).unwrap();
    producer.init().unwrap();
    producer
}

fn consumer(log: &Log) -> Box<dyn Consumer> {
    let options = ConsumerOptions {
        group: None,
        client_id: "test".to_owned(),
        isolation: Isolation::ReadCommitted,
        queue_bytes_max: 1 << 20,
        headers: false,
    };
    log.consumer(&options).unwrap()
}

/// Rows `key=value@timestamp`; no `=` is a tombstone.
fn batch(rows: &[&str]) -> Batch {
    let mut builder = BatchBuilder::default();
    for row in rows {
        let (row, timestamp) = row.split_once('@').unwrap_or((row, "0"));
        let (key, value) = row.split_once('=').map_or((row, None), |(k, v)| (k, Some(v)));
        builder.push(
            Some(key.as_bytes()),
            value.map(str::as_bytes),
            timestamp.parse().unwrap(),
        );
    }
    builder.finish()
}

fn write(log: &Log, to: &TopicPartition, rows: &[&str]) {
    let mut producer = producer(log, None);
    producer
        .send(&to.topic, Partitioning::Fixed(to.partition), &batch(rows), 0)
        .unwrap();
    producer.flush(Duration::ZERO).unwrap();
}

/// Everything in a partition as `offset:key=value`.
fn read(log: &Log, from: &TopicPartition) -> Vec<String> {
    let start = offset(log, from, OffsetAt::Earliest);
    read_from(log, from, start)
}

fn read_from(log: &Log, from: &TopicPartition, start: i64) -> Vec<String> {
    let mut consumer = consumer(log);
    consumer.assign(&[(from.clone(), start)]).unwrap();
    let mut found = Vec::new();
    let mut fetched = Vec::new();
    while consumer.position(from).unwrap() < consumer.end_hint(from) {
        consumer.poll(Duration::ZERO, 7, &mut fetched).unwrap();
    }
    for f in &fetched {
        for (row, offset) in f.offsets.iter().enumerate() {
            let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
            let value = f
                .records
                .value(row)
                .map_or_else(String::new, |v| format!("={}", text(v)));
            found.push(format!("{offset}:{}{value}", f.records.key(row).map(text).unwrap()));
        }
    }
    found
}

fn offset(log: &Log, of: &TopicPartition, at: OffsetAt) -> i64 {
    log.admin().unwrap().offsets(std::slice::from_ref(of), at).unwrap()[0]
}

const END: OffsetAt = OffsetAt::End(Isolation::ReadCommitted);
