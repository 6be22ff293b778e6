//! `plan`, `apply`, `pause`, `resume`, `delete`: from a pipeline file to topics, positions and a record in the registry.
//!
//! A first apply makes the topics, resolves start positions to numbers and commits them to the still empty group, and
//! only then writes the record that lets nodes join (design §13). Every step may be repeated.

use super::Node;
use super::reset;
use super::swap::applied;
use super::topics::cleanup_named;
use crate::api::{ApplyRequest, KeptVersions, Plan, PlannedChange, SwapRequest};
use crate::refusal::Refusal;
use crate::registry::{Entry, PipelineDetails, PipelineEntry, now_ms};
use broker::{Cleanup, CommittedOffset, CreateOutcome, Isolation, NewTopic, OffsetAt};
use pipeline::{ModuleRef, Undescribed};
use record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use topology::description::ModuleDescription;
use topology::{Change, InternalTopic, NodeKind, PartitionPlan, SourceKind, Start, Topology};
use worker::control::{self, PipelineRecord, State};
use worker::placement;

/// What a file comes to on this cluster now.
struct Prepared {
    topology: Topology,
    /// What the file itself names, by step; another module may be kept there.
    file_modules: BTreeMap<String, String>,
    partitions: PartitionPlan,
    there: Option<PipelineEntry>,
    /// Internal topics that are not there yet.
    internal: Vec<NewTopic>,
    plan: Plan,
}

impl Node {
    pub fn plan(&self, request: &ApplyRequest) -> Result<Plan, Refusal> {
        Ok(self.prepare(request)?.plan)
    }

    /// Does what [`Node::plan`] says, or nothing when anything of it is refused.
    pub fn apply(self: &Arc<Self>, request: &ApplyRequest) -> Result<Plan, Refusal> {
        let prepared = self.prepare(request)?;
        if !prepared.plan.refused.is_empty() {
            let reasons = prepared.plan.refused.join("\n  ");
            return Err(Refusal::conflict(format!(
                "`{}` cannot be applied:\n  {reasons}",
                prepared.plan.pipeline
            )));
        }
        if prepared.plan.changes.is_empty() {
            return Ok(prepared.plan);
        }
        if let Some(there) = &prepared.there
            && applied::is_swap(&there.details.topology, &prepared.topology)
        {
            return self.apply_as_swap(there, &prepared, request);
        }
        self.create_topics(&prepared)?;
        if prepared.there.is_none() {
            self.commit_start(&prepared.topology, &prepared.partitions)?;
        }
        let record = self.record_for(&prepared, request)?;
        let key = control::key(&prepared.topology.name);
        let planned = prepared.there.as_ref().map(|entry| entry.record.clone());
        self.registry().write(|view| {
            view.check_modules(&prepared.topology)?;
            let now = view.pipelines.get(&prepared.topology.name).map(|entry| &entry.record);
            if now == planned.as_ref() {
                Ok(vec![(key.clone(), Some(Entry::Pipeline(record.clone())))])
            } else {
                Err("the pipeline was changed by somebody else meanwhile; plan again".to_owned())
            }
        })?;
        self.reconcile();
        Ok(prepared.plan)
    }

    /// Only module versions change: no thread stops for that.
    fn apply_as_swap(
        self: &Arc<Self>,
        there: &PipelineEntry,
        prepared: &Prepared,
        request: &ApplyRequest,
    ) -> Result<Plan, Refusal> {
        let swap = SwapRequest {
            steps: applied::changed_steps(&there.details.topology, &prepared.topology),
            terms: request.terms.clone(),
            by: request.by.clone(),
        };
        let file = Some((request, prepared.file_modules.clone()));
        let swap = self.begin_swap(&prepared.topology.name, &swap, "applied", file)?;
        Ok(Plan {
            swap: Some(swap),
            ..prepared.plan.clone()
        })
    }

    pub(super) fn parse(&self, request: &ApplyRequest) -> Result<Topology, Refusal> {
        let modules = self.registry().view().modules.clone();
        let describe = |module: &ModuleRef| -> Result<ModuleDescription, Undescribed> {
            let given = request
                .paths
                .get(&module.to_string())
                .and_then(|digest| modules.values().find(|record| record.digest == *digest));
            let found = match (given, module) {
                (Some(record), _) => Ok(record),
                (None, ModuleRef::File(_)) => Err(undescribed("it was not uploaded to the node", &modules)),
                (None, ModuleRef::Registered { name, version }) => modules
                    .get(&format!("{name}@{version}"))
                    .ok_or_else(|| undescribed("it is not registered", &modules)),
            };
            found.map(|record| record.description.clone())
        };
        super::parsed(request, &describe)
    }

    fn prepare(&self, request: &ApplyRequest) -> Result<Prepared, Refusal> {
        let mut topology = self.parse(request)?;
        let there = self.registry().view().pipelines.get(&topology.name).cloned();
        let file_modules = applied::file_modules(&topology);
        let stale = there
            .as_ref()
            .map(|entry| applied::stale(entry, &topology))
            .unwrap_or_default();
        if request.versions == KeptVersions::Running && !stale.is_empty() {
            let kept = applied::kept(request, &stale).map_err(|e| Refusal::invalid("invalid-pipeline", e))?;
            topology = self.parse(&kept)?;
        }
        let counts = self.counts(&topology)?;
        let partitions = topology
            .partition_counts(&|topic| counts.get(topic).copied())
            .map_err(|problems| {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let name = &request.file_name;
                Refusal::invalid(
                    "invalid-pipeline",
                    format!("{name}: {}", lines.join(&format!("\n{name}: "))),
                )
            })?;
        let mut plan = Plan {
            pipeline: topology.name.clone(),
            drawing: topology.describe(),
            ..Plan::default()
        };
        plan.refused.extend(self.lacking(&topology));
        plan.refused
            .extend(super::call_times::too_long(&topology, self.config.transaction_timeout));
        for topic in &partitions.create {
            let count = partitions.counts.get(&topic.name).copied().unwrap_or(1);
            plan.add("create-topic", format!("{}, {count} partitions", topic.name));
        }
        let internal = self.missing_internal(&topology, &partitions, there.is_some(), &mut plan)?;
        match &there {
            None => {
                let tasks: i32 = partitions.tasks.iter().sum();
                plan.add("create-pipeline", format!("{}, {tasks} tasks", topology.name));
            }
            Some(entry) if entry.record.state == State::Deleted => {
                plan.refused.push("it is being deleted".to_owned());
            }
            Some(entry) if entry.record.state == State::Draining => {
                plan.refused.push(being_reset(&topology.name));
            }
            Some(entry) => {
                changes(&entry.details.topology, &topology, &mut plan);
                if request.versions == KeptVersions::Ask {
                    let refusal = |stale: &applied::Stale| applied::stale_refusal(entry, stale);
                    plan.refused.extend(stale.iter().map(refusal));
                }
                if entry.record.swap.is_some() && !plan.changes.is_empty() {
                    plan.refused.push(applied::under_way(&topology.name));
                }
            }
        }
        Ok(Prepared {
            topology,
            file_modules,
            partitions,
            there,
            internal,
            plan,
        })
    }

    /// Partition counts of the user's topics that are there.
    pub(super) fn counts(&self, topology: &Topology) -> Result<BTreeMap<String, i32>, Refusal> {
        let names: Vec<String> = topology.user_topics().into_iter().map(|topic| topic.name).collect();
        let described = self.broker.admin()?.describe(&names)?;
        Ok(described
            .into_iter()
            .flatten()
            .map(|topic| (topic.name, topic.partitions))
            .collect())
    }

    fn missing_internal(
        &self,
        topology: &Topology,
        partitions: &PartitionPlan,
        exists: bool,
        plan: &mut Plan,
    ) -> Result<Vec<NewTopic>, Refusal> {
        let mut wanted = vec![
            internal_topic(placement::token_topic(&topology.name), 1, Cleanup::Delete),
            internal_topic(placement::topic(&topology.name), 1, Cleanup::Compact),
        ];
        wanted.extend(internal_topics(partitions)?);
        let names: Vec<String> = wanted.iter().map(|topic| topic.name.clone()).collect();
        let mut admin = self.broker.admin()?;
        let described = admin.describe(&names)?;
        let mut missing = Vec::new();
        for (topic, found) in wanted.into_iter().zip(described) {
            let Some(found) = found else {
                plan.add(
                    "create-topic",
                    format!("{}, {} partitions, internal", topic.name, topic.partitions),
                );
                missing.push(topic);
                continue;
            };
            if found.partitions != topic.partitions {
                plan.refused.push(format!(
                    "internal topic `{}` has {} partitions and needs {}: a source topic grew, and keys would change \
                     their partition; hint: apply it under another name, or delete the pipeline first",
                    topic.name, found.partitions, topic.partitions
                ));
            } else if !exists {
                let all: Vec<_> = (0..found.partitions)
                    .map(|p| TopicPartition::new(topic.name.as_str(), p))
                    .collect();
                let ends = admin.offsets(&all, OffsetAt::End(Isolation::ReadUncommitted))?;
                if ends.iter().any(|end| *end > 0) && topic.name != placement::topic(&topology.name) {
                    plan.refused.push(format!(
                        "internal topic `{0}` holds records of a former pipeline of this name; \
                         hint: `wasmill topics delete {0}`",
                        topic.name
                    ));
                }
            }
        }
        Ok(missing)
    }

    fn create_topics(&self, prepared: &Prepared) -> Result<(), Refusal> {
        let mut topics = prepared.internal.clone();
        for topic in &prepared.partitions.create {
            let Some(create) = &topic.create else { continue };
            let settings = create
                .settings
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            topics.push(NewTopic {
                name: topic.name.clone(),
                partitions: create.partitions,
                cleanup: cleanup_named(create.cleanup.as_deref())?,
                settings,
            });
        }
        for (topic, outcome) in topics.iter().zip(self.broker.admin()?.create(&topics)?) {
            if let CreateOutcome::Exists(there) = outcome
                && there.partitions != topic.partitions
            {
                let message = format!(
                    "topic `{}` was created meanwhile with {} partitions",
                    topic.name, there.partitions
                );
                return Err(Refusal::conflict(message));
            }
        }
        Ok(())
    }

    /// Positions for every source partition of the group that has none.
    pub(super) fn commit_start(&self, topology: &Topology, partitions: &PartitionPlan) -> Result<(), Refusal> {
        let mut admin = self.broker.admin()?;
        for node in &topology.nodes {
            let NodeKind::Source(source) = &node.kind else { continue };
            for topic in &source.topics {
                let count = partitions.counts.get(topic).copied().unwrap_or(0);
                let all: Vec<_> = (0..count).map(|p| TopicPartition::new(topic.as_str(), p)).collect();
                let start = match source.kind {
                    SourceKind::Repartition => Start::Earliest,
                    _ => source.start,
                };
                let offsets = admin.offsets(&all, reset::at(start))?;
                let committed = admin.committed(&topology.name, &all)?;
                let missing: Vec<CommittedOffset> = all
                    .into_iter()
                    .zip(offsets)
                    .zip(committed)
                    .filter(|(_, committed)| committed.is_none())
                    .map(|((partition, offset), _)| CommittedOffset {
                        partition,
                        offset,
                        metadata: String::new(),
                    })
                    .collect();
                if !missing.is_empty() {
                    admin.commit(&topology.name, &missing)?;
                }
            }
        }
        Ok(())
    }

    fn record_for(&self, prepared: &Prepared, request: &ApplyRequest) -> Result<PipelineRecord, Refusal> {
        let details = PipelineDetails {
            topology: prepared.topology.clone(),
            tasks: prepared.partitions.tasks.clone(),
            partitions: prepared
                .partitions
                .counts
                .iter()
                .map(|(topic, count)| (topic.clone(), *count))
                .collect(),
            file: request.file.clone(),
            vars: request.vars.clone(),
            applied_at: now_ms(),
            applied_by: self.config.node.clone(),
            file_modules: prepared.file_modules.clone(),
            next: None,
        };
        let there = prepared.there.as_ref().map(|entry| &entry.record);
        let mut record = PipelineRecord {
            incarnation: there.map_or_else(uuid::Uuid::new_v4, |record| record.incarnation),
            epoch: there.map_or(1, |record| record.epoch),
            state: there.map_or(State::Running, |record| record.state),
            versions: super::swap::versions_of(&prepared.topology),
            swap: None,
            history: applied::history(prepared.there.as_ref(), &prepared.topology, &request.by),
            rest: serde_json::Map::new(),
        };
        details.put_into(&mut record)?;
        Ok(record)
    }

    pub fn set_paused(self: &Arc<Self>, name: &str, paused: bool) -> Result<(), Refusal> {
        self.set_state(name, if paused { State::Paused } else { State::Running })?;
        self.reconcile();
        Ok(())
    }

    pub(super) fn set_state(&self, name: &str, state: State) -> Result<(), Refusal> {
        self.entry(name)?;
        self.registry().write(|view| match view.pipelines.get(name) {
            None => Err(format!("`{name}` is gone")),
            Some(entry) if entry.record.state == state => Ok(Vec::new()),
            Some(entry) if entry.record.state == State::Deleted => Err(format!("`{name}` is being deleted")),
            Some(entry) if entry.record.state == State::Draining && state != State::Deleted => Err(being_reset(name)),
            Some(entry) => {
                let record = PipelineRecord {
                    state,
                    ..entry.record.clone()
                };
                Ok(vec![(control::key(name), Some(Entry::Pipeline(record)))])
            }
        })?;
        Ok(())
    }

    /// Stops it everywhere, fences whoever may still hold a producer, and removes what is its own.
    pub fn delete(self: &Arc<Self>, name: &str) -> Result<(), Refusal> {
        let entry = self.entry(name)?;
        self.set_state(name, State::Deleted)?;
        self.reconcile();
        self.fence_all(&entry)?;
        let mut topics: BTreeSet<String> = BTreeSet::new();
        let mut admin = self.broker.admin()?;
        for topic in admin.topics()? {
            if topology::is_internal_topic(name, &topic.name) {
                topics.insert(topic.name);
            }
        }
        admin.delete(&topics.into_iter().collect::<Vec<_>>())?;
        self.delete_group(name)?;
        self.remove_state(name)?;
        self.registry().write(|view| match view.pipelines.get(name) {
            None => Ok(Vec::new()),
            Some(_) => Ok(vec![(control::key(name), None)]),
        })?;
        Ok(())
    }
}

impl Plan {
    fn add(&mut self, action: &str, what: impl Into<String>) {
        self.changes.push(PlannedChange {
            action: action.to_owned(),
            what: what.into(),
        });
    }
}

fn changes(old: &Topology, new: &Topology, plan: &mut Plan) {
    let swap = applied::is_swap(old, new);
    for change in topology::compatibility(old, new) {
        let text = change.to_string();
        match &change {
            Change::Refused { .. } => plan.refused.push(text),
            Change::Swap { step, from, to } => plan.add("swap-module", format!("{step}: {from} -> {to}")),
            Change::Settings { what, from, to } => plan.add("change", format!("{what}: {from} -> {to}")),
            Change::Renamed { from, to } => plan.add("rename-store", format!("{from} -> {to}")),
            Change::Migrate { store, from, to } if !swap => plan.refused.push(format!(
                "store `{store}`: its schema is {from} and would be {to}, and entries are migrated by a swap alone\n\
                 hint: change the module's version in one apply, and the rest in another"
            )),
            Change::Migrate { store, from, to } => plan.add("migrate-store", format!("{store}: schema {from} -> {to}")),
        }
    }
}

fn being_reset(name: &str) -> String {
    format!(
        "`{name}` is being reset; a reset that did not come to its end is repeated with `wasmill pipeline reset {name}`"
    )
}

/// Changelogs and repartition topics.
pub(super) fn internal_topics(partitions: &PartitionPlan) -> Result<Vec<NewTopic>, Refusal> {
    let topic = |topic: &InternalTopic| {
        let cleanup = cleanup_named(Some(topic.cleanup))?;
        Ok(NewTopic {
            settings: topic.settings.clone(),
            ..internal_topic(topic.name.clone(), topic.partitions, cleanup)
        })
    };
    partitions.internal.iter().map(topic).collect()
}

pub(super) fn internal_topic(name: String, partitions: i32, cleanup: Cleanup) -> NewTopic {
    NewTopic {
        name,
        partitions,
        cleanup,
        settings: BTreeMap::new(),
    }
}

fn undescribed(message: &str, modules: &BTreeMap<String, crate::registry::ModuleRecord>) -> Undescribed {
    Undescribed {
        message: message.to_owned(),
        hint: Some("`wasmill module add FILE` registers a module".to_owned()),
        known: modules.keys().cloned().collect(),
    }
}
