//! Checks of windows and joins: what must come out follows from the numbers of the records.

use crate::programs::{Guarantee, WINDOW_MS, WITHIN_MS};
use crate::topic::{Keys, base, event_time, key, key_number, read};
use anyhow::{Result, ensure};
use broker::Broker;
use std::collections::{HashMap, HashSet};

/// `{"left":"` and `","right":"` around two values of 100 bytes.
const LEFT: usize = 9;
const RIGHT: usize = LEFT + 100 + 11;

/// Every record has its update, and the last one of every window is right.
pub fn check_window(log: &dyn Broker, topic: &str, keys: Keys, records: u64) -> Result<()> {
    let (mut last, mut count): (HashMap<Vec<u8>, i64>, u64) = (HashMap::new(), 0);
    read(log, topic, Guarantee::ExactlyOnce, |key, value| {
        last.insert(key.to_vec(), value.try_into().map_or(-1, i64::from_be_bytes));
        count += 1;
    })?;
    let mut expected: HashMap<(u64, i64), i64> = HashMap::new();
    for record in 0..records {
        let window = (event_time(record, records) - base()) / WINDOW_MS;
        *expected.entry((key_number(keys, record), window)).or_default() += 1;
    }
    let wrong = expected.iter().filter(|((number, window), count)| {
        // As Kafka's serializer of time windows writes it.
        let mut wire = key(*number).into_bytes();
        wire.extend_from_slice(&(base() + window * WINDOW_MS).to_be_bytes());
        last.get(&wire) != Some(*count)
    });
    let wrong = wrong.count();
    ensure!(
        wrong == 0 && last.len() == expected.len() && count == records,
        "{wrong} of {} windows have a wrong last count, {} came out, with {count} updates of {records} inputs",
        expected.len(),
        last.len()
    );
    Ok(())
}

/// Numbers of the records whose values a joined one has.
fn sides(value: &[u8]) -> Option<(u64, u64)> {
    let number = |at: usize| std::str::from_utf8(value.get(at + 8..at + 20)?).ok()?.parse().ok();
    Some((number(LEFT)?, number(RIGHT)?))
}

/// Every record of the stream once, with the row that the table has for its key.
pub fn check_stream_table(log: &dyn Broker, topic: &str, keys: Keys, records: u64) -> Result<()> {
    let mut seen = vec![false; records as usize];
    let (mut doubled, mut wrong) = (0, 0);
    read(log, topic, Guarantee::ExactlyOnce, |joined, value| {
        let met = sides(value).filter(|(left, right)| {
            let number = key_number(keys, *left);
            number == *right && key(number).as_bytes() == joined
        });
        match met.and_then(|(left, _)| seen.get_mut(left as usize)) {
            Some(seen) if *seen => doubled += 1,
            Some(seen) => *seen = true,
            None => wrong += 1,
        }
    })?;
    let missing = seen.iter().filter(|seen| !**seen).count();
    ensure!(
        missing + doubled + wrong == 0,
        "of {records} records {missing} are missing, {doubled} doubled, {wrong} joined with another row"
    );
    Ok(())
}

/// Every pair of one key within the span once; each side has half of the records, which have the same keys and times.
pub fn check_stream_stream(log: &dyn Broker, topic: &str, keys: Keys, records: u64) -> Result<()> {
    let half = records / 2;
    let time = |record| event_time(record, half);
    let (mut pairs, mut doubled, mut wrong): (HashSet<(u64, u64)>, u64, u64) = (HashSet::new(), 0, 0);
    read(log, topic, Guarantee::ExactlyOnce, |joined, value| {
        let met = sides(value).filter(|(left, right)| {
            let number = key_number(keys, *left);
            key_number(keys, *right) == number
                && key(number).as_bytes() == joined
                && (time(*left) - time(*right)).abs() <= WITHIN_MS
        });
        match met {
            Some(pair) => doubled += u64::from(!pairs.insert(pair)),
            None => wrong += 1,
        }
    })?;
    let expected = pairs_within(keys, half);
    ensure!(
        pairs.len() as u64 == expected && doubled + wrong == 0,
        "{} pairs where {expected} should be, {doubled} doubled, {wrong} wrong",
        pairs.len()
    );
    Ok(())
}

/// How many pairs two sides of `records` records make.
fn pairs_within(keys: Keys, records: u64) -> u64 {
    let mut times: HashMap<u64, Vec<i64>> = HashMap::new();
    for record in 0..records {
        times
            .entry(key_number(keys, record))
            .or_default()
            .push(event_time(record, records));
    }
    let near = |times: &Vec<i64>| -> u64 {
        let within = |time: &i64| {
            let from = times.partition_point(|other| *other < time - WITHIN_MS);
            times.partition_point(|other| *other <= time + WITHIN_MS) - from
        };
        times.iter().map(|time| within(time) as u64).sum()
    };
    times.values().map(near).sum()
}

#[test]
fn a_joined_value_says_which_records_met() {
    let value = |record: u64| format!("{:<100}", format!("{} event {record:012} ", record % 10));
    let joined = format!(r#"{{"left":"{}","right":"{}"}}"#, value(123), value(45_678));
    assert_eq!(sides(joined.as_bytes()), Some((123, 45_678)));
    assert_eq!(sides(b"{}"), None);
}

#[test]
fn pairs_lie_within_the_span() {
    // Two records of one key, five minutes apart: each meets itself only.
    assert_eq!(pairs_within(Keys::InTurn(1), 2), 2);
    // A hundred of one key, 6 s apart: each meets itself and its neighbours.
    assert_eq!(pairs_within(Keys::InTurn(1), 100), 298);
}
