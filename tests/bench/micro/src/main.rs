//! One part of the engine at a time: `micro PART RECORDS COMPONENT`, or `micro list`.
//!
//! Runs RECORDS records through a part and prints the nanoseconds of CPU that its loop took. What is set up before does
//! not depend on RECORDS, so the difference of two runs is the part alone: that is how `micro.sh` counts instructions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

mod stores;
mod tasks;

use arrow_array::BooleanArray;
use arrow_buffer::BooleanBuffer;
use record::{Batch, BatchBuilder};
use sandbox::{InstanceOptions, Sandbox, SandboxOptions};
use std::hint::black_box;
use task::processor::{Context, Input, Now, Origin};

/// Rows of a batch where the part has no size of its own: what a run of a task takes.
pub const ROWS: usize = 4_096;
pub const KEYS: u64 = 100_000;

/// Records of one iteration, and what an iteration does.
pub type Part = (usize, Box<dyn FnMut()>);

const PARTS: [&str; 16] = [
    "murmur2",
    "build-columns",
    "filter-half",
    "guest-call-1",
    "guest-call-10",
    "guest-call-100",
    "guest-call-1000",
    "overlay-insert",
    "overlay-change",
    "cache-hit",
    "rocks-get",
    "rocks-commit",
    "changelog-rows",
    "task-count",
    "task-pass",
    "partition-columns",
];

pub fn key(number: u64) -> String {
    format!("key-{:08}", number % KEYS)
}

/// The same numbers at every run, all over the keys.
pub fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33
}

/// Records as the benchmark's: keys of 12 bytes, values of 100, even and odd first bytes in turn.
pub fn batch(rows: usize) -> Batch {
    let mut builder = BatchBuilder::with_capacity(rows, rows * 12, rows * 100);
    let mut value = [b'v'; 100];
    for row in 0..rows as u64 {
        value[0] = b'0' + (row % 10) as u8;
        builder.push(Some(key(scattered(row)).as_bytes()), Some(&value), row as i64);
    }
    builder.finish()
}

fn murmur2() -> Part {
    let batch = batch(ROWS);
    let run = move || {
        for row in 0..ROWS {
            black_box(record::partition_of(batch.key(row), 8));
        }
    };
    (ROWS, Box::new(run))
}

/// As a fetch fills them: exact capacities, one copy.
fn build_columns() -> Part {
    let from = batch(ROWS);
    let run = move || {
        let mut builder = BatchBuilder::with_capacity(ROWS, ROWS * 12, ROWS * 100);
        for row in 0..ROWS {
            builder.push(from.key(row), from.value(row), from.timestamps()[row]);
        }
        black_box(builder.finish());
    };
    (ROWS, Box::new(run))
}

/// What becomes of a selection that a module made.
fn filter_half() -> Part {
    let from = batch(ROWS);
    let keep = BooleanArray::new(BooleanBuffer::collect_bool(ROWS, |row| row % 2 == 0), None);
    (ROWS, Box::new(move || _ = black_box(from.filter(&keep).unwrap())))
}

/// The rows of eight partitions out of one batch, as a sink takes them.
fn partition_columns() -> Part {
    let from = batch(ROWS);
    let run = move || {
        let mut rows: Vec<Vec<u32>> = (0..8).map(|_| Vec::with_capacity(ROWS / 4)).collect();
        for row in 0..ROWS {
            rows[record::partition_of(from.key(row), 8) as usize].push(row as u32);
        }
        for rows in rows {
            black_box(from.take(&rows).unwrap());
        }
    };
    (ROWS, Box::new(run))
}

fn guest_call(rows: usize, component: &str) -> Part {
    let bytes = std::fs::read(component).expect("the component of `pass`");
    let sandbox = Sandbox::new(SandboxOptions::default()).unwrap();
    let module = sandbox.load(&bytes).unwrap();
    let mut processor = module.instance(InstanceOptions::default()).unwrap();
    let mut context = Context::default();
    processor.open(&mut context).unwrap();
    let batch = batch(rows);
    let input = Input {
        stream_times: batch.timestamp_buffer().clone(),
        ports: vec![],
        origin: Origin::default(),
        batch,
    };
    let run = move || {
        // The engine and the module live as long as the calls.
        _ = (&sandbox, &module);
        black_box(processor.process(&mut context, Now::default(), &input).unwrap());
    };
    (rows, Box::new(run))
}

fn part(name: &str, component: &str) -> Part {
    match name {
        "murmur2" => murmur2(),
        "build-columns" => build_columns(),
        "filter-half" => filter_half(),
        "partition-columns" => partition_columns(),
        "overlay-insert" => stores::overlay_insert(),
        "overlay-change" => stores::overlay_change(),
        "cache-hit" => stores::cache_hit(),
        "rocks-get" => stores::rocks_get(),
        "rocks-commit" => stores::rocks_commit(),
        "changelog-rows" => tasks::changelog_rows(),
        "task-count" => tasks::count(),
        "task-pass" => tasks::pass(component),
        call => {
            let rows = call.strip_prefix("guest-call-").and_then(|n| n.parse().ok());
            guest_call(rows.unwrap_or_else(|| panic!("no part `{call}`")), component)
        }
    }
}

/// CPU nanoseconds of this thread, from Linux's scheduler.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, records, component] = words.as_slice() else {
        println!("{}", PARTS.join("\n"));
        return;
    };
    let records: u64 = records.parse().expect("a number of records");
    let (rows, mut run) = part(name, component);
    let times = records.div_ceil(rows as u64);
    let since = cpu_ns();
    for _ in 0..times {
        run();
    }
    println!("{} {}", cpu_ns() - since, times * rows as u64);
}
