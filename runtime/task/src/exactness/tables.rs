//! Shapes with tables: joins whose sides change in the same run, that emit on commit, or that come from one another.

use topology::{
    Aggregate, AggregateFunction, Cogroup, Dedup, Emit, Expression, Filter, ForeignJoin, ForeignLookup, ForeignResolve,
    Format, GlobalJoin, GlobalKey, GlobalTable, JoinGrace, JoinKind, Map, NodeKind, OnError, Predicate, Projection,
    Selector, Shape, StoreKind, TableJoin, TtlTable, VersionedTable,
};

use super::shapes::{Build, From};

fn emit(b: &mut Build<'_>, on_commit: u64) -> Emit {
    if b.dice.chance(on_commit) {
        Emit::OnCommit
    } else {
        Emit::EveryUpdate
    }
}

const TTL_MS: i64 = 30;

/// A table of rows of `from`, with its store. Some forget what is old.
fn table(b: &mut Build<'_>, from: &[From], emit: Emit) -> (usize, usize) {
    let store = b.store(StoreKind::Timestamped, emit);
    if emit == Emit::OnCommit || b.dice.chance(60) {
        return (b.node(NodeKind::ToTable { store }, &[from]), store);
    }
    let index = b.store(StoreKind::KeyValue, Emit::EveryUpdate);
    let table = TtlTable {
        ttl_ms: TTL_MS,
        store,
        index,
    };
    (b.node(NodeKind::TtlTable(table), &[from]), store)
}

fn ttl_ms(b: &Build<'_>, table: usize) -> Option<i64> {
    matches!(b.nodes[table].kind, NodeKind::TtlTable(_)).then_some(TTL_MS)
}

/// Some of a table's rows, or new values of them.
fn some(b: &mut Build<'_>, from: usize) -> usize {
    let kind = if b.dice.chance(60) {
        NodeKind::Filter(Filter {
            condition: Predicate::StartsWith {
                of: Selector::Value,
                prefix: format!("r{}", 1 + b.dice.below(9)),
            },
            not: b.dice.chance(50),
            table: true,
        })
    } else {
        NodeKind::Map(Map {
            each: None,
            key: None,
            value: Some(Shape::Expression(Expression {
                text: "size(value) % 2 == 0 ? dyn(null) : dyn(value + '!')".to_owned(),
                key: Format::Bytes,
                value: Format::String,
            })),
            key_format: Format::Bytes,
            value_format: Format::String,
            table: true,
        })
    };
    let node = b.node(kind, &[&[(from, 0)]]);
    b.nodes[node].on_error = OnError::Skip;
    node
}

/// The table itself, or some of it as a table of its own.
fn perhaps_some(b: &mut Build<'_>, (node, store): (usize, usize)) -> (usize, usize) {
    if b.dice.chance(50) {
        return (node, store);
    }
    let mut of = some(b, node);
    if b.dice.chance(30) {
        of = some(b, of);
    }
    let store = b.store(StoreKind::Timestamped, Emit::EveryUpdate);
    (b.node(NodeKind::ToTable { store }, &[&[(of, 0)]]), store)
}

/// A count of a table's rows by their keys or values.
fn counted(b: &mut Build<'_>, from: usize) -> usize {
    let emit = emit(b, 30);
    let by = if b.dice.chance(50) {
        Selector::Key
    } else {
        Selector::Value
    };
    let store = b.store(StoreKind::Timestamped, emit);
    let grouped = b.node(NodeKind::GroupTable(by), &[&[(from, 0)]]);
    let count = Aggregate {
        function: AggregateFunction::Count,
        of: Selector::Value,
        of_format: Format::Bytes,
        result: Format::I64,
        store,
        emit,
    };
    b.node(NodeKind::TableAggregate(count), &[&[(grouped, 0)]])
}

fn join(b: &mut Build<'_>, kind: JoinKind, left: (usize, Option<usize>), right: (usize, usize)) -> usize {
    let join = TableJoin {
        kind,
        left: left.1,
        right: right.1,
        value: Projection::Both,
        key: Format::Bytes,
        left_value: Format::Bytes,
        right_value: Format::Bytes,
        left_ttl_ms: left.1.and_then(|_| ttl_ms(b, left.0)),
        right_ttl_ms: ttl_ms(b, right.0),
        versions: None,
        grace: None,
    };
    let node = b.node(NodeKind::TableJoin(join), &[&[(left.0, 0)], &[(right.0, 0)]]);
    b.nodes[node].on_error = OnError::Skip;
    node
}

pub fn stream_and_table(b: &mut Build<'_>) {
    let t = b.source(&["in-a"]);
    let s = b.source(&["in-b"]);
    let emit = emit(b, 20);
    let right = table(b, &[(t, 0)], emit);
    let mut from = vec![(s, 0)];
    if b.dice.chance(25) {
        from.push((right.0, 0));
    }
    let mut stream = b.module(&[&from], 1, &[]);
    if b.dice.chance(30) {
        let store = b.store(StoreKind::KeyValue, Emit::EveryUpdate);
        let within_ms = 1 + b.dice.below(40) as i64;
        stream = b.node(NodeKind::Dedup(Dedup { within_ms, store }), &[&[(stream, 0)]]);
    }
    let kind = if b.dice.chance(50) {
        JoinKind::Inner
    } else {
        JoinKind::Left
    };
    let joined = join(b, kind, (stream, None), right);
    b.sink("out", &[(joined, 0), (right.0, 0)]);
}

/// A stream beside a versioned table: its rows meet what there was at their time.
pub fn versioned(b: &mut Build<'_>) {
    let t = b.source(&["in-a"]);
    let s = b.source(&["in-b"]);
    let store = b.store(StoreKind::Timestamped, Emit::EveryUpdate);
    let history = b.store(StoreKind::KeyValue, Emit::EveryUpdate);
    let versions = VersionedTable {
        history_ms: 25,
        store,
        history,
    };
    let table = b.node(NodeKind::VersionedTable(versions), &[&[(t, 0)]]);
    let joined = join(b, JoinKind::Left, (s, None), (table, store));
    let grace = b.dice.chance(50).then(|| JoinGrace {
        grace_ms: b.dice.below(25) as i64,
        buffer: b.store(StoreKind::KeyValue, Emit::EveryUpdate),
    });
    if let NodeKind::TableJoin(join) = &mut b.nodes[joined].kind {
        join.versions = Some(versions);
        join.grace = grace;
    }
    let latest = b.module(&[&[(table, 1), (joined, 0)]], 1, &[]);
    b.sink("out", &[(table, 0), (table, 1), (latest, 0)]);
}

/// Two joins with one global table, one after a module of the other, that meet again.
pub fn global(b: &mut Build<'_>) {
    let s = b.source(&["in-a", "in-b"]);
    b.globals.push(GlobalTable {
        name: "global".to_owned(),
        topic: "in-global".to_owned(),
        key: Format::Bytes,
        value: Format::Bytes,
        create: None,
    });
    let join = |b: &mut Build<'_>, from: From| {
        let kind = [JoinKind::Inner, JoinKind::Left][b.dice.below(2) as usize];
        let on = match b.dice.chance(60) {
            true => GlobalKey::Part(Selector::Key),
            false => GlobalKey::Expression(Expression {
                text: "key == 'k1' ? dyn(null) : dyn('k2')".to_owned(),
                key: Format::Bytes,
                value: Format::Bytes,
            }),
        };
        let join = GlobalJoin {
            kind,
            table: 0,
            on,
            table_key: Format::Bytes,
            value: Projection::Both,
            key: Format::Bytes,
            left_value: Format::Bytes,
            right_value: Format::Bytes,
        };
        let node = b.node(NodeKind::GlobalJoin(Box::new(join)), &[&[from]]);
        b.nodes[node].on_error = OnError::Skip;
        node
    };
    let first = join(b, (s, 0));
    let made = b.module(&[&[(first, 0)]], 1, &[]);
    let second = join(b, (made, 0));
    let last = b.module(&[&[(second, 0), (first, 0)]], 1, &[]);
    b.sink("out", &[(last, 0), (second, 0)]);
}

/// The nodes of a join by a foreign key, in one task.
pub fn foreign(b: &mut Build<'_>) {
    let l = b.source(&["in-a"]);
    let r = b.source(&["in-b"]);
    let left = table(b, &[(l, 0)], Emit::EveryUpdate);
    let above = b.module(&[&[(r, 0)]], 1, &[]);
    let right = table(b, &[(above, 0)], Emit::EveryUpdate);
    let join = ForeignJoin {
        kind: if b.dice.chance(50) {
            JoinKind::Inner
        } else {
            JoinKind::Left
        },
        on: if b.dice.chance(80) {
            Selector::Key
        } else {
            Selector::Value
        },
        value: Projection::Both,
        left_key: Format::Bytes,
        left_value: Format::Bytes,
        right_value: Format::Bytes,
    };
    let subscribe = b.node(NodeKind::ForeignSubscribe(join.clone()), &[&[(left.0, 0)]]);
    let store = b.store(StoreKind::KeyValue, Emit::EveryUpdate);
    let lookup = NodeKind::ForeignLookup(ForeignLookup {
        join: join.clone(),
        store,
        right: right.1,
    });
    let lookup = b.node(lookup, &[&[(subscribe, 0)], &[(right.0, 0)]]);
    let resolve = NodeKind::ForeignResolve(ForeignResolve { join, left: left.1 });
    let resolve = b.node(resolve, &[&[(lookup, 0)], &[(left.0, 0)]]);
    b.sink("out", &[(resolve, 0), (subscribe, 1)]);
}

pub fn cogrouped(b: &mut Build<'_>) {
    let first = b.source(&["in-a"]);
    let second = b.source(&["in-b"]);
    let made = b.module(&[&[(second, 0), (first, 0)]], 1, &[]);
    let emit = emit(b, 30);
    let store = b.store(StoreKind::Timestamped, emit);
    let part = |function, result| Aggregate {
        function,
        of: Selector::Value,
        of_format: Format::String,
        result,
        store,
        emit,
    };
    let parts = vec![
        ("count".to_owned(), part(AggregateFunction::Count, Format::I64)),
        ("last".to_owned(), part(AggregateFunction::Last, Format::String)),
        ("least".to_owned(), part(AggregateFunction::Min, Format::String)),
    ];
    let cogroup = NodeKind::Cogroup(Cogroup { parts, store, emit });
    let cogroup = b.node(cogroup, &[&[(first, 0)], &[(second, 0)], &[(made, 0)]]);
    b.nodes[cogroup].on_error = OnError::Skip;
    let counted = counted(b, cogroup);
    b.sink("out", &[(cogroup, 0), (made, 0)]);
    b.sink("out-2", &[(counted, 0)]);
}

pub fn joined_tables(b: &mut Build<'_>) {
    let l = b.source(&["in-a"]);
    let r = b.source(&["in-b"]);
    let emits = (emit(b, 20), emit(b, 20));
    let left = table(b, &[(l, 0)], emits.0);
    let left = perhaps_some(b, left);
    let mut from = vec![(r, 0)];
    if b.dice.chance(20) {
        from.push((left.0, 0));
    }
    let above = b.module(&[&from], 1, &[]);
    let right = match b.dice.chance(15) {
        true => left,
        false => {
            let right = table(b, &[(above, 0)], emits.1);
            perhaps_some(b, right)
        }
    };
    let kind = [JoinKind::Inner, JoinKind::Left, JoinKind::Outer][b.dice.below(3) as usize];
    let joined = join(b, kind, (left.0, Some(left.1)), right);
    let emit = emit(b, 20);
    let third = table(b, &[(joined, 0)], emit);
    let again = join(b, JoinKind::Outer, (third.0, Some(third.1)), right);
    let passed = some(b, third.0);
    let counted = counted(b, passed);
    b.sink("out", &[(joined, 0), (above, 0), (passed, 0)]);
    b.sink("out-2", &[(again, 0), (counted, 0)]);
}
