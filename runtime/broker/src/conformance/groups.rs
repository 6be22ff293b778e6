//! Groups: who is there, who leads, and whose positions are taken.

use super::{SESSION, World, ensure, same, text};
use crate::{Cleanup, CommittedOffset, Disposition, GroupMetadata, Member, MemberOptions};
use record::TopicPartition;

fn offset_of(partition: &TopicPartition, offset: i64, metadata: &str) -> CommittedOffset {
    CommittedOffset {
        partition: partition.clone(),
        offset,
        metadata: metadata.to_owned(),
    }
}

fn member(world: &World<'_>, node: &str, token_topic: &str) -> Result<Box<dyn Member>, String> {
    world
        .broker
        .member(&MemberOptions {
            group: world.name("group"),
            node: node.to_owned(),
            token_topic: token_topic.to_owned(),
            session_timeout: SESSION,
        })
        .map_err(text)
}

/// A member that is alone in its group, and leads.
fn lone_member(world: &World<'_>, node: &str, token_topic: &str) -> Result<Box<dyn Member>, String> {
    let mut only = member(world, node, token_topic)?;
    world.until("the only member leads", || {
        let now = only.poll()?;
        Ok((!now.member_id.is_empty() && now.leads_as.as_ref() == Some(&now.member_id)).then_some(()))
    })?;
    Ok(only)
}

pub(super) fn commit_for_empty_group(world: &World<'_>) -> Result<(), String> {
    let topic = world.topic("t", 2, Cleanup::Delete)?;
    let (zero, one) = (
        TopicPartition::new(topic.as_str(), 0),
        TopicPartition::new(topic.as_str(), 1),
    );
    let group = world.name("group");
    let mut admin = world.admin()?;
    same("before", world.committed(&group, &zero)?, None)?;
    world.until("positions are committed", || {
        admin
            .commit(&group, &[offset_of(&zero, 3, "a"), offset_of(&one, 0, "")])
            .map(Some)
    })?;
    same(
        "committed",
        world.committed(&group, &zero)?,
        Some(offset_of(&zero, 3, "a")),
    )?;
    same(
        "zero is a position too",
        world.committed(&group, &one)?,
        Some(offset_of(&one, 0, "")),
    )?;
    world.until("the group is deleted", || admin.delete_group(&group).map(Some))?;
    same("after the deletion", world.committed(&group, &zero)?, None)?;
    admin
        .delete_group(&group)
        .map_err(|e| format!("deleting what is not there: {}", text(e)))
}

pub(super) fn member_leads_and_hands_over(world: &World<'_>) -> Result<(), String> {
    let token = world.topic("token", 1, Cleanup::Delete)?;
    let mut nodes = vec![("n1", lone_member(world, "n1", &token)?)];
    nodes.push(("n2", member(world, "n2", &token)?));
    let leader = world.until("both are members and one of them leads", || {
        let mut leads = Vec::new();
        let mut joined = 0;
        for (node, member) in &mut nodes {
            let now = member.poll()?;
            joined += usize::from(!now.member_id.is_empty());
            leads.extend((now.leads_as.as_ref() == Some(&now.member_id)).then_some(*node));
        }
        let Some((_, any)) = nodes.first_mut() else {
            return Ok(None);
        };
        let mut live = any.live()?;
        live.sort();
        Ok((joined == 2 && live == ["n1", "n2"])
            .then(|| leads.first().copied().filter(|_| leads.len() == 1))
            .flatten())
    })?;

    let place = nodes.iter().position(|(node, _)| *node == leader).unwrap_or_default();
    let (_, mut left) = nodes.swap_remove(place);
    left.leave().map_err(text)?;
    let Some((node, heir)) = nodes.first_mut() else {
        return Ok(());
    };
    world.until("the other member leads alone", || {
        let now = heir.poll()?;
        let leads = now.leads_as.is_some() && now.leads_as.as_ref() == Some(&now.member_id);
        Ok((leads && heir.live()? == [*node]).then_some(()))
    })?;
    heir.leave().map_err(text)
}

/// A member's plain commit counts; one that shows no membership does not while there are members.
pub(super) fn member_commits(world: &World<'_>) -> Result<(), String> {
    let token = world.topic("token", 1, Cleanup::Delete)?;
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let group = world.name("group");
    let mut only = lone_member(world, "n1", &token)?;
    world.until("the member's positions are committed", || {
        only.poll()?;
        only.commit(&[offset_of(&partition, 11, "m")]).map(Some)
    })?;
    same(
        "committed",
        world.committed(&group, &partition)?,
        Some(offset_of(&partition, 11, "m")),
    )?;
    let mut admin = world.admin()?;
    let strangers = admin.commit(&group, &[offset_of(&partition, 12, "")]);
    ensure(strangers.is_err(), || {
        "a commit beside the members was taken".to_owned()
    })?;
    ensure(admin.delete_group(&group).is_err(), || {
        "a group with members was deleted".to_owned()
    })?;
    same(
        "still committed",
        world.committed(&group, &partition)?,
        Some(offset_of(&partition, 11, "m")),
    )?;
    only.leave().map_err(text)?;
    drop(only);
    world.until("the empty group is deleted", || match admin.delete_group(&group) {
        Ok(()) => Ok(Some(())),
        // The broker may not have noticed yet.
        Err(_) => Ok(None),
    })
}

/// Fresh metadata is taken in a transaction, none at all is taken, and that of no member spoils the transaction.
pub(super) fn member_metadata_in_transaction(world: &World<'_>) -> Result<(), String> {
    let token = world.topic("token", 1, Cleanup::Delete)?;
    let topic = world.topic("t", 1, Cleanup::Delete)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let group = world.name("group");
    let mut only = lone_member(world, "n1", &token)?;
    let mut producer = world.producer(Some(&world.name("id")))?;
    for (offset, metadata) in [(1, Some(only.metadata())), (2, None)] {
        producer.begin().map_err(text)?;
        producer
            .send_offsets(&group, &[offset_of(&partition, offset, "")], metadata.as_ref())
            .map_err(text)?;
        world.commit(&mut *producer)?;
        same(
            "committed",
            world.committed(&group, &partition)?,
            Some(offset_of(&partition, offset, "")),
        )?;
    }
    let fresh = only.metadata();
    same("group", fresh.group.as_str(), group.as_str())?;
    let stale = GroupMetadata {
        member_id: format!("{}-gone", fresh.member_id),
        ..fresh
    };
    producer.begin().map_err(text)?;
    let answer = producer
        .send_offsets(&group, &[offset_of(&partition, 3, "")], Some(&stale))
        .and_then(|()| producer.commit());
    let disposition = answer.err().map(|e| e.disposition());
    same("metadata of no member", disposition, Some(Disposition::Abort))?;
    producer.abort().map_err(text)?;
    same(
        "committed",
        world.committed(&group, &partition)?,
        Some(offset_of(&partition, 2, "")),
    )?;
    only.leave().map_err(text)
}
