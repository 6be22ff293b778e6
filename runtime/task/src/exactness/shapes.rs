//! Pipelines that contain, by name, the shapes in which batches could differ from records one by one.

use std::collections::BTreeMap;

use topology::{
    Aggregate, AggregateFunction, Branch, DeadLetters, Edge, Emit, Format, GlobalTable, Guarantee, JoinKind, Limits,
    ModuleStep, Node, NodeKind, OnError, Predicate, Projection, Retries, Selector, Sink, Source, SourceKind, Start,
    Store, StoreKind, StreamJoin, SubTopology, Topology, WindowAggregate, Windowing, Windows,
};

use super::Dice;
use super::module::{Config, Style};

pub const SHAPES: [&str; 17] = [
    "a fork that rejoins",
    "a store read downstream of its writer",
    "siblings write one store",
    "a table source beside a reader of its store",
    "several sources",
    "branch and merge",
    "on-commit tables in a row",
    "turns that cross a path",
    "windows and what follows them",
    "a join of two streams",
    "a stream and a table",
    "tables that join",
    "a versioned table",
    "a foreign key",
    "several streams in one aggregate",
    "a global table",
    "anything",
];

pub struct World {
    pub topology: Topology,
    pub modules: BTreeMap<usize, Config>,
    /// No decision depends on how often a record was tried.
    pub may_abort: bool,
}

pub(super) struct Build<'a> {
    pub(super) dice: &'a mut Dice,
    pub(super) nodes: Vec<Node>,
    stores: Vec<Store>,
    pub(super) globals: Vec<GlobalTable>,
    modules: BTreeMap<usize, Config>,
    /// Percent of rows with schedules, drops, dead letters, fails, retries, traps.
    rates: [u64; 6],
}

pub(super) type From = (usize, u32);

impl Build<'_> {
    pub(super) fn node(&mut self, kind: NodeKind, inputs: &[&[From]]) -> usize {
        let edges = (0..).zip(inputs).flat_map(|(to_port, from)| {
            from.iter().map(move |(from, from_port)| Edge {
                from: *from,
                from_port: *from_port,
                to_port,
            })
        });
        let name = format!("n{}", self.nodes.len());
        self.nodes.push(Node {
            name,
            kind,
            inputs: edges.collect(),
            on_error: OnError::Stop,
        });
        self.nodes.len() - 1
    }

    pub(super) fn source(&mut self, topics: &[&str]) -> usize {
        let topics = topics.iter().map(|t| (*t).to_owned()).collect();
        let (key, value, start) = (Format::Bytes, Format::Bytes, Start::Earliest);
        self.node(
            NodeKind::Source(Source {
                topics,
                kind: SourceKind::Stream,
                key,
                value,
                start,
                create: None,
                timestamps: Default::default(),
            }),
            &[],
        )
    }

    pub(super) fn sink(&mut self, topic: &str, from: &[From]) -> usize {
        let (key, value) = (Format::Bytes, Format::Bytes);
        self.node(
            NodeKind::Sink(Sink {
                topic: topic.to_owned(),
                key,
                value,
                create: None,
            }),
            &[from],
        )
    }

    pub(super) fn store(&mut self, kind: StoreKind, emit: Emit) -> usize {
        let name = format!("store-{}", self.stores.len());
        self.stores.push(Store {
            changelog: format!("{name}-changelog"),
            name,
            kind,
            schema: 1,
            key: Format::Bytes,
            value: Format::Bytes,
            emit,
        });
        self.stores.len() - 1
    }

    pub(super) fn module(&mut self, inputs: &[&[From]], outputs: u32, stores: &[usize]) -> usize {
        let style = match self.dice.below(5) {
            0 if outputs == 1 => Style::Filter,
            1 => Style::Map,
            _ => Style::FlatMap,
        };
        let [schedules, drops, dead_letters, fails, retries, traps] = self.rates;
        let config = Config {
            seed: self.dice.next(),
            style,
            ports: outputs,
            schedules,
            drops,
            dead_letters,
            fails,
            retries,
            traps,
            opens_schedule: schedules > 0 && self.dice.chance(40),
        };
        let on_error = if self.dice.chance(50) {
            OnError::Skip
        } else {
            OnError::DeadLetter
        };
        let names = |n: usize| (0..n).map(|i| format!("p{i}")).collect();
        let step = ModuleStep {
            module: "test".into(),
            version: "1".into(),
            digest: String::new(),
            inputs: names(inputs.len()),
            outputs: names(outputs as usize),
            stores: stores.to_vec(),
            params: Default::default(),
            needs_headers: false,
            needs_origin: self.dice.chance(50),
            needs_stream_times: true,
            retries: Retries {
                max: 3,
                backoff_ms_min: 1,
                backoff_ms_max: 5,
            },
            limits: Limits::default(),
            grants: Box::default(),
            closure: None,
        };
        let node = self.node(NodeKind::Module(step), inputs);
        self.nodes[node].on_error = on_error;
        self.modules.insert(node, config);
        node
    }

    fn count(&mut self, from: &[From], emit: Emit) -> usize {
        let store = self.store(StoreKind::Timestamped, emit);
        let function = [
            AggregateFunction::Count,
            AggregateFunction::First,
            AggregateFunction::Max,
        ][self.dice.below(3) as usize];
        let result = if function == AggregateFunction::Count {
            Format::I64
        } else {
            Format::Bytes
        };
        let of_format = Format::Bytes;
        self.node(
            NodeKind::Aggregate(Aggregate {
                function,
                of: Selector::Value,
                of_format,
                result,
                store,
                emit,
            }),
            &[from],
        )
    }

    fn finish(mut self) -> World {
        self.store(StoreKind::KeyValue, Emit::EveryUpdate);
        if let Some(times) = self.stores.last_mut() {
            times.name = "times-0".into();
        }
        let topics = ["in-a", "in-b"].map(str::to_owned).to_vec();
        let sub = SubTopology {
            id: 0,
            nodes: (0..self.nodes.len()).collect(),
            stores: (0..self.stores.len()).collect(),
            topics,
        };
        World {
            topology: Topology {
                name: "world".into(),
                guarantee: Guarantee::ExactlyOnce,
                max_task_idle_ms: 0,
                standbys: 0,
                nodes: self.nodes,
                stores: self.stores,
                globals: self.globals,
                sub_topologies: vec![sub],
                dead_letters: Some(DeadLetters {
                    topic: if self.dice.chance(20) { "out" } else { "dead" }.into(),
                    create: None,
                }),
            },
            modules: self.modules,
            may_abort: self.rates[4] == 0,
        }
    }
}

pub fn build(shape: &str, dice: &mut Dice) -> World {
    let rate = |dice: &mut Dice, most: u64| if dice.chance(50) { dice.below(most + 1) } else { 0 };
    let rates = [
        rate(dice, 12),
        rate(dice, 8),
        rate(dice, 6),
        rate(dice, 4),
        rate(dice, 6),
        rate(dice, 3),
    ];
    let mut b = Build {
        dice,
        nodes: Vec::new(),
        stores: Vec::new(),
        globals: Vec::new(),
        modules: BTreeMap::new(),
        rates,
    };
    match shape {
        "a fork that rejoins" => rejoin(&mut b),
        "a store read downstream of its writer" => downstream(&mut b),
        "siblings write one store" => siblings(&mut b),
        "a table source beside a reader of its store" => table(&mut b),
        "several sources" => several(&mut b),
        "branch and merge" => branch(&mut b),
        "on-commit tables in a row" => tables(&mut b),
        "turns that cross a path" => crossing(&mut b),
        "windows and what follows them" => windows(&mut b),
        "a join of two streams" => streams(&mut b),
        "a stream and a table" => super::tables::stream_and_table(&mut b),
        "tables that join" => super::tables::joined_tables(&mut b),
        "a versioned table" => super::tables::versioned(&mut b),
        "a foreign key" => super::tables::foreign(&mut b),
        "several streams in one aggregate" => super::tables::cogrouped(&mut b),
        "a global table" => super::tables::global(&mut b),
        _ => anything(&mut b),
    }
    b.finish()
}

fn rejoin(b: &mut Build<'_>) {
    let s = b.source(&["in-a"]);
    let own = b.store(StoreKind::KeyValue, Emit::EveryUpdate);
    let fork = b.module(&[&[(s, 0)]], 2, &[]);
    let left = b.module(&[&[(fork, 0)]], 1, &[own]);
    let right = b.module(&[&[(fork, 1), (fork, 0)]], 2, &[]);
    let own = b.store(StoreKind::Timestamped, Emit::EveryUpdate);
    let joined = b.module(&[&[(left, 0), (s, 0)], &[(right, 0)]], 1, &[own]);
    b.sink("out", &[(joined, 0)]);
    b.sink("out", &[(right, 1), (left, 0)]);
    b.sink("out-2", &[(fork, 0)]);
}

fn downstream(b: &mut Build<'_>) {
    let s = b.source(&["in-a"]);
    let shared = b.store(StoreKind::KeyValue, Emit::EveryUpdate);
    let first = b.module(&[&[(s, 0)]], 1, &[shared]);
    let between = b.module(&[&[(first, 0)]], 1, &[]);
    let last = b.module(&[&[(between, 0)]], 1, &[shared]);
    b.sink("out", &[(last, 0), (first, 0)]);
}

fn siblings(b: &mut Build<'_>) {
    let s = b.source(&["in-a", "in-b"]);
    let shared = b.store(StoreKind::KeyValue, Emit::EveryUpdate);
    let fork = b.module(&[&[(s, 0)]], 2, &[]);
    let left = b.module(&[&[(fork, 0)]], 1, &[shared]);
    let right = b.module(&[&[(fork, 1)], &[(fork, 0)]], 1, &[shared]);
    let third = b.module(&[&[(s, 0)]], 1, &[shared]);
    b.sink("out", &[(left, 0), (right, 0)]);
    b.sink("out", &[(third, 0)]);
}

fn table(b: &mut Build<'_>) {
    let t = b.source(&["in-a"]);
    let s = b.source(&["in-b"]);
    let emit = if b.dice.chance(50) {
        Emit::OnCommit
    } else {
        Emit::EveryUpdate
    };
    let store = b.store(StoreKind::Timestamped, emit);
    let table = b.node(NodeKind::ToTable { store }, &[&[(t, 0)]]);
    let reader = b.module(&[&[(s, 0)]], 1, &[store]);
    b.sink("out", &[(reader, 0), (table, 0)]);
}

fn several(b: &mut Build<'_>) {
    let first = b.source(&["in-a", "in-b"]);
    let second = b.source(&["in-b"]);
    let third = b.source(&["in-c"]);
    if b.dice.chance(40) {
        super::timestamps::from_values(b, first);
    }
    let own = b.store(StoreKind::KeyValue, Emit::EveryUpdate);
    let m = b.module(&[&[(first, 0)], &[(second, 0), (third, 0)]], 1, &[own]);
    let n = b.module(&[&[(second, 0)], &[(m, 0)]], 1, &[]);
    b.sink("out", &[(m, 0), (n, 0)]);
    b.sink("out-2", &[(third, 0), (first, 0)]);
}

fn branch(b: &mut Build<'_>) {
    let s = b.source(&["in-a"]);
    let begins = |of, prefix: &str| Predicate::StartsWith {
        of,
        prefix: prefix.into(),
    };
    let branches = vec![
        ("one".to_owned(), begins(Selector::Key, "k1")),
        ("two".to_owned(), begins(Selector::Value, "r1")),
    ];
    let default = b.dice.chance(50).then(|| "rest".to_owned());
    let has_default = default.is_some();
    let split = b.node(NodeKind::Branch(Branch { branches, default }), &[&[(s, 0)]]);
    let m = b.module(&[&[(split, 0)]], 1, &[]);
    let keyed = b.node(NodeKind::SelectKey(Selector::Value), &[&[(split, 1)]]);
    let mut ends = vec![(m, 0), (keyed, 0)];
    if has_default {
        ends.push((split, 2));
    }
    let merged = b.node(NodeKind::Merge, &[&ends]);
    let counted = b.count(&[(merged, 0)], Emit::EveryUpdate);
    let last = b.module(&[&[(counted, 0)]], 1, &[]);
    b.sink("out", &[(merged, 0), (last, 0)]);
}

fn tables(b: &mut Build<'_>) {
    let s = b.source(&["in-a"]);
    let first = b.count(&[(s, 0)], Emit::OnCommit);
    let own = b.store(StoreKind::KeyValue, Emit::EveryUpdate);
    let m = b.module(&[&[(first, 0)], &[(s, 0)]], 1, &[own]);
    let store = b.store(StoreKind::Timestamped, Emit::OnCommit);
    let second = b.node(NodeKind::ToTable { store }, &[&[(m, 0), (first, 0)]]);
    b.sink("out", &[(second, 0), (m, 0)]);
}

fn crossing(b: &mut Build<'_>) {
    let s = b.source(&["in-a"]);
    let (one, two) = (
        b.store(StoreKind::KeyValue, Emit::EveryUpdate),
        b.store(StoreKind::KeyValue, Emit::EveryUpdate),
    );
    let x = b.module(&[&[(s, 0)]], 1, &[one]);
    let y = b.module(&[&[(s, 0)]], 1, &[one, two]);
    let above = if b.dice.chance(50) { x } else { s };
    let w = b.module(&[&[(above, 0)]], 1, &[]);
    let z = b.module(&[&[(w, 0)]], 1, &[two]);
    b.sink("out", &[(x, 0), (y, 0), (z, 0)]);
}

fn window(b: &mut Build<'_>, from: &[From], emit: Emit) -> usize {
    let size = 1 + b.dice.below(60) as i64;
    let advance = 1 + b.dice.below(size as u64) as i64;
    let windows = [
        Windows::Time {
            size_ms: size,
            advance_ms: advance.max(size / 4),
        },
        Windows::Session { gap_ms: size },
        Windows::Unlimited,
        Windows::Sliding { difference_ms: size },
    ][b.dice.below(4) as usize];
    let grace = b.dice.below(30) as i64;
    let windowing = Windowing {
        windows,
        grace_ms: grace,
        retention_ms: if windows == Windows::Unlimited {
            i64::MAX
        } else {
            2 * size + grace
        },
        on_close: emit == Emit::EveryUpdate && windows != Windows::Unlimited && b.dice.chance(50),
        late: true,
    };
    let store = b.store(windowing.store_kind(), emit);
    let function = [
        AggregateFunction::Count,
        AggregateFunction::First,
        AggregateFunction::Last,
        AggregateFunction::Min,
    ][b.dice.below(4) as usize];
    let count = function == AggregateFunction::Count;
    let aggregate = Aggregate {
        function,
        of: Selector::Value,
        of_format: Format::Bytes,
        result: if count { Format::I64 } else { Format::Bytes },
        store,
        emit,
    };
    let kind = NodeKind::WindowAggregate(WindowAggregate { aggregate, windowing });
    b.node(kind, &[from])
}

fn windows(b: &mut Build<'_>) {
    let s = b.source(&["in-a"]);
    let emit = if b.dice.chance(30) {
        Emit::OnCommit
    } else {
        Emit::EveryUpdate
    };
    let first = window(b, &[(s, 0)], emit);
    let m = b.module(&[&[(first, 0)], &[(first, 1), (s, 0)]], 1, &[]);
    let counted = b.count(&[(first, 0)], Emit::EveryUpdate);
    b.sink("out", &[(first, 0), (m, 0)]);
    b.sink("out-2", &[(first, 1), (counted, 0)]);
}

fn streams(b: &mut Build<'_>) {
    let left = b.source(&["in-a"]);
    let right = b.source(&["in-b"]);
    let mapped = b.module(&[&[(right, 0)]], 1, &[]);
    let kind = [JoinKind::Inner, JoinKind::Left, JoinKind::Outer][b.dice.below(3) as usize];
    let mut join = StreamJoin {
        kind,
        before_ms: b.dice.below(30) as i64,
        after_ms: b.dice.below(30) as i64,
        grace_ms: b.dice.below(20) as i64,
        left: 0,
        right: 0,
        waiting: None,
        value: Projection::Both,
        key: Format::Bytes,
        left_value: Format::String,
        right_value: Format::String,
    };
    join.left = b.store(join.store_kind(), Emit::EveryUpdate);
    join.right = b.store(join.store_kind(), Emit::EveryUpdate);
    if kind != JoinKind::Inner {
        join.waiting = Some(b.store(StoreKind::KeyValue, Emit::EveryUpdate));
    }
    let self_join = b.dice.chance(20);
    let other: &[From] = if self_join { &[(left, 0)] } else { &[(mapped, 0)] };
    let joined = b.node(NodeKind::StreamJoin(Box::new(join)), &[&[(left, 0)], other]);
    b.sink("out", &[(joined, 0), (mapped, 0)]);
}

fn anything(b: &mut Build<'_>) {
    let mut ends: Vec<From> = vec![(b.source(&["in-a"]), 0)];
    if b.dice.chance(50) {
        ends.push((b.source(&["in-b"]), 0));
    }
    let shared: Vec<usize> = (0..3)
        .map(|_| b.store(StoreKind::KeyValue, Emit::EveryUpdate))
        .collect();
    for _ in 0..2 + b.dice.below(5) {
        let pick = |b: &mut Build<'_>| -> Vec<From> {
            let mut from: Vec<From> = (0..1 + b.dice.below(2))
                .map(|_| ends[b.dice.below(ends.len() as u64) as usize])
                .collect();
            from.sort_unstable();
            from.dedup();
            from
        };
        match b.dice.below(6) {
            0 => {
                let from = pick(b);
                let emit = if b.dice.chance(30) {
                    Emit::OnCommit
                } else {
                    Emit::EveryUpdate
                };
                let node = b.count(&from, emit);
                ends.push((node, 0));
            }
            1 => {
                let from = pick(b);
                let topic = if b.dice.chance(50) { "out" } else { "out-2" };
                b.sink(topic, &from);
            }
            _ => {
                let inputs: Vec<Vec<From>> = (0..1 + b.dice.below(2)).map(|_| pick(b)).collect();
                let inputs: Vec<&[From]> = inputs.iter().map(Vec::as_slice).collect();
                let stores: Vec<usize> = shared.iter().copied().filter(|_| b.dice.chance(20)).collect();
                let outputs = 1 + b.dice.below(2) as u32;
                let node = b.module(&inputs, outputs, &stores);
                ends.extend((0..outputs).map(|port| (node, port)));
            }
        }
    }
    let last: Vec<From> = ends.iter().rev().take(3).copied().collect();
    b.sink("out", &last);
}
