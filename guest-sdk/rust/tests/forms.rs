//! The short forms, inherited columns, stores with many entries, and the order of punctuations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use wasmill_guest::prelude::*;
use wasmill_guest::testing::sent;

mod words {
    fn words(line: &str) -> impl Iterator<Item = String> + '_ {
        line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned)
    }
    wasmill_guest::flat_map_values!(words);
}
mod even {
    wasmill_guest::filter!(|value: &[u8]| value.first().is_some_and(|byte| byte % 2 == 0));
}
mod tombstones {
    wasmill_guest::filter!(|value: Option<&[u8]>| value.is_none());
}
mod rest {
    fn rest(value: &[u8]) -> &[u8] {
        value.get(1..).unwrap_or_default()
    }
    wasmill_guest::map_values!(rest);
}
mod halves {
    fn half(value: i64) -> Option<i64> {
        (value % 2 == 0).then_some(value / 2)
    }
    wasmill_guest::filter_map_values!(half);
}

#[test]
fn flat_map_sends_any_number_under_the_key_and_time_of_the_line() {
    let mut t = testing::module::<words::Stateless>().start();
    t.pipe_batch(
        "in",
        [
            ("k", Some("a b a"), 5),
            ("k", None, 6),
            ("l", Some(""), 7),
            ("m", Some("c"), 3),
        ],
    );
    let expected = [("k", "a", 5), ("k", "b", 5), ("k", "a", 5), ("m", "c", 3)];
    let read = t.read::<String, String>("out");
    assert_eq!(
        read,
        expected.map(|(key, value, at)| sent(key.to_owned(), value.to_owned(), at))
    );
}

#[test]
fn filters_select_rows_and_ask_about_null_only_if_they_take_it() {
    let rows = [
        ("a", Some("b1"), 1),
        ("b", Some("a1"), 2),
        ("c", None, 3),
        ("d", Some("d"), 4),
    ];
    let mut t = testing::module::<even::Stateless>().start();
    t.pipe_batch("in", rows);
    let keys = |read: Vec<testing::Sent<String, Option<String>>>| read.into_iter().map(|r| r.key).collect::<String>();
    assert_eq!(keys(t.read::<String, Option<String>>("out")), "ad");
    let mut t = testing::module::<tombstones::Stateless>().start();
    t.pipe_batch("in", rows);
    assert_eq!(keys(t.read::<String, Option<String>>("out")), "c");
}

#[test]
fn map_keeps_tombstones_and_reports_what_does_not_parse() {
    let mut t = testing::module::<rest::Stateless>().start();
    t.pipe_batch("in", [("a", Some("xy"), 1), ("b", None, 2)]);
    let read = t.read::<String, Option<String>>("out");
    assert_eq!(
        read,
        [
            sent("a".to_owned(), Some("y".to_owned()), 1),
            sent("b".to_owned(), None, 2)
        ]
    );

    let mut t = testing::module::<halves::Stateless>().start();
    let eight = |n: i64| n.to_be_bytes().to_vec();
    t.pipe_batch(
        "in",
        [
            ((), eight(4), 1),
            ((), vec![1], 2),
            ((), eight(3), 3),
            ((), eight(6), 4),
        ],
    );
    assert_eq!(t.read::<(), i64>("out"), [sent((), 2, 1), sent((), 3, 4)]);
    let letters = t.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, "deserialization: `i64` has 8 bytes, not 1");
}

/// Sends each row on in the way that its value says.
struct Mixed {
    rows: Input<Option<String>, String>,
    first: Output<Option<String>, String>,
    second: Output<String, i64>,
}

impl Processor for Mixed {
    fn declare(m: &mut Module) -> Self {
        Mixed {
            rows: m.input("rows"),
            first: m.output("first"),
            second: m.output("second"),
        }
    }

    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        let Some(r) = row.of(&self.rows)? else { return done() };
        match r.value.as_str() {
            "forward" => out.forward(&self.first),
            "value" => out.send_value(&self.first, "new"),
            "both" => {
                out.send(&self.second, "k", r.timestamp);
                out.send_at(&self.first, Some("later"), "v", r.timestamp + 100);
            }
            "past" => out.send_at(&self.second, "k", 1, -1),
            _ => return drop_row("unknown"),
        }
        done()
    }
}

#[test]
fn what_is_inherited_is_written_down_only_where_rows_differ() {
    let words = ["forward", "drop", "value", "past", "both", "forward"];
    let mut whole = testing::run::<Mixed>().start();
    whole.pipe_batch(
        "rows",
        words
            .iter()
            .enumerate()
            .map(|(at, word)| (format!("k{at}"), *word, at as i64)),
    );
    let first = whole.read::<String, String>("first");
    let row = |key: &str, value: &str, at| sent(key.to_owned(), value.to_owned(), at);
    assert_eq!(
        first,
        [
            row("k0", "forward", 0),
            row("k2", "new", 2),
            row("later", "v", 104),
            row("k5", "forward", 5)
        ]
    );
    assert_eq!(whole.read::<String, i64>("second"), [sent("k".to_owned(), 4, 4)]);
    assert_eq!(whole.drops().len(), 1);
    assert_eq!(
        whole.rejected(testing::Kind::Fail)[0].reason,
        "timestamp -1 is negative"
    );

    let mut ones = testing::run::<Mixed>().start();
    for (at, word) in words.iter().enumerate() {
        ones.pipe("rows", format!("k{at}"), *word, at as i64);
    }
    assert_eq!(ones.read::<String, String>("first"), first);
}

/// Counts; every wall minute it sends all counts, every 100 ms of stream time a tick.
struct Ticking {
    rows: Input<String, ()>,
    counts: Output<String, i64>,
    ticks: Output<String, i64>,
    store: KeyValue<String, i64>,
}

impl Processor for Ticking {
    fn declare(m: &mut Module) -> Self {
        Ticking {
            rows: m.input("rows"),
            counts: m.output("counts"),
            ticks: m.output("ticks"),
            store: m.store("counts").done(),
        }
    }

    fn open(&mut self, cx: &mut Open) -> Result<()> {
        cx.every("report", minutes(1), Clock::WallTime);
        Ok(())
    }

    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        let Some(r) = row.of(&self.rows)? else { return done() };
        match r.key.as_str() {
            "start" => out.every("tick", millis(100), Clock::StreamTime),
            "stop" => out.stop("tick"),
            key => self.store.put(key, self.store.get(key)?.unwrap_or(0) + 1),
        }
        done()
    }

    fn punctuate(&mut self, name: &str, now: Now, out: &mut Outbox) -> Result<()> {
        if name == "tick" {
            out.send(&self.ticks, "tick", now.stream_time);
            return Ok(());
        }
        self.store.put("zz", 1);
        self.store.delete("b");
        self.store.put("c", 30);
        for (key, count) in self.store.all() {
            out.send(&self.counts, key, count);
        }
        Ok(())
    }
}

#[test]
fn a_scan_sees_the_writes_of_the_call_in_order_across_pages() {
    let mut t = testing::run::<Ticking>().wall_time(1_000).start();
    for key in ["d", "a", "c", "b", "e", "f", "a"] {
        t.pipe("rows", key, (), 5);
    }
    t.advance_wall(seconds(59));
    assert!(t.read::<String, i64>("counts").is_empty());
    t.advance_wall(seconds(1));
    let expected = [("a", 2), ("c", 30), ("d", 1), ("e", 1), ("f", 1), ("zz", 1)];
    assert_eq!(
        t.read::<String, i64>("counts"),
        expected.map(|(key, n)| sent(key.to_owned(), n, 61_000))
    );
    t.restart(); // the schedule keeps its phase
    t.advance_wall(minutes(3) + seconds(30)); // once, however many intervals
    assert_eq!(t.read::<String, i64>("counts").len(), 6);
    t.advance_wall(seconds(30));
    assert_eq!(t.read::<String, i64>("counts").len(), 6);
}

#[test]
fn stream_time_fires_after_the_row_that_reaches_it_and_once_for_a_jump() {
    let rows = [
        ("start", 10),
        ("a", 99),
        ("a", 100),
        ("a", 50),
        ("a", 420),
        ("a", 499),
        ("a", 500),
        ("stop", 501),
        ("a", 900),
    ];
    for batch in [1, 2, rows.len()] {
        let mut t = testing::run::<Ticking>().start();
        for rows in rows.chunks(batch) {
            t.pipe_batch("rows", rows.iter().map(|(key, at)| (*key, (), *at)));
        }
        let ticks: Vec<i64> = t
            .read::<String, i64>("ticks")
            .into_iter()
            .map(|tick| tick.value)
            .collect();
        assert_eq!(ticks, [100, 420, 500], "batches of {batch}");
        assert_eq!(t.store("counts").read::<i64>("a"), Some(7), "batches of {batch}");
    }
}
