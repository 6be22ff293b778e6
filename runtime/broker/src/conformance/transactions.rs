//! Transactions: all or nothing, and never by a producer that was fenced.

use super::{T0, World, batch, ensure, same, text};
use crate::{Cleanup, CommittedOffset, Disposition, Error, ErrorKind, Isolation, Partitioning, Producer};
use record::TopicPartition;
use std::time::Duration;

const FLUSH: Duration = Duration::from_secs(15);

pub(super) fn open_transaction_invisible(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut producer = world.producer(Some(&world.name("id")))?;
    producer.begin().map_err(text)?;
    world.send(&mut *producer, &partition, &["a", "end"])?;
    producer.flush(FLUSH).map_err(text)?;

    let mut consumer = world.consumer(Isolation::ReadCommitted, false)?;
    consumer.assign(&[(partition.clone(), 0)]).map_err(text)?;
    for _ in 0..10 {
        let early = super::poll_rows(&mut *consumer, usize::MAX).map_err(text)?;
        same("records of an open transaction", early, vec![])?;
    }
    same(
        "position before the commit",
        consumer.position(&partition).map_err(text)?,
        Some(0),
    )?;
    world.commit(&mut *producer)?;
    let mut rows = Vec::new();
    world.until("the transaction is read", || {
        rows.extend(super::poll_rows(&mut *consumer, usize::MAX)?);
        Ok((rows.len() >= 2).then_some(()))
    })?;
    same(
        "values",
        rows.iter().map(super::Row::text).collect(),
        vec!["a".to_owned(), "end".to_owned()],
    )
}

pub(super) fn abort_leaves_nothing(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut producer = world.producer(Some(&world.name("id")))?;
    world.write(&mut *producer, &partition, &["a"])?;
    producer.begin().map_err(text)?;
    world.send(&mut *producer, &partition, &["flushed"])?;
    producer.flush(FLUSH).map_err(text)?;
    world.send(&mut *producer, &partition, &["queued"])?;
    producer.abort().map_err(text)?;
    producer.begin().map_err(text)?;
    producer
        .abort()
        .map_err(|e| format!("aborting an empty transaction: {}", text(e)))?;
    world.write(&mut *producer, &partition, &["end"])?;
    same(
        "values",
        world.values_until(&partition, "end")?,
        vec!["a".to_owned(), "end".to_owned()],
    )
}

fn offset_of(partition: &TopicPartition, offset: i64, metadata: &str) -> CommittedOffset {
    CommittedOffset {
        partition: partition.clone(),
        offset,
        metadata: metadata.to_owned(),
    }
}

pub(super) fn offsets_commit_with_records(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 2, Cleanup::Delete)?;
    let (zero, one) = (
        TopicPartition::new(topic.as_str(), 0),
        TopicPartition::new(topic.as_str(), 1),
    );
    let group = world.name("group");
    let mut producer = world.producer(Some(&world.name("id")))?;
    producer.begin().map_err(text)?;
    world.send(&mut *producer, &zero, &["end"])?;
    let metadata = "x".repeat(4000);
    producer
        .send_offsets(&group, &[offset_of(&one, 17, &metadata)], None)
        .map_err(text)?;
    let mut admin = world.admin()?;
    match admin.committed(&group, std::slice::from_ref(&one)) {
        Ok(found) => same("before the commit", found, vec![None])?,
        Err(e) => same("before the commit", e.kind, ErrorKind::Unstable)?,
    }
    world.commit(&mut *producer)?;
    same(
        "after the commit",
        world.committed(&group, &one)?,
        Some(offset_of(&one, 17, &metadata)),
    )?;
    same("of another partition", world.committed(&group, &zero)?, None)?;

    // Positions alone make a transaction too, and replace what was there.
    producer.begin().map_err(text)?;
    producer
        .send_offsets(&group, &[offset_of(&one, 18, "")], None)
        .map_err(text)?;
    producer
        .send_offsets(&group, &[offset_of(&one, 19, "b")], None)
        .map_err(text)?;
    world.commit(&mut *producer)?;
    same(
        "after the second commit",
        world.committed(&group, &one)?,
        Some(offset_of(&one, 19, "b")),
    )?;
    same("values", world.values_until(&zero, "end")?, vec!["end".to_owned()])
}

pub(super) fn offsets_abort_with_records(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let group = world.name("group");
    let mut producer = world.producer(Some(&world.name("id")))?;
    for (offset, aborts) in [(5, false), (9, true)] {
        producer.begin().map_err(text)?;
        producer
            .send_offsets(&group, &[offset_of(&partition, offset, "m")], None)
            .map_err(text)?;
        if aborts {
            producer.abort().map_err(text)?;
        } else {
            world.commit(&mut *producer)?;
        }
    }
    same(
        "committed",
        world.committed(&group, &partition)?,
        Some(offset_of(&partition, 5, "m")),
    )
}

pub(super) fn init_settles_open_transaction(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let (group, id) = (world.name("group"), world.name("id"));
    let mut first = world.producer(Some(&id))?;
    world.write(&mut *first, &partition, &["a"])?;
    first.begin().map_err(text)?;
    world.send(&mut *first, &partition, &["lost"])?;
    first
        .send_offsets(&group, &[offset_of(&partition, 3, "")], None)
        .map_err(text)?;
    first.flush(FLUSH).map_err(text)?;
    drop(first);
    let mut second = world.producer(Some(&id))?;
    same(
        "offsets of the settled transaction",
        world.committed(&group, &partition)?,
        None,
    )?;
    world.write(&mut *second, &partition, &["end"])?;
    same(
        "values",
        world.values_until(&partition, "end")?,
        vec!["a".to_owned(), "end".to_owned()],
    )
}

/// A fenced producer may first be told to abort, and hears of the fencing when it does.
fn is_fenced(producer: &mut dyn Producer, what: &str, answer: Result<(), Error>) -> Result<(), String> {
    let first = match answer {
        Ok(()) => return Err(format!("{what} of a fenced producer succeeded")),
        Err(e) => e,
    };
    if first.kind == ErrorKind::Fenced {
        return Ok(());
    }
    let kind = producer.abort().err().map(|e| e.kind);
    ensure(
        first.disposition() == Disposition::Abort && kind == Some(ErrorKind::Fenced),
        || format!("{what} of a fenced producer failed with {first:?}, its abort with {kind:?}"),
    )
}

/// A transaction of `producer` with a record and an offset, ready for its commit.
fn begin_with(world: &World<'_>, producer: &mut dyn Producer, to: &TopicPartition) -> Result<(), String> {
    producer.begin().map_err(text)?;
    let rows = batch(&[(Some("k"), Some("zombie"), T0)]);
    producer
        .send(&to.topic, Partitioning::Fixed(to.partition), &rows, 0)
        .map_err(text)?;
    producer
        .send_offsets(&world.name("group"), &[offset_of(to, 99, "zombie")], None)
        .map_err(text)?;
    producer.flush(FLUSH).map_err(text)
}

fn sees_only(world: &World<'_>, from: &TopicPartition, values: &[&str]) -> Result<(), String> {
    let last = values.last().copied().unwrap_or_default();
    let expected: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
    same("values", world.values_until(from, last)?, expected)?;
    same("offsets", world.committed(&world.name("group"), from)?, None)
}

pub(super) fn init_fences_older_producer(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let id = world.name("id");
    let mut zombie = world.producer(Some(&id))?;
    begin_with(world, &mut *zombie, &partition)?;
    let mut owner = world.producer(Some(&id))?;
    let answer = zombie.commit();
    is_fenced(&mut *zombie, "a commit", answer)?;
    world.write(&mut *owner, &partition, &["a"])?;

    // Fenced between its transactions: begin may succeed, nothing after it.
    let mut newest = world.producer(Some(&id))?;
    let answer = owner
        .begin()
        .and_then(|()| owner.send_offsets(&world.name("group"), &[offset_of(&partition, 98, "")], None))
        .and_then(|()| owner.commit());
    is_fenced(&mut *owner, "a transaction with offsets", answer)?;
    world.write(&mut *newest, &partition, &["end"])?;
    sees_only(world, &partition, &["a", "end"])
}

pub(super) fn fence_fences_owner(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let id = world.name("id");
    let mut zombie = world.producer(Some(&id))?;
    begin_with(world, &mut *zombie, &partition)?;
    for name in [id.clone(), world.name("never-used")] {
        let mut fencing = world.broker.fence(&name);
        world.until("the fencing ends", || fencing.poll().transpose())?;
        ensure(matches!(fencing.poll(), Some(Ok(()))), || {
            "a fencing changed its answer".to_owned()
        })?;
    }
    let answer = zombie
        .send_offsets(&world.name("group"), &[offset_of(&partition, 98, "")], None)
        .and_then(|()| zombie.commit());
    is_fenced(&mut *zombie, "a commit", answer)?;
    drop(zombie);

    // The id itself is as good as new.
    let mut owner = world.producer(Some(&id))?;
    world.write(&mut *owner, &partition, &["end"])?;
    sees_only(world, &partition, &["end"])
}
