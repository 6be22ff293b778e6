//! Stores whose entries a swap writes anew: where they lie, and whether the new version can read the old entries.

use super::fit;
use super::prepare::{module_steps, refusal};
use crate::api::SwapPrepared;
use crate::node::Node;
use crate::node::apply::internal_topic;
use crate::node::topics::cleanup_named;
use crate::refusal::Refusal;
use crate::registry::PipelineEntry;
use arrow_array::{Array, BinaryArray};
use broker::NewTopic;
use state::Bounds;
use topology::Topology;
use uuid::Uuid;
use worker::swap::{Migration, Swap};

/// Entries of each store that `migrate` is tried on before anything is exchanged.
const TRIED_MAX: usize = 1_000;

/// Whether stream threads take stores through `migrate`. Without it state would be left behind, so nothing is begun.
const TASKS_MIGRATE: bool = false;

/// A store that a swap has migrated lies under another name than the file says: `next`, made of the file, takes over
/// where the stores of the running topology lie.
pub(crate) fn keep_places(running: &Topology, next: &mut Topology) {
    for store in &mut next.stores {
        if let Some(old) = running.stores.iter().find(|old| old.name == store.name) {
            store.changelog.clone_from(&old.changelog);
        }
    }
}

impl Node {
    /// What is to be migrated by swap `id`, after a trial on entries of the running tasks; `next` gets the new places.
    pub(super) fn try_migrations(
        &self,
        entry: &PipelineEntry,
        next: &mut Topology,
        id: Uuid,
        wanted: &[fit::Migration],
        prepared: &mut [SwapPrepared],
    ) -> Result<Vec<Migration>, Refusal> {
        let mut migrations = Vec::new();
        for migration in wanted {
            let found = place(next, &migration.store);
            let (step, store_of_module) = found.ok_or_else(|| {
                refusal(
                    entry,
                    &format!("store `{}`: no step of a module has it", migration.store),
                )
            })?;
            let tried = self.try_migrate(entry, next, &step, store_of_module, migration)?;
            if !TASKS_MIGRATE {
                let text = format!(
                    "store `{}` needs a migration, which tasks cannot do yet",
                    migration.store
                );
                return Err(refusal(entry, &text));
            }
            for done in prepared.iter_mut().filter(|done| done.step == step) {
                done.migrated += tried;
            }
            migrations.push(Migration {
                changelog: Migration::changelog(&next.name, &migration.store, id),
                step,
                store: migration.store.clone(),
                store_of_module,
                from_schema: migration.from,
                to_schema: migration.to,
            });
        }
        for migration in &migrations {
            for store in next.stores.iter_mut().filter(|store| store.name == migration.store) {
                store.changelog.clone_from(&migration.changelog);
            }
        }
        Ok(migrations)
    }

    /// The changelogs of what is written anew, before the record that names them.
    pub(super) fn create_changelogs(&self, next: &Topology, swap: &Swap) -> Result<(), Refusal> {
        if swap.migrations.is_empty() {
            return Ok(());
        }
        let counts = self.counts(next)?;
        let plan = next.partition_counts(&|topic| counts.get(topic).copied());
        let plan = plan.map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Refusal::invalid("invalid-pipeline", problems.join("\n"))
        })?;
        let of_swap = |name: &str| swap.migrations.iter().any(|migration| migration.changelog == name);
        let mut topics = Vec::new();
        for topic in plan.internal.iter().filter(|topic| of_swap(&topic.name)) {
            let cleanup = cleanup_named(Some(topic.cleanup))?;
            topics.push(NewTopic {
                settings: topic.settings.clone(),
                ..internal_topic(topic.name.clone(), topic.partitions, cleanup)
            });
        }
        self.broker.admin()?.create(&topics)?;
        Ok(())
    }

    fn try_migrate(
        &self,
        entry: &PipelineEntry,
        next: &Topology,
        step: &str,
        store_of_module: u32,
        migration: &fit::Migration,
    ) -> Result<u64, Refusal> {
        let refused = |cause: String| {
            refusal(
                entry,
                &format!(
                    "store `{}`: entries of schema {} do not go through `migrate` of the new version: {cause}\n\
                     hint: it must turn them into entries of schema {}",
                    migration.store, migration.from, migration.to
                ),
            )
        };
        let mut tried = 0;
        for task in self.snapshots_of(&next.name) {
            let Some(store) = number_in_task(&entry.details.topology, task.task.sub_topology, &migration.store) else {
                continue;
            };
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            let mut take = |key: &[u8], value: &[u8]| {
                keys.push(Some(key.to_vec()));
                values.push(Some(value.to_vec()));
                keys.len() < TRIED_MAX
            };
            let scanned = task.stores.scan(store, &Bounds::all(), false, &mut take);
            scanned.map_err(|e| Refusal::ours(format!("failed to {e}")))?;
            let number = next.nodes.iter().position(|node| node.name == step).unwrap_or_default();
            let module = module_steps(next).find(|(name, _)| *name == step);
            let (_, module) = module.ok_or_else(|| refused(format!("there is no step `{step}`")))?;
            let mut code = crate::node::prepare::processor(
                next,
                task.task,
                number,
                module,
                &self.load(&module.digest)?,
                &self.around(next),
            )
            .map_err(&refused)?;
            let (keys, values): (BinaryArray, BinaryArray) = (keys.into_iter().collect(), values.into_iter().collect());
            let migrated = code.migrate(store_of_module, migration.from, &keys, &values);
            migrated.map_err(|failure| refused(failure.to_string()))?;
            tried += keys.len() as u64;
        }
        Ok(tried)
    }
}

/// The number of a store within the tasks of a sub-topology.
fn number_in_task(topology: &Topology, sub_topology: u32, store: &str) -> Option<usize> {
    let sub = topology.sub_topologies.get(sub_topology as usize)?;
    let named = |id: &usize| topology.stores.get(*id).is_some_and(|found| found.name == store);
    sub.stores.iter().position(named)
}

/// The step whose module has the store, and its number in the module's description.
fn place(topology: &Topology, store: &str) -> Option<(String, u32)> {
    let id = topology.stores.iter().position(|found| found.name == store)?;
    module_steps(topology).find_map(|(name, step)| {
        let number = step.stores.iter().position(|of| *of == id)?;
        Some((name.to_owned(), u32::try_from(number).ok()?))
    })
}
