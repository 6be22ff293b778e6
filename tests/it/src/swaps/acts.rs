//! What a hot swap must show, one act each, with its figures.

use super::{Reader, Stage};
use crate::load::{Load, Shape};
use crate::node::{self, Node, Setup};
use crate::resources::Resources;
use crate::within;
use broker::Broker;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records a second, unless the caller says otherwise.
pub const RATE: u64 = 24_000;
const KEYS: u64 = 1_000;
/// The longest pause in the output of a partition while versions are exchanged.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Until the reader has seen the last record.
const LAST: Duration = Duration::from_secs(120);
const SWAPS: usize = 50;
/// What the node's memory may grow by over [`SWAPS`] swaps, in MiB: allocators keep some.
const GROWTH_MAX: u64 = 32;
const KILLS: usize = 10;
/// On a machine with other work a good version may seem many times slower for a moment.
const CALM: &str = "--slower-max=1000";

/// What an act is given.
pub struct Given<'a> {
    pub broker: Arc<dyn Broker>,
    pub address: &'a str,
    pub rate: u64,
    pub seed: u64,
    /// Takes the figures, line by line.
    pub say: &'a mut dyn FnMut(String),
}

/// A node, its load and its reader.
struct Scene {
    stage: Stage,
    node: Node,
    load: Load,
    reader: Reader,
}

impl Scene {
    fn begin(given: &Given<'_>, dir: &Path, partitions: i32, keys: u64, versions: &[&str]) -> Option<Self> {
        let setup = Setup::new(dir, &node::Broker::Kafka(given.address.to_owned()));
        let stage = Stage::new(setup, partitions);
        let node = stage.begin(versions)?;
        let shape = Shape {
            topic: stage.input(),
            partitions,
            keys,
        };
        let load = Load::start(&*given.broker, shape, content, given.rate, 0);
        let reader = Reader::start(&*given.broker, &stage.output(), partitions);
        let scene = Self {
            stage,
            node,
            load,
            reader,
        };
        scene.flows();
        Some(scene)
    }

    /// Waits until records come through.
    fn flows(&self) {
        let seen = self.reader.records();
        let flows = within(LAST, || (self.reader.records() > seen + 10_000).then_some(()));
        assert!(flows.is_some(), "nothing comes through:\n{}", self.node.log());
        std::thread::sleep(Duration::from_secs(1));
    }

    /// Everything is through; what is wrong with it.
    fn end(self, wrongs: &mut Vec<String>) -> (u64, f64, Reader) {
        let (end, ran) = self.load.end();
        let all = within(LAST, || (self.reader.records() >= end).then_some(()));
        if all.is_none() {
            wrongs.push(format!("{} of {end} records came through", self.reader.records()));
        }
        self.stage.caught_up(&self.node);
        wrongs.extend(self.reader.wrongs(end));
        drop(self.node.end());
        (end, end as f64 / ran.as_secs_f64(), self.reader)
    }
}

/// Record n has the key `k` and n modulo the number of keys, and n as its value.
fn content(number: u64, shape: &Shape) -> (String, String) {
    (format!("k{}", number % shape.keys), number.to_string())
}

fn ms(time: Duration) -> u128 {
    time.as_millis()
}

/// 1: a swap under load; then fifty.
pub fn under_load(given: &mut Given<'_>, dir: &Path) -> Vec<String> {
    let Some(scene) = Scene::begin(given, dir, 4, KEYS, &["1", "2"]) else {
        return Vec::new();
    };
    let mut wrongs = Vec::new();
    scene.reader.measure();
    std::thread::sleep(Duration::from_secs(5));
    (given.say)(format!(
        "longest pause of a partition without a swap: {} ms",
        ms(scene.reader.longest_pause())
    ));
    scene.reader.measure();
    let began = Instant::now();
    scene.stage.swap(&scene.node, "2", &["--watch", "2s", CALM]).done();
    let took = began.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    let pause = scene.reader.longest_pause();
    (given.say)(format!(
        "one swap (watched for 2 s): {} ms from the command to its end, longest pause of a partition {} ms",
        ms(took),
        ms(pause)
    ));
    if pause >= PAUSE_MAX {
        wrongs.push(format!(
            "a partition paused for {} ms, at most {} are allowed",
            ms(pause),
            ms(PAUSE_MAX)
        ));
    }
    for (partition, stretches) in scene.reader.stretches() {
        if stretches != ["1", "2"] {
            wrongs.push(format!(
                "partition {partition} has records of {stretches:?} in this order"
            ));
        }
    }
    many(given, &scene, &mut wrongs);
    let (end, rate, _) = scene.end(&mut wrongs);
    (given.say)(format!(
        "{end} records at {rate:.0} records/s, each once, counts without a gap: {}",
        wrongs.is_empty()
    ));
    wrongs
}

/// Fifty swaps in a row, forth and back.
fn many(given: &mut Given<'_>, scene: &Scene, wrongs: &mut Vec<String>) {
    let mut memory = Vec::new();
    let mut pauses = Vec::new();
    let began = Instant::now();
    for number in 0..SWAPS {
        scene.reader.measure();
        let version = if number % 2 == 0 { "1" } else { "2" };
        scene.stage.swap(&scene.node, version, &["--watch", "0", CALM]).done();
        pauses.push(scene.reader.longest_pause());
        memory.push(Resources::of(scene.node.id()).memory_mib as u64);
    }
    pauses.sort();
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len() as u64;
    let (early, late) = (mean(&memory[5..15]), mean(&memory[SWAPS - 10..]));
    (given.say)(format!(
        "{SWAPS} swaps in a row: {:.2} s each, longest pause p50 {} ms, worst {} ms",
        began.elapsed().as_secs_f64() / SWAPS as f64,
        ms(pauses[SWAPS / 2]),
        ms(pauses[SWAPS - 1])
    ));
    (given.say)(format!(
        "node's memory in MiB: {early} over swaps 6 to 15, {late} over the last ten"
    ));
    if late > early + GROWTH_MAX {
        wrongs.push(format!(
            "the node's memory grew from {early} to {late} MiB in {SWAPS} swaps"
        ));
    }
}

/// 2: versions that fail are taken back by themselves.
pub fn taken_back(given: &mut Given<'_>, dir: &Path) -> Vec<String> {
    let bad = ["3-traps", "6-slow", "7-rejects"];
    let versions = ["1", "3-traps", "6-slow", "7-rejects", "8-traps-late"];
    let Some(scene) = Scene::begin(given, dir, 4, KEYS, &versions) else {
        return Vec::new();
    };
    let mut wrongs = Vec::new();
    for version in bad {
        let began = Instant::now();
        let told = scene
            .stage
            .swap(&scene.node, version, &["--probation", "1s", "--watch", "20s"])
            .exits(6);
        let reason = told.json()["reason"].as_str().unwrap_or_default().to_owned();
        let visible = scene.reader.of_version(version);
        let line = reason.lines().next().unwrap_or_default();
        (given.say)(format!(
            "{version}: back after {} ms, {visible} records of it visible; reason: {line}",
            ms(began.elapsed())
        ));
        if visible > 0 {
            wrongs.push(format!(
                "{visible} records of {version} are visible to a read-committed reader"
            ));
        }
    }
    let began = Instant::now();
    let told = scene
        .stage
        .swap(&scene.node, "8-traps-late", &["--watch", "60s", CALM])
        .exits(6);
    let swap = told.json();
    let seen = scene.reader.spans("8-traps-late");
    let named: BTreeMap<i32, (i64, i64)> = swap["written"]
        .as_array()
        .cloned()
        .unwrap_or_default()
        .iter()
        .map(span)
        .collect();
    (given.say)(format!(
        "8-traps-late: back after {} ms from the watch window, {} records of it stand, in offsets {named:?}; reason: {}",
        ms(began.elapsed()),
        scene.reader.of_version("8-traps-late"),
        swap["reason"]
            .as_str()
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default()
    ));
    let (_, _, reader) = scene.end(&mut wrongs);
    for (partition, (first, last)) in seen {
        let covered = named
            .get(&partition)
            .is_some_and(|(from, to)| *from <= first && *to >= last);
        if !covered {
            wrongs.push(format!(
                "8-traps-late wrote {first} to {last} of partition {partition}, and the report names {named:?}"
            ));
        }
    }
    if reader.of_version("8-traps-late") == 0 {
        wrongs.push("8-traps-late never came past its probation".to_owned());
    }
    wrongs
}

fn span(written: &serde_json::Value) -> (i32, (i64, i64)) {
    let number = |field: &str| written[field].as_i64().unwrap_or(-1);
    (number("partition") as i32, (number("first"), number("last")))
}

/// 3: another schema, refused without `migrate`; with it the state is there, also after a kill in the middle.
pub fn migrated(given: &mut Given<'_>, dir: &Path) -> Vec<String> {
    let keys = 200_000;
    let Some(mut scene) = Scene::begin(given, dir, 4, keys, &["1", "4-schema", "5-migrates"]) else {
        return Vec::new();
    };
    let mut wrongs = Vec::new();
    let told = scene.stage.swap(&scene.node, "4-schema", &[]).exits(1);
    (given.say)(format!(
        "4-schema refused: {}",
        told.err.lines().rfind(|l| l.contains("stamp")).unwrap_or_default()
    ));
    let full = within(LAST, || (scene.load.next() > keys + keys / 10).then_some(()));
    assert!(full.is_some(), "the load does not come to {keys} keys");
    scene
        .stage
        .swap(
            &scene.node,
            "5-migrates",
            &["--detach", "--probation", "1s", "--watch", "0", CALM],
        )
        .done();
    let path = format!("/v1/pipelines/{}/swap", scene.stage.name);
    let migrating = within(Duration::from_secs(30), || {
        let swap = scene.node.get(&path)?;
        let tasks = swap["tasks"].as_array()?;
        // What was migrated is in the transaction that is held open.
        tasks.iter().any(|task| task["state"] == "probation").then_some(())
    });
    scene.node.kill();
    (given.say)(format!(
        "killed while what it migrated was not committed: {}",
        migrating.is_some()
    ));
    scene.node = scene.stage.setup.start();
    let version = scene.stage.settled(&scene.node);
    let runs = scene.stage.of_tasks(&scene.node);
    (given.say)(format!(
        "after the restart the record says {version}, and the tasks run {runs:?}"
    ));
    if version != "5-migrates" || runs != [version].into() {
        wrongs.push("the migration was not brought to its end".to_owned());
    }
    scene.flows();
    let (end, _, _) = scene.end(&mut wrongs);
    (given.say)(format!(
        "{end} records of {keys} keys, counts without a gap: {}",
        wrongs.is_empty()
    ));
    wrongs
}

/// 4: a SIGKILL at a random moment of a swap, ten times.
pub fn killed(given: &mut Given<'_>, dir: &Path) -> Vec<String> {
    let Some(mut scene) = Scene::begin(given, dir, 4, KEYS, &["1", "2"]) else {
        return Vec::new();
    };
    let mut random = ChaCha8Rng::seed_from_u64(given.seed);
    let mut wrongs = Vec::new();
    for number in 1..=KILLS {
        let now = scene.stage.settled(&scene.node);
        let other = if now == "1" { "2" } else { "1" };
        let after = Duration::from_millis(random.random_range(0..1_200));
        scene
            .stage
            .swap(&scene.node, other, &["--detach", "--watch", "300ms", CALM])
            .done();
        std::thread::sleep(after);
        let path = format!("/v1/pipelines/{}/swap", scene.stage.name);
        let phase = scene
            .node
            .get(&path)
            .map(|swap| swap["phase"].to_string())
            .unwrap_or_default();
        scene.node.kill();
        scene.node = scene.stage.setup.start();
        let version = scene.stage.settled(&scene.node);
        let runs = scene.stage.of_tasks(&scene.node);
        (given.say)(format!(
            "kill {number}: {} ms into {now} -> {other} ({phase}); afterwards the record says {version}, tasks run {runs:?}",
            ms(after)
        ));
        if runs != [version.clone()].into() {
            wrongs.push(format!(
                "after kill {number} the record says {version}, and tasks run {runs:?}"
            ));
        }
        scene.flows();
    }
    let (end, _, _) = scene.end(&mut wrongs);
    (given.say)(format!("{end} records, each once: {}", wrongs.is_empty()));
    wrongs
}

/// 5: canary and shadow with eight tasks.
pub fn tried(given: &mut Given<'_>, dir: &Path) -> Vec<String> {
    let Some(scene) = Scene::begin(given, dir, 8, KEYS, &["1", "2", "9-differs"]) else {
        return Vec::new();
    };
    let mut wrongs = Vec::new();
    scene
        .stage
        .swap(&scene.node, "2", &["--canary", "2", "--watch", "1s", CALM])
        .done();
    std::thread::sleep(Duration::from_secs(2));
    let partitions: Vec<i32> = scene.reader.spans("2").into_keys().collect();
    (given.say)(format!(
        "canary of 2 in 8 tasks: partitions {partitions:?} come from version 2"
    ));
    if partitions.len() != 2 {
        wrongs.push(format!("a canary of two tasks wrote to the partitions {partitions:?}"));
    }
    scene.node.ask(&["promote", &scene.stage.name]).done();
    let runs = scene.stage.of_tasks(&scene.node);
    (given.say)(format!("promoted: the tasks run {runs:?}"));
    if runs != ["2".to_owned()].into() {
        wrongs.push(format!("after `promote` tasks run {runs:?}"));
    }
    scene.node.ask(&["rollback", &scene.stage.name]).done();
    shadowed(given, &scene, &mut wrongs);
    scene.end(&mut wrongs);
    wrongs
}

/// A shadow stamps as version 1 does, and differs in every tenth record.
fn shadowed(given: &mut Given<'_>, scene: &Scene, wrongs: &mut Vec<String>) {
    scene.reader.measure();
    let told = scene
        .stage
        .swap(&scene.node, "9-differs", &["--shadow", "--watch", "5s", CALM])
        .done();
    let pause = scene.reader.longest_pause();
    let tasks = told.json()["tasks"].as_array().cloned().unwrap_or_default();
    let sum = |field: &str| {
        tasks
            .iter()
            .map(|t| t["shadow"][field].as_u64().unwrap_or(0))
            .sum::<u64>()
    };
    let (records, different) = (sum("records"), sum("different"));
    let samples: usize = tasks
        .iter()
        .map(|t| t["shadow"]["samples"].as_array().map_or(0, Vec::len))
        .sum();
    let percent = different as f64 * 100.0 / records.max(1) as f64;
    (given.say)(format!(
        "shadow: {records} records seen by both, {different} rows differ ({percent:.1} %), {samples} samples kept, \
         longest pause {} ms",
        ms(pause)
    ));
    if !(9.0..=11.0).contains(&percent) {
        wrongs.push(format!("{different} of {records} rows differ, and a tenth does"));
    }
    scene.node.ask(&["rollback", &scene.stage.name]).done();
}
