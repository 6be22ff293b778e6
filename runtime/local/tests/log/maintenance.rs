//! Retention and compaction.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Calls maintenance until there is nothing more to do; how many records went by compaction.
fn maintain(log: &Log, now_ms: i64) -> u64 {
    let mut removed = 0;
    for _ in 0..100 {
        let done = log.maintain(now_ms).unwrap();
        removed += done.records_compacted;
        if !done.more {
            return removed;
        }
    }
    panic!("maintenance does not end");
}

/// A compacted topic that is worth a pass with every new record.
const EAGER: &[(&str, &str)] = &[
    ("segment.bytes", "0"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "100"),
];

#[test]
fn retention_by_time_goes_by_the_latest_record_of_a_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[("retention.ms", "100")]);
    let kept = create(&log, "kept", Cleanup::Delete, &[]);
    for rows in [["a=1@10", "a=2@20"], ["b=1@50", "b=2@5"], ["c=1@30", "c=2@30"]] {
        write(&log, &t, &rows);
        write(&log, &kept, &rows);
    }
    maintain(&log, 110);
    assert_eq!(offset(&log, &t, OffsetAt::Earliest), 0);
    maintain(&log, 121);
    assert_eq!(read(&log, &t), ["2:b=1", "3:b=2", "4:c=1", "5:c=2"]);
    maintain(&log, 1000);
    assert_eq!((offset(&log, &t, OffsetAt::Earliest), offset(&log, &t, END)), (6, 6));
    assert_eq!(read(&log, &kept).len(), 6);
}

#[test]
fn retention_by_bytes_keeps_at_least_so_many() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[("retention.bytes", "3000")]);
    let value = "v".repeat(950);
    for i in 0..10 {
        write(&log, &t, &[&format!("k{i}={value}")]);
    }
    maintain(&log, 0);
    assert_eq!(offset(&log, &t, OffsetAt::Earliest), 7);
}

#[test]
fn compaction_keeps_the_last_of_a_key_at_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Compact, EAGER);
    write(&log, &t, &["a=1", "b=1", "a=2"]);
    write(&log, &t, &["b=2", "c=1"]);
    assert_eq!(maintain(&log, 1), 2);
    let expected = ["2:a=2", "3:b=2", "4:c=1"];
    assert_eq!(read(&log, &t), expected);
    write(&log, &t, &["c=2"]);
    assert_eq!(maintain(&log, 1), 1);
    assert_eq!(read(&log, &t), ["2:a=2", "3:b=2", "5:c=2"]);
    assert_eq!((offset(&log, &t, OffsetAt::Earliest), offset(&log, &t, END)), (0, 6));
    assert_eq!(maintain(&log, 1), 0);
}

#[test]
fn a_tombstone_stays_for_readers_on_their_way() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Compact, EAGER);
    write(&log, &t, &["a=1", "b=1", "a"]);
    maintain(&log, 1000);
    assert_eq!(read(&log, &t), ["1:b=1", "2:a"]);
    maintain(&log, 1099);
    assert_eq!(read(&log, &t), ["1:b=1", "2:a"]);
    maintain(&log, 1100);
    assert_eq!(read(&log, &t), ["1:b=1"]);
    drop(log);
    let log = open(dir.path());
    assert_eq!(offset(&log, &t, END), 3);
}

#[test]
fn compaction_leaves_open_transactions_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Compact, EAGER);
    write(&log, &t, &["a=1"]);
    let mut open_one = producer(&log, Some("id"));
    open_one.begin().unwrap();
    open_one.send("t", Partitioning::Fixed(0), &batch(&["a=2"]), 0).unwrap();
    open_one.flush(Duration::ZERO).unwrap();
    write(&log, &t, &["a=3"]);
    assert_eq!(maintain(&log, 1), 0);
    assert_eq!(read(&log, &t), ["0:a=1"]);
    open_one.abort().unwrap();
    assert_eq!(maintain(&log, 1), 1);
    assert_eq!(read(&log, &t), ["2:a=3"]);
}

#[derive(Clone, Debug)]
enum Act {
    Write(Vec<(u8, Option<u8>)>),
    Maintain,
    DeleteBefore(u8),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let rows = proptest::collection::vec((0u8..6, proptest::option::weighted(0.8, any::<u8>())), 1..12);
    let act = prop_oneof![
        6 => rows.prop_map(Act::Write),
        3 => Just(Act::Maintain),
        1 => any::<u8>().prop_map(Act::DeleteBefore),
        1 => Just(Act::Restart),
    ];
    proptest::collection::vec(act, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Whatever maintenance did: every record that is there is one that was written, at its offset, and every key has
    /// its last value unless that is a tombstone or was deleted by offset.
    #[test]
    fn maintenance_loses_nothing_that_counts(acts in acts()) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        let t = create(&log, "t", Cleanup::Compact, EAGER);
        let mut written: Vec<String> = Vec::new();
        let (mut start, mut now) = (0, 0);
        for act in acts {
            match act {
                Act::Write(rows) => {
                    let row = |(k, v): &(u8, Option<u8>)| v.map_or(format!("k{k}"), |v| format!("k{k}={v}"));
                    let rows: Vec<String> = rows.iter().map(row).collect();
                    write(&log, &t, &rows.iter().map(String::as_str).collect::<Vec<_>>());
                    written.extend(rows);
                }
                Act::Maintain => {
                    now += 60;
                    maintain(&log, now);
                }
                Act::DeleteBefore(part) => {
                    start = start.max(written.len() * usize::from(part) / 256);
                    log.admin().unwrap().delete_records(&[(t.clone(), start as i64)]).unwrap();
                }
                Act::Restart => {
                    drop(log);
                    log = open(dir.path());
                }
            }
            let found = read(&log, &t);
            let mut offsets = Vec::new();
            for row in &found {
                let (offset, row) = row.split_once(':').unwrap();
                let offset: usize = offset.parse().unwrap();
                prop_assert_eq!(row, &written[offset]);
                offsets.push(offset);
            }
            prop_assert!(offsets.is_sorted_by(|a, b| a < b) && offsets.first().is_none_or(|f| *f >= start));
            let mut last = BTreeMap::new();
            for (offset, row) in written.iter().enumerate() {
                last.insert(row.split('=').next().unwrap(), (offset, row.contains('=')));
            }
            for (key, (offset, lives)) in last {
                prop_assert!(!lives || offset < start || offsets.contains(&offset), "{} at {} is lost", key, offset);
            }
            prop_assert_eq!(offset(&log, &t, END), written.len() as i64);
        }
    }
}
