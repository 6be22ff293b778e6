//! The input: records that a number makes, so that what must come out is known without reading it; and the check of
//! what came out.

use crate::programs::{Guarantee, Job};
use crate::sides;
use anyhow::{Context, Result, ensure};
use broker::{Broker, Cleanup, ConsumerOptions, Isolation, NewTopic, OffsetAt, Partitioning, ProducerOptions};
use record::{BatchBuilder, TopicPartition};
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const PARTITIONS: i32 = 8;
const VALUE_BYTES: usize = 100;
const ROWS: usize = 10_000;
/// Reading back that makes no progress for this long has failed.
const READ_STALL_MAX: Duration = Duration::from_secs(60);

/// How keys are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keys {
    /// Evenly, by chance.
    Random(u64),
    /// One after the other, so that every key occurs: what a changelog of so many keys is made from.
    InTurn(u64),
    /// As in turn, and older than every other input: what a table holds.
    Table(u64),
}

/// Steele, Lea and Flood's SplitMix64: the same numbers on every machine.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn key_number(keys: Keys, record: u64) -> u64 {
    match keys {
        Keys::Random(count) => mixed(record) % count,
        Keys::InTurn(count) | Keys::Table(count) => record % count,
    }
}

pub fn key(number: u64) -> String {
    format!("key-{number:08}")
}

/// 100 bytes that do not compress away. The first is a digit: `pass` keeps the even ones, exactly half.
fn value(record: u64, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(format!("{} event {record:012} ", record % 10).as_bytes());
    let mut noise = record;
    while into.len() < VALUE_BYTES {
        noise = mixed(noise);
        let letters = noise.to_le_bytes();
        let room = VALUE_BYTES - into.len();
        into.extend(letters.iter().take(room).map(|b| b'a' + b % 16));
    }
}

pub fn partitions(topic: &str) -> Vec<TopicPartition> {
    (0..PARTITIONS).map(|p| TopicPartition::new(topic, p)).collect()
}

pub fn create(log: &dyn Broker, topics: &[&str]) -> Result<()> {
    let settings = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    let topics: Vec<NewTopic> = topics
        .iter()
        .map(|name| NewTopic {
            name: (*name).to_owned(),
            partitions: PARTITIONS,
            cleanup: Cleanup::Delete,
            settings: settings.clone(),
        })
        .collect();
    log.admin()?.create(&topics)?;
    Ok(())
}

pub fn plain_producer(log: &dyn Broker) -> Result<Box<dyn broker::Producer>> {
    let mut producer = log.producer(&ProducerOptions {
        client_id: "bench".into(),
        transactional_id: None,
        transaction_timeout: Duration::from_secs(10),
        delivery_timeout: Duration::from_secs(60),
        upserts_only: false,
    })?;
    producer.init()?;
    Ok(producer)
}

/// Event time of record 0: a full minute, more than half an hour ago.
pub fn base() -> i64 {
    static BASE: OnceLock<i64> = OnceLock::new();
    *BASE.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        (now.map_or(0, |t| t.as_millis() as i64) - 1_860_000) / 60_000 * 60_000
    })
}

/// Event times of `records` records are spread over ten minutes, in their order.
pub fn event_time(record: u64, records: u64) -> i64 {
    base() + (record as f64 / records as f64 * 600_000.0) as i64
}

/// Appends records `0..records`.
pub fn fill(log: &dyn Broker, topic: &str, keys: Keys, records: u64) -> Result<()> {
    let mut producer = plain_producer(log)?;
    let (mut at, mut bytes) = (0, Vec::new());
    while at < records {
        let rows = ROWS.min((records - at) as usize);
        let mut builder = BatchBuilder::with_capacity(rows, rows * 12, rows * VALUE_BYTES);
        for record in at..at + rows as u64 {
            value(record, &mut bytes);
            // What a table has is older than what meets it.
            let time = match keys {
                Keys::Table(_) => base() - 1,
                _ => event_time(record, records),
            };
            builder.push(Some(key(key_number(keys, record)).as_bytes()), Some(&bytes), time);
        }
        let to = Partitioning::ByKey { count: PARTITIONS };
        producer.send(topic, to, &builder.finish(), 0)?;
        at += rows as u64;
    }
    producer.flush(Duration::from_secs(120))?;
    ensure!(
        producer.take_failures().is_empty(),
        "the broker refused records of `{topic}`"
    );
    Ok(())
}

/// Sum of the ends of all partitions. Transaction markers count where there are any.
pub fn ends(log: &dyn Broker, topic: &str, isolation: Isolation) -> Result<i64> {
    Ok(log
        .admin()?
        .offsets(&partitions(topic), OffsetAt::End(isolation))?
        .iter()
        .sum())
}

/// The ends when no transaction is open any more: markers reach the partitions some time after a commit was answered.
fn settled_ends(log: &dyn Broker, all: &[TopicPartition], isolation: Isolation) -> Result<Vec<i64>> {
    let mut admin = log.admin()?;
    let since = Instant::now();
    loop {
        let written = admin.offsets(all, OffsetAt::End(Isolation::ReadUncommitted))?;
        let ends = admin.offsets(all, OffsetAt::End(isolation))?;
        if ends == written {
            return Ok(ends);
        }
        ensure!(
            since.elapsed() < READ_STALL_MAX,
            "a transaction in {} stays open",
            all[0].topic
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads every committed record of `topic` in order of each partition.
pub fn read(log: &dyn Broker, topic: &str, guarantee: Guarantee, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
    let isolation = guarantee.isolation();
    let mut consumer = log.consumer(&ConsumerOptions {
        group: None,
        client_id: "bench-check".into(),
        isolation,
        queue_bytes_max: 32 << 20,
        headers: false,
    })?;
    let all = partitions(topic);
    let ends = settled_ends(log, &all, isolation)?;
    let from: Vec<_> = all.iter().cloned().map(|p| (p, 0)).collect();
    consumer.assign(&from)?;
    let (mut fetched, mut last) = (Vec::new(), Instant::now());
    loop {
        consumer.poll(Duration::from_millis(50), 10_000, &mut fetched)?;
        if !fetched.is_empty() {
            last = Instant::now();
        }
        for batch in fetched.drain(..) {
            for row in 0..batch.records.len() {
                each(
                    batch.records.key(row).unwrap_or_default(),
                    batch.records.value(row).unwrap_or_default(),
                );
            }
        }
        let mut behind = 0;
        for (partition, end) in all.iter().zip(&ends) {
            behind += (end - consumer.position(partition)?.unwrap_or(0)).max(0);
        }
        if behind == 0 {
            return Ok(());
        }
        ensure!(
            last.elapsed() < READ_STALL_MAX,
            "`{topic}`: {behind} records do not arrive"
        );
    }
}

/// Whether the output is what `records` inputs give: nothing lost, nothing doubled, the last value of every key right.
pub fn check(log: &dyn Broker, topic: &str, job: Job, guarantee: Guarantee, keys: Keys, records: u64) -> Result<()> {
    let what = || format!("the output of `{}` in `{topic}` is wrong", job.name());
    match job {
        Job::Pass | Job::Burn => check_pass(log, topic, guarantee, records).with_context(what),
        Job::Count | Job::CountOnCommit => check_count(log, topic, job, guarantee, keys, records).with_context(what),
        Job::Window => sides::check_window(log, topic, keys, records).with_context(what),
        Job::StreamTable => sides::check_stream_table(log, topic, keys, records).with_context(what),
        Job::StreamStream => sides::check_stream_stream(log, topic, keys, records).with_context(what),
    }
}

fn check_pass(log: &dyn Broker, topic: &str, guarantee: Guarantee, records: u64) -> Result<()> {
    let mut seen = vec![false; records as usize];
    let (mut doubled, mut odd, mut count) = (0, 0, 0);
    read(log, topic, guarantee, |_, value| {
        let number = value
            .get(8..20)
            .and_then(|n| std::str::from_utf8(n).ok()?.parse::<usize>().ok());
        match number.and_then(|n| seen.get_mut(n)) {
            Some(seen) if *seen => doubled += 1,
            Some(seen) => *seen = true,
            None => odd += 1,
        }
        odd += usize::from(value.first().is_none_or(|b| b % 2 == 1));
        count += 1;
    })?;
    let expected = (0..records).filter(|r| r % 10 % 2 == 0).count();
    ensure!(
        count == expected && doubled == 0 && odd == 0,
        "{count} records where {expected} should be, {doubled} of them doubled, {odd} of them strange"
    );
    Ok(())
}

fn check_count(log: &dyn Broker, topic: &str, job: Job, guarantee: Guarantee, keys: Keys, records: u64) -> Result<()> {
    let (mut last, mut count): (HashMap<Vec<u8>, i64>, u64) = (HashMap::new(), 0);
    read(log, topic, guarantee, |key, value| {
        let number = value.try_into().map_or(-1, i64::from_be_bytes);
        match last.get_mut(key) {
            Some(last) => *last = number,
            None => _ = last.insert(key.to_vec(), number),
        }
        count += 1;
    })?;
    let mut expected: HashMap<u64, i64> = HashMap::new();
    for record in 0..records {
        *expected.entry(key_number(keys, record)).or_default() += 1;
    }
    let wrong = expected
        .iter()
        .filter(|(number, count)| last.get(key(**number).as_bytes()) != Some(*count));
    let wrong = wrong.count();
    ensure!(
        wrong == 0 && last.len() == expected.len(),
        "{wrong} of {} keys have a wrong last count, {} keys came out",
        expected.len(),
        last.len()
    );
    ensure!(
        job == Job::CountOnCommit || count == records,
        "{count} updates of {records} inputs"
    );
    Ok(())
}
