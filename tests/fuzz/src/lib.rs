//! Fuzz targets: everything that a guest can hand the host, and every parser of files and wire formats that is ours.
//!
//! A target takes any bytes and must come back; what it checks besides stands at each. The short form (`cargo test
//! --test corpus`) runs the kept corpus and some thousand seeded mutations of it; the long form (`bash tests/fuzz.sh
//! SECONDS`) builds the same targets with coverage and lets libFuzzer look. What it finds is mended and kept in
//! `corpus/TARGET`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken expectation is a finding"
)]

pub mod mutate;

mod answers;
mod changelog;
mod chunk;
mod component;
mod description;
mod draw;
mod file;
#[path = "../../../runtime/sandbox/src/tests/guest.rs"]
#[allow(dead_code, reason = "the sandbox's own tests use the rest")]
mod guest;
mod language;
mod plan;
mod wire;

/// What is given any bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the folder of its corpus.
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Mutations in the short form: as many as take about half a second.
    pub mutations: usize,
}

pub const TARGETS: [Target; 9] = [
    Target {
        name: "answers",
        run: answers::run,
        mutations: 3_000,
    },
    Target {
        name: "component",
        run: component::run,
        mutations: 20,
    },
    Target {
        name: "description",
        run: description::run,
        mutations: 3_000,
    },
    Target {
        name: "plan",
        run: plan::run,
        mutations: 1_000,
    },
    Target {
        name: "file",
        run: file::run,
        mutations: 1_000,
    },
    Target {
        name: "wire",
        run: wire::run,
        mutations: 10_000,
    },
    Target {
        name: "chunk",
        run: chunk::run,
        mutations: 10_000,
    },
    Target {
        name: "changelog",
        run: changelog::run,
        mutations: 1_000,
    },
    Target {
        name: "language",
        run: language::run,
        mutations: 3_000,
    },
];

/// The target called `name`.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
