//! A batch gives exactly what its records one by one would give: random pipelines of named shapes, run row by row, depth
//! first, and in random cuts; outputs in order per topic, state, changelogs, times and dead letters must be equal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod module;
mod shapes;
mod tables;
mod timestamps;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use record::{Batch, BatchBuilder, Fetched, TopicPartition};
use state::GlobalTable;
use state::memory::Memory;

use crate::{Error, Options, Processor, Ran, Task, TaskId};
use module::TestModule;
use shapes::{SHAPES, World, build};

/// A small generator of numbers: the same seed gives the same world.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

type Row = (Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<(String, Option<Vec<u8>>)>);

fn rows_of(batch: &Batch) -> Vec<Row> {
    let headers = |row| batch.headers().map(|h| h.row(row).to_vec()).unwrap_or_default();
    (0..batch.len())
        .map(|i| {
            (
                batch.key(i).map(<[u8]>::to_vec),
                batch.value(i).map(<[u8]>::to_vec),
                batch.timestamps()[i],
                headers(i),
            )
        })
        .collect()
}

type ChangelogRow = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

/// What must be equal.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    topics: BTreeMap<String, Vec<Row>>,
    changelogs: BTreeMap<usize, Vec<ChangelogRow>>,
    stores: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
    times: Vec<i64>,
    positions: Vec<(TopicPartition, i64)>,
    walls: Vec<i64>,
}

/// Records of one source between two commits.
type Phase = Vec<(TopicPartition, Vec<(i64, Row)>)>;

fn phases(dice: &mut Dice, sources: &[TopicPartition]) -> Vec<Phase> {
    let mut time = 100_i64;
    let mut offsets = vec![0_i64; sources.len()];
    (0..4)
        .map(|_| {
            sources
                .iter()
                .enumerate()
                .map(|(source, partition)| {
                    let from = time;
                    let rows = (0..dice.below(40))
                        .map(|_| {
                            time += dice.below(8) as i64;
                            offsets[source] += 1 + i64::from(dice.chance(10));
                            let key = (!dice.chance(4)).then(|| format!("k{}", dice.below(5)).into_bytes());
                            let value = (!dice.chance(4)).then(|| format!("r{}", dice.below(1_000_000)).into_bytes());
                            let late = if dice.chance(20) { dice.below(40) as i64 } else { 0 };
                            let timestamp = if dice.chance(2) { -1 } else { (time - late).max(0) };
                            let headers = if dice.chance(20) {
                                vec![("h".to_owned(), None)]
                            } else {
                                Vec::new()
                            };
                            (offsets[source], (key, value, timestamp, headers))
                        })
                        .collect();
                    time = from + dice.below(60) as i64;
                    (partition.clone(), rows)
                })
                .collect()
        })
        .collect()
}

/// Gives the records to the task, in fetches of random sizes.
fn feed(task: &mut Task, phase: &Phase, cuts: &mut Dice) {
    for (partition, rows) in phase {
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at((1 + cuts.below(30) as usize).min(rest.len()));
            rest = later;
            let mut batch = BatchBuilder::default();
            for (_, (key, value, timestamp, headers)) in now {
                batch.push_with_headers(key.as_deref(), value.as_deref(), *timestamp, headers.clone());
            }
            let offsets: Vec<i64> = now.iter().map(|(offset, _)| *offset).collect();
            let next = offsets.last().unwrap() + 1;
            let fetched = Fetched {
                partition: partition.clone(),
                offsets,
                records: batch.finish(),
                next,
            };
            task.add(fetched).unwrap();
        }
        task.set_end(partition, true);
    }
}

/// Runs until nothing is left but what waits for a later wall time.
fn drain(task: &mut Task, wall: &mut i64, cuts: &mut Option<Dice>) -> Result<(), Error> {
    loop {
        if let Some(cuts) = cuts {
            task.options.run_records_max = 1 + cuts.below(60) as usize;
        }
        match task.run(*wall)? {
            Ran::Worked { .. } => {}
            Ran::Full => return Ok(()),
            Ran::Idle { until } => {
                let waits_for_a_retry = task.sources().to_vec().iter().any(|s| task.buffered(s).records > 0)
                    || task.trouble.waits(*wall).is_some();
                match until {
                    Some(until) if waits_for_a_retry => *wall = until,
                    _ if waits_for_a_retry => panic!("rows are left, and nothing to wait for"),
                    _ => return Ok(()),
                }
            }
        }
    }
}

/// The world's global tables, before their first row.
fn globals(world: &World) -> HashMap<String, Arc<GlobalTable>> {
    let table = || Arc::new(GlobalTable::new(Box::new(Memory::default())).unwrap());
    let tables = world.topology.globals.iter();
    tables.map(|global| (global.name.clone(), table())).collect()
}

/// What comes to global tables before a phase: some keys, each with another value or none.
fn change(globals: &HashMap<String, Arc<GlobalTable>>, phase: usize) {
    let mut rows = BatchBuilder::default();
    for key in 0..5 {
        let value = format!("g{phase}");
        rows.push(
            Some(format!("k{key}").as_bytes()),
            (!(key + phase).is_multiple_of(3)).then_some(value.as_bytes()),
            0,
        );
    }
    let fetched = Fetched {
        partition: TopicPartition::new("in-global", 0),
        offsets: Vec::new(),
        records: rows.finish(),
        next: phase as i64 + 1,
    };
    for table in globals.values() {
        table.push(&[&fetched]);
        // Between runs, no task holds the table.
        assert!(table.settle().unwrap());
    }
}

fn new_task(world: &World, memory: &Memory, globals: HashMap<String, Arc<GlobalTable>>) -> Task {
    let topology = Arc::new(world.topology.clone());
    let mut processors: HashMap<usize, Box<dyn Processor>> = HashMap::new();
    for (node, config) in &world.modules {
        processors.insert(*node, Box::new(TestModule::new(config.clone())));
    }
    let partitions = ["out", "out-2", "dead"].map(|t| (t.to_owned(), 3));
    let options = Options {
        partition_count_of: partitions.into(),
        run_records_max: 1,
        globals,
        ..Options::default()
    };
    let id = TaskId {
        sub_topology: 0,
        partition: 0,
    };
    Task::new(topology, id, processors, Box::new(memory.clone()), options).unwrap()
}

struct Executed {
    seen: Seen,
    /// Rows of the largest call of a module.
    call_rows_max: u64,
    metrics: crate::Metrics,
}

/// `cuts`: how to cut batches; `None`: row by row, depth first.
fn execute(world: &World, phases: &[Phase], mut cuts: Option<Dice>) -> Executed {
    let memory = Memory::default();
    let globals = globals(world);
    let mut task = new_task(world, &memory, globals.clone());
    let mut fetches = cuts.clone().unwrap_or(Dice::new(7));
    if cuts.is_none() {
        task.walk_row_by_row();
    }
    let mut seen = Seen::default();
    let mut wall = 1_000;
    task.start(-1, wall).unwrap();
    for (number, phase) in phases.iter().enumerate() {
        let may_abort = cuts.as_mut().is_some_and(|c| world.may_abort && c.chance(30));
        for source in task.sources().to_vec() {
            if number == 0 {
                task.set_position(&source, 0);
            }
        }
        change(&globals, number);
        feed(&mut task, phase, &mut fetches);
        if may_abort {
            drain(&mut task, &mut wall, &mut cuts).unwrap();
            task.flush_tables(wall).unwrap();
            task.aborted();
            feed(&mut task, phase, &mut fetches);
        }
        drain(&mut task, &mut wall, &mut cuts).unwrap();
        loop {
            match task.flush_tables(wall) {
                Ok(()) => break,
                Err(Error::Retry { after_ms, .. }) => wall += after_ms as i64,
                Err(error) => panic!("{error}"),
            }
        }
        for staged in task.take_staged() {
            seen.topics
                .entry(staged.topic.to_string())
                .or_default()
                .extend(rows_of(&staged.batch));
        }
        for (store, batch) in task.changelog_rows().unwrap() {
            let rows = rows_of(&batch).into_iter().map(|(k, v, time, _)| (k, v, time));
            seen.changelogs.entry(store).or_default().extend(rows);
        }
        let offsets: Vec<(usize, i64)> = (0..task.changelogs().len()).map(|s| (s, number as i64)).collect();
        task.committed(&offsets).unwrap();
        assert!(!task.uncommitted());
        seen.times.push(task.stream_time());
        seen.walls.push(wall);
        seen.positions = task.positions();
        wall += 25;
    }
    task.flush_state().unwrap();
    seen.stores = (0..task.changelogs().len()).map(|s| memory.entries(s)).collect();
    let metrics = task.metrics().clone();
    let modules = metrics
        .nodes
        .iter()
        .enumerate()
        .filter(|(i, _)| world.modules.contains_key(i));
    let call_rows_max = modules.map(|(_, n)| n.call_rows_max).max().unwrap_or(0);
    Executed {
        seen,
        call_rows_max,
        metrics,
    }
}

/// Says where two executions differ first.
fn compare(found: &Seen, expected: &Seen, world: &str) {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
    let row = |r: &Row| {
        format!(
            "{:?} {:?} {} {:?}",
            text(&r.0),
            text(&r.1),
            r.2,
            r.3.iter().map(|h| text(&h.1))
        )
    };
    for (topic, rows) in &expected.topics {
        let other = found.topics.get(topic).cloned().unwrap_or_default();
        let at = rows
            .iter()
            .zip(&other)
            .position(|(a, b)| a != b)
            .unwrap_or(other.len().min(rows.len()));
        let (ours, theirs) = (other.get(at).map(row), rows.get(at).map(row));
        assert!(
            other == *rows,
            "{world}, {topic}, row {at}: found {ours:?}, expected {theirs:?}"
        );
    }
    for (store, rows) in &expected.changelogs {
        let other = found.changelogs.get(store).cloned().unwrap_or_default();
        let at = rows
            .iter()
            .zip(&other)
            .position(|(a, b)| a != b)
            .unwrap_or(other.len().min(rows.len()));
        let (ours, theirs) = (other.get(at), rows.get(at));
        assert!(
            other == *rows,
            "{world}, changelog of store {store}, row {at}: found {ours:?}, expected {theirs:?}"
        );
    }
    assert_eq!(found.times, expected.times, "{world}, stream times");
    assert_eq!(found.walls, expected.walls, "{world}, wall times");
    assert_eq!(found.positions, expected.positions, "{world}, positions");
    assert_eq!(found, expected, "{world}");
}

/// What a restore from the changelogs gives.
fn restored(world: &World, seen: &Seen) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let memory = Memory::default();
    let mut task = new_task(world, &memory, globals(world));
    for (store, rows) in &seen.changelogs {
        let mut batch = BatchBuilder::default();
        for (key, value, time) in rows {
            batch.push(key.as_deref(), value.as_deref(), *time);
        }
        task.restore(*store, &batch.finish(), rows.len() as i64).unwrap();
        assert_eq!(task.restored_offset(*store).unwrap(), Some(rows.len() as i64));
    }
    task.flush_state().unwrap();
    (0..task.changelogs().len()).map(|s| memory.entries(s)).collect()
}

/// Number of worlds of each shape.
fn seeds() -> u64 {
    std::env::var("WASMILL_EXACTNESS_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(60)
}

#[test]
fn batches_give_what_the_records_one_by_one_give() {
    let mut largest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut met: BTreeMap<&str, u64> = BTreeMap::new();
    for shape in SHAPES {
        for seed in 0..seeds() {
            let mut dice = Dice::new(mix(seed) ^ mix(shape.len() as u64));
            let world = build(shape, &mut dice);
            let sources = new_task(&world, &Memory::default(), globals(&world)).sources().to_vec();
            let phases = phases(&mut dice, &sources);
            let one_by_one = execute(&world, &phases, None);
            let batched = execute(&world, &phases, Some(Dice::new(dice.next())));
            compare(&batched.seen, &one_by_one.seen, &format!("{shape}, seed {seed}"));
            for (store, entries) in restored(&world, &batched.seen).iter().enumerate() {
                assert_eq!(
                    *entries, batched.seen.stores[store],
                    "{shape}, seed {seed}, restored store {store}"
                );
            }
            let of_shape = largest.entry(shape).or_default();
            *of_shape = (*of_shape).max(batched.call_rows_max);
            let counts = [
                ("dead letters", batched.metrics.dead_letters),
                ("traps", batched.metrics.traps),
                ("retries", batched.metrics.retries),
                ("skipped", batched.metrics.skipped),
                ("punctuations", batched.metrics.punctuations),
                ("invalid timestamps", batched.metrics.invalid_timestamps),
                ("outputs", batched.metrics.records_out),
            ];
            for (what, count) in counts {
                *met.entry(what).or_default() += count;
            }
        }
    }
    for (shape, rows) in &largest {
        // Where a store is used upstream and downstream, rows go one by one.
        assert!(
            *rows > 1 || ["a store read downstream of its writer", "a versioned table"].contains(shape),
            "{shape}: no call had two rows"
        );
    }
    for (what, count) in &met {
        assert!(*count > 0, "no {what} occurred: {met:?}");
    }
}
