//! Rows of changelogs that a task is restored from: stores of native operators, and the internal store of times with
//! its stream time and punctuations. A row is the number of a store, a length and a key, a length and a value; a length
//! of 255 is no value. The task then works on a few records, and may refuse, with a reason, but not end the process.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use pipeline::{Undescribed, Vars};
use record::{BatchBuilder, Fetched, TopicPartition};
use state::memory::Memory;
use task::{Options, Ran, Task, TaskId};
use topology::{NodeKind, Topology};

/// Aggregates and tables; then what has a clock: windows, joins, suppress.
const FILES: [&str; 2] = [
    r#"
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
"#,
    r#"
wasmill = 1
name = "timed"
sources.in = { topic = "in", key = "string", value = "json" }
sources.other = { topic = "other", key = "string", value = "json" }
sources.users = { topic = "users", key = "string", value = "json", as = "table" }
sources.owners = { topic = "owners", key = "string", value = "json", as = "table" }
sources.brief = { topic = "brief", key = "string", value = "json", as = "table", ttl = "2ms" }
sources.prices = { topic = "prices", key = "string", value = "json", as = "table", versioned = "10ms" }
steps.tumbling = { op = "count", from = "in", window = { tumbling = "2ms", grace = "1ms" } }
steps.hopping = { op = "sum", of = "value.x", from = "in", window = { hopping = "4ms", advance = "2ms", grace = "0s" } }
steps.sessions = { op = "count", from = "in", window = { session = "2ms", grace = "1ms" } }
steps.ever = { op = "count", from = "in", window = "unlimited" }
steps.final = { op = "suppress", from = "tumbling", until = "window-closes" }
steps.later = { op = "suppress", from = "users", until = "2ms", max-records = 1, when-full = "emit-early" }
steps.once = { op = "dedup", from = "in", within = "2ms" }
steps.pairs = { op = "join", left = "in", right = "other", kind = "outer", within = "2ms", grace = "1ms" }
steps.priced = { op = "join", left = "in", right = "prices", kind = "left" }
steps.seen = { op = "join", left = "in", right = "brief" }
steps.owned = { op = "join", left = "users", right = "owners", kind = "outer" }
steps.foreign = { op = "join", left = "users", right = "owners", kind = "left", on = "value.x" }
steps.groups = { op = "count", from = "users", group-by = "value.x" }
sinks.o0 = { topic = "o0", from = "hopping" }
sinks.o1 = { topic = "o1", from = "sessions" }
sinks.o2 = { topic = "o2", from = "ever" }
sinks.o3 = { topic = "o3", from = "final" }
sinks.o4 = { topic = "o4", from = "later" }
sinks.o5 = { topic = "o5", from = "once" }
sinks.o6 = { topic = "o6", from = "pairs" }
sinks.o7 = { topic = "o7", from = "priced" }
sinks.o8 = { topic = "o8", from = "seen" }
sinks.o9 = { topic = "o9", from = "owned" }
sinks.o10 = { topic = "o10", from = "foreign" }
sinks.o11 = { topic = "o11", from = "groups" }
"#,
];
const RECORDS: [&str; 4] = [r#"{"x":1}"#, r#"{"x":-2.5}"#, "{}", "no JSON"];
const RUNS_MAX: usize = 200;

static TOPOLOGIES: LazyLock<Vec<Arc<Topology>>> = LazyLock::new(|| FILES.into_iter().map(topology).collect());

fn topology(file: &str) -> Arc<Topology> {
    let no_modules = |_: &_| {
        Err(Undescribed {
            message: "none".into(),
            hint: None,
            known: Vec::new(),
        })
    };
    let pipeline = pipeline::parse(file, "restored.toml", &Vars::default(), &no_modules);
    Arc::new(pipeline.unwrap_or_else(|e| panic!("{}", e.render(false))).topology)
}

fn written(topology: &Topology) -> HashMap<String, i32> {
    let topic = |node: &topology::Node| match &node.kind {
        NodeKind::Sink(sink) => Some((sink.topic.clone(), 1)),
        NodeKind::Repartition(repartition) => Some((repartition.topic.clone(), 1)),
        _ => None,
    };
    topology.nodes.iter().filter_map(topic).collect()
}

pub fn run(bytes: &[u8]) {
    TOPOLOGIES.iter().for_each(|topology| run_one(topology, bytes));
}

fn run_one(topology: &Arc<Topology>, bytes: &[u8]) {
    for sub in 0..topology.sub_topologies.len() {
        let id = TaskId {
            sub_topology: sub as u32,
            partition: 0,
        };
        let options = Options {
            partition_count_of: written(topology),
            ..Options::default()
        };
        let memory = Box::new(Memory::default());
        let mut task = Task::new(Arc::clone(topology), id, HashMap::new(), memory, options).unwrap();
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
    if stores == 0 {
        return;
    }
    while let Some(([store, key], rest)) = bytes.split_first_chunk::<2>() {
        bytes = rest;
        let key = taken(&mut bytes, usize::from(*key));
        let value = match taken(&mut bytes, 1) {
            [255] | [] => None,
            [length, ..] => Some(taken(&mut bytes, usize::from(*length))),
        };
        let mut rows = BatchBuilder::default();
        rows.push(Some(key), value, 5);
        // A key that is none of a windowed store's is refused, with a reason.
        let _ = task.restore(usize::from(*store) % stores, &rows.finish(), 1);
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
