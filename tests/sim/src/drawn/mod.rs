//! Pipelines of native operators with state, drawn from a seed, and their input.
//!
//! What an undisturbed run gives is what the topology gives on the driver, row by row, without a broker, a worker, a
//! batch or a restart ([`reference`]). So a world that agrees shows three things at once: kills and rebalances change
//! nothing, batches give what rows one by one give, and a restored task goes on as the one before it did.

pub mod reference;
mod steps;

use crate::dice::Dice;
use crate::pipeline::{PARTITIONS, PIPELINE};
use crate::world::World;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use steps::{SOURCES, STEPS, Step};
use topology::{Guarantee, Topology};

pub use steps::Promise;

/// Steps of one pipeline.
const STEPS_MAX: usize = 4;
const ROWS_MIN: usize = 50;
const ROWS_MORE: usize = 100;
const GLOBAL: &str = "g";
/// How long a task of a pipeline with live input waits for an input that is empty: longer than a time of trouble, so
/// that it reads rows of several inputs in the order of their times, whenever each of them comes.
const IDLE: &str = "7s";

/// A record of an input.
#[derive(Clone, Debug)]
pub struct Row {
    pub topic: &'static str,
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
}

pub struct Drawn {
    steps: Vec<&'static Step>,
    guarantee: Guarantee,
    /// Rows are written while the pipeline runs; else all are there before.
    live: bool,
    /// Tasks wait for inputs that are empty. Not where an answer comes to each row: each would be waited for.
    waits: bool,
    /// All of them, in the order in which they are written.
    rows: Vec<Row>,
    left: VecDeque<Row>,
}

impl Drawn {
    pub fn new(seed: u64, guarantee: Guarantee) -> Self {
        let dice = Dice::new(seed ^ 0xd4a);
        // The first one takes its turn, so that every step is in many worlds; each round begins one further on, or a step
        // would always meet the same number of nodes and threads.
        let seed = seed as usize;
        let first = (seed + seed / STEPS.len()) % STEPS.len();
        let more = (0..dice.below(STEPS_MAX)).map(|_| dice.below(STEPS.len()));
        let numbers: BTreeSet<usize> = std::iter::once(first).chain(more).collect();
        let mut steps: Vec<&Step> = numbers.iter().map(|n| &STEPS[*n]).collect();
        let foreign = steps.iter().any(|s| s.promise == Promise::Settled);
        if foreign {
            // Its answers come back to the task that asks, at any time, and move the time of what else is there.
            steps.retain(|s| s.promise != Promise::Rows);
        }
        let rows = rows(&dice, &sources(&steps));
        let (globals, left) = rows.iter().cloned().partition::<Vec<Row>, _>(|r| r.topic == GLOBAL);
        let drawn = Self {
            steps,
            guarantee,
            live: dice.chance(0.6),
            waits: !foreign,
            left: left.into(),
            rows: Vec::new(),
        };
        // A global table is whole before the first record; how a node sees to that is shown on a node.
        let rows = globals.into_iter().chain(drawn.left.iter().cloned()).collect();
        Self { rows, ..drawn }
    }

    pub fn topology(&self) -> Arc<Topology> {
        parsed(&self.text(if self.live && self.waits { IDLE } else { "0s" }))
    }

    fn text(&self, idle: &str) -> String {
        let guarantee = match self.guarantee {
            Guarantee::ExactlyOnce => "exactly-once",
            Guarantee::AtLeastOnce => "at-least-once",
        };
        let mut text =
            format!("wasmill = 1\nname = \"{PIPELINE}\"\nguarantee = \"{guarantee}\"\nmax-task-idle = \"{idle}\"\n");
        let read = sources(&self.steps);
        for source in SOURCES.iter().filter(|s| read.contains(s.name)) {
            let (name, rest) = (source.name, source.text);
            text.push_str(&format!(
                "\n[sources.{name}]\ntopic = \"{name}\"\nkey = \"string\"\n{rest}\n"
            ));
        }
        for step in &self.steps {
            let name = step.name;
            text.push_str(&format!(
                "\n{}\n[sinks.{name}]\nfrom = \"{name}\"\ntopic = \"{name}\"\n",
                step.text
            ));
        }
        text
    }

    /// What is there before the pipeline runs.
    pub fn prepare(&mut self, world: &World) {
        for row in self.rows.iter().filter(|r| r.topic == GLOBAL) {
            write(world, row);
        }
        if !self.live {
            self.finish(world);
        }
    }

    /// Writes the next row, if there is one.
    pub fn produce(&mut self, world: &World) {
        if let Some(row) = self.left.pop_front() {
            write(world, &row);
        }
    }

    pub fn finish(&mut self, world: &World) {
        while !self.left.is_empty() {
            self.produce(world);
        }
    }

    /// For the one who reads a failure.
    pub fn describe(&self) -> String {
        let names: Vec<&str> = self.steps.iter().map(|s| s.name).collect();
        let input = if self.live { "live" } else { "whole" };
        format!("{} over {} rows, {input}", names.join(", "), self.rows.len())
    }
}

fn write(world: &World, row: &Row) {
    let Row {
        topic,
        partition,
        key,
        value,
        timestamp,
    } = row.clone();
    world.append_at(topic, partition, key, value, timestamp);
}

fn sources(steps: &[&Step]) -> BTreeSet<&'static str> {
    steps.iter().flat_map(|s| s.reads).copied().collect()
}

fn parsed(text: &str) -> Arc<Topology> {
    let none = |_: &pipeline::ModuleRef| -> Result<_, pipeline::Undescribed> { panic!("a module in {text}") };
    match pipeline::parse(text, "pipeline.toml", &pipeline::Vars::default(), &none) {
        Ok(pipeline) => Arc::new(pipeline.topology),
        Err(problems) => panic!("{text}\n{}", problems.render(false)),
    }
}

/// Input with everything that moves time: out of order, of equal times, with gaps, null keys and values.
fn rows(dice: &Dice, sources: &BTreeSet<&'static str>) -> Vec<Row> {
    let names: Vec<&'static str> = sources.iter().copied().collect();
    let mut clock = 1_000_000;
    let count = ROWS_MIN + dice.below(ROWS_MORE);
    let rows = (0..count).map(|_| {
        clock += if dice.chance(0.04) { 150 } else { dice.between(0, 6) };
        let behind = if dice.chance(0.3) { dice.between(0, 25) } else { 0 };
        row(dice, names[dice.below(names.len())], clock - behind)
    });
    rows.collect()
}

fn row(dice: &Dice, topic: &'static str, timestamp: i64) -> Row {
    let keys = ["a", "b", "c", "d"];
    let mut key = Some(keys[dice.below(keys.len())].as_bytes().to_vec());
    if matches!(topic, "l" | "r") && dice.chance(0.05) {
        key = None;
    }
    let value = match topic {
        // `k` is a key of `u` and `g`, or of nothing.
        "l" | "t" => format!(
            "{{\"n\":{},\"k\":\"{}\"}}",
            1 + dice.below(9),
            ["a", "b", "c", "z"][dice.below(4)]
        ),
        _ => format!("{topic}{}", dice.below(100)),
    };
    let value = (!dice.chance(if matches!(topic, "l" | "r") { 0.04 } else { 0.2 })).then(|| value.into_bytes());
    let partition = match &key {
        Some(key) => record::partition_of(Some(key), PARTITIONS),
        None => dice.below(PARTITIONS as usize) as i32,
    };
    Row {
        topic,
        partition,
        key,
        value,
        timestamp,
    }
}
