//! Rows of changelogs that a task is restored from: stores of native operators, and the internal store of times with
//! its stream time and punctuations. A row is the number of a store, a length and a key, a length and a value; a length
//! of 255 is no value. The task then works on a few records, and may refuse, with a reason, but not end the process.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use pipeline::{Undescribed, Vars};
use record::{BatchBuilder, Fetched, TopicPartition};
use state::memory::Memory;
use task::{Options, Ran, Task, TaskId};
use topology::Topology;

const FILE: &str = r#"
wasmill = 1
name = "restored"
sources.in = { topic = "in", key = "string", value = "json" }
sources.numbers = { topic = "numbers", key = "string", value = "i64" }
steps.count = { op = "count", from = "in", emit = "on-commit" }
steps.sum = { op = "sum", of = "value.x", from = "in" }
steps.total = { op = "sum", from = "numbers" }
steps.least = { op = "min", of = "value.x", result = "i64", from = "in" }
steps.first = { op = "first", from = "in" }
steps.table = { op = "to-table", from = "in" }
sinks.counts = { topic = "counts", from = "count" }
sinks.sums = { topic = "sums", from = "sum" }
sinks.totals = { topic = "totals", from = "total" }
sinks.firsts = { topic = "firsts", from = "first" }
sinks.leasts = { topic = "leasts", from = "least" }
"#;
const RECORDS: [&str; 4] = [r#"{"x":1}"#, r#"{"x":-2.5}"#, "{}", "no JSON"];
const RUNS_MAX: usize = 200;

static TOPOLOGY: LazyLock<Arc<Topology>> = LazyLock::new(|| {
    let no_modules = |_: &_| {
        Err(Undescribed {
            message: "none".into(),
            hint: None,
            known: Vec::new(),
        })
    };
    let pipeline = pipeline::parse(FILE, "restored.toml", &Vars::default(), &no_modules);
    Arc::new(pipeline.unwrap_or_else(|e| panic!("{}", e.render(false))).topology)
});

pub fn run(bytes: &[u8]) {
    for sub in 0..TOPOLOGY.sub_topologies.len() {
        let id = TaskId {
            sub_topology: sub as u32,
            partition: 0,
        };
        let topics = ["counts", "sums", "totals", "firsts", "leasts"].map(|topic| (topic.to_owned(), 1));
        let options = Options {
            partition_count_of: HashMap::from(topics),
            ..Options::default()
        };
        let memory = Box::new(Memory::default());
        let mut task = Task::new(Arc::clone(&TOPOLOGY), id, HashMap::new(), memory, options).unwrap();
        restore(&mut task, bytes);
        let _ = work(&mut task);
    }
}

fn taken<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length.min(bytes.len()));
    *bytes = rest;
    taken
}

fn restore(task: &mut Task, mut bytes: &[u8]) {
    let stores = task.changelogs().len();
    while let Some(([store, key], rest)) = bytes.split_first_chunk::<2>() {
        bytes = rest;
        let key = taken(&mut bytes, usize::from(*key));
        let value = match taken(&mut bytes, 1) {
            [255] | [] => None,
            [length, ..] => Some(taken(&mut bytes, usize::from(*length))),
        };
        let mut rows = BatchBuilder::default();
        rows.push(Some(key), value, 5);
        task.restore(usize::from(*store) % stores, &rows.finish(), 1).unwrap();
    }
}

#[expect(clippy::result_large_err, reason = "as the calls that it makes")]
fn work(task: &mut Task) -> Result<(), task::Error> {
    task.start(-1, 1_000)?;
    for source in task.sources().to_vec() {
        let mut rows = BatchBuilder::default();
        for (time, record) in (0..).zip(RECORDS) {
            let value = if &*source.topic == "numbers" {
                "12345678"
            } else {
                record
            };
            rows.push(Some(b"k"), Some(value.as_bytes()), time);
        }
        task.add(Fetched {
            partition: TopicPartition::new(&*source.topic, 0),
            records: rows.finish(),
            offsets: (0..RECORDS.len() as i64).collect(),
            next: RECORDS.len() as i64,
        })?;
        task.set_end(&source, true);
    }
    for _ in 0..RUNS_MAX {
        match task.run(1_000)? {
            Ran::Worked { .. } => {}
            Ran::Full | Ran::Idle { .. } => break,
        }
    }
    task.flush_tables(1_000)?;
    task.take_staged();
    task.changelog_rows()?;
    task.committed(&[(0, 1)])
}
