//! Making versions ready beside the running ones: fetched, digest verified, compiled, fitted, opened on a trial. The
//! running version knows nothing of it, and whatever fails here is the caller's answer and changes nothing.

use super::fit::{self, Fit};
use crate::api::{ApplyRequest, SwapPrepared, SwapRequest};
use crate::node::Node;
use crate::node::prepare::Around;
use crate::refusal::Refusal;
use crate::registry::{ModuleRecord, PipelineEntry, now_ms};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;
use task::{Task, TaskId};
use topology::{ModuleStep, NodeKind, Topology};
use worker::control::State;
use worker::swap::{Migration, ModuleVersion, Part, Versions};

/// What a swap needs before it may be recorded.
pub(super) struct Ready {
    /// The pipeline with the other modules in it.
    pub next: Topology,
    /// The steps that change.
    pub changes: BTreeMap<String, worker::swap::Change>,
    pub parts: Vec<Part>,
    pub migrations: Vec<Migration>,
    pub prepared: Vec<SwapPrepared>,
    pub notes: Vec<String>,
}

/// Which module each module step of a topology runs.
pub(crate) fn versions_of(topology: &Topology) -> Versions {
    module_steps(topology)
        .map(|(name, step)| (name.to_owned(), version_of(step)))
        .collect()
}

fn version_of(step: &ModuleStep) -> ModuleVersion {
    ModuleVersion {
        name: step.module.clone(),
        version: step.version.clone(),
        digest: step.digest.clone(),
    }
}

/// Steps whose module a swap can exchange: the nodes of an application change together, with an `apply`.
pub(super) fn module_steps(topology: &Topology) -> impl Iterator<Item = (&str, &ModuleStep)> {
    topology.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Module(step) if step.is_swappable() => Some((node.name.as_str(), step)),
        _ => None,
    })
}

/// Nodes that call an application: the step that it is in the file, and the node.
fn applications(topology: &Topology) -> impl Iterator<Item = (&str, &str, &ModuleStep)> {
    topology.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Module(step) => Some((step.closure.as_ref()?.step.as_str(), node.name.as_str(), step)),
        _ => None,
    })
}

impl Node {
    /// Prepares what `request` asks for; nothing changes where every step runs it already.
    pub(super) fn prepare_swap(&self, entry: &PipelineEntry, request: &SwapRequest) -> Result<Ready, Refusal> {
        swappable(entry)?;
        let running = versions_of(&entry.details.topology);
        let mut chosen: BTreeMap<String, ModuleRecord> = BTreeMap::new();
        let mut notes = Vec::new();
        for (step, wanted) in &request.steps {
            let from = running.get(step).ok_or_else(|| no_such_step(entry, step))?;
            let module = self.chosen(wanted)?;
            if module.digest == from.digest {
                notes.push(format!("{step} runs {from} already"));
                continue;
            }
            if module.name != from.name {
                notes.push(format!("{step} runs {from}, and {} is another module", module.id()));
            }
            chosen.insert(step.clone(), module);
        }
        self.ready(entry, &running, &chosen, notes)
    }

    fn ready(
        &self,
        entry: &PipelineEntry,
        running: &Versions,
        chosen: &BTreeMap<String, ModuleRecord>,
        mut notes: Vec<String>,
    ) -> Result<Ready, Refusal> {
        let mut prepared = Vec::new();
        for (step, module) in chosen {
            let started = Instant::now();
            self.load(&module.digest)?;
            prepared.push(SwapPrepared {
                step: step.clone(),
                module: module.id(),
                digest: module.digest.clone(),
                bytes: module.bytes,
                loaded_ms: started.elapsed().as_millis() as u64,
                ..SwapPrepared::default()
            });
        }
        let next = self.with_modules(entry, running, chosen)?;
        let Fit {
            migrations,
            notes: more,
            refused,
        } = fit::fit(&entry.details.topology, &next);
        if !refused.is_empty() {
            return Err(refusal(entry, &refused.join("\n")));
        }
        notes.extend(more);
        let parts = parts(entry, &next, chosen.keys());
        self.open_on_trial(entry, &next, &parts, &mut prepared)?;
        let migrations = self.try_migrations(entry, &next, &migrations, &mut prepared)?;
        notes.extend(migrations.iter().map(|migration| {
            format!(
                "`{}` goes from schema {} to {}: once a task has committed it, the swap only goes forward, and bounds of \
                 the watch take nothing back",
                migration.store, migration.from_schema, migration.to_schema
            )
        }));
        let change = |(step, module): (&String, &ModuleRecord)| {
            let from = running.get(step)?.clone();
            let to = ModuleVersion {
                name: module.name.clone(),
                version: module.version.clone(),
                digest: module.digest.clone(),
            };
            Some((step.clone(), worker::swap::Change { from, to }))
        };
        Ok(Ready {
            changes: chosen.iter().filter_map(change).collect(),
            next,
            parts,
            migrations,
            prepared,
            notes,
        })
    }

    /// `name@version`, or `name` for what was registered last under it.
    fn chosen(&self, wanted: &str) -> Result<ModuleRecord, Refusal> {
        let registry = self.registry();
        let modules = &registry.view().modules;
        if let Some(module) = modules.get(wanted) {
            return Ok(module.clone());
        }
        let newest = modules
            .values()
            .filter(|module| module.name == wanted)
            .max_by_key(|module| module.added_at);
        newest
            .cloned()
            .ok_or_else(|| crate::node::modules::unknown(&registry, wanted))
    }

    /// The applied file with `chosen` in its steps, and everywhere else what runs.
    fn with_modules(
        &self,
        entry: &PipelineEntry,
        running: &Versions,
        chosen: &BTreeMap<String, ModuleRecord>,
    ) -> Result<Topology, Refusal> {
        let mut modules: BTreeMap<String, String> = running
            .iter()
            .map(|(step, version)| (step.clone(), version.to_string()))
            .collect();
        let applications = applications(&entry.details.topology);
        modules
            .extend(applications.map(|(application, _, step)| (application.to_owned(), version_of(step).to_string())));
        modules.extend(chosen.iter().map(|(step, module)| (step.clone(), module.id())));
        let name = &entry.details.topology.name;
        let file = pipeline::with_modules(&entry.details.file, &modules)
            .map_err(|problems| refusal(entry, &problems.join("\n")))?;
        let request = ApplyRequest {
            file,
            file_name: format!("{name} as applied"),
            vars: entry.details.vars.clone(),
            ..ApplyRequest::default()
        };
        self.parse(&request)
    }

    /// Opens an instance for one task of each part, on empty stores: a version that refuses its settings, or traps in
    /// `open`, is known before anything is exchanged.
    fn open_on_trial(
        &self,
        entry: &PipelineEntry,
        next: &Topology,
        parts: &[Part],
        prepared: &mut [SwapPrepared],
    ) -> Result<(), Refusal> {
        let topology = Arc::new(next.clone());
        let around = self.around(next);
        for part in parts {
            let id = TaskId {
                sub_topology: part.sub_topology,
                partition: 0,
            };
            let mut processors = HashMap::new();
            let sub = next.sub_topologies.get(part.sub_topology as usize);
            for node in sub.iter().flat_map(|sub| &sub.nodes) {
                let Some((name, NodeKind::Module(step))) = next.nodes.get(*node).map(|n| (&n.name, &n.kind)) else {
                    continue;
                };
                let module = self.load(&step.digest)?;
                let instance = crate::node::prepare::processor(&topology, id, *node, step, &module, &around);
                processors.insert(
                    *node,
                    instance.map_err(|e| refusal(entry, &format!("step `{name}`: {e}")))?,
                );
                for done in prepared.iter_mut().filter(|done| done.step == *name) {
                    done.opened += 1;
                }
            }
            let options = task::Options {
                partition_count_of: entry.details.partitions.clone().into_iter().collect(),
                ..task::Options::default()
            };
            let backend = Box::new(state::memory::Memory::default());
            let refused = |e: task::Error| refusal(entry, &format!("opened on a trial for task {id}: {e}"));
            let mut task = Task::new(topology.clone(), id, processors, backend, options).map_err(refused)?;
            let opened = task.start(-1, now_ms());
            task.close();
            opened.map_err(refused)?;
        }
        Ok(())
    }

    /// What stands around an instance that is tried.
    pub(super) fn around(&self, topology: &Topology) -> Around {
        Around {
            outside: self.outside(topology),
            log: self.guest_log.clone(),
        }
    }

    /// Committed tasks of the pipeline that run on this node.
    pub(super) fn snapshots_of(&self, pipeline: &str) -> Vec<worker::TaskSnapshot> {
        self.shared(pipeline)
            .map(|shared| shared.snapshots())
            .unwrap_or_default()
    }
}

/// A swap is exchanged at commits, so there must be some; and one at a time.
fn swappable(entry: &PipelineEntry) -> Result<(), Refusal> {
    let name = &entry.details.topology.name;
    if let Some(swap) = &entry.record.swap {
        return Err(Refusal::new(
            crate::refusal::Fault::Conflict,
            "swap-under-way",
            format!(
                "`{name}` is being swapped already ({}, {}, since {} s by {})\n\
                 hint: `wasmill promote {name}` takes it as it stands, `wasmill rollback {name}` goes back",
                super::shown::steps(&swap.steps),
                super::shown::phase(swap.phase),
                (now_ms() - swap.began_at).max(0) / 1_000,
                if swap.who.is_empty() { "nobody named" } else { &swap.who },
            ),
        ));
    }
    match entry.record.state {
        State::Running => Ok(()),
        State::Paused => Err(Refusal::conflict(format!(
            "`{name}` is paused, and versions are exchanged at a commit\nhint: `wasmill pipeline resume {name}` first"
        ))),
        State::Draining | State::Deleted => Err(Refusal::conflict(format!("`{name}` is being taken down"))),
    }
}

fn no_such_step(entry: &PipelineEntry, step: &str) -> Refusal {
    let steps: Vec<&str> = module_steps(&entry.details.topology).map(|(name, _)| name).collect();
    let steps = if steps.is_empty() {
        "it has none".to_owned()
    } else {
        format!("there are: {}", steps.join(", "))
    };
    let name = &entry.details.topology.name;
    let mut nodes = entry.details.topology.nodes.iter();
    let mut applications = applications(&entry.details.topology);
    if applications.any(|(application, node, _)| application == step || node == step) {
        return Refusal::not_found(format!(
            "step `{step}` of `{name}` is an application or a node of one, and a swap exchanges processors only\n\
             hint: name the new version in the pipeline file and `wasmill apply` it; state stays"
        ));
    }
    let what = if nodes.any(|node| node.name == step) {
        "is the host's own and no module"
    } else {
        "is not there"
    };
    Refusal::not_found(format!(
        "step `{step}` of `{name}` {what}; of steps with a module {steps}"
    ))
}

/// The old version runs on.
pub(super) fn refusal(entry: &PipelineEntry, reason: &str) -> Refusal {
    let name = &entry.details.topology.name;
    Refusal::new(
        crate::refusal::Fault::Conflict,
        "swap-refused",
        format!(
            "`{name}` is not swapped, and what ran runs on:\n  {}",
            reason.replace('\n', "\n  ")
        ),
    )
}

/// Sub-topologies with a step that changes.
fn parts<'s>(entry: &PipelineEntry, next: &Topology, steps: impl Iterator<Item = &'s String>) -> Vec<Part> {
    let steps: BTreeSet<&String> = steps.collect();
    let changes = |sub: &&topology::SubTopology| {
        sub.nodes
            .iter()
            .any(|id| next.nodes.get(*id).is_some_and(|node| steps.contains(&node.name)))
    };
    let part = |sub: &topology::SubTopology| Part {
        sub_topology: sub.id,
        tasks: entry.details.tasks.get(sub.id as usize).copied().unwrap_or(0),
    };
    next.sub_topologies.iter().filter(changes).map(part).collect()
}
