//! Whole topologies with native processors: order, batches, commits, restarts, retries, wall time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use arrow_array::BinaryArray;
use driver::{Driver, Error, NewProcessor, Piped, Record, RestoreFrom};
use pipeline::{ModuleRef, Vars};
use task::Processor;
use task::processor::{Answer, Context, Emission, Emitted, Failure, Input, Now, RowOutcome};
use task::schedules::{Clock, Schedule};
use topology::Topology;
use topology::description::{ModuleDescription, PortDescription, StoreDescription};

/// Splits values into words. `retry@T` waits for wall time T, `tick` starts a schedule that says how many words came;
/// the count is in its store.
struct Words;

impl Processor for Words {
    fn open(&mut self, _: &mut Context) -> Result<(), Failure> {
        Ok(())
    }

    fn process(&mut self, context: &mut Context, now: Now, input: &Input) -> Result<Answer, Failure> {
        let (mut causes, mut words, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..input.batch.len() {
            let Some(value) = input.batch.value(row) else { continue };
            let text = std::str::from_utf8(value).unwrap();
            if let Some(until) = text.strip_prefix("retry@")
                && now.wall_time < until.parse().unwrap()
            {
                outcomes.push((
                    row as u32,
                    RowOutcome::Retry {
                        after_ms: 1_000,
                        reason: "later".into(),
                    },
                ));
                continue;
            }
            if text == "tick" {
                let schedule = Schedule {
                    every_ms: 1_000,
                    clock: Clock::WallTime,
                    anchor: None,
                };
                context.start_schedule("tick", schedule, Some(row as u32)).unwrap();
            }
            for word in text.split(' ') {
                causes.push(row as u32);
                words.push(word.as_bytes());
                let store = context.store_of[0];
                let seen = context
                    .stores
                    .read(store, b"seen", |b| b.map_or(0, <[u8]>::len))
                    .unwrap();
                context
                    .stores
                    .write(store, b"seen", Some(&vec![b'.'; seen + 1]), 0)
                    .unwrap();
            }
        }
        let values = Some(BinaryArray::from_iter_values(words));
        Ok(Answer {
            emitted: Emitted::Rows(Emission {
                causes: Some(causes),
                values,
                ..Emission::default()
            }),
            outcomes,
        })
    }

    fn punctuate(&mut self, context: &mut Context, _: Now, _: &str) -> Result<Emission, Failure> {
        let seen = context
            .stores
            .read(context.store_of[0], b"seen", |b| b.unwrap_or_default().to_vec())
            .unwrap();
        Ok(Emission {
            values: Some(BinaryArray::from_iter_values([seen])),
            ..Emission::default()
        })
    }

    fn renew(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&mut self) {}

    fn module(&self) -> &str {
        "words@1"
    }
}

fn topology(text: &str) -> Arc<Topology> {
    let describe = |_: &ModuleRef| {
        let port = |name: &str| PortDescription {
            name: name.into(),
            key_format: "bytes".into(),
            value_format: "string".into(),
            ..PortDescription::default()
        };
        let store = StoreDescription {
            name: "seen".into(),
            kind: "key-value".into(),
            schema: 1,
            ..Default::default()
        };
        Ok(ModuleDescription {
            name: "words".into(),
            version: "1".into(),
            digest: "0".repeat(64),
            inputs: vec![port("lines")],
            outputs: vec![port("words")],
            stores: vec![store],
            ..ModuleDescription::default()
        })
    };
    let parsed = pipeline::parse(text, "pipeline.toml", &Vars::default(), &describe);
    Arc::new(
        parsed
            .unwrap_or_else(|problems| panic!("{}", problems.render(false)))
            .topology,
    )
}

fn driver(text: &str) -> Driver {
    let new: NewProcessor = Arc::new(|_, _, _| Ok(Box::new(Words)));
    Driver::new(topology(text), new, 0).unwrap()
}

const WORDS: &str = r#"
wasmill = 1
name = "p"
[sources.lines]
topic = "lines"
value = "string"
[steps.words]
from = "lines"
module = "words@1"
[steps.counts]
op = "count"
from = "words"
group-by = "value"
emit = "EMIT"
[sinks.counts]
from = "counts"
topic = "counts"
"#;

fn line(topic: &str, value: &str, timestamp: i64) -> Piped {
    let record = Record {
        value: Some(value.into()),
        timestamp,
        ..Record::default()
    };
    Piped {
        topic: topic.into(),
        record,
    }
}

fn lines(count: i64) -> Vec<Piped> {
    (0..count)
        .map(|i| line("lines", &format!("a w{} b", i % 3), (i * 37) % 50))
        .collect()
}

fn counts(driver: &Driver) -> Vec<(String, i64, i64)> {
    let number = |record: &Record| i64::from_be_bytes(record.value.clone().unwrap().try_into().unwrap());
    let row = |r: &Record| {
        (
            String::from_utf8(r.key.clone().unwrap()).unwrap(),
            number(r),
            r.timestamp,
        )
    };
    driver.topic("counts").iter().map(row).collect()
}

#[test]
fn together_gives_what_one_by_one_gives() {
    for emit in ["every-update", "on-commit"] {
        let (mut together, mut single) = (
            driver(&WORDS.replace("EMIT", emit)),
            driver(&WORDS.replace("EMIT", emit)),
        );
        together.pipe(lines(60)).unwrap();
        for line in lines(60) {
            single.pipe(vec![line]).unwrap();
        }
        assert_eq!(counts(&together).is_empty(), emit == "on-commit");
        together.commit().unwrap();
        single.commit().unwrap();
        assert_eq!(counts(&together), counts(&single));
        assert_eq!(
            together.topic("p-counts-repartition"),
            single.topic("p-counts-repartition")
        );
        assert_eq!(together.store("counts"), single.store("counts"));
        assert_eq!(together.store("counts").unwrap()[0].value, 60_i64.to_be_bytes());
        assert_eq!((together.run_rows_max(), single.run_rows_max()), (180, 3));
    }
}

#[test]
fn both_restarts_keep_state_and_time() {
    let mut plain = driver(&WORDS.replace("EMIT", "every-update"));
    let mut restarted = driver(&WORDS.replace("EMIT", "every-update"));
    for (number, line) in lines(40).into_iter().enumerate() {
        plain.pipe(vec![line.clone()]).unwrap();
        restarted.pipe(vec![line]).unwrap();
        let from = [RestoreFrom::Stores, RestoreFrom::Changelogs][number % 2];
        restarted.restart(from).unwrap();
    }
    plain.commit().unwrap();
    assert_eq!(counts(&plain), counts(&restarted));
    assert_eq!(counts(&plain).len(), 120);
    for store in ["counts", "words-seen"] {
        assert_eq!(plain.store(store), restarted.store(store));
        assert!(!plain.store(store).unwrap().is_empty());
    }
    assert_eq!(plain.store("no-such-store"), None);
}

#[test]
fn punctuations_fire_when_the_wall_time_is_moved_and_outlive_restarts() {
    for from in [RestoreFrom::Stores, RestoreFrom::Changelogs] {
        let mut driver = driver(&WORDS.replace("EMIT", "every-update"));
        driver.pipe(vec![line("lines", "tick", 1)]).unwrap();
        driver.restart(from).unwrap();
        driver.advance_wall(999).unwrap();
        assert_eq!(counts(&driver).len(), 1);
        // Three are due, and one fires.
        driver.advance_wall(2_500).unwrap();
        assert_eq!(counts(&driver)[1..], [(".".to_owned(), 1, 3_499)]);
    }
}

#[test]
fn a_retry_holds_what_is_behind_it_until_its_time() {
    let mut driver = driver(&WORDS.replace("EMIT", "every-update"));
    driver
        .pipe(vec![
            line("lines", "a", 1),
            line("lines", "retry@1500", 2),
            line("lines", "c", 3),
        ])
        .unwrap();
    driver.pipe(vec![line("lines", "d", 4)]).unwrap();
    assert_eq!((counts(&driver).len(), driver.waiting()), (1, Some((3, 1_000))));
    driver.restart(RestoreFrom::Changelogs).unwrap();
    assert_eq!((counts(&driver).len(), driver.waiting()), (1, Some((3, 1_000))));
    driver.advance_wall(1_000).unwrap();
    assert_eq!(counts(&driver).len(), 1);
    driver.advance_wall(1_000).unwrap();
    assert_eq!((counts(&driver).len(), driver.waiting()), (4, None));
}

#[test]
fn inputs_are_read_in_the_order_in_which_they_were_piped() {
    let text = r#"
wasmill = 1
name = "p"
[sources.a]
topic = "a"
[sources.b]
topic = "b"
[steps.both]
op = "merge"
from = ["a", "b"]
[sinks.out]
from = "both"
topic = "out"
"#;
    let records = [("b", 5), ("a", 5), ("a", 9), ("b", 1), ("b", 2), ("a", 3), ("b", 3)];
    let mut driver = driver(text);
    driver
        .pipe(records.iter().map(|(topic, time)| line(topic, topic, *time)).collect())
        .unwrap();
    let out = driver
        .topic("out")
        .iter()
        .map(|r| (std::str::from_utf8(r.value.as_ref().unwrap()).unwrap(), r.timestamp));
    assert_eq!(out.collect::<Vec<_>>(), records);
    assert!(driver.run_rows_max() > 1);
    assert!(matches!(driver.pipe(vec![line("out", "x", 1)]), Err(Error::UnknownTopic(topic)) if topic == "out"));
}
