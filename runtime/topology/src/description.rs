//! What a module says about itself: the Rust mirror of `wasmill:streams/description`.
//!
//! `sandbox` makes it from a component and `server` keeps it beside the component's bytes. The words in it are checked
//! by `pipeline` (`check_description`), since kinds, formats and options are pipeline.toml's words.

use serde::{Deserialize, Serialize};

/// Which world of the contract a component was built for, told apart by its exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Exports `processing`: a step of its own.
    #[default]
    Processor,
    /// Exports a topology of its own.
    Application,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ModuleDescription {
    pub name: String,
    /// An exact string; `name@version` is one component for ever.
    pub version: String,
    pub summary: String,
    /// Hex sha-256 of the component's bytes. Not said by the module: the host adds it.
    pub digest: String,
    /// Not said by the module: the host tells it from the exports.
    pub world: World,
    pub inputs: Vec<PortDescription>,
    pub outputs: Vec<PortDescription>,
    pub stores: Vec<StoreDescription>,
    pub parameters: Vec<ParameterDescription>,
    pub capabilities: Vec<CapabilityDescription>,
    pub options: Vec<Attribute>,
    /// Of an application without parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// The topology that an application exports: the Rust mirror of `wasmill:streams/topology`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    pub nodes: Vec<PlanNode>,
    pub outputs: Vec<PlanBinding>,
    /// Hex sha-256 of all that the application said. The host adds it.
    pub digest: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanNode {
    pub name: String,
    pub operator: String,
    pub inputs: Vec<String>,
    pub options: Vec<Attribute>,
    pub functions: Vec<PlanFunction>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanFunction {
    pub role: String,
    pub number: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanBinding {
    pub port: String,
    pub node: String,
}

/// A word of pipeline.toml and its value in TOML's syntax: `retention` and `"7d"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: String,
    pub value: String,
}

/// Options: `kind`, `needs`, and on outputs `keys = "kept"`: every row has the key of its cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PortDescription {
    pub name: String,
    pub summary: String,
    pub key_format: String,
    pub value_format: String,
    pub options: Vec<Attribute>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct StoreDescription {
    pub name: String,
    pub summary: String,
    pub kind: String,
    /// Raised by the author when the bytes in the store change meaning.
    pub schema: u32,
    pub options: Vec<Attribute>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ParameterDescription {
    pub name: String,
    pub summary: String,
    pub kind: String,
    /// In TOML's syntax; `None`: the pipeline must give it.
    pub default: Option<String>,
    pub options: Vec<Attribute>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct CapabilityDescription {
    pub name: String,
    pub reason: String,
    pub options: Vec<Attribute>,
}
