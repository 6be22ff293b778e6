//! The short form: the kept corpus of each target, and seeded mutations of it.
//!
//! `WASMILL_FUZZ_SEED` gives other mutations; the bytes of a finding are printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fuzz::mutate::Mutator;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("`{}`: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "`{}` is empty", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn check(target: &str) {
    let seed = std::env::var("WASMILL_FUZZ_SEED").map_or(1, |seed| seed.parse().unwrap());
    let target = fuzz::target(target).unwrap();
    let corpus = corpus(target.name);
    let mut mutator = Mutator::new(&corpus, seed);
    let mutations = std::iter::repeat_with(|| mutator.mutant()).take(target.mutations);
    for input in corpus.iter().cloned().chain(mutations) {
        let found = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        assert!(
            found.is_ok(),
            "target `{}` fails on these bytes (keep them in corpus/{0}):\n{}",
            target.name,
            hex(&input)
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_a_guest_answers_and_asks_for() {
    check("answers");
}

#[test]
fn components_and_what_lies_where_their_description_should() {
    check("component");
}

#[test]
fn descriptions_of_modules() {
    check("description");
}

#[test]
fn plans_of_applications() {
    check("plan");
}

#[test]
fn pipeline_files_and_variables() {
    check("file");
}

#[test]
fn records_of_the_control_and_placement_topics_and_names() {
    check("wire");
}

#[test]
fn chunks_of_the_embedded_log() {
    check("chunk");
}

#[test]
fn rows_that_a_restore_reads() {
    check("changelog");
}

#[test]
fn keys_of_windows_changes_and_expressions() {
    check("language");
}

#[test]
fn every_target_is_checked_and_has_a_corpus() {
    let here = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus.rs")).unwrap();
    for target in fuzz::TARGETS {
        assert!(here.contains(&format!("check(\"{}\")", target.name)), "{}", target.name);
    }
}
