//! The simulated broker does what every broker must do, as Kafka on a good day and as the embedded log.

use sim::world::{Faults, World};

fn conforms(world: &World) {
    let pause = |wait: std::time::Duration| world.advance(wait.as_millis().max(1) as i64);
    let results = broker::conformance::run(world, "conformance", &pause);
    let failed: Vec<_> = results
        .into_iter()
        .filter_map(|(case, result)| Some((case, result.err()?)))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn as_kafka() {
    conforms(&World::new(1, Faults::kind()));
}

#[test]
fn as_the_embedded_log() {
    conforms(&World::embedded(1));
}
