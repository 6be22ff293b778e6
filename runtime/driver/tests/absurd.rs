//! Inputs that nobody sends on purpose: keys of a megabyte, times ten years ahead, times below zero. Whole, one by one
//! and with restarts they give the same, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use driver::{Driver, NewProcessor, Piped, Record, RestoreFrom};
use pipeline::{ModuleRef, Undescribed, Vars};

/// Every operator that keeps records by key.
const EVERYTHING: &str = r#"
wasmill = 1
name = "p"
[sources.in]
topic = "in"
key = "string"
value = "string"
[steps.even]
op = "filter"
from = "in"
where = "int(value) % 2 == 0"
[steps.odd]
op = "filter-not"
from = "in"
where = "int(value) % 2 == 0"
[steps.total]
op = "count"
from = "in"
[steps.windows]
op = "count"
from = "in"
window = { hopping = "10ms", advance = "5ms", grace = "0ms" }
[steps.held]
op = "suppress"
from = "windows"
until = "window-closes"
[steps.sessions]
op = "count"
from = "in"
window = { session = "5ms", grace = "0ms" }
[steps.pairs]
op = "join"
kind = "outer"
left = "even"
right = "odd"
within = "5ms"
grace = "0ms"
[steps.latest]
op = "to-table"
from = "even"
[steps.met]
op = "join"
left = "odd"
right = "latest"
[steps.grouped]
op = "count"
from = "in"
group-by = "value"
[sinks.total]
from = "total"
topic = "total"
[sinks.windows]
from = "windows"
topic = "windows"
[sinks.held]
from = "held"
topic = "held"
[sinks.sessions]
from = "sessions"
topic = "sessions"
[sinks.pairs]
from = "pairs"
topic = "pairs"
[sinks.met]
from = "met"
topic = "met"
[sinks.grouped]
from = "grouped"
topic = "grouped"
"#;
const TOPICS: [&str; 7] = ["total", "windows", "held", "sessions", "pairs", "met", "grouped"];

fn driver() -> Driver {
    let none = |_: &ModuleRef| -> Result<_, Undescribed> { panic!("there is no module") };
    let parsed = pipeline::parse(EVERYTHING, "pipeline.toml", &Vars::default(), &none);
    let topology = parsed.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let new: NewProcessor = Arc::new(|_, _, _| panic!("there is no module"));
    Driver::new(Arc::new(topology.topology), new, 0).unwrap()
}

fn record(key: &[u8], value: usize, timestamp: i64) -> Piped {
    Piped {
        topic: "in".into(),
        record: Record {
            key: Some(key.to_vec()),
            value: Some(value.to_string().into_bytes()),
            timestamp,
            ..Record::default()
        },
    }
}

/// What comes of `records`, the same in every cut; the topics in the order of [`TOPICS`].
fn outputs(records: &[Piped]) -> Vec<Vec<Record>> {
    let (mut whole, mut single) = (driver(), driver());
    whole.pipe(records.to_vec()).unwrap();
    for (number, record) in records.iter().enumerate() {
        single.pipe(vec![record.clone()]).unwrap();
        if number % 3 == 0 {
            single.restart(RestoreFrom::Changelogs).unwrap();
        }
    }
    whole.commit().unwrap();
    single.commit().unwrap();
    let of = |driver: &Driver| TOPICS.map(|topic| driver.topic(topic).to_vec()).to_vec();
    assert!(of(&whole) == of(&single), "one by one gives something else");
    of(&whole)
}

/// The largest key that a topic takes has its windows, sessions, pairs and tables as others have.
#[test]
fn a_key_of_a_megabyte_is_a_key() {
    let large = vec![b'k'; 1 << 20];
    // One byte longer, and the same but for its last byte: neither is taken for the other.
    let (longer, other) = ([&large[..], b"k"].concat(), [&large[1..], b"x"].concat());
    let mut records = Vec::new();
    for (number, key) in [&large, &longer, &other, &large, &longer, &large]
        .into_iter()
        .enumerate()
    {
        records.push(record(key, number, 3 * number as i64));
    }
    records.push(record(b"last", 100, 1_000));
    let made = outputs(&records);
    let [total, windows, held, sessions, pairs, met, grouped] = made.as_slice() else {
        panic!("seven topics");
    };
    assert_eq!(total.len(), 7);
    let counts: Vec<(usize, Vec<u8>)> = total
        .iter()
        .map(|row| (row.key.as_ref().unwrap().len(), row.value.clone().unwrap()))
        .collect();
    assert_eq!(counts.get(5), Some(&(1 << 20, 3_i64.to_be_bytes().to_vec())));
    assert_eq!(counts.get(4), Some(&((1 << 20) + 1, 2_i64.to_be_bytes().to_vec())));
    assert!(
        windows
            .iter()
            .take(1)
            .all(|row| row.key.as_ref().unwrap().len() == (1 << 20) + 8)
    );
    // Every window but those of the last record has closed.
    assert!(held.len() > 8, "{}", held.len());
    assert!(sessions.len() >= 6 && pairs.len() >= 6 && grouped.len() == 7);
    // 3 (odd) meets 0 (even) of the same key; 1 comes before 4; 5 meets 0.
    assert_eq!(met.len(), 2);
}

/// It closes what was open, which goes on; what comes after it with an older time is late for windows, and counted by
/// what has none.
#[test]
fn a_time_ten_years_ahead_is_a_time() {
    let ahead = 10 * 365 * 86_400_000;
    let mut records: Vec<Piped> = (0..6).map(|i| record(b"k", i, 2 * i as i64)).collect();
    records.push(record(b"k", 6, ahead));
    records.extend((7..10).map(|i| record(b"k", i, i as i64)));
    records.push(record(b"k", 10, ahead + 3));
    let made = outputs(&records);
    let [total, _, held, sessions, pairs, met, grouped] = made.as_slice() else {
        panic!("seven topics");
    };
    assert_eq!((total.len(), grouped.len()), (11, 11));
    // Windows that began at 0, 5 and 10.
    let starts: Vec<i64> = held
        .iter()
        .map(|row| i64::from_be_bytes(*row.key.as_ref().unwrap().last_chunk::<8>().unwrap()))
        .collect();
    assert_eq!(starts, [0, 5, 10]);
    let last = sessions.last().unwrap();
    assert_eq!(
        (last.timestamp, last.value.clone()),
        (ahead + 3, Some(2_i64.to_be_bytes().to_vec()))
    );
    // Odd ones after the first even one: 1, 3, 5, 7 and 9, whatever their time.
    assert_eq!(met.len(), 5);
    assert!(
        pairs.iter().any(|row| row.timestamp == 9),
        "a late row without a match goes on at once"
    );
}

/// Kafka has none, but producers send some: they are left out and counted, and move nothing.
#[test]
fn a_time_below_zero_is_left_out() {
    let plain: Vec<Piped> = (0..8).map(|i| record(b"k", i, i as i64)).collect();
    let mut with = plain.clone();
    for (at, timestamp) in [(7, i64::MIN), (4, -1), (0, -5)] {
        with.insert(at, record(b"k", 50, timestamp));
    }
    assert!(
        outputs(&plain) == outputs(&with),
        "a record of no time left something behind"
    );
}
