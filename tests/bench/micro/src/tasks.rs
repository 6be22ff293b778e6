//! A whole task over the memory backend: queue, walk, operators or a guest, outputs, and its changelog rows.

use crate::{Part, ROWS, batch, key};
use pipeline::{ModuleRef, Vars};
use record::{BatchBuilder, Fetched, TopicPartition};
use sandbox::{InstanceOptions, Sandbox, SandboxOptions};
use state::memory::Memory;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use task::{Options, Processor, Ran, Task, TaskId};

const COUNT: &str = r#"
wasmill = 1
name = "micro"
[sources.in]
topic = "in"
key = "string"
[steps.counts]
op = "count"
from = "in"
group-by = "key"
emit = "every-update"
[sinks.out]
from = "counts"
topic = "out"
"#;

const PASS: &str = r#"
wasmill = 1
name = "micro"
[sources.in]
topic = "in"
key = "string"
[steps.pass]
from = "in"
module = "pass@1.0.0"
[sinks.out]
from = "pass"
topic = "out"
key = "string"
"#;

/// Chunks between two commits: about as many records as 100 ms bring.
const CHUNKS: usize = 25;

fn task(text: &str, component: Option<&str>) -> Task {
    let module = component.map(|component| {
        let sandbox = Sandbox::new(SandboxOptions::default()).unwrap();
        sandbox.load(&std::fs::read(component).unwrap()).unwrap()
    });
    let describe = |_: &ModuleRef| Ok(module.as_ref().expect("a module").description().clone());
    let topology = pipeline::parse(text, "micro.toml", &Vars::default(), &describe)
        .expect("the pipeline")
        .topology;
    let mut processors: HashMap<usize, Box<dyn Processor>> = HashMap::new();
    if let Some(module) = &module {
        let node = topology.nodes.iter().position(|node| node.name == "pass").unwrap();
        processors.insert(node, module.instance(InstanceOptions::default()).unwrap());
    }
    let options = Options {
        partition_count_of: [("out".to_owned(), 8)].into(),
        ..Options::default()
    };
    let id = TaskId {
        sub_topology: 0,
        partition: 0,
    };
    let mut task = Task::new(Arc::new(topology), id, processors, Box::new(Memory::default()), options).unwrap();
    task.start(-1, 0).unwrap();
    task
}

/// Chunks of records go in again and again, with offsets of their own; every 25 of them are a commit.
fn work(mut task: Task) -> Part {
    let records = batch(ROWS);
    let (mut next, mut chunk) = (0, 0);
    let run = move || {
        let offsets: Vec<i64> = (next..next + ROWS as i64).collect();
        next += ROWS as i64;
        let fetched = Fetched {
            partition: TopicPartition::new("in", 0),
            offsets,
            records: records.clone(),
            next,
        };
        task.add(fetched).unwrap();
        while let Ran::Worked { .. } = task.run(0).unwrap() {}
        black_box(task.take_staged());
        chunk += 1;
        if chunk % CHUNKS == 0 {
            let rows = task.changelog_rows().unwrap();
            let nexts: Vec<(usize, i64)> = rows.iter().map(|(store, _)| (*store, next)).collect();
            task.committed(&nexts).unwrap();
        }
    };
    (ROWS, Box::new(run))
}

pub fn count() -> Part {
    work(task(COUNT, None))
}

pub fn pass(component: &str) -> Part {
    work(task(PASS, Some(component)))
}

/// The changelog rows of 20,000 changed keys, made again and again.
pub fn changelog_rows() -> Part {
    const CHANGED: usize = 20_000;
    let mut task = task(COUNT, None);
    let mut builder = BatchBuilder::default();
    for number in 0..CHANGED as u64 {
        builder.push(Some(key(number).as_bytes()), Some(b"v"), 1);
    }
    let fetched = Fetched {
        partition: TopicPartition::new("in", 0),
        offsets: (0..CHANGED as i64).collect(),
        records: builder.finish(),
        next: CHANGED as i64,
    };
    task.add(fetched).unwrap();
    while let Ran::Worked { .. } = task.run(0).unwrap() {}
    (CHANGED, Box::new(move || _ = black_box(task.changelog_rows().unwrap())))
}
