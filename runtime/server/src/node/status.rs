//! What the node says of itself and its pipelines.

use super::{Node, lock};
use crate::api::{GlobalTable, Pipeline, Restored, Standby, Status, Store, Task};
use crate::refusal::Refusal;
use crate::registry::PipelineEntry;
use crate::text;
use broker::{Isolation, OffsetAt};
use record::TopicPartition;
use std::collections::BTreeMap;
use topology::{Guarantee, NodeKind, Topology};
use worker::control::State;
use worker::{TaskState, TaskStatus};

impl Node {
    pub fn status(&self) -> Status {
        Status {
            node: self.config.node.clone(),
            cluster: self.config.cluster.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log: if self.log.is_some() {
                "embedded".to_owned()
            } else {
                self.config.brokers.clone()
            },
            data_dir: self.config.data_dir.display().to_string(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            pipelines: self.pipelines(),
            modules: self.registry().view().modules.len(),
        }
    }

    pub fn pipelines(&self) -> Vec<Pipeline> {
        let entries: Vec<PipelineEntry> = self.registry().view().pipelines.values().cloned().collect();
        entries.iter().map(|entry| self.shown(entry)).collect()
    }

    pub fn pipeline(&self, name: &str) -> Result<Pipeline, Refusal> {
        Ok(self.shown(&self.entry(name)?))
    }

    pub fn describe(&self, name: &str) -> Result<String, Refusal> {
        Ok(self.entry(name)?.details.topology.describe())
    }

    fn shown(&self, entry: &PipelineEntry) -> Pipeline {
        let details = &entry.details;
        let mut shown = Pipeline {
            name: details.topology.name.clone(),
            state: String::new(),
            guarantee: match details.topology.guarantee {
                Guarantee::ExactlyOnce => "exactly-once".to_owned(),
                Guarantee::AtLeastOnce => "at-least-once".to_owned(),
            },
            epoch: entry.record.epoch,
            incarnation: entry.record.incarnation.to_string(),
            applied_at: details.applied_at,
            modules: modules(entry),
            swap: self.shown_swap(entry),
            stores: stores(entry),
            globals: Vec::new(),
            tasks: Vec::new(),
            standbys: Vec::new(),
            lag: None,
            counters: BTreeMap::new(),
            problems: Vec::new(),
        };
        self.add_running(&mut shown, &entry.details.topology);
        let tasks = self.placed_here(entry);
        shown.state = state(entry, &shown, tasks).to_owned();
        let all_known = shown.tasks.len() == tasks && shown.tasks.iter().all(|task| task.lag.is_some());
        shown.lag = all_known.then(|| shown.tasks.iter().filter_map(|task| task.lag).sum());
        shown
    }

    /// How many tasks this node is to run; all of them until each has a place.
    fn placed_here(&self, entry: &PipelineEntry) -> usize {
        let details = &entry.details;
        let tasks = details.tasks.iter().sum::<i32>() as usize;
        let Some(shared) = self.shared(&details.topology.name) else {
            return tasks;
        };
        let (run, view) = (entry.record.run(), lock(&shared.view));
        let placed = view.tasks.keys().filter(|task| view.placement(run, **task).is_some());
        if placed.count() < tasks {
            return tasks;
        }
        let threads = shared.threads.iter();
        threads.map(|thread| view.owned(run, &thread.id).count()).sum()
    }

    fn add_running(&self, shown: &mut Pipeline, topology: &Topology) {
        let running = lock(&self.running);
        let Some(running) = running.get(&shown.name) else {
            return;
        };
        let mut tasks: Vec<(String, TaskStatus)> = Vec::new();
        shown.problems.extend(running.failure.clone());
        shown.problems.extend(
            lock(&running.shared.trouble)
                .clone()
                .map(|t| format!("membership: {t}")),
        );
        let globals = &running.shared.globals;
        let tables = globals.trouble().map(|trouble| format!("global tables: {trouble}"));
        shown.problems.extend(tables);
        shown.globals = globals
            .progress()
            .iter()
            .map(|table| shown_global(table, globals.are_whole()))
            .collect();
        shown.standbys = lock(&running.shared.standbys).iter().map(shown_standby).collect();
        for thread in &running.shared.threads {
            let Some(status) = lock(&thread.status).clone() else {
                continue;
            };
            shown
                .problems
                .extend(status.trouble.map(|trouble| format!("thread {}: {trouble}", thread.id)));
            for (name, count) in counters(&status.counters) {
                *shown.counters.entry(name.to_owned()).or_default() += count;
            }
            tasks.extend(status.tasks.into_iter().map(|task| (thread.id.clone(), task)));
        }
        let ends = self.ends(&tasks);
        shown.tasks.extend(
            tasks
                .iter()
                .map(|(thread, task)| shown_task(topology, thread, task, ends.as_ref())),
        );
        shown.tasks.sort_by(|a, b| a.task.cmp(&b.task));
    }

    /// Ends of all source partitions, asked after the positions were taken: so no lag is shown smaller than it was.
    /// Records of open transactions count, since they will be there to process. `None` while the broker does not answer.
    fn ends(&self, tasks: &[(String, TaskStatus)]) -> Option<Ends> {
        let sources = tasks
            .iter()
            .flat_map(|(_, task)| task.positions.iter().map(|(partition, _)| partition.clone()));
        let sources: Vec<TopicPartition> = sources.collect();
        let mut admin = self.broker.admin().ok()?;
        let ends = admin
            .offsets(&sources, OffsetAt::End(Isolation::ReadUncommitted))
            .ok()?;
        Some(sources.into_iter().zip(ends).collect())
    }
}

fn shown_global(table: &worker::globals::Progress, whole: bool) -> GlobalTable {
    GlobalTable {
        name: table.name.clone(),
        topic: table.topic.clone(),
        state: if whole { "whole" } else { "reading" }.to_owned(),
        read: Restored {
            records: table.read.max(0) as u64,
            total: table.total.max(0) as u64,
        },
        dropped: table.dropped,
    }
}

fn shown_standby(standby: &worker::standby::Progress) -> Standby {
    let state = match (&standby.trouble, standby.caught_up) {
        (Some(_), _) => "failed",
        (None, true) => "following",
        (None, false) => "catching-up",
    };
    Standby {
        task: standby.task.to_string(),
        state: state.to_owned(),
        lag: standby.lag,
        warm: standby.warm,
        reason: standby.trouble.clone(),
    }
}

type Ends = BTreeMap<TopicPartition, i64>;

/// Records between the committed positions and the ends; `None` until both are known.
fn lag(task: &TaskStatus, ends: Option<&Ends>) -> Option<i64> {
    let behind = |(partition, at): &(TopicPartition, i64)| Some((ends?.get(partition)? - at).max(0));
    if task.positions.is_empty() {
        None
    } else {
        task.positions.iter().map(behind).sum()
    }
}

fn state(entry: &PipelineEntry, shown: &Pipeline, tasks: usize) -> &'static str {
    let stopped = shown.tasks.iter().any(|task| task.state == "stopped");
    match entry.record.state {
        State::Paused => "paused",
        State::Draining => "draining",
        State::Deleted => "deleting",
        State::Running if stopped || (!shown.problems.is_empty() && shown.tasks.is_empty()) => "failed",
        State::Running if shown.tasks.len() < tasks || shown.tasks.iter().any(|t| t.state != "running") => "starting",
        State::Running => "running",
    }
}

pub(super) fn modules(entry: &PipelineEntry) -> BTreeMap<String, String> {
    let nodes = entry.details.topology.nodes.iter();
    nodes
        .filter_map(|node| match &node.kind {
            NodeKind::Module(step) => Some((node.name.clone(), format!("{}@{}", step.module, step.version))),
            _ => None,
        })
        .collect()
}

/// What runs in the steps of one task.
fn modules_of(topology: &Topology, task: &TaskStatus) -> BTreeMap<String, String> {
    let sub = topology.sub_topologies.get(task.task.sub_topology as usize);
    let nodes = sub
        .iter()
        .flat_map(|sub| &sub.nodes)
        .filter_map(|id| topology.nodes.get(*id));
    nodes
        .filter_map(|node| match (&node.kind, task.versions.get(&node.name)) {
            (NodeKind::Module(_), Some(version)) => Some((node.name.clone(), version.to_string())),
            (NodeKind::Module(step), None) => Some((node.name.clone(), format!("{}@{}", step.module, step.version))),
            _ => None,
        })
        .collect()
}

fn stores(entry: &PipelineEntry) -> Vec<Store> {
    let shown = |store: &topology::Store| Store {
        name: store.name.clone(),
        kind: store.kind.word().to_owned(),
        key: text::name_of(store.key).to_owned(),
        value: text::name_of(store.value).to_owned(),
    };
    entry.details.topology.stores.iter().map(shown).collect()
}

fn shown_task(topology: &Topology, thread: &str, task: &TaskStatus, ends: Option<&Ends>) -> Task {
    let (state, restored, reason) = match &task.state {
        TaskState::Waiting => ("waiting", None, None),
        TaskState::Starting => ("starting", None, None),
        TaskState::Restoring { done, total } => {
            let restored = Restored {
                records: (*done).max(0) as u64,
                total: (*total).max(0) as u64,
            };
            ("restoring", Some(restored), None)
        }
        TaskState::Running => ("running", None, None),
        TaskState::Retrying { reason } => ("retrying", None, Some(reason.clone())),
        TaskState::Stopped { reason } => ("stopped", None, Some(reason.clone())),
    };
    Task {
        task: task.task.to_string(),
        thread: thread.to_owned(),
        modules: modules_of(topology, task),
        state: state.to_owned(),
        lag: lag(task, ends),
        restored,
        reason,
    }
}

/// Names as they stand in `status` and, with a prefix, in the metrics.
pub(super) fn counters(counters: &worker::Counters) -> [(&'static str, u64); 14] {
    [
        ("records-processed", counters.records_processed),
        ("records-restored", counters.records_restored),
        ("commits", counters.commits),
        ("aborts", counters.aborts),
        ("unknown-outcomes", counters.unknown_outcomes),
        ("producers-lost", counters.producers_lost),
        ("records-rejected", counters.records_rejected),
        ("fencings", counters.fencings),
        ("stores-wiped", counters.stores_wiped),
        ("guest-traps", counters.guest_traps),
        ("instances-recycled", counters.instances_recycled),
        ("records-dead-lettered", counters.records_dead_lettered),
        ("records-skipped", counters.records_skipped),
        ("retries", counters.retries),
    ]
}
