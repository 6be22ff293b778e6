//! Which offsets records get, and what readers see while transactions are open.

use super::*;

/// A transaction as far as its flush: it has its offsets.
fn flushed(log: &Log, id: &str, rows: &[&str]) -> Box<dyn Producer> {
    let mut producer = producer(log, Some(id));
    producer.begin().unwrap();
    producer.send("t", Partitioning::Fixed(0), &batch(rows), 0).unwrap();
    producer.flush(Duration::ZERO).unwrap();
    producer
}

#[test]
fn a_flush_tells_the_offsets_of_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    write(&log, &t, &["x=0"]);
    let mut a = flushed(&log, "a", &["a=1", "a=2"]);
    assert_eq!(a.take_delivered(), [(t.clone(), 2)]);
    a.send("t", Partitioning::Fixed(0), &batch(&["a=3"]), 0).unwrap();
    a.commit().unwrap();
    assert_eq!(a.take_delivered(), [(t.clone(), 3)]);
    assert_eq!(read(&log, &t), ["0:x=0", "1:a=1", "2:a=2", "3:a=3"]);
}

#[test]
fn an_open_transaction_holds_back_what_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    write(&log, &t, &["x=0"]);
    let mut a = flushed(&log, "a", &["a=1"]);
    let mut b = flushed(&log, "b", &["b=1"]);
    b.commit().unwrap();
    write(&log, &t, &["y=1"]);
    assert_eq!((read(&log, &t), offset(&log, &t, END)), (vec!["0:x=0".to_owned()], 1));
    a.commit().unwrap();
    assert_eq!(read(&log, &t), ["0:x=0", "1:a=1", "2:b=1", "3:y=1"]);
}

type End = fn(&Log, Box<dyn Producer>);

/// However a transaction ends without a commit, its offsets are given out again where that is possible.
#[test]
fn offsets_stay_dense_after_the_last_transaction_ended_without_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    let ends: [End; 4] = [
        |_, mut p| p.abort().unwrap(),
        |_, p| drop(p),
        |log, _p| drop(log.fence("a")),
        |log, _p| drop(producer(log, Some("a"))),
    ];
    for end in ends {
        let a = flushed(&log, "a", &["lost=1", "lost=2"]);
        end(&log, a);
        write(&log, &t, &["x=1"]);
    }
    assert_eq!(read(&log, &t), ["0:x=1", "1:x=1", "2:x=1", "3:x=1"]);
}

/// Readers that passed a gap must find their position in the log after a new start too.
#[test]
fn a_gap_is_kept_where_a_reader_may_have_passed_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    write(&log, &t, &["x=0"]);
    let mut a = flushed(&log, "a", &["lost=1", "lost=2"]);
    let b = flushed(&log, "b", &["b=1"]);
    a.abort().unwrap();
    assert_eq!((read(&log, &t), offset(&log, &t, END)), (vec!["0:x=0".to_owned()], 3));
    drop((a, b));
    assert_eq!(offset(&log, &t, END), 3);
    drop(log);
    let log = open(dir.path());
    assert_eq!(offset(&log, &t, END), 3);
    write(&log, &t, &["y=1"]);
    assert_eq!(read(&log, &t), ["0:x=0", "3:y=1"]);
    assert_eq!(read_from(&log, &t, 2), ["3:y=1"]);
}

/// Large and small batches, read from anywhere in any slices.
#[test]
fn every_offset_is_where_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    let rows: Vec<String> = (0..40_000).map(|i| format!("k{i}={i}")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    write(&log, &t, &rows[..3]);
    write(&log, &t, &rows[3..39_000]);
    write(&log, &t, &rows[39_000..]);
    for start in [0, 2, 3, 16_386, 16_387, 16_388, 39_999, 40_000] {
        let expected: Vec<String> = (start..40_000).map(|i| format!("{i}:{}", rows[i])).collect();
        assert_eq!(read_from(&log, &t, start as i64), expected, "from {start}");
    }
}

#[test]
fn a_negative_timestamp_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    let mut plain = producer(&log, None);
    plain
        .send("t", Partitioning::Fixed(0), &batch(&["a=1@5", "b=2@-1", "c=3@7"]), 4)
        .unwrap();
    plain.flush(Duration::ZERO).unwrap();
    let failures: Vec<_> = plain.take_failures().iter().map(|f| (f.tag, f.row)).collect();
    assert_eq!(failures, [(4, 1)]);
    assert_eq!(read(&log, &t), ["0:a=1", "1:c=3"]);
}
