//! From the text of a pipeline file to a topology, with the node's or the command line's modules.

use crate::api::ApplyRequest;
use crate::refusal::Refusal;
use pipeline::{ModuleRef, Undescribed, Vars};
use std::path::Path;
use topology::Topology;
use topology::description::ModuleDescription;

/// # Errors
/// All problems of the file, rendered with their places.
pub(crate) fn parsed(
    request: &ApplyRequest,
    describe: &dyn Fn(&ModuleRef) -> Result<ModuleDescription, Undescribed>,
) -> Result<Topology, Refusal> {
    let name = if request.file_name.is_empty() {
        "pipeline.toml"
    } else {
        &request.file_name
    };
    let mut vars = Vars::default();
    for (variable, value) in &request.vars {
        vars.set(&format!("{variable}={value}"))
            .map_err(|e| Refusal::invalid("invalid-variable", e))?;
    }
    pipeline::parse(&request.file, name, &vars, describe)
        .map(|pipeline| pipeline.topology)
        .map_err(|diagnostics| Refusal::invalid("invalid-pipeline", diagnostics.render(false)))
}

/// A pipeline file for a bare module: a topic for each port, of the port's name.
pub(crate) fn file_for(description: &ModuleDescription, module: &Path) -> String {
    let file = module
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut text = format!("wasmill = 1\nname = \"{}\"\n", description.name);
    let format = |side: &str, format: &str| match format {
        "any" | "" => String::new(),
        known => format!("{side} = \"{known}\"\n"),
    };
    for port in &description.inputs {
        let (key, value) = (format("key", &port.key_format), format("value", &port.value_format));
        let name = &port.name;
        text += &format!("\n[sources.{name}]\ntopic = \"{name}\"\n{key}{value}create = {{ partitions = 1 }}\n");
    }
    let from = match description.inputs.as_slice() {
        [only] => format!("\"{}\"", only.name),
        many => {
            let ports: Vec<String> = many.iter().map(|port| format!("{0} = \"{0}\"", port.name)).collect();
            format!("{{ {} }}", ports.join(", "))
        }
    };
    text += &format!("\n[steps.module]\nfrom = {from}\nmodule = \"./{file}\"\n");
    for port in &description.outputs {
        let from = if description.outputs.len() == 1 {
            "module".to_owned()
        } else {
            format!("module.{}", port.name)
        };
        let name = &port.name;
        text += &format!("\n[sinks.{name}]\nfrom = \"{from}\"\ntopic = \"{name}\"\ncreate = {{ partitions = 1 }}\n");
    }
    text
}
