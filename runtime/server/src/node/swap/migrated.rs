//! Stores whose entries a swap writes anew: whether the new version can read the old entries.

use super::fit;
use super::prepare::{module_steps, refusal};
use crate::api::SwapPrepared;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::registry::PipelineEntry;
use arrow_array::{Array, BinaryArray};
use state::Bounds;
use topology::{Guarantee, StoreKind, Topology};
use worker::swap::Migration;

/// Entries of each store that `migrate` is tried on before anything is exchanged.
const TRIED_MAX: usize = 1_000;

impl Node {
    /// What is to be migrated, after a trial on entries of the running tasks.
    pub(super) fn try_migrations(
        &self,
        entry: &PipelineEntry,
        next: &Topology,
        wanted: &[fit::Migration],
        prepared: &mut [SwapPrepared],
    ) -> Result<Vec<Migration>, Refusal> {
        if !wanted.is_empty() && next.guarantee != Guarantee::ExactlyOnce {
            let text = "stores are migrated in one transaction, which needs `guarantee = \"exactly-once\"`";
            return Err(refusal(entry, text));
        }
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
            for done in prepared.iter_mut().filter(|done| done.step == step) {
                done.migrated += tried;
            }
            migrations.push(Migration {
                step,
                store: migration.store.clone(),
                store_of_module,
                from_schema: migration.from,
                to_schema: migration.to,
            });
        }
        Ok(migrations)
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
            let timestamped = next
                .stores
                .iter()
                .any(|s| s.name == migration.store && s.kind == StoreKind::Timestamped);
            let mut take = |key: &[u8], value: &[u8]| {
                let value = if timestamped { state::split(value).1 } else { value };
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
