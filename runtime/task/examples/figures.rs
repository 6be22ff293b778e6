//! CPU nanoseconds a record of a task over the memory backend: a count that emits every update, and a filter by a native
//! processor. Prints one line each. For orientation while working on the engine; the real bars are in `tests/bench`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::HashMap;
use std::sync::Arc;

use arrow_buffer::BooleanBuffer;
use record::{BatchBuilder, Fetched, TopicPartition};
use state::memory::Memory;
use task::processor::{Answer, Context, Emission, Emitted, Failure, Input, Now};
use task::{Options, Processor, Ran, Task, TaskId};
use topology::{
    Aggregate, AggregateFunction, Edge, Emit, Format, Guarantee, Limits, ModuleStep, Node, NodeKind, OnError, Retries,
    Selector, Sink, Source, SourceKind, Start, Store, StoreKind, SubTopology, Topology,
};

struct Half;

impl Processor for Half {
    fn open(&mut self, _: &mut Context) -> Result<(), Failure> {
        Ok(())
    }

    fn process(&mut self, _: &mut Context, _: Now, input: &Input) -> Result<Answer, Failure> {
        let selected = BooleanBuffer::collect_bool(input.batch.len(), |row| row % 2 == 0);
        Ok(Answer {
            emitted: Emitted::Selected(selected),
            outcomes: Vec::new(),
        })
    }

    fn punctuate(&mut self, _: &mut Context, _: Now, _: &str) -> Result<Emission, Failure> {
        Ok(Emission::default())
    }

    fn renew(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&mut self) {}

    fn module(&self) -> &str {
        "half@1"
    }
}

/// Seconds that this thread has been on a CPU: other work on the machine does not count.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn topology(middle: NodeKind) -> Topology {
    let bytes = Format::Bytes;
    let edge = |from| {
        vec![Edge {
            from,
            from_port: 0,
            to_port: 0,
        }]
    };
    let source = Source {
        topics: vec!["in".into()],
        kind: SourceKind::Stream,
        key: bytes,
        value: bytes,
        start: Start::Earliest,
        create: None,
        timestamps: Default::default(),
    };
    let sink = Sink {
        topic: "out".into(),
        key: bytes,
        value: bytes,
        create: None,
    };
    let nodes = vec![
        Node {
            name: "in".into(),
            kind: NodeKind::Source(source),
            inputs: Vec::new(),
            on_error: OnError::Stop,
        },
        Node {
            name: "middle".into(),
            kind: middle,
            inputs: edge(0),
            on_error: OnError::Stop,
        },
        Node {
            name: "out".into(),
            kind: NodeKind::Sink(sink),
            inputs: edge(1),
            on_error: OnError::Stop,
        },
    ];
    let store = Store {
        name: "middle".into(),
        kind: StoreKind::Timestamped,
        schema: 1,
        key: bytes,
        value: bytes,
        changelog: "changelog".into(),
        emit: Emit::EveryUpdate,
    };
    let sub = SubTopology {
        id: 0,
        nodes: vec![0, 1, 2],
        stores: vec![0],
        topics: vec!["in".into()],
    };
    Topology {
        name: "figures".into(),
        guarantee: Guarantee::ExactlyOnce,
        max_task_idle_ms: 0,
        standbys: 0,
        nodes,
        stores: vec![store],
        globals: Vec::new(),
        sub_topologies: vec![sub],
        dead_letters: None,
    }
}

fn measure(name: &str, middle: NodeKind, processors: HashMap<usize, Box<dyn Processor>>) {
    const CHUNK: usize = 4096;
    const CHUNKS: usize = 500;
    let options = Options {
        partition_count_of: [("out".to_owned(), 8)].into(),
        ..Options::default()
    };
    let id = TaskId {
        sub_topology: 0,
        partition: 0,
    };
    let topology = Arc::new(topology(middle));
    let mut task = Task::new(topology, id, processors, Box::new(Memory::default()), options).unwrap();
    task.start(-1, 0).unwrap();
    let mut random = 1_u64;
    let mut fetches: Vec<Fetched> = (0..CHUNKS)
        .map(|chunk| {
            let mut batch = BatchBuilder::with_capacity(CHUNK, 12 * CHUNK, 100 * CHUNK);
            for row in 0..CHUNK {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let key = format!("key-{:08}", (random >> 33) % 100_000);
                batch.push(Some(key.as_bytes()), Some(&[b'v'; 100]), (chunk * CHUNK + row) as i64);
            }
            let first = (chunk * CHUNK) as i64;
            let offsets = (first..first + CHUNK as i64).collect();
            let partition = TopicPartition::new("in", 0);
            Fetched {
                partition,
                offsets,
                records: batch.finish(),
                next: first + CHUNK as i64,
            }
        })
        .collect();
    fetches.reverse();
    let (mut running, mut committing) = (0.0, 0.0);
    while let Some(fetched) = fetches.pop() {
        let start = cpu_seconds();
        task.add(fetched).unwrap();
        while let Ran::Worked { .. } = task.run(0).unwrap() {}
        let staged: usize = task.take_staged().iter().map(|s| s.batch.len()).sum();
        running += cpu_seconds() - start;
        assert!(staged > 0);
        if fetches.len().is_multiple_of(50) {
            let start = cpu_seconds();
            task.changelog_rows().unwrap();
            task.committed(&[(0, 1)]).unwrap();
            committing += cpu_seconds() - start;
        }
    }
    let records = (CHUNK * CHUNKS) as f64;
    println!(
        "{name}: {:.0} ns a record, commits {:.0} ns",
        running / records * 1e9,
        committing / records * 1e9
    );
}

fn main() {
    let count = Aggregate {
        function: AggregateFunction::Count,
        of: Selector::Value,
        of_format: Format::Bytes,
        result: Format::I64,
        store: 0,
        emit: Emit::EveryUpdate,
    };
    measure(
        "count, every update, 100,000 keys",
        NodeKind::Aggregate(count),
        HashMap::new(),
    );
    let step = ModuleStep {
        module: "half".into(),
        version: "1".into(),
        digest: String::new(),
        inputs: vec!["in".into()],
        outputs: vec!["out".into()],
        stores: Vec::new(),
        params: Default::default(),
        needs_headers: false,
        needs_origin: false,
        needs_stream_times: false,
        retries: Retries::default(),
        limits: Limits::default(),
        grants: Box::default(),
        closure: None,
    };
    let processors: HashMap<usize, Box<dyn Processor>> = [(1, Box::new(Half) as Box<dyn Processor>)].into();
    measure("filter by a native processor", NodeKind::Module(step), processors);
}
