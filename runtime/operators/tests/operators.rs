//! Operators on small batches.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use operators::{Aggregator, Branching, Error, KeySelector, Stage, Table, changed_rows};
use record::{Batch, BatchBuilder};
use serde_json::json;
use state::memory::Memory;
use state::{StoreSpec, Stores};
use topology::{Aggregate, AggregateFunction, Branch, Emit, FieldPath, Format, Predicate, Selector};

type Row<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, i64);

fn batch(rows: &[Row<'_>]) -> Batch {
    let mut builder = BatchBuilder::default();
    for (key, value, time) in rows {
        builder.push(*key, *value, *time);
    }
    builder.finish()
}

fn rows(batch: &Batch) -> Vec<Row<'_>> {
    (0..batch.len())
        .map(|i| (batch.key(i), batch.value(i), batch.timestamps()[i]))
        .collect()
}

fn stores() -> Stores {
    let spec = StoreSpec {
        name: "table".into(),
        timestamped: true,
    };
    Stores::new(vec![spec], Box::new(Memory::default()), 1 << 20)
}

fn aggregate(function: AggregateFunction, of: Selector, of_format: Format, result: Format, emit: Emit) -> Aggregator {
    Aggregator::new(
        &Aggregate {
            function,
            of,
            of_format,
            result,
            store: 9,
            emit,
        },
        0,
        false,
    )
}

fn field(name: &str) -> Selector {
    Selector::Field(FieldPath(name.split('.').map(str::to_owned).collect()))
}

const K: Option<&[u8]> = Some(b"k");

#[test]
fn count_drops_null_keys_and_values_and_takes_the_largest_time() {
    let mut stores = stores();
    let count = aggregate(
        AggregateFunction::Count,
        Selector::Value,
        Format::Bytes,
        Format::I64,
        Emit::EveryUpdate,
    );
    let input = batch(&[
        (K, Some(b"a"), 10),
        (None, Some(b"a"), 11),
        (K, None, 12),
        (K, Some(b"b"), 5),
        (Some(b"l"), Some(b""), 1),
    ]);
    let applied = count.apply(&input, &mut stores).unwrap();
    let (one, two) = (1_i64.to_be_bytes(), 2_i64.to_be_bytes());
    let expected: Vec<Row<'_>> = vec![(K, Some(&one), 10), (K, Some(&two), 10), (Some(b"l"), Some(&one), 1)];
    assert_eq!(rows(&applied.rows), expected);
    assert_eq!((applied.causes, applied.dropped), (Some(vec![0, 3, 4]), 2));
}

#[test]
fn on_commit_says_nothing_until_the_flush() {
    let mut stores = stores();
    let count = aggregate(
        AggregateFunction::Count,
        Selector::Value,
        Format::Bytes,
        Format::I64,
        Emit::OnCommit,
    );
    let input = batch(&[
        (Some(b"b"), Some(b""), 3),
        (Some(b"a"), Some(b""), 4),
        (Some(b"b"), Some(b""), 2),
    ]);
    assert!(count.apply(&input, &mut stores).unwrap().rows.is_empty());
    let flushed = changed_rows(&stores, 0, 50, false).unwrap();
    let (one, two) = (1_i64.to_be_bytes(), 2_i64.to_be_bytes());
    assert_eq!(
        rows(&flushed),
        vec![
            (Some(&b"b"[..]), Some(&two[..]), 3),
            (Some(&b"a"[..]), Some(&one[..]), 4)
        ]
    );
}

#[test]
fn reductions_of_numbers() {
    use AggregateFunction::{Max, Min, Sum};
    let cases: [(AggregateFunction, Format, &[u8]); 5] = [
        (Sum, Format::I64, &6_i64.to_be_bytes()),
        (Min, Format::I64, &(-2_i64).to_be_bytes()),
        (Max, Format::I64, &5_i64.to_be_bytes()),
        (Sum, Format::F64, &6_f64.to_be_bytes()),
        (Min, Format::F64, &(-2_f64).to_be_bytes()),
    ];
    for (function, result, expected) in cases {
        let mut stores = stores();
        let reduce = aggregate(function, field("a.n"), Format::Json, result, Emit::EveryUpdate);
        let input = batch(&[
            (K, Some(br#"{"a":{"n":3}}"#), 1),
            (K, Some(br#"{"a":{"n":-2}}"#), 2),
            (K, Some(br#"{"a":{}}"#), 9),
            (K, Some(br#"{"a":{"n":5}}"#), 2),
        ]);
        let applied = reduce.apply(&input, &mut stores).unwrap();
        assert_eq!(
            rows(&applied.rows).last(),
            Some(&(K, Some(expected), 2)),
            "{function:?} {result:?}"
        );
        assert_eq!(applied.dropped, 1);
    }
}

#[test]
fn first_and_last_keep_bytes() {
    for (function, expected) in [(AggregateFunction::First, b"a"), (AggregateFunction::Last, b"c")] {
        let mut stores = stores();
        let keep = aggregate(function, field("x"), Format::Json, Format::String, Emit::EveryUpdate);
        let input = batch(&[(K, Some(br#"{"x":"a"}"#), 7), (K, Some(br#"{"x":"c"}"#), 3)]);
        let applied = keep.apply(&input, &mut stores).unwrap();
        assert_eq!(rows(&applied.rows).last(), Some(&(K, Some(&expected[..]), 7)));
    }
}

#[test]
fn rows_that_do_not_parse_or_overflow_fail() {
    let big = i64::MAX.to_be_bytes();
    let cases: [(Format, Vec<&[u8]>, u32, Stage); 4] = [
        (Format::I64, vec![&big, &big], 1, Stage::Processing),
        (Format::I64, vec![b"seven"], 0, Stage::Deserialization),
        (Format::Json, vec![b"1", b"1.5"], 1, Stage::Deserialization),
        (Format::Json, vec![b"\xff"], 0, Stage::Deserialization),
    ];
    for (format, values, row, stage) in cases {
        let mut stores = stores();
        let sum = aggregate(
            AggregateFunction::Sum,
            Selector::Value,
            format,
            Format::I64,
            Emit::EveryUpdate,
        );
        let input: Vec<Row<'_>> = values.iter().map(|v| (K, Some(*v), 1)).collect();
        match sum.apply(&batch(&input), &mut stores) {
            Err(Error::Row {
                row: found, stage: at, ..
            }) => assert_eq!((found, at), (row, stage), "{values:?}"),
            other => panic!("{values:?}: {other:?}"),
        }
    }
}

#[test]
fn new_keys() {
    let input = batch(&[
        (K, Some(br#"{"a":"x"}"#), 1),
        (K, Some(br#"{"a":1}"#), 1),
        (K, Some(b"{}"), 1),
        (K, None, 1),
    ]);
    let applied = KeySelector::new(field("a")).apply(&input).unwrap();
    let keys: Vec<Option<&[u8]>> = (0..4).map(|i| applied.rows.key(i)).collect();
    assert_eq!(keys, vec![Some(&b"x"[..]), Some(b"1"), None, None]);
    assert!(
        KeySelector::new(field("a"))
            .apply(&batch(&[(K, Some(b"{"), 1)]))
            .is_err()
    );
}

#[test]
fn the_first_branch_that_matches() {
    let branch = Branch {
        branches: vec![
            (
                "seven".into(),
                Predicate::Equals {
                    of: field("n"),
                    value: json!(7),
                },
            ),
            (
                "x".into(),
                Predicate::StartsWith {
                    of: Selector::Key,
                    prefix: "x".into(),
                },
            ),
            ("has".into(), Predicate::Exists { of: field("m") }),
        ],
        default: None,
    };
    let input = batch(&[
        (Some(b"xy"), Some(br#"{"n":7.0}"#), 1),
        (Some(b"xy"), Some(br#"{"n":"7"}"#), 1),
        (Some(b"y"), Some(br#"{"m":0}"#), 1),
        (None, Some(br#"{"m":null}"#), 1),
    ]);
    let with_default = Branch {
        default: Some("rest".into()),
        ..branch.clone()
    };
    assert_eq!(
        Branching::new(&branch).ports(&input).unwrap(),
        vec![Some(0), Some(1), Some(2), None]
    );
    assert_eq!(Branching::new(&with_default).ports(&input).unwrap()[3], Some(3));
}

#[test]
fn a_table_keeps_the_last_value() {
    let mut stores = stores();
    let table = Table::new(0, Emit::EveryUpdate, false);
    let input = batch(&[
        (K, Some(b"1"), 9),
        (None, Some(b"2"), 9),
        (Some(b"l"), Some(b"3"), 9),
        (K, None, 4),
    ]);
    let applied = table.apply(&input, &mut stores).unwrap();
    assert_eq!(
        (applied.rows.len(), applied.causes, applied.dropped),
        (3, Some(vec![0, 2, 3]), 1)
    );
    assert!(stores.read(0, b"k", |v| v.is_none()).unwrap());
    assert_eq!(
        rows(&changed_rows(&stores, 0, 50, false).unwrap()),
        vec![(K, None, 4), (Some(&b"l"[..]), Some(&b"3"[..]), 9)]
    );
}
