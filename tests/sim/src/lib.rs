//! Seeded worlds: the worker over a broker in memory that behaves like Kafka, with virtual time.
//!
//! [`world`] is that broker. Everything random comes from one seed, so a run can be repeated from the number that a
//! failing test prints. Wasm, librdkafka and RocksDB are not here: what they do is checked in their own crates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this package holds tests only; a wrong assumption shall end the test where it is made"
)]

pub mod case;
pub mod check;
pub mod dice;
pub mod disk;
pub mod drawn;
pub mod node;
pub mod pipeline;
pub mod run;
pub mod swap;
pub mod world;
