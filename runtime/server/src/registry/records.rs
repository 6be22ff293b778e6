//! Records of the control topic and what a reader knows after reading them.

use super::Error;
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use topology::Topology;
use worker::control::PipelineRecord;

const MODULE_PREFIX: &str = "module:";

/// `module:NAME@VERSION`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleRecord {
    pub name: String,
    pub version: String,
    /// Hex sha-256 of the component.
    pub digest: String,
    pub bytes: u64,
    /// Milliseconds since 1970 UTC.
    pub added_at: i64,
    pub description: topology::description::ModuleDescription,
}

impl ModuleRecord {
    /// `name@version`.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    pub fn key(&self) -> String {
        format!("{MODULE_PREFIX}{}", self.id())
    }
}

/// What the server keeps in [`PipelineRecord::rest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineDetails {
    pub topology: Topology,
    /// Tasks of each sub-topology: the partition count of its sources.
    pub tasks: Vec<i32>,
    /// Partitions of every topic that it writes by key.
    pub partitions: BTreeMap<String, i32>,
    /// The text of the file as it was applied, and the variables.
    pub file: String,
    pub vars: BTreeMap<String, String>,
    /// Milliseconds since 1970 UTC.
    pub applied_at: i64,
    /// The node that applied it.
    pub applied_by: String,
    /// Which module the applied file names in each step, by digest. Another one runs there after a swap.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub file_modules: BTreeMap<String, String>,
    /// The topology with the new versions, while a swap is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Topology>,
}

impl PipelineDetails {
    /// Makes these the details of `record`.
    ///
    /// # Errors
    /// None that these types can cause; serde's are passed on.
    pub fn put_into(&self, record: &mut PipelineRecord) -> Result<(), Refusal> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(rest)) => {
                record.rest = rest;
                Ok(())
            }
            _ => Err(Refusal::ours("failed to write the pipeline as JSON")),
        }
    }
}

/// A record that is to be written.
#[expect(
    clippy::large_enum_variant,
    reason = "few are made, and each goes to a topic at once"
)]
#[derive(Clone, Debug)]
pub enum Entry {
    Module(Box<ModuleRecord>),
    Pipeline(PipelineRecord),
}

impl Entry {
    pub(super) fn to_json(&self) -> Vec<u8> {
        let json = match self {
            Self::Module(module) => serde_json::to_vec(module),
            Self::Pipeline(pipeline) => pipeline.encode(),
        };
        // These types have string keys only, so writing them as JSON cannot fail.
        json.unwrap_or_default()
    }
}

/// A pipeline as it stands in the control topic.
#[derive(Clone, Debug)]
pub struct PipelineEntry {
    pub record: PipelineRecord,
    pub details: PipelineDetails,
}

/// Everything that the control topic says.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By `name@version`.
    pub modules: BTreeMap<String, ModuleRecord>,
    pub pipelines: BTreeMap<String, PipelineEntry>,
}

impl View {
    pub(super) fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), Error> {
        let wrong = |cause: serde_json::Error| Error::Record {
            key: key.to_owned(),
            cause: cause.to_string(),
        };
        if let Some(id) = key.strip_prefix(MODULE_PREFIX) {
            match value {
                Some(value) => {
                    self.modules
                        .insert(id.to_owned(), serde_json::from_slice(value).map_err(wrong)?);
                }
                None => {
                    self.modules.remove(id);
                }
            }
        } else if let Some(name) = worker::control::pipeline_of(key.as_bytes()) {
            match value {
                Some(value) => {
                    let record = PipelineRecord::decode(value).map_err(wrong)?;
                    let details = serde_json::Value::Object(record.rest.clone());
                    let details = serde_json::from_value(details).map_err(wrong)?;
                    self.pipelines
                        .insert(name.to_owned(), PipelineEntry { record, details });
                }
                None => {
                    self.pipelines.remove(name);
                }
            }
        }
        Ok(())
    }

    /// A module by digest.
    pub fn module_by_digest(&self, digest: &str) -> Option<&ModuleRecord> {
        self.modules.values().find(|module| module.digest == digest)
    }

    /// Refuses a topology with a module that is not registered, as `name@version`: it may have been removed since it was
    /// looked for.
    pub fn check_modules(&self, topology: &Topology) -> Result<(), String> {
        let gone = topology.nodes.iter().find_map(|node| match &node.kind {
            topology::NodeKind::Module(step) if self.module_by_digest(&step.digest).is_none() => Some(step),
            _ => None,
        });
        match gone {
            Some(step) => Err(format!(
                "{}@{} was removed by somebody else meanwhile; register it again",
                step.module, step.version
            )),
            None => Ok(()),
        }
    }

    /// Pipelines with a step that runs the module.
    pub fn users_of(&self, digest: &str) -> Vec<&str> {
        let uses = |entry: &PipelineEntry| {
            let next = entry.details.next.iter().flat_map(|next| &next.nodes);
            entry
                .details
                .topology
                .nodes
                .iter()
                .chain(next)
                .any(|node| match &node.kind {
                    topology::NodeKind::Module(step) => step.digest == digest,
                    _ => false,
                })
        };
        self.pipelines
            .iter()
            .filter(|(_, entry)| uses(entry))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}
