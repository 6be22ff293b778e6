//! The contract of all brokers, on the embedded log.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use broker::conformance;
use local::{Log, Options};

#[test]
fn the_log_is_a_broker() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), Options::default()).unwrap();
    let outcomes = conformance::run(&log, "conformance", &std::thread::sleep);
    assert_eq!(outcomes.len(), conformance::CASES.len());
    let failed: Vec<_> = outcomes
        .into_iter()
        .filter_map(|(name, outcome)| outcome.err().map(|e| (name, e)))
        .collect();
    for (name, what) in &failed {
        eprintln!("{name}: {what}");
    }
    assert!(failed.is_empty());
}
