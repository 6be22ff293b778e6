//! Reading: from where it is told, in bounded steps, and never silently from elsewhere.

use super::{STEP, T0, World, batch, ensure, poll_rows, same, text};
use crate::{Cleanup, ErrorKind, Isolation, OffsetAt, Partitioning};
use record::TopicPartition;

const NUMBERS: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];

/// A topic with the numbers in both of its partitions.
fn numbers(world: &World<'_>) -> Result<[TopicPartition; 2], String> {
    let topic = world.topic("t", 2, Cleanup::Delete)?;
    let partitions = [0, 1].map(|p| TopicPartition::new(topic.as_str(), p));
    let mut producer = world.producer(None)?;
    for partition in &partitions {
        world.send(&mut *producer, partition, &NUMBERS)?;
    }
    producer.flush(STEP * 300).map_err(text)?;
    Ok(partitions)
}

pub(super) fn assign_moves_and_unassign_stops(world: &World<'_>) -> Result<(), String> {
    let [zero, one] = numbers(world)?;
    let mut consumer = world.consumer(Isolation::ReadCommitted, false)?;
    same("position before", consumer.position(&zero).map_err(text)?, None)?;
    consumer.assign(&[(zero.clone(), 6), (one.clone(), 0)]).map_err(text)?;
    same("position", consumer.position(&zero).map_err(text)?, Some(6))?;
    let mut count = 0;
    world.until("2 + 8 records were read", || {
        count += poll_rows(&mut *consumer, usize::MAX)?.len();
        Ok((count >= 10).then_some(()))
    })?;
    same("records", count, 10)?;
    same("position", consumer.position(&zero).map_err(text)?, Some(8))?;
    ensure(consumer.end_hint(&zero).is_some_and(|e| e >= 8), || {
        "no end was heard with the records".to_owned()
    })?;

    consumer.assign(&[(zero.clone(), 3), (one.clone(), 1)]).map_err(text)?;
    consumer.unassign(std::slice::from_ref(&one)).map_err(text)?;
    let mut rows = Vec::new();
    world.until("5 records were read again", || {
        rows.extend(poll_rows(&mut *consumer, usize::MAX)?);
        Ok((rows.len() >= 5).then_some(()))
    })?;
    rows.extend(poll_rows(&mut *consumer, usize::MAX).map_err(text)?);
    let offsets: Vec<i64> = rows.iter().map(|r| r.offset).collect();
    same("offsets after the move", offsets, vec![3, 4, 5, 6, 7])?;
    same(
        "position of what was taken away",
        consumer.position(&one).map_err(text)?,
        None,
    )
}

pub(super) fn poll_is_bounded(world: &World<'_>) -> Result<(), String> {
    let [zero, one] = numbers(world)?;
    let mut consumer = world.consumer(Isolation::ReadCommitted, false)?;
    consumer.assign(&[(zero.clone(), 0), (one.clone(), 0)]).map_err(text)?;
    let mut seen = [0, 0];
    world.until("all 16 records were read", || {
        let mut fetched = Vec::new();
        consumer.poll(STEP, 3, &mut fetched)?;
        let total: usize = fetched.iter().map(|f| f.records.len()).sum();
        if total > 3 {
            return Err(crate::Error::new(
                ErrorKind::Fatal,
                "read at most 3 records",
                format!("{total} came"),
            ));
        }
        for f in &fetched {
            let position = consumer.position(&f.partition)?;
            if position.is_none_or(|p| p < f.next) {
                let cause = format!("position {position:?} after {}", f.next);
                return Err(crate::Error::new(ErrorKind::Fatal, "move the position", cause));
            }
            let count = if f.partition == zero {
                &mut seen[0]
            } else {
                &mut seen[1]
            };
            *count += f.records.len();
        }
        Ok((seen.iter().sum::<usize>() >= 16).then_some(()))
    })?;
    same("records of each partition", seen, [8, 8])
}

pub(super) fn pause_and_resume(world: &World<'_>) -> Result<(), String> {
    let [zero, one] = numbers(world)?;
    let mut consumer = world.consumer(Isolation::ReadCommitted, false)?;
    consumer.assign(&[(zero.clone(), 0), (one.clone(), 0)]).map_err(text)?;
    consumer.pause(std::slice::from_ref(&zero)).map_err(text)?;
    let mut fetched = Vec::new();
    world.until("the other partition was read", || {
        consumer.poll(STEP, usize::MAX, &mut fetched)?;
        Ok((consumer.position(&one)? == Some(8)).then_some(()))
    })?;
    ensure(fetched.iter().all(|f| f.partition == one), || {
        "a paused partition gave records".to_owned()
    })?;
    same(
        "position of the paused one",
        consumer.position(&zero).map_err(text)?,
        Some(0),
    )?;
    consumer.resume(std::slice::from_ref(&zero)).map_err(text)?;
    let mut rows = Vec::new();
    world.until("the resumed partition was read", || {
        rows.extend(poll_rows(&mut *consumer, usize::MAX)?);
        Ok((rows.len() >= 8).then_some(()))
    })?;
    same(
        "offsets",
        rows.iter().map(|r| r.offset).collect(),
        (0..8).collect::<Vec<i64>>(),
    )
}

pub(super) fn position_passes_control_records(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut producer = world.producer(Some(&world.name("id")))?;
    world.write(&mut *producer, &partition, &["a"])?;
    producer.begin().map_err(text)?;
    world.send(&mut *producer, &partition, &["aborted"])?;
    producer.flush(STEP * 300).map_err(text)?;
    producer.abort().map_err(text)?;
    world.write(&mut *producer, &partition, &["b"])?;

    let mut admin = world.admin()?;
    let mut consumer = world.consumer(Isolation::ReadCommitted, false)?;
    consumer.assign(&[(partition.clone(), 0)]).map_err(text)?;
    let mut rows = Vec::new();
    world.until("the position is the end", || {
        rows.extend(poll_rows(&mut *consumer, usize::MAX)?);
        let end = admin.offsets(
            std::slice::from_ref(&partition),
            OffsetAt::End(Isolation::ReadCommitted),
        )?;
        Ok((rows.len() >= 2 && consumer.position(&partition)? == end.first().copied()).then_some(()))
    })?;
    same(
        "values",
        rows.iter().map(super::Row::text).collect(),
        vec!["a".to_owned(), "b".to_owned()],
    )
}

pub(super) fn offset_out_of_range(world: &World<'_>) -> Result<(), String> {
    let [zero, one] = numbers(world)?;
    world.admin()?.delete_records(&[(one.clone(), 4)]).map_err(text)?;
    for (partition, offset) in [(zero, 1000), (one, 2)] {
        let mut consumer = world.consumer(Isolation::ReadCommitted, false)?;
        consumer.assign(&[(partition.clone(), offset)]).map_err(text)?;
        let kind = world.until("an offset that is not there is refused", || {
            match poll_rows(&mut *consumer, usize::MAX) {
                Ok(rows) if rows.is_empty() => Ok(None),
                Ok(rows) => Ok(Some(Err(format!("{partition} at {offset} gave {rows:?}")))),
                Err(e) if e.kind == ErrorKind::OffsetOutOfRange => Ok(Some(Ok(()))),
                Err(e) => Err(e),
            }
        })?;
        kind?;
    }
    Ok(())
}

pub(super) fn offsets_by_time(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut producer = world.producer(None)?;
    for times in [[10, 20], [15, 40]] {
        let rows = times.map(|t| (Some("k"), Some("v"), T0 + t));
        producer
            .send(&topic, Partitioning::Fixed(0), &batch(&rows), 0)
            .map_err(text)?;
        producer.flush(STEP * 300).map_err(text)?;
    }
    for (time, expected) in [(0, 0), (10, 0), (11, 1), (20, 1), (21, 3), (40, 3), (41, 4)] {
        let found = world.offset(&partition, OffsetAt::Time(T0 + time))?;
        same(&format!("offset at time {time}"), found, expected)?;
    }
    same("earliest", world.offset(&partition, OffsetAt::Earliest)?, 0)?;
    same(
        "end",
        world.offset(&partition, OffsetAt::End(Isolation::ReadUncommitted))?,
        4,
    )
}

pub(super) fn delete_records(world: &World<'_>) -> Result<(), String> {
    let [zero, one] = numbers(world)?;
    world.admin()?.delete_records(&[(zero.clone(), 5)]).map_err(text)?;
    same("earliest", world.offset(&zero, OffsetAt::Earliest)?, 5)?;
    same(
        "earliest of the other partition",
        world.offset(&one, OffsetAt::Earliest)?,
        0,
    )?;
    same("end", world.offset(&zero, OffsetAt::End(Isolation::ReadCommitted))?, 8)?;
    same(
        "values",
        world.values_until(&zero, "7")?,
        vec!["5".to_owned(), "6".to_owned(), "7".to_owned()],
    )?;
    world.admin()?.delete_records(&[(zero.clone(), 8)]).map_err(text)?;
    same(
        "earliest of an emptied partition",
        world.offset(&zero, OffsetAt::Earliest)?,
        8,
    )
}
