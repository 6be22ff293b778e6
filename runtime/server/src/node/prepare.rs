//! Processors of another version, made beside the running ones on threads of their own (design §11.1).

use super::Node;
use crate::registry::PipelineDetails;
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use sandbox::{InstanceOptions, LogSink, Module, Outside, TaskName};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use task::{Processor, TaskId};
use topology::description::ModuleDescription;
use topology::{ModuleStep, NodeId, NodeKind, Topology};
use worker::control::PipelineRecord;
use worker::swap::{ModuleVersion, Versions};
use worker::{Prepare, Processors};

type Made = Result<Processors, String>;

/// What one thread has asked for: by task, for one version of each step.
#[derive(Default)]
pub(crate) struct Preparations {
    to: Versions,
    asked: HashMap<TaskId, Receiver<Made>>,
}

/// A step as another version of its module runs it: as the record has it with that version, whose parameters may have
/// other defaults; else as it runs now.
pub(crate) fn step_as(record: &PipelineRecord, name: &str, step: &ModuleStep, version: &ModuleVersion) -> ModuleStep {
    recorded(record, name, version).unwrap_or_else(|| ModuleStep {
        module: version.name.clone(),
        version: version.version.clone(),
        digest: version.digest.clone(),
        ..step.clone()
    })
}

fn recorded(record: &PipelineRecord, name: &str, version: &ModuleVersion) -> Option<ModuleStep> {
    let details = serde_json::Value::Object(record.rest.clone());
    let details: PipelineDetails = serde_json::from_value(details).ok()?;
    let topologies = details.next.into_iter().chain([details.topology]);
    let mut nodes = topologies.flat_map(|topology| topology.nodes);
    nodes.find_map(|node| match node.kind {
        NodeKind::Module(step) if node.name == name && step.digest == version.digest => Some(step),
        _ => None,
    })
}

/// Why a module cannot take the place of another in this step.
fn misfit(topology: &Topology, name: &str, step: &ModuleStep, module: &ModuleDescription) -> Option<String> {
    let differ = |what: &str, old: &[String], new: &[String]| {
        (old != new).then(|| {
            format!(
                "`{}@{}` has the {what} {}, and step `{name}` needs {}",
                module.name,
                module.version,
                list(new),
                list(old)
            )
        })
    };
    let names =
        |ports: &[topology::description::PortDescription]| ports.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    let stores: Vec<String> = step
        .stores
        .iter()
        .filter_map(|s| topology.stores.get(*s))
        .map(|s| s.name.strip_prefix(&format!("{name}-")).unwrap_or(&s.name).to_owned())
        .collect();
    let described: Vec<String> = module.stores.iter().map(|s| s.name.clone()).collect();
    differ("inputs", &step.inputs, &names(&module.inputs))
        .or_else(|| differ("outputs", &step.outputs, &names(&module.outputs)))
        .or_else(|| differ("stores", &stores, &described))
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => format!("`{}`", names.join("`, `")),
    }
}

/// What the instances of a pipeline are given beside their settings.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) outside: BTreeMap<NodeId, Arc<dyn Outside>>,
    pub(crate) log: Arc<dyn LogSink>,
}

/// The code of `step`, at node `number`, in a task.
pub(crate) fn processor(
    topology: &Topology,
    id: TaskId,
    number: NodeId,
    step: &ModuleStep,
    module: &Module,
    around: &Around,
) -> Result<Box<dyn Processor>, String> {
    let name = topology.nodes.get(number).map(|n| n.name.as_str()).unwrap_or_default();
    let mut options = InstanceOptions::of_step(
        step,
        TaskName {
            pipeline: topology.name.clone(),
            step: name.to_owned(),
            sub_topology: id.sub_topology,
            partition: id.partition.max(0) as u32,
        },
    );
    options.outside = around.outside.get(&number).cloned();
    options.log = Some(around.log.clone());
    module.instance(options).map_err(|e| e.to_string())
}

/// Loads, compiles, checks and instantiates.
fn make(node: &Node, topology: &Topology, id: TaskId, steps: &[(NodeId, ModuleStep)], around: &Around) -> Made {
    let mut made = Processors::new();
    for (number, step) in steps {
        let name = topology.nodes.get(*number).map(|n| n.name.as_str()).unwrap_or_default();
        let module = node.load(&step.digest).map_err(|r| r.message)?;
        if let Some(misfit) = misfit(topology, name, step, module.description()) {
            return Err(misfit);
        }
        let mut processor = processor(topology, id, *number, step, &module, around)?;
        processor
            .renew()
            .map_err(|failure| format!("`{}` does not start: {failure}", module.name()))?;
        made.insert(*number, processor);
    }
    Ok(made)
}

impl Preparations {
    /// See [`worker::TaskFactory::prepare`].
    #[expect(
        clippy::too_many_arguments,
        reason = "those of the factory's method, and what the factory holds"
    )]
    pub(crate) fn poll(
        &mut self,
        node: &Arc<Node>,
        topology: &Arc<Topology>,
        record: &PipelineRecord,
        id: TaskId,
        from: &Versions,
        to: &Versions,
        around: Around,
    ) -> Prepare {
        if self.to != *to {
            self.asked.clear();
            self.to = to.clone();
        }
        if let Some(asked) = self.asked.get(&id) {
            let made = match asked.try_recv() {
                Err(TryRecvError::Empty) => return Prepare::Later,
                Err(TryRecvError::Disconnected) => Err("preparing it ended without an answer".to_owned()),
                Ok(made) => made,
            };
            self.asked.remove(&id);
            return match made {
                Ok(made) => Prepare::Ready(made),
                Err(reason) => Prepare::Refused(reason),
            };
        }
        let steps = changed(topology, record, id, from, to);
        let (answer, receiver) = bounded(1);
        let (node, topology) = (node.clone(), topology.clone());
        let spawned = std::thread::Builder::new()
            .name(format!("{}-prepare-{id}", topology.name))
            .spawn(move || {
                // Whoever asked may have gone.
                drop(answer.send(make(&node, &topology, id, &steps, &around)));
            });
        match spawned {
            Ok(_) => {
                self.asked.insert(id, receiver);
                Prepare::Later
            }
            Err(cause) => Prepare::Refused(format!("no thread to prepare it on: {cause}")),
        }
    }
}

/// Module steps of a task that run another version.
fn changed(
    topology: &Topology,
    record: &PipelineRecord,
    id: TaskId,
    from: &Versions,
    to: &Versions,
) -> Vec<(NodeId, ModuleStep)> {
    let nodes = topology
        .sub_topologies
        .get(id.sub_topology as usize)
        .map(|s| s.nodes.as_slice());
    let step = |number: &NodeId| {
        let node = topology.nodes.get(*number)?;
        let NodeKind::Module(step) = &node.kind else {
            return None;
        };
        let version = to.get(&node.name)?;
        (from.get(&node.name) != Some(version)).then(|| (*number, step_as(record, &node.name, step, version)))
    };
    nodes.unwrap_or_default().iter().filter_map(step).collect()
}
