//! Topics: made once, described as they were made, gone when deleted.

use super::{World, ensure, new_topic, same, text};
use crate::{Cleanup, CreateOutcome};

pub(super) fn create_describe_delete(world: &World<'_>) -> Result<(), String> {
    let cases = [
        ("a", 3, Cleanup::Delete),
        ("b", 1, Cleanup::Compact),
        ("c", 2, Cleanup::CompactDelete),
    ];
    let mut names = Vec::new();
    for (what, partitions, cleanup) in cases {
        let name = world.topic(what, partitions, cleanup)?;
        let found = world.described(&name)?;
        same("name", found.name.as_str(), name.as_str())?;
        same("partitions", found.partitions, partitions)?;
        same("cleanup", found.cleanup, cleanup)?;
        ensure(!found.id.is_empty(), || "a topic without an id".to_owned())?;
        names.push(name);
    }
    let mut admin = world.admin()?;
    let listed = admin.topics().map_err(text)?;
    for name in &names {
        ensure(listed.iter().any(|t| t.name == *name), || {
            format!("`{name}` is not in the list")
        })?;
    }
    let mut asked = names.clone();
    asked.insert(1, world.name("never-made"));
    let described = admin.describe(&asked).map_err(text)?;
    let there: Vec<bool> = described.iter().map(Option::is_some).collect();
    same("one answer a name", there, vec![true, false, true, true])?;

    admin.delete(&names).map_err(text)?;
    world.until("the topics are gone", || {
        Ok(admin.describe(&names)?.iter().all(Option::is_none).then_some(()))
    })?;
    admin
        .delete(&names)
        .map_err(|e| format!("deleting what is not there: {}", text(e)))
}

pub(super) fn create_existing(world: &World<'_>) -> Result<(), String> {
    let name = world.topic("t", 2, Cleanup::Delete)?;
    let before = world.described(&name)?;
    let other = new_topic(&world.name("u"), 1, Cleanup::Delete);
    let outcome = world
        .admin()?
        .create(&[new_topic(&name, 5, Cleanup::Compact), other])
        .map_err(text)?;
    same(
        "outcome",
        outcome,
        vec![CreateOutcome::Exists(before.clone()), CreateOutcome::Created],
    )?;
    same("the topic is left as it was", world.described(&name)?, before)
}

pub(super) fn new_id_after_delete(world: &World<'_>) -> Result<(), String> {
    let name = world.topic("t", 1, Cleanup::Delete)?;
    let before = world.described(&name)?;
    let mut admin = world.admin()?;
    admin.delete(std::slice::from_ref(&name)).map_err(text)?;
    world.until("the topic is gone", || {
        Ok(admin
            .describe(std::slice::from_ref(&name))?
            .iter()
            .all(Option::is_none)
            .then_some(()))
    })?;
    // A broker may still be deleting the old one under the same name.
    world.until("the topic is made again", || {
        let outcome = admin.create(&[new_topic(&name, 1, Cleanup::Delete)])?;
        Ok((outcome == [CreateOutcome::Created]).then_some(()))
    })?;
    let after = world.described(&name)?;
    ensure(after.id != before.id, || {
        format!("both topics have the id `{}`", after.id)
    })
}

pub(super) fn cluster_id_stays(world: &World<'_>) -> Result<(), String> {
    let id = world.admin()?.cluster_id().map_err(text)?;
    ensure(!id.is_empty(), || "an empty cluster id".to_owned())?;
    same(
        "cluster id of a second connection",
        world.admin()?.cluster_id().map_err(text)?,
        id,
    )
}
