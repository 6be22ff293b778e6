//! Records that a broker does not take: they spoil their transaction, and the failure names them.

use super::{T0, World, ensure, same, text};
use crate::{Cleanup, Disposition, Partitioning};
use record::{BatchBuilder, TopicPartition};

/// Row 1 of the batch with tag 42 must be refused, the transaction with it, and the producer must live on.
fn refused_with_its_transaction(
    world: &World<'_>,
    cleanup: Cleanup,
    key: Option<&[u8]>,
    value: &[u8],
) -> Result<(), String> {
    let topic = world.topic("t", 1, cleanup)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut producer = world.producer(Some(&world.name("id")))?;
    producer.begin().map_err(text)?;
    world.send(&mut *producer, &partition, &["good"])?;
    let mut builder = BatchBuilder::default();
    builder.push(Some(b"k"), Some(b"beside"), T0);
    builder.push(key, Some(value), T0);
    // A broker may refuse at once or at the commit, but the commit never succeeds.
    let sent = producer.send(&topic, Partitioning::Fixed(0), &builder.finish(), 42);
    let refused = match sent.and_then(|()| producer.commit()) {
        Ok(()) => return Err("the transaction was committed".to_owned()),
        Err(e) => e,
    };
    same("disposition", refused.disposition(), Disposition::Abort)?;
    let failures = producer.take_failures();
    ensure(failures.iter().any(|f| (f.tag, f.row) == (42, 1)), || {
        format!("no failure names the record: {failures:?}")
    })?;
    producer.abort().map_err(text)?;
    world.write(&mut *producer, &partition, &["end"])?;
    ensure(producer.take_failures().is_empty(), || {
        "failures were told twice".to_owned()
    })?;
    same("values", world.values_until(&partition, "end")?, vec!["end".to_owned()])
}

pub(super) fn null_key_to_compacted_topic(world: &World<'_>) -> Result<(), String> {
    refused_with_its_transaction(world, Cleanup::Compact, None, b"no key")
}

/// Three times the default bound of a topic and of clients.
pub(super) fn record_too_large(world: &World<'_>) -> Result<(), String> {
    // Bytes that no compression makes small: what counts on the way is the compressed size.
    let mut seed = 1u32;
    let value: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    })
    .take(3 << 20)
    .collect();
    refused_with_its_transaction(world, Cleanup::Delete, Some(b"k"), &value)
}
