//! The requirements of every broker, against a real one: its address is in `WASMILL_KAFKA`. `tests/run.sh` starts one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use broker::conformance;
use kafka::Kafka;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The broker to test against. Without one nothing is tested, and that is said loudly.
fn address() -> Option<String> {
    let address = std::env::var("WASMILL_KAFKA").ok().filter(|a| !a.is_empty());
    if address.is_none() {
        eprintln!("\n*** SKIPPED: WASMILL_KAFKA is not set, so nothing was tried against a real Kafka ***\n");
    }
    address
}

#[test]
fn a_real_kafka_conforms() {
    let Some(address) = address() else { return };
    let kafka = Kafka::new(&address, BTreeMap::new()).unwrap();
    let prefix = format!("c{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis());
    // For work on one case: a part of its name.
    let only = std::env::var("WASMILL_CASE").unwrap_or_default();
    let mut wrong = Vec::new();
    for (name, case) in conformance::CASES.iter().filter(|(name, _)| name.contains(&only)) {
        let since = Instant::now();
        let outcome = conformance::run_case(&kafka, &prefix, &std::thread::sleep, name, *case);
        eprintln!("{name}: {:.1?} {outcome:?}", since.elapsed());
        if let Err(why) = outcome {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
