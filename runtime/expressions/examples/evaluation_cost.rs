//! What one evaluation costs: `cargo run -p expressions --example evaluation_cost`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use expressions::{Compiled, Row};
use topology::{Expression, Format};

const TIMES: u32 = 200_000;

fn main() {
    let value = br#"{"user": "u-17", "amount": 12, "city": "Berlin", "at": "2026-11-28T05:00:00Z"}"#;
    let row = Row {
        key: Some(b"order-4711"),
        value: Some(value),
        timestamp: 1_000,
        headers: &[],
    };
    for text in [
        "true",
        "key.startsWith('order')",
        "timestamp > 10",
        "value.amount > 10",
        "value.amount > 10 && value.city == 'Berlin'",
    ] {
        let expression = Expression {
            text: text.into(),
            key: Format::String,
            value: Format::Json,
        };
        let compiled = Compiled::new(&expression).unwrap();
        let started = Instant::now();
        for _ in 0..TIMES {
            let _ = black_box(compiled.holds(black_box(&row)));
        }
        println!("{:>6} ns  {text}", started.elapsed().as_nanos() / u128::from(TIMES));
    }
}
