//! The contract's description as the rest of the host knows it.

use sha2::{Digest, Sha256};
use topology::description::{
    Attribute, CapabilityDescription, ModuleDescription, ParameterDescription, Plan, PlanBinding, PlanFunction,
    PlanNode, PortDescription, StoreDescription, World,
};

use crate::bindings::exports::wasmill::streams::topology as topology_wit;
use crate::bindings::wasmill::streams::description as wit;

/// A version stands in messages, file names and `name@version`.
const VERSION_BYTES_MAX: usize = 64;

/// # Errors
/// When the module gives itself no usable name or version. Everything else that it says is checked by `pipeline`,
/// whose words they are.
pub(crate) fn convert(described: wit::Description, digest: &str) -> Result<ModuleDescription, String> {
    if let Some(problem) = topology::name_problem(&described.name) {
        return Err(format!(
            "it calls itself `{}`: {problem}",
            described.name.escape_debug()
        ));
    }
    let version = &described.version;
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '\\' | '@');
    if version.is_empty() || version.len() > VERSION_BYTES_MAX || version.starts_with('.') || version.contains(odd) {
        return Err(format!(
            "its version is `{}`: a version has 1 to {VERSION_BYTES_MAX} bytes without white space, `/`, `\\` and `@`, \
             and does not begin with a dot",
            version.escape_debug()
        ));
    }
    Ok(ModuleDescription {
        name: described.name,
        version: described.version,
        summary: described.summary,
        digest: digest.to_owned(),
        world: World::Processor,
        inputs: described.inputs.into_iter().map(port).collect(),
        outputs: described.outputs.into_iter().map(port).collect(),
        stores: described.stores.into_iter().map(store).collect(),
        parameters: described.parameters.into_iter().map(parameter).collect(),
        capabilities: described.capabilities.into_iter().map(capability).collect(),
        options: attributes(described.options),
        plan: None,
    })
}

/// The topology of an application. What is in it is checked by `pipeline`, as a pipeline with it is read.
pub(crate) fn plan(built: topology_wit::Plan) -> Plan {
    let nodes = built.nodes.into_iter().map(|node| PlanNode {
        name: node.name,
        operator: node.operator,
        inputs: node.inputs,
        options: attributes(node.options),
        functions: node
            .functions
            .into_iter()
            .map(|function| PlanFunction {
                role: function.role,
                number: function.number,
            })
            .collect(),
    });
    let outputs = built.outputs.into_iter().map(|binding| PlanBinding {
        port: binding.port,
        node: binding.node,
    });
    let mut plan = Plan {
        nodes: nodes.collect(),
        outputs: outputs.collect(),
        digest: String::new(),
    };
    // Strings and numbers only: there is nothing in it that JSON could not say.
    let said = serde_json::to_vec(&plan).unwrap_or_default();
    plan.digest = crate::engine::hex(&Sha256::digest(said));
    plan
}

fn attributes(options: Vec<wit::Attribute>) -> Vec<Attribute> {
    options
        .into_iter()
        .map(|option| Attribute {
            name: option.name,
            value: option.value,
        })
        .collect()
}

fn port(port: wit::Port) -> PortDescription {
    PortDescription {
        name: port.name,
        summary: port.summary,
        key_format: port.key_format,
        value_format: port.value_format,
        options: attributes(port.options),
    }
}

fn store(store: wit::Store) -> StoreDescription {
    StoreDescription {
        name: store.name,
        summary: store.summary,
        kind: store.kind,
        schema: store.schema,
        options: attributes(store.options),
    }
}

fn parameter(parameter: wit::Parameter) -> ParameterDescription {
    ParameterDescription {
        name: parameter.name,
        summary: parameter.summary,
        kind: parameter.kind,
        default: parameter.default,
        options: attributes(parameter.options),
    }
}

fn capability(capability: wit::Capability) -> CapabilityDescription {
    CapabilityDescription {
        name: capability.name,
        reason: capability.reason,
        options: attributes(capability.options),
    }
}
