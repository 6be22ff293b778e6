//! What a guest answers and what it asks the host for, as it lies in its memory.
//!
//! The guest is a puppet: it copies the value of a record to [`IMAGE`], makes the host calls that stand at the start of
//! it, with the parameters that stand there, and says that its answer lies behind them. So every pointer, length,
//! discriminant, string and column of the contract is the fuzzer's. Two images are made of the same bytes: one that
//! is mostly well-formed, and the bytes as they are. A task then works on it, with two rows beside it, and must come to the end of its input
//! or stop with a reason; what it staged must be readable, in time, and on topics that it has.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use arbitrary::Unstructured;
use record::{BatchBuilder, Fetched, TopicPartition};
use sandbox::{InstanceOptions, Module, Sandbox, SandboxOptions};
use state::memory::Memory;
use task::{Options, Ran, Task, TaskId};
use topology::{
    DeadLetters, Edge, Emit, Format, Guarantee, Limits, ModuleStep, Node, NodeKind, OnError, Retries, Sink, Source,
    SourceKind, Start, Store, StoreKind, Topology,
};

use crate::guest::Guest;

/// Where the image lies, and how much of it counts.
const IMAGE: u32 = 16_384;
const IMAGE_BYTES_MAX: usize = 40_000;
/// Host calls at the start of it: a number, then the parameters as words.
const CALLS: usize = 4;
const CALL_BYTES: usize = 64;
const ANSWER: u32 = IMAGE + (CALLS * CALL_BYTES) as u32;
/// Bytes of the record that `process` answers with, without what it points to.
const ANSWER_BYTES: u32 = 184;
/// Where host calls write what they give back.
const GIVEN: u32 = 12_288;
/// Runs that a task may take for its input: far more than halving takes.
const RUNS_MAX: usize = 1_000;

/// A run of the host call that stands at `at`.
fn call(at: u32) -> String {
    let word = |i: u32| format!("(i32.load (i32.const {}))", at + 4 * i);
    let words = |from: u32, to: u32| (from..to).map(word).collect::<String>();
    let long = |i: u32| format!("(i64.load align=4 (i32.const {}))", at + 4 * i);
    let cases = [
        format!("(call $log {})", words(1, 6)),
        format!("(call $stop {})", words(1, 3)),
        format!(
            "(call $start {} {} {} {} {})",
            words(1, 3),
            long(3),
            words(5, 7),
            long(7),
            words(9, 11)
        ),
        format!("(call $get {} (i32.const {GIVEN}))", words(1, 9)),
        format!("(call $put (i32.const {}))", at + 4),
        format!("(call $range {} (i32.const {GIVEN}))", words(1, 11)),
        format!("(call $prefix {} (i32.const {GIVEN}))", words(1, 9)),
        format!("(call $delete_range {})", words(1, 6)),
    ];
    let cases = (1..)
        .zip(&cases)
        .map(|(number, case)| format!("(if (i32.eq (i32.load (i32.const {at})) (i32.const {number})) (then {case}))"));
    cases.collect()
}

fn module() -> Module {
    let calls: String = (0..CALLS).map(|i| call(IMAGE + (i * CALL_BYTES) as u32)).collect();
    let process = format!(
        "(local $bytes i32)
         (local.set $bytes (i32.load (i32.add (local.get $p) (i32.const 48))))
         (if (i32.gt_u (local.get $bytes) (i32.const {IMAGE_BYTES_MAX}))
           (then (local.set $bytes (i32.const {IMAGE_BYTES_MAX}))))
         (memory.fill (i32.const {IMAGE}) (i32.const 0) (i32.const {IMAGE_BYTES_MAX}))
         (memory.copy (i32.const {IMAGE}) (i32.load (i32.add (local.get $p) (i32.const 44))) (local.get $bytes))
         {calls}
         (return (i32.const {ANSWER}))"
    );
    let guest = Guest {
        process: &process,
        stores: &["seen"],
        ..Guest::default()
    };
    let sandbox = Sandbox::new(SandboxOptions::default()).unwrap();
    sandbox.load(&guest.build()).unwrap()
}

thread_local! {
    static MODULE: OnceCell<(Module, Arc<Topology>)> = const { OnceCell::new() };
}

pub fn run(bytes: &[u8]) {
    MODULE.with(|puppet| {
        let (module, topology) = puppet.get_or_init(|| {
            let module = module();
            let topology = Arc::new(topology(&module));
            (module, topology)
        });
        play(module, topology, bytes);
        if let Ok(image) = image(&mut Unstructured::new(bytes)) {
            play(module, topology, &image);
        }
    });
}

fn play(module: &Module, topology: &Arc<Topology>, image: &[u8]) {
    let NodeKind::Module(step) = &topology.nodes[1].kind else {
        panic!("the step stands second");
    };
    let options = InstanceOptions::of_step(step, sandbox::TaskName::default());
    let processor = module.instance(options).unwrap();
    let id = TaskId {
        sub_topology: 0,
        partition: 0,
    };
    let topics = ["out", "dead"].map(|topic| (topic.to_owned(), 3));
    let options = Options {
        partition_count_of: HashMap::from(topics),
        ..Options::default()
    };
    let memory = Box::new(Memory::default());
    let mut task = Task::new(
        Arc::clone(topology),
        id,
        HashMap::from([(1, processor)]),
        memory,
        options,
    )
    .unwrap();
    task.start(-1, 1_000).unwrap();
    let mut rows = BatchBuilder::default();
    rows.push(Some(b"k"), Some(image), 5);
    rows.push(None, Some(b""), 7);
    rows.push(Some(b"last"), None, 6);
    let fetched = Fetched {
        partition: TopicPartition::new("in", 0),
        records: rows.finish(),
        offsets: vec![10, 11, 13],
        next: 14,
    };
    task.add(fetched).unwrap();
    task.set_end(&TopicPartition::new("in", 0), true);
    drain(&mut task);
}

fn drain(task: &mut Task) {
    let mut now = 1_000;
    for _ in 0..RUNS_MAX {
        match task.run(now) {
            Ok(Ran::Worked { .. }) => {}
            Ok(Ran::Full) => task.committed(&[]).unwrap(),
            Ok(Ran::Idle { until }) => match until {
                // A wall-clock schedule may be due as often as it likes: it is not what is waited for here.
                Some(until) if task.metrics().records_in < 3 => now = until.max(now + 1),
                _ => break,
            },
            Err(task::Error::Stop { failure, .. }) => {
                assert!(!failure.to_string().is_empty());
                return;
            }
            Err(other) => panic!("{other}"),
        }
        if task.metrics().punctuations > 100 {
            return;
        }
    }
    assert_eq!(task.metrics().records_in, 3, "the task does not come to its end");
    task.flush_tables(now).unwrap();
    for staged in task.take_staged() {
        assert!(["out", "dead"].contains(&&*staged.topic));
        let batch = &staged.batch;
        for row in 0..batch.len() {
            let _ = (
                batch.key(row),
                batch.value(row),
                batch.headers().map(|h| h.row(row).len()),
            );
            assert!(batch.timestamps()[row] >= 0);
            task.origin_of(staged.tag, row as u32);
        }
    }
    task.changelog_rows().unwrap();
    task.committed(&[(0, 1)]).unwrap();
}

/// An answer and calls whose pointers mostly hold. What they point to lies behind the answer.
fn image(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let mut image = Image {
        bytes: vec![0; CALLS * CALL_BYTES + ANSWER_BYTES as usize],
    };
    for number in 0..CALLS {
        let at = number * CALL_BYTES;
        match u.int_in_range(0..=8)? {
            call @ 1..=8 => {
                let words = image.call(call, u)?;
                image.words(at, &[call]);
                image.words(at + 4, &words);
            }
            _ => break,
        }
    }
    let answer = (ANSWER - IMAGE) as usize;
    match u.int_in_range(0..=2_u32)? {
        0 => {}
        1 => {
            let bits = image.bytes_of(u)?;
            image.words(answer + 4, &[1, bits.0, bits.1]);
        }
        _ => {
            image.words(answer + 4, &[2]);
            image.rows(answer + 8, u)?;
        }
    }
    let outcomes = image.outcomes(u)?;
    image.words(answer + 176, &[outcomes.0, outcomes.1]);
    for _ in 0..u.int_in_range(0..=3)? {
        let at = u.choose_index(image.bytes.len())?;
        image.bytes[at] = u.arbitrary()?;
    }
    image.bytes.truncate(IMAGE_BYTES_MAX);
    Ok(image.bytes)
}

struct Image {
    bytes: Vec<u8>,
}

impl Image {
    fn words(&mut self, at: usize, words: &[u32]) {
        for (i, word) in words.iter().enumerate() {
            self.bytes[at + 4 * i..at + 4 * i + 4].copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Address and length.
    fn put(&mut self, bytes: &[u8], length: usize) -> (u32, u32) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = IMAGE + self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        (at, length as u32)
    }

    fn bytes_of(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<(u32, u32)> {
        let length = u.int_in_range(0..=9)?;
        let bytes = u.bytes(length.min(u.len()))?.to_vec();
        Ok(self.put(&bytes, bytes.len()))
    }

    fn text(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<(u32, u32)> {
        let text = *u.choose(&["", "no", "deserialization: no", "tick", "ü", "\u{0}"])?;
        Ok(self.put(text.as_bytes(), text.len()))
    }

    fn numbers(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<(u32, u32)> {
        let mut numbers = Vec::new();
        let mut last = 0_u32;
        for _ in 0..u.int_in_range(0..=5)? {
            last = match u.int_in_range(0..=7)? {
                0 => u.arbitrary()?,
                step => last.wrapping_add(step / 3),
            };
            numbers.push(last);
        }
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        Ok(self.put(&bytes, numbers.len()))
    }

    /// A column of a few rows, right unless a byte says that it is not: seven words.
    fn column(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<[u32; 7]> {
        let rows = u.int_in_range(0..=4)?;
        let (mut data, mut offsets, mut valid) = (Vec::new(), vec![0_u32], 0_u8);
        for row in 0..rows {
            let length = u.int_in_range(0..=3_usize)?;
            valid |= u8::from(length > 0 || u.arbitrary()?) << row;
            data.extend_from_slice(&b"abc"[..length]);
            offsets.push(data.len() as u32);
        }
        if u.ratio(1, 8)? {
            let at = u.choose_index(offsets.len())?;
            offsets[at] = u.arbitrary()?;
        }
        let bytes: Vec<u8> = offsets.iter().flat_map(|n| n.to_le_bytes()).collect();
        let (data, offsets) = (self.put(&data, data.len()), self.put(&bytes, offsets.len()));
        let validity = match u.ratio(1, 3)? {
            true => {
                let (at, length) = self.put(&[valid], usize::from(rows > 0));
                [1, at, length]
            }
            false => [0; 3],
        };
        let [some, bits, length] = validity;
        Ok([data.0, data.1, offsets.0, offsets.1, some, bits, length])
    }

    fn rows(&mut self, at: usize, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        for place in [at, at + 12, at + 88] {
            if u.ratio(1, 2)? {
                let (numbers, length) = self.numbers(u)?;
                self.words(place, &[1, numbers, length]);
            }
        }
        for place in [at + 24, at + 56] {
            if u.ratio(1, 2)? {
                let column = self.column(u)?;
                self.words(place, &[1]);
                self.words(place + 4, &column);
            }
        }
        if u.ratio(1, 4)? {
            let (offsets, length) = self.numbers(u)?;
            self.words(at + 100, &[1, offsets, length]);
            for place in [at + 112, at + 140] {
                let column = self.column(u)?;
                self.words(place, &column);
            }
        }
        Ok(())
    }

    fn outcomes(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<(u32, u32)> {
        let mut words = Vec::new();
        let count = u.int_in_range(0..=4_usize)?;
        let mut row = 0_u32;
        for _ in 0..count {
            row = row.wrapping_add(u.int_in_range(0..=2)?);
            let kind = u.int_in_range(0..=4)?;
            let (at, length) = self.text(u)?;
            words.extend(match kind {
                2 => [row, 2, u.arbitrary()?, at, length],
                kind => [row, kind, at, length, 0],
            });
        }
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        Ok(self.put(&bytes, count))
    }

    /// Parameters of host call `number`.
    fn call(&mut self, number: u32, u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u32>> {
        let store = u.int_in_range(0..=2)? / 2;
        let option = |given: (u32, u32), u: &mut Unstructured<'_>| -> arbitrary::Result<[u32; 3]> {
            Ok([u32::from(u.ratio(1, 2)?), given.0, given.1])
        };
        Ok(match number {
            1 => {
                let (at, length) = self.text(u)?;
                vec![
                    u.int_in_range(0..=5)?,
                    at,
                    length,
                    u.int_in_range(0..=2)?,
                    u.int_in_range(0..=4)?,
                ]
            }
            2 => {
                let (at, length) = self.text(u)?;
                vec![at, length]
            }
            3 => {
                let (at, length) = self.text(u)?;
                let (every, anchor): (u64, i64) = (u.arbitrary()?, u.arbitrary()?);
                let every = if u.ratio(1, 2)? { every % 5 } else { every };
                let mut words = vec![at, length, every as u32, (every >> 32) as u32];
                words.extend([u.int_in_range(0..=2)?, u32::from(u.ratio(1, 2)?)]);
                words.extend([anchor as u32, (anchor >> 32) as u32, 1, u.int_in_range(0..=3)?]);
                words
            }
            4 => [&[store], &self.column(u)?[..]].concat(),
            5 => {
                let (keys, values) = (self.column(u)?, self.column(u)?);
                [&[store], &keys[..], &values[..]].concat()
            }
            6 => {
                let (lower, upper) = (self.bytes_of(u)?, self.bytes_of(u)?);
                let (lower, upper) = (option(lower, u)?, option(upper, u)?);
                let rest: [u32; 3] = [u.int_in_range(0..=1)?, u.int_in_range(0..=1)?, u.arbitrary()?];
                [&[store], &lower[..], &upper[..], &rest[..]].concat()
            }
            7 => {
                let (prefix, after) = (self.bytes_of(u)?, self.bytes_of(u)?);
                let after = option(after, u)?;
                let rest: [u32; 2] = [u.int_in_range(0..=1)?, u.arbitrary()?];
                [&[store, prefix.0, prefix.1], &after[..], &rest[..]].concat()
            }
            _ => {
                let (lower, upper) = (self.bytes_of(u)?, self.bytes_of(u)?);
                vec![store, lower.0, lower.1, upper.0, upper.1]
            }
        })
    }
}

/// `in` through the puppet to `out`, failures to `dead`.
fn topology(module: &Module) -> Topology {
    let step = ModuleStep {
        module: "tiny".into(),
        version: "1.0.0".into(),
        digest: module.digest().to_owned(),
        inputs: vec!["in".into()],
        outputs: vec!["out".into()],
        stores: vec![0],
        params: Default::default(),
        needs_headers: true,
        needs_origin: true,
        needs_stream_times: true,
        retries: Retries {
            max: 2,
            backoff_ms_min: 1,
            backoff_ms_max: 5,
        },
        limits: Limits {
            memory_bytes: 16 << 20,
            result_bytes: 1 << 20,
            log_lines_per_second: 0,
            ..Limits::default()
        },
        grants: Default::default(),
        closure: None,
    };
    let source = Source {
        topics: vec!["in".into()],
        kind: SourceKind::Stream,
        key: Format::Bytes,
        value: Format::Bytes,
        start: Start::Earliest,
        create: None,
        timestamps: Default::default(),
    };
    let sink = Sink {
        topic: "out".into(),
        key: Format::Bytes,
        value: Format::Bytes,
        create: None,
    };
    let node = |name: &str, kind, from: Option<usize>| Node {
        name: name.into(),
        kind,
        inputs: from
            .map(|from| Edge {
                from,
                from_port: 0,
                to_port: 0,
            })
            .into_iter()
            .collect(),
        on_error: OnError::DeadLetter,
    };
    let topology = Topology {
        name: "fuzzed".into(),
        guarantee: Guarantee::ExactlyOnce,
        max_task_idle_ms: 0,
        standbys: 0,
        nodes: vec![
            node("in", NodeKind::Source(source), None),
            node("tiny", NodeKind::Module(step), Some(0)),
            node("out", NodeKind::Sink(sink), Some(1)),
        ],
        stores: vec![Store {
            name: "tiny-seen".into(),
            kind: StoreKind::KeyValue,
            schema: 1,
            key: Format::Bytes,
            value: Format::Bytes,
            changelog: topology::changelog_topic("fuzzed", "tiny-seen"),
            emit: Emit::EveryUpdate,
        }],
        globals: Vec::new(),
        sub_topologies: Vec::new(),
        dead_letters: Some(DeadLetters {
            topic: "dead".into(),
            create: None,
        }),
    };
    topology.validated().expect("a valid topology")
}
