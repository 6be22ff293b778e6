//! What an undisturbed run gives, and whether a world gave it.

use super::{Drawn, GLOBAL, Promise, Row, parsed};
use crate::pipeline::PARTITIONS;
use crate::world::World;
use driver::{Driver, NewProcessor, Piped, Record};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use topology::{Guarantee, NodeKind, Topology};

/// Values with their times, by key; bytes as text that a person can read.
type ByKey = BTreeMap<Option<String>, Vec<(Option<String>, i64)>>;

/// The rows as one task reads them: those of a topic as they lie there, of several topics the oldest first, ties by topic.
fn merged<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<&'a Row> {
    let mut queues: BTreeMap<&str, VecDeque<&Row>> = BTreeMap::new();
    for row in rows {
        queues.entry(row.topic).or_default().push_back(row);
    }
    let mut merged = Vec::new();
    loop {
        let heads = queues
            .iter()
            .filter_map(|(topic, queue)| Some((queue.front()?.timestamp, *topic)));
        let Some((_, topic)) = heads.min() else { return merged };
        merged.extend(queues.get_mut(topic).and_then(VecDeque::pop_front));
    }
}

/// Plays the rows one by one.
fn played(topology: &Arc<Topology>, globals: &[Row], rows: &[&Row]) -> Driver {
    let new: NewProcessor = Arc::new(|_, _, _| panic!("a module in a drawn pipeline"));
    let mut driver = Driver::new(Arc::clone(topology), new, 0).unwrap();
    for row in globals.iter().chain(rows.iter().copied()) {
        let record = Record {
            key: row.key.clone(),
            value: row.value.clone(),
            timestamp: row.timestamp,
            headers: Vec::new(),
        };
        let topic = row.topic.into();
        driver.pipe(vec![Piped { topic, record }]).unwrap();
    }
    driver.commit().unwrap();
    driver
}

fn by_key(rows: impl Iterator<Item = (Option<Vec<u8>>, Option<Vec<u8>>, i64)>) -> ByKey {
    let mut by_key = ByKey::new();
    for (key, value, timestamp) in rows {
        let text = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
        by_key
            .entry(key.map(text))
            .or_default()
            .push((value.map(text), timestamp));
    }
    // Rows without a key are spread over the partitions, which have no order between them.
    if let Some(spread) = by_key.get_mut(&None) {
        spread.sort();
    }
    by_key
}

fn of_driver(driver: &Driver, topic: &str) -> impl Iterator<Item = (Option<Vec<u8>>, Option<Vec<u8>>, i64)> {
    let rows = driver.topic(topic).iter();
    rows.map(|r| (r.key.clone(), r.value.clone(), r.timestamp))
}

fn of_world(world: &World, topic: &str) -> ByKey {
    let rows = (0..PARTITIONS).flat_map(|p| world.rows(topic, p));
    by_key(rows.map(|r| (r.key, r.value, r.timestamp)))
}

/// Values that a table has in the end: a key that is gone has none, be it said or not.
fn last(rows: &ByKey) -> BTreeMap<Option<String>, String> {
    let last = |(key, rows): (&Option<String>, &Vec<(Option<String>, i64)>)| {
        let (value, _) = rows.last()?;
        Some((key.clone(), value.clone()?))
    };
    rows.iter().filter_map(last).collect()
}

fn sinks(topology: &Topology) -> impl Iterator<Item = &str> {
    topology.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some(sink.topic.as_str()),
        _ => None,
    })
}

/// What a topic must hold in the end.
pub struct Expected {
    pub topic: String,
    promise: Promise,
    /// Its keys are of windows that begin and end with rows.
    by_rows: bool,
    rows: ByKey,
}

impl Expected {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn compare(&self, guarantee: Guarantee, found: &ByKey) -> Result<(), String> {
        match (guarantee, self.promise) {
            (Guarantee::ExactlyOnce, Promise::Rows) => same(&self.rows, found),
            (Guarantee::ExactlyOnce, Promise::Last) | (_, Promise::Settled) => same(&last(&self.rows), &last(found)),
            // Rows are processed again after a crash, by stores that know them already, or know a part of what they did:
            // sums grow. No key may be missing, and none of its windows; but windows that begin and end with rows, sliding
            // ones and sessions, are others when rows that came later are there already.
            (Guarantee::AtLeastOnce, Promise::Rows | Promise::Last) => {
                let letter = |key: &str| key.chars().next();
                let there = |key: &Option<String>| match (self.by_rows, key) {
                    (true, Some(key)) => found.keys().flatten().any(|other| letter(other) == letter(key)),
                    _ => found.contains_key(key),
                };
                match last(&self.rows).keys().find(|key| !there(key)) {
                    Some(key) => Err(format!("nothing came out for {}", shown(key.as_deref()))),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Drawn {
    /// What an undisturbed run gives, by topic.
    pub fn expected(&self) -> Vec<Expected> {
        let topology = parsed(&self.text("0s"));
        let (globals, rows): (Vec<Row>, Vec<Row>) = self.rows.iter().cloned().partition(|r| r.topic == GLOBAL);
        let tasks = (0..PARTITIONS).map(|p| merged(rows.iter().filter(|r| r.partition == p)));
        let tasks: Vec<Driver> = tasks.map(|rows| played(&topology, &globals, &rows)).collect();
        // Behind a repartition topic rows of all partitions meet.
        let whole = played(&topology, &globals, &merged(rows.iter()));
        let expected = sinks(&topology).map(|topic| {
            let step = self.steps.iter().find(|s| s.name == topic);
            // A topic of no step takes the late rows of one.
            let promise = step.map_or(Promise::Rows, |s| s.promise);
            let rows = match promise {
                Promise::Rows => by_key(tasks.iter().flat_map(|task| of_driver(task, topic))),
                Promise::Last | Promise::Settled => by_key(of_driver(&whole, topic)),
            };
            Expected {
                topic: topic.to_owned(),
                promise,
                by_rows: step.is_some_and(|s| s.text.contains("session =") || s.text.contains("sliding =")),
                rows,
            }
        });
        expected.collect()
    }

    /// # Errors
    /// The first output that a reader of committed rows sees and that an undisturbed run does not give.
    pub fn check(&self, world: &World) -> Result<(), String> {
        for expected in self.expected() {
            let topic = &expected.topic;
            let compared = expected.compare(self.guarantee, &of_world(world, topic));
            compared.map_err(|e| format!("`{topic}` of {}: {e}", self.describe()))?;
        }
        Ok(())
    }
}

fn same<V: PartialEq + std::fmt::Debug>(
    expected: &BTreeMap<Option<String>, V>,
    found: &BTreeMap<Option<String>, V>,
) -> Result<(), String> {
    let keys = expected.keys().chain(found.keys());
    match keys.into_iter().find(|key| expected.get(*key) != found.get(*key)) {
        Some(key) => Err(format!(
            "{} should have\n  {:?}, but has\n  {:?}",
            shown(key.as_deref()),
            expected.get(key),
            found.get(key)
        )),
        None => Ok(()),
    }
}

fn shown(key: Option<&str>) -> String {
    key.map_or_else(|| "the null key".into(), |key| format!("`{key}`"))
}
