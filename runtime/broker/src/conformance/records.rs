//! Records: what was sent is what is read, where its key puts it.

use super::{STEP, T0, World, batch, ensure, same, text};
use crate::{Cleanup, Isolation, OffsetAt, Partitioning};
use record::{BatchBuilder, TopicPartition, partition_of};
use std::collections::BTreeMap;
use std::time::Duration;

/// The wait of a flush.
const FLUSH: Duration = Duration::from_secs(15);

pub(super) fn produce_fetch_in_order(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 2, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 1);
    let rows = [
        (Some("a"), Some("1"), T0 + 5),
        (None, Some("2"), T0),
        (Some("a"), None, T0 + 7),
        (Some(""), Some(""), T0 + 7),
        (None, None, T0 + 1),
        (Some("z"), Some("last"), T0 + 2),
    ];
    let mut producer = world.producer(None)?;
    let all = batch(&rows);
    for part in [all.slice(0, 2), all.slice(2, 3), all.slice(5, 1)] {
        producer.send(&topic, Partitioning::Fixed(1), &part, 7).map_err(text)?;
    }
    producer.flush(FLUSH).map_err(text)?;
    ensure(producer.take_failures().is_empty(), || {
        "failures without a cause".to_owned()
    })?;

    let read = world.read_until(&partition, "last")?;
    let found: Vec<_> = read
        .iter()
        .map(|r| (r.key.clone(), r.value.clone(), r.timestamp))
        .collect();
    let bytes = |t: Option<&str>| t.map(|t| t.as_bytes().to_vec());
    let expected: Vec<_> = rows.iter().map(|(k, v, t)| (bytes(*k), bytes(*v), *t)).collect();
    same("records", found, expected)?;
    ensure(read.is_sorted_by(|a, b| a.offset < b.offset), || {
        "offsets do not increase".to_owned()
    })?;
    let other = TopicPartition::new(topic.as_str(), 0);
    same(
        "end of the other partition",
        world.offset(&other, OffsetAt::End(Isolation::ReadCommitted))?,
        0,
    )
}

pub(super) fn headers_on_request(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(|v| v.as_bytes().to_vec()));
    let sent = vec![
        header("h", Some("1")),
        header("h", None),
        header("e", Some("")),
        header("ü", Some("2")),
    ];
    let mut builder = BatchBuilder::default();
    builder.push(None, Some(b"first"), T0);
    builder.push_with_headers(Some(b"k"), Some(b"last"), T0, sent.clone());
    let mut producer = world.producer(None)?;
    producer
        .send(&topic, Partitioning::Fixed(0), &builder.finish(), 0)
        .map_err(text)?;
    producer.flush(FLUSH).map_err(text)?;

    for wanted in [true, false] {
        let mut consumer = world.consumer(Isolation::ReadCommitted, wanted)?;
        consumer.assign(&[(partition.clone(), 0)]).map_err(text)?;
        let (mut found, mut any) = (Vec::new(), false);
        world.until("both records were read", || {
            let mut fetched = Vec::new();
            consumer.poll(STEP, usize::MAX, &mut fetched)?;
            for f in &fetched {
                any |= f.records.headers().is_some();
                let row = |i| f.records.headers().map_or_else(Vec::new, |h| h.row(i).to_vec());
                found.extend((0..f.records.len()).map(row));
            }
            Ok((found.len() == 2).then_some(()))
        })?;
        let expected = if wanted {
            vec![Vec::new(), sent.clone()]
        } else {
            vec![Vec::new(), Vec::new()]
        };
        same("headers", found, expected)?;
        same("headers are there when asked for", any, wanted)?;
    }
    Ok(())
}

pub(super) fn partitioned_by_key(world: &World<'_>) -> Result<(), String> {
    const COUNT: i32 = 5;
    let topic = world.topic("t", COUNT, Cleanup::Delete)?;
    let mut builder = BatchBuilder::default();
    for i in 0..60 {
        let key = format!("key-{i}");
        builder.push(Some(key.as_bytes()), Some(key.as_bytes()), T0 + i);
    }
    let mut producer = world.producer(None)?;
    producer
        .send(&topic, Partitioning::ByKey { count: COUNT }, &builder.finish(), 0)
        .map_err(text)?;
    producer.flush(FLUSH).map_err(text)?;
    let mut end = BatchBuilder::default();
    end.push(None, Some(b"end"), T0);
    let end = end.finish();
    let mut total = 0;
    for p in 0..COUNT {
        producer.send(&topic, Partitioning::Fixed(p), &end, 0).map_err(text)?;
        producer.flush(FLUSH).map_err(text)?;
        let rows = world.read_until(&TopicPartition::new(topic.as_str(), p), "end")?;
        total += rows.len() - 1;
        for row in rows.iter().filter(|r| r.key.is_some()) {
            same("partition of a key", p, partition_of(row.key.as_deref(), COUNT))?;
        }
        ensure(rows.is_sorted_by_key(|r| r.offset), || {
            "offsets do not increase".to_owned()
        })?;
        let times: Vec<i64> = rows.iter().filter(|r| r.key.is_some()).map(|r| r.timestamp).collect();
        ensure(times.is_sorted(), || {
            format!("partition {p} lost the order of sending: {times:?}")
        })?;
    }
    same("records in all partitions", total, 60)?;

    producer
        .send(&topic, Partitioning::ByKey { count: COUNT }, &end, 0)
        .map_err(text)?;
    producer.flush(FLUSH).map_err(text)?;
    same(
        "failures of a null key without a partition",
        producer.take_failures().len(),
        0,
    )
}

/// All windows of a key go where the key goes.
pub(super) fn partitioned_by_own_key(world: &World<'_>) -> Result<(), String> {
    const COUNT: i32 = 5;
    let topic = world.topic("t", COUNT, Cleanup::Delete)?;
    let mut builder = BatchBuilder::default();
    for i in 0..20_i64 {
        let mut key = format!("key-{}", i % 4).into_bytes();
        key.extend_from_slice(&i.to_be_bytes());
        builder.push(Some(&key), Some(b"window"), T0 + i);
    }
    let mut producer = world.producer(None)?;
    let to = Partitioning::ByWindowedKey {
        count: COUNT,
        window_bytes: 8,
    };
    producer.send(&topic, to, &builder.finish(), 0).map_err(text)?;
    producer.flush(FLUSH).map_err(text)?;
    let mut end = BatchBuilder::default();
    end.push(None, Some(b"end"), T0);
    let end = end.finish();
    let mut total = 0;
    for p in 0..COUNT {
        producer.send(&topic, Partitioning::Fixed(p), &end, 0).map_err(text)?;
        producer.flush(FLUSH).map_err(text)?;
        let rows = world.read_until(&TopicPartition::new(topic.as_str(), p), "end")?;
        for key in rows.iter().filter_map(|row| row.key.as_deref()) {
            let own = key.split_last_chunk::<8>().map(|(own, _)| own);
            same("partition of a window", p, partition_of(own, COUNT))?;
            total += 1;
        }
    }
    same("windows in all partitions", total, 20)
}

pub(super) fn delivered_is_last_own_offset(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 2, Cleanup::Delete)?;
    let (zero, one) = (
        TopicPartition::new(topic.as_str(), 0),
        TopicPartition::new(topic.as_str(), 1),
    );
    let mut a = world.producer(Some(&world.name("a")))?;
    let mut b = world.producer(None)?;
    a.begin().map_err(text)?;
    world.send(&mut *a, &zero, &["a1", "a2"])?;
    world.send(&mut *a, &one, &["a3"])?;
    // Known with the flush already: positions that are committed in the same transaction may name them.
    a.flush(FLUSH).map_err(text)?;
    let first: BTreeMap<_, _> = a.take_delivered().into_iter().collect();
    world.commit(&mut *a)?;
    world.send(&mut *b, &zero, &["b1"])?;
    b.flush(FLUSH).map_err(text)?;
    let other = b.take_delivered();
    a.begin().map_err(text)?;
    world.send(&mut *a, &zero, &["a4", "a5", "end"])?;
    world.commit(&mut *a)?;
    let second = a.take_delivered();

    let rows = world.read_until(&zero, "end")?;
    let at = |value: &str| rows.iter().find(|r| r.text() == value).map(|r| r.offset);
    let in_one = world.read_until(&one, "a3")?.last().map(|r| r.offset);
    same(
        "of the first transaction",
        (first.get(&zero).copied(), first.get(&one).copied()),
        (at("a2"), in_one),
    )?;
    same(
        "without a transaction",
        other,
        at("b1").map(|o| (zero.clone(), o)).into_iter().collect(),
    )?;
    same(
        "of the second transaction only",
        second,
        at("end").map(|o| (zero.clone(), o)).into_iter().collect(),
    )
}

/// Whether or not compaction has run: the last value of every key is there, and later ones have higher offsets.
pub(super) fn compacted_keeps_last_values(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Compact)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut producer = world.producer(Some(&world.name("id")))?;
    let keys = ["a", "b", "c"];
    for round in 0..20 {
        let values: Vec<String> = keys.iter().map(|k| format!("{k}{round}")).collect();
        let rows: Vec<_> = keys
            .iter()
            .zip(&values)
            .map(|(k, v)| (Some(*k), Some(v.as_str()), T0))
            .collect();
        producer.begin().map_err(text)?;
        producer
            .send(&topic, Partitioning::Fixed(0), &batch(&rows), 0)
            .map_err(text)?;
        world.commit(&mut *producer)?;
    }
    let mut last = BTreeMap::new();
    for row in world.read_until(&partition, "c19")? {
        last.insert(row.key.clone(), row.text());
    }
    let found: Vec<String> = last.into_values().collect();
    same(
        "last values",
        found,
        vec!["a19".to_owned(), "b19".to_owned(), "c19".to_owned()],
    )
}
