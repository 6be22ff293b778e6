//! Shapes with tables: joins whose sides change in the same run, that emit on commit, or that come from one another.

use topology::{Emit, Format, JoinKind, NodeKind, OnError, Projection, StoreKind, TableJoin};

use super::shapes::{Build, From};

fn emit(b: &mut Build<'_>, on_commit: u64) -> Emit {
    if b.dice.chance(on_commit) {
        Emit::OnCommit
    } else {
        Emit::EveryUpdate
    }
}

/// A table of rows of `from`, with its store.
fn table(b: &mut Build<'_>, from: &[From], emit: Emit) -> (usize, usize) {
    let store = b.store(StoreKind::Timestamped, emit);
    (b.node(NodeKind::ToTable { store }, &[from]), store)
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
    let stream = b.module(&[&from], 1, &[]);
    let kind = if b.dice.chance(50) {
        JoinKind::Inner
    } else {
        JoinKind::Left
    };
    let joined = join(b, kind, (stream, None), right);
    b.sink("out", &[(joined, 0), (right.0, 0)]);
}

pub fn joined_tables(b: &mut Build<'_>) {
    let l = b.source(&["in-a"]);
    let r = b.source(&["in-b"]);
    let emits = (emit(b, 20), emit(b, 20));
    let left = table(b, &[(l, 0)], emits.0);
    let mut from = vec![(r, 0)];
    if b.dice.chance(20) {
        from.push((left.0, 0));
    }
    let above = b.module(&[&from], 1, &[]);
    let right = match b.dice.chance(15) {
        true => left,
        false => table(b, &[(above, 0)], emits.1),
    };
    let kind = [JoinKind::Inner, JoinKind::Left, JoinKind::Outer][b.dice.below(3) as usize];
    let joined = join(b, kind, (left.0, Some(left.1)), right);
    let emit = emit(b, 20);
    let third = table(b, &[(joined, 0)], emit);
    let again = join(b, JoinKind::Outer, (third.0, Some(third.1)), right);
    b.sink("out", &[(joined, 0), (above, 0)]);
    b.sink("out-2", &[(again, 0)]);
}
