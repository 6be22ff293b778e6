//! Which threads the placement topic of a pipeline knows of.

use broker::{Broker, ConsumerOptions, Error, Isolation, OffsetAt};
use record::TopicPartition;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use worker::placement::{self, View};

const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Transactional ids in any `p:` or `h:` record; none when the topic is not there.
pub(super) fn ids(broker: &dyn Broker, pipeline: &str) -> Result<BTreeSet<String>, Error> {
    let topic = TopicPartition::new(placement::topic(pipeline), 0);
    let mut admin = broker.admin()?;
    if admin.describe(&[topic.topic.to_string()])?.iter().all(Option::is_none) {
        return Ok(BTreeSet::new());
    }
    let end = admin.offsets(std::slice::from_ref(&topic), OffsetAt::End(Isolation::ReadCommitted))?;
    let end = end.first().copied().unwrap_or(0);
    let mut reader = broker.consumer(&ConsumerOptions {
        group: None,
        client_id: "wasmill-placed".into(),
        isolation: Isolation::ReadCommitted,
        queue_bytes_max: 1 << 20,
        headers: false,
    })?;
    let first = admin
        .offsets(std::slice::from_ref(&topic), OffsetAt::Earliest)?
        .first()
        .copied()
        .unwrap_or(0);
    reader.assign(&[(topic.clone(), first)])?;
    let (mut view, mut fetched) = (View::default(), Vec::new());
    let deadline = Instant::now() + READ_TIMEOUT;
    while reader.position(&topic)?.unwrap_or(0) < end && Instant::now() < deadline {
        reader.poll(Duration::from_millis(50), 1_000, &mut fetched)?;
        for batch in fetched.drain(..) {
            for row in 0..batch.records.len() {
                let key = batch.records.key(row).unwrap_or_default();
                // What this version cannot read names nobody that it could fence.
                drop(view.apply(0, key, batch.records.value(row)));
            }
        }
    }
    let placed = view.tasks.values().filter_map(|records| records.placement.as_ref());
    let mut ids: BTreeSet<String> = placed
        .flat_map(|p| {
            p.suspects
                .iter()
                .cloned()
                .chain([p.owner.clone()])
                .chain(p.previous.clone())
        })
        .collect();
    ids.extend(view.nodes.values().flat_map(|node| node.threads.iter().cloned()));
    Ok(ids)
}
