//! Exactly-once under fire, in its smaller form; `tests/fire.sh` runs the whole one.

use it::fire::{Guarantee, Plan, run};
use it::node::Broker;
use it::place;

fn burn(seed: u64, guarantee: Guarantee, broker: &Broker) {
    let plan = Plan {
        seed,
        records: 20_000,
        keys: 200,
        kills: 3,
        losses: 1,
        guarantee,
        commit_interval: "10ms",
    };
    let dir = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    let report = run(&plan, broker, dir.path(), &mut |line| said.push(line.to_owned()));
    let wrongs = report.wrongs(guarantee);
    let said = said.join("\n");
    assert!(
        wrongs.is_empty(),
        "seed {seed}, {guarantee:?}:\n{said}\n{}",
        wrongs.join("\n")
    );
    if guarantee == Guarantee::ExactlyOnce {
        assert!(
            report.fell_before_commit(),
            "seed {seed}: no kill between offsets and commit:\n{said}"
        );
        assert_eq!(report.updates.records, plan.records as u64);
    }
}

#[test]
fn exactly_once_on_the_embedded_log() {
    burn(1, Guarantee::ExactlyOnce, &Broker::Embedded);
}

#[test]
fn exactly_once_on_kafka() {
    let Some(address) = place::kafka() else { return };
    burn(2, Guarantee::ExactlyOnce, &Broker::Kafka(address));
}

#[test]
fn at_least_once_on_the_embedded_log() {
    burn(3, Guarantee::AtLeastOnce, &Broker::Embedded);
}

#[test]
fn at_least_once_on_kafka() {
    let Some(address) = place::kafka() else { return };
    burn(4, Guarantee::AtLeastOnce, &Broker::Kafka(address));
}
