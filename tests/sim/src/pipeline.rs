//! The pipeline of every world: rows of words → a module (1:n, with a store, sometimes trapping) → repartition by word
//! → count → sink; and what must come out of it.

use crate::dice::Dice;
use crate::swap::{Code, Manner, ORIGIN, VERSION};
use arrow_array::BinaryArray;
use record::{BatchBuilder, Headers};
use std::collections::BTreeMap;
use task::processor::{Answer, Context, Emission, Emitted, Failure, Input, Now, RowOutcome};
use task::{Processor, TaskId};
use topology::{
    Aggregate, AggregateFunction, DeadLetters, Edge, Emit, Format, Guarantee, Limits, ModuleStep, Node, NodeKind,
    OnError, Repartition, Retries, Selector, Sink, Source, SourceKind, Start, Store, StoreKind, Topology,
};

pub const PIPELINE: &str = "sim";
pub const INPUT: &str = "words";
pub const OUTPUT: &str = "counts";
pub const DEAD: &str = "dead";
pub const PARTITIONS: i32 = 2;
/// A row with this word fails in the module, always.
pub const BAD: &str = "bad";
/// A word that no topic but the dead letters takes.
pub const POISON: &str = "poison";

fn source(topic: &str, kind: SourceKind) -> NodeKind {
    NodeKind::Source(Source {
        topics: vec![topic.into()],
        kind,
        key: Format::Bytes,
        value: Format::Bytes,
        start: Start::Earliest,
        create: None,
        timestamps: Default::default(),
    })
}

fn store(name: &str, kind: StoreKind, value: Format, emit: Emit) -> Store {
    Store {
        name: name.into(),
        kind,
        schema: 1,
        key: Format::Bytes,
        value,
        changelog: topology::changelog_topic(PIPELINE, name),
        emit,
    }
}

pub fn topology(guarantee: Guarantee, emit: Emit) -> Topology {
    let module = ModuleStep {
        module: "split".into(),
        version: "1".into(),
        digest: "00".into(),
        inputs: vec!["in".into()],
        outputs: vec!["out".into()],
        stores: vec![0],
        params: Default::default(),
        needs_headers: false,
        needs_origin: true,
        needs_stream_times: false,
        retries: Retries {
            max: 1_000,
            backoff_ms_min: 5,
            backoff_ms_max: 50,
        },
        limits: Limits::default(),
        grants: Box::default(),
        closure: None,
    };
    let topic = topology::repartition_topic(PIPELINE, "count");
    let repartition = Repartition {
        topic: topic.clone(),
        key: Format::Bytes,
        value: Format::Bytes,
        partitions: Some(PARTITIONS),
    };
    let count = Aggregate {
        function: AggregateFunction::Count,
        of: Selector::Value,
        of_format: Format::Bytes,
        result: Format::I64,
        store: 1,
        emit,
    };
    let sink = Sink {
        topic: OUTPUT.into(),
        key: Format::Bytes,
        value: Format::I64,
        create: None,
    };
    let nodes: [(&str, NodeKind, Option<usize>); 6] = [
        ("rows", source(INPUT, SourceKind::Stream), None),
        ("split", NodeKind::Module(module), Some(0)),
        ("count-repartition", NodeKind::Repartition(repartition), Some(1)),
        ("count-source", source(&topic, SourceKind::Repartition), None),
        ("count", NodeKind::Aggregate(count), Some(3)),
        ("out", NodeKind::Sink(sink), Some(4)),
    ];
    let node = |(name, kind, from): (&str, NodeKind, Option<usize>)| Node {
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
        name: PIPELINE.into(),
        guarantee,
        max_task_idle_ms: 0,
        standbys: 0,
        nodes: nodes.into_iter().map(node).collect(),
        stores: vec![
            store("split-seen", StoreKind::KeyValue, Format::Bytes, Emit::EveryUpdate),
            store("count", StoreKind::Timestamped, Format::I64, emit),
        ],
        globals: Vec::new(),
        sub_topologies: Vec::new(),
        dead_letters: Some(DeadLetters {
            topic: DEAD.into(),
            create: None,
        }),
    };
    topology.validated().expect("the pipeline of the simulation is valid")
}

/// Nanoseconds that a row takes, as it is told to the task.
const ROW_NS: u64 = 1_000;

/// Splits a row into its words and counts, in its store, the rows of each key.
pub struct Splitter {
    pub dice: Dice,
    pub code: Code,
    pub task: TaskId,
    pub name: String,
    pub busy_ns: u64,
    /// Chance that a call traps, or that a row asks to be tried again.
    pub moody: f64,
}

impl Splitter {
    pub fn new(code: Code, task: TaskId, dice: Dice, moody: f64) -> Self {
        Self {
            dice,
            code,
            task,
            name: format!("split@{}", code.version),
            busy_ns: 0,
            moody,
        }
    }

    /// Who sent a row on, and which input record it came of.
    fn headers(&self, input: &Input, row: usize) -> Vec<(String, Option<Vec<u8>>)> {
        let partition = &input.origin.partitions[input.origin.partition_of[row] as usize];
        let origin = format!("{}-{}", partition.partition, input.origin.offsets[row]);
        let header = |name: &str, value: String| (name.to_owned(), Some(value.into_bytes()));
        vec![header(VERSION, self.code.version.to_string()), header(ORIGIN, origin)]
    }

    fn count_row(&self, context: &mut Context, key: &[u8], timestamp: i64) -> Result<(), Failure> {
        let host = |e: state::Error| Failure::Host(e.to_string());
        let store = context.store_of[0];
        let old = context
            .stores
            .read(store, key, |v| v.map(<[u8]>::to_vec))
            .map_err(host)?;
        let old = old.map_or(Ok(0), |v| count(&v, self.code.schema))?;
        context
            .stores
            .write(store, key, Some(&entry(old + 1, self.code.schema)), timestamp)
            .map_err(host)
    }
}

/// A count as code of a schema keeps it: only code of that schema may read it.
fn entry(count: u64, schema: u32) -> Vec<u8> {
    [&count.to_be_bytes()[..], &schema.to_be_bytes()[..]].concat()
}

/// A thread that was taken for dead may do so for a while, with nothing of it committed; else dead letters tell.
fn count(entry: &[u8], schema: u32) -> Result<u64, Failure> {
    let (count, tag) = entry.split_at(8);
    let tag = u32::from_be_bytes(tag.try_into().expect("a schema has 4 bytes"));
    if tag != schema {
        return Err(Failure::Trap {
            cause: format!("code of schema {schema} reads an entry of schema {tag}"),
            backtrace: String::new(),
        });
    }
    Ok(u64::from_be_bytes(count.try_into().expect("a count has 8 bytes")))
}

fn trap() -> Failure {
    Failure::Trap {
        cause: "a simulated trap".into(),
        backtrace: String::new(),
    }
}

impl Processor for Splitter {
    fn open(&mut self, _: &mut Context) -> Result<(), Failure> {
        match self.code.manner {
            Manner::Closed => Err(Failure::Guest("it does not open".into())),
            _ => Ok(()),
        }
    }

    fn process(&mut self, context: &mut Context, _: Now, input: &Input) -> Result<Answer, Failure> {
        let rows = &input.batch;
        let slow = if self.code.manner == Manner::Slow { 10 } else { 1 };
        self.busy_ns += slow * ROW_NS * rows.len() as u64;
        let traps = match self.code.manner {
            Manner::Trap => true,
            Manner::TrapIn0 => self.task.partition == 0,
            _ => false,
        };
        if traps {
            return Err(trap());
        }
        let mut headers = Vec::new();
        let (mut causes, mut words, mut outcomes) = (Vec::new(), BatchBuilder::default(), Vec::new());
        for row in 0..rows.len() {
            let (key, value) = (rows.key(row).unwrap_or_default(), rows.value(row).unwrap_or_default());
            let text = std::str::from_utf8(value).expect("the simulation writes text");
            if text.split(' ').any(|w| w == BAD) {
                outcomes.push((row as u32, RowOutcome::Fail("a bad word".into())));
                break;
            }
            if self.dice.chance(self.moody) {
                outcomes.push((
                    row as u32,
                    RowOutcome::Retry {
                        after_ms: 5,
                        reason: "not now".into(),
                    },
                ));
                break;
            }
            self.count_row(context, key, rows.timestamps()[row])?;
            for word in text.split(' ') {
                causes.push(row as u32);
                words.push(Some(word.as_bytes()), Some(word.as_bytes()), 0);
                headers.push(self.headers(input, row));
            }
        }
        // A row alone that traps would count as the culprit and go to the dead letters.
        if rows.len() > 1 && self.dice.chance(self.moody) {
            return Err(trap());
        }
        let words = words.finish();
        let emission = Emission {
            causes: Some(causes),
            keys: Some(words.keys().clone()),
            values: Some(words.values().clone()),
            headers: Some(Headers::from_rows(headers)),
            ..Emission::default()
        };
        Ok(Answer {
            emitted: Emitted::Rows(emission),
            outcomes,
        })
    }

    fn punctuate(&mut self, _: &mut Context, _: Now, _: &str) -> Result<Emission, Failure> {
        Ok(Emission::default())
    }

    fn migrate(
        &mut self,
        _: u32,
        schema: u32,
        keys: &BinaryArray,
        values: &BinaryArray,
    ) -> Result<(BinaryArray, BinaryArray), Failure> {
        let anew = |v: Option<&[u8]>| Ok(Some(entry(count(v.expect("never null"), schema)?, self.code.schema)));
        let values: Result<BinaryArray, Failure> = values.iter().map(anew).collect();
        Ok((keys.clone(), values?))
    }

    fn renew(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&mut self) {}

    fn module(&self) -> &str {
        &self.name
    }

    fn busy_ns(&self) -> u64 {
        self.busy_ns
    }
}

/// What a fault-free run gives.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// How often each word was counted.
    pub words: BTreeMap<Vec<u8>, i64>,
    /// Rows that end as dead letters, by key and value.
    pub dead: BTreeMap<(Vec<u8>, Vec<u8>), usize>,
}

impl Expected {
    pub fn add(&mut self, key: &[u8], text: &str) {
        if text.split(' ').any(|w| w == BAD || w == POISON) {
            *self.dead.entry((key.to_vec(), text.as_bytes().to_vec())).or_default() += 1;
            return;
        }
        for word in text.split(' ') {
            *self.words.entry(word.as_bytes().to_vec()).or_default() += 1;
        }
    }
}
