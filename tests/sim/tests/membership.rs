//! A node that is a member, is not any more, and becomes one again.
#![allow(clippy::unwrap_used, clippy::panic)]

use broker::{Broker, Cleanup, NewTopic};
use sim::world::{Faults, World};
use std::sync::Arc;
use worker::control::Run;
use worker::coordinator::{Coordinator, Options, Thread};
use worker::placement;

const PIPELINE: &str = "p";

fn coordinator(world: &World) -> Coordinator {
    let topic = |name: String| NewTopic {
        name,
        partitions: 1,
        cleanup: Cleanup::Compact,
        settings: Default::default(),
    };
    let topics = [placement::topic(PIPELINE), placement::token_topic(PIPELINE)].map(topic);
    world.admin().unwrap().create(&topics).unwrap();
    let run = Run {
        incarnation: uuid::Uuid::from_u128(1),
        epoch: 1,
    };
    let mut options = Options::new(PIPELINE, "n", run, Vec::new());
    options.session_timeout = std::time::Duration::from_millis(1_000);
    options.unpublished_ms_max = 3_000;
    Coordinator::new(Arc::new(world.clone()), options).unwrap()
}

/// Polls for a while; what the last poll said of the node's own record and of its membership.
fn polled(world: &World, coordinator: &mut Coordinator, ms: i64) -> (bool, bool) {
    let mut last = (false, false);
    for _ in 0..ms / 10 {
        world.advance(10);
        let threads = [Thread {
            id: placement::thread_id(PIPELINE, "n", 0),
            advanced_at: world.now(),
        }];
        let status = coordinator.poll(world.now(), &threads).unwrap();
        last = (status.published, !status.membership.member_id.is_empty());
    }
    last
}

#[test]
fn a_node_that_could_not_publish_itself_comes_back_after_its_session() {
    let world = World::new(1, Faults::kind());
    let mut coordinator = coordinator(&world);
    let mute = Faults {
        lost_delivery: 1.0,
        ..Faults::kind()
    };
    world.set_faults(mute);
    assert_eq!(
        polled(&world, &mut coordinator, 1_000),
        (false, true),
        "a member, and mute"
    );
    // The process was stopped for longer than its session: it hears that it is no member, and still cannot publish.
    world.advance(1_500);
    assert_eq!(
        polled(&world, &mut coordinator, 10),
        (false, false),
        "no member any more"
    );
    world.advance(4_000);
    world.set_faults(Faults::kind());
    assert_eq!(polled(&world, &mut coordinator, 2_000), (true, true));
}
