//! `/metrics`: what `status` shows, for Prometheus.

use super::Node;
use crate::api::Pipeline;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabel {
    pipeline: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabel {
    pipeline: String,
    task: String,
    thread: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StandbyLabel {
    pipeline: String,
    task: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabel {
    pipeline: String,
    table: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    pipeline: String,
    step: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    pipeline: String,
    step: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    pipeline: String,
    state: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModuleLabel {
    pipeline: String,
    step: String,
    module: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SwapLabel {
    pipeline: String,
    phase: String,
}

/// How many tasks run which module in a step, and where swaps are: both versions are there while one goes on.
fn versions(registry: &mut Registry, pipelines: &[Pipeline]) {
    let modules = Family::<ModuleLabel, Gauge>::default();
    registry.register("module_tasks", "Tasks that run the module in the step", modules.clone());
    let swaps = Family::<SwapLabel, Gauge>::default();
    registry.register("swaps", "Swaps that are under way, by phase", swaps.clone());
    for pipeline in pipelines {
        for (step, module) in pipeline.tasks.iter().flat_map(|task| &task.modules) {
            let label = ModuleLabel {
                pipeline: pipeline.name.clone(),
                step: step.clone(),
                module: module.clone(),
            };
            modules.get_or_create(&label).inc();
        }
        if let Some(swap) = &pipeline.swap {
            let label = SwapLabel {
                pipeline: pipeline.name.clone(),
                phase: swap.phase.clone(),
            };
            swaps.get_or_create(&label).inc();
        }
    }
}

/// Global tables on their way to being whole.
fn globals(registry: &mut Registry, pipelines: &[Pipeline]) {
    let remaining = Family::<TableLabel, Gauge>::default();
    registry.register(
        "global_table_remaining_records",
        "Records of the topic still to read before tasks begin",
        remaining.clone(),
    );
    for pipeline in pipelines {
        for table in &pipeline.globals {
            let label = TableLabel {
                pipeline: pipeline.name.clone(),
                table: table.name.clone(),
            };
            let left = table.read.total.saturating_sub(table.read.records);
            remaining.get_or_create(&label).set(left as i64);
        }
    }
}

/// Copies of tasks that run elsewhere.
fn standbys(registry: &mut Registry, pipelines: &[Pipeline]) {
    let lag = Family::<StandbyLabel, Gauge>::default();
    registry.register(
        "standby_lag_records",
        "Changelog records that the standby has not read",
        lag.clone(),
    );
    for pipeline in pipelines {
        for standby in &pipeline.standbys {
            let label = StandbyLabel {
                pipeline: pipeline.name.clone(),
                task: standby.task.clone(),
            };
            if let Some(records) = standby.lag {
                lag.get_or_create(&label).set(records);
            }
        }
    }
}

impl Node {
    /// OpenMetrics text, made anew from the status at every call.
    pub fn metrics_text(&self) -> String {
        let status = self.status();
        let mut registry = Registry::with_prefix("wasmill");
        let lag = Family::<TaskLabel, Gauge>::default();
        registry.register(
            "task_lag_records",
            "Records on the broker that the task has not processed",
            lag.clone(),
        );
        let restoring = Family::<TaskLabel, Gauge>::default();
        registry.register(
            "task_restore_remaining_records",
            "Changelog records still to restore",
            restoring.clone(),
        );
        let states = Family::<StateLabel, Gauge>::default();
        registry.register("tasks", "Tasks by state", states.clone());
        let uptime = Gauge::<i64>::default();
        registry.register("uptime_milliseconds", "Since the node started", uptime.clone());
        uptime.set(status.uptime_ms as i64);
        versions(&mut registry, &status.pipelines);
        globals(&mut registry, &status.pipelines);
        standbys(&mut registry, &status.pipelines);
        let mut counters: BTreeMap<String, Family<PipelineLabel, Counter>> = BTreeMap::new();
        for pipeline in &status.pipelines {
            let name = &pipeline.name;
            for (counter, value) in &pipeline.counters {
                let family = counters.entry(counter.replace('-', "_")).or_default();
                family
                    .get_or_create(&PipelineLabel { pipeline: name.clone() })
                    .inc_by(*value);
            }
            for task in &pipeline.tasks {
                let state = StateLabel {
                    pipeline: name.clone(),
                    state: task.state.clone(),
                };
                states.get_or_create(&state).inc();
                let label = TaskLabel {
                    pipeline: name.clone(),
                    task: task.task.clone(),
                    thread: task.thread.clone(),
                };
                if let Some(records) = task.lag {
                    lag.get_or_create(&label).set(records);
                }
                if let Some(restored) = task.restored {
                    restoring
                        .get_or_create(&label)
                        .set(restored.total.saturating_sub(restored.records) as i64);
                }
            }
        }
        for (name, family) in counters {
            let help = format!("{} since the node started", name.replace('_', " "));
            registry.register(name, help, family);
        }
        self.add_requests(&mut registry);
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => format!("# failed to write the metrics: {error}\n"),
        }
    }

    /// HTTP requests of modules, by step.
    fn add_requests(&self, registry: &mut Registry) {
        let requests = Family::<RequestLabel, Counter>::default();
        let bytes = Family::<StepLabel, Counter>::default();
        let milliseconds = Family::<StepLabel, Counter>::default();
        registry.register(
            "http_requests",
            "Requests of modules by outcome: ok is a response of any status",
            requests.clone(),
        );
        registry.register("http_received_bytes", "Bodies of the responses", bytes.clone());
        registry.register(
            "http_milliseconds",
            "Time of all requests together, waiting for their turn included",
            milliseconds.clone(),
        );
        for ((pipeline, step), counts) in self.outbound.counts() {
            let label = StepLabel { pipeline, step };
            for (outcome, count) in counts.requests() {
                let (pipeline, step) = (label.pipeline.clone(), label.step.clone());
                let label = RequestLabel {
                    pipeline,
                    step,
                    outcome,
                };
                requests.get_or_create(&label).inc_by(count);
            }
            bytes.get_or_create(&label).inc_by(counts.received_bytes());
            let ms = u64::try_from(counts.time().as_millis()).unwrap_or(u64::MAX);
            milliseconds.get_or_create(&label).inc_by(ms);
        }
    }
}
