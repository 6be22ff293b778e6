//! What a call costs: `cargo run -p sandbox --example call_cost -- COMPONENT.wasm [CALLS]`.
//!
//! Calls `process` with 500 records of 100-byte values and prints nanoseconds of CPU time per record of the calling
//! thread, host and guest together, and the same with one record a call. The module must need no store and no setting.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::expect_used)]

use record::BatchBuilder;
use sandbox::{InstanceOptions, Sandbox, SandboxOptions};
use task::processor::{Context, Emitted, Input, Now, Origin};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("the path of a component");
    let calls: u32 = arguments.next().map_or(2_000, |n| n.parse().unwrap());
    let module = Sandbox::new(SandboxOptions::default())
        .unwrap()
        .load(&std::fs::read(path).unwrap())
        .unwrap();
    for rows in [500, 1] {
        let mut processor = module.instance(InstanceOptions::default()).unwrap();
        let mut context = Context::default();
        processor.open(&mut context).unwrap();
        let input = input(rows);
        let (mut spent, mut emitted) = (u64::MAX, String::new());
        // The best of five: other work on the machine only ever adds.
        for _ in 0..5 {
            let start = cpu_ns();
            for _ in 0..calls {
                let answer = processor.process(&mut context, Now::default(), &input).unwrap();
                emitted = match answer.emitted {
                    Emitted::Nothing => "nothing".into(),
                    Emitted::Selected(rows) => format!("a selection of {}", rows.count_set_bits()),
                    Emitted::Rows(rows) => format!("columns, causes {:?}", rows.causes.map(|causes| causes.len())),
                };
            }
            spent = spent.min(cpu_ns() - start);
        }
        let per_record = spent as f64 / (f64::from(calls) * rows as f64);
        println!(
            "{} {rows:>4} records a call: {per_record:>7.1} ns a record, emits {emitted}",
            module.name()
        );
    }
}

fn input(rows: usize) -> Input {
    let mut builder = BatchBuilder::default();
    for row in 0..rows {
        let value = format!("{}{}", row % 10, " word".repeat(20)).into_bytes();
        builder.push(
            Some(format!("key-{row:06}").as_bytes()),
            Some(value.get(..100).unwrap()),
            row as i64,
        );
    }
    let batch = builder.finish();
    Input {
        stream_times: batch.timestamp_buffer().clone(),
        ports: vec![],
        origin: Origin::default(),
        batch,
    }
}

/// CPU time of this thread, from Linux's scheduler.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
