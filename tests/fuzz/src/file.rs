//! Files that people write: a pipeline file, variables for it, a node's settings. Parts are separated by a zero byte:
//! `pipeline.toml`, `--vars FILE`, `--set`, `node.toml`.
//!
//! A file that is understood must describe itself, come back from JSON as it went, be compatible with itself and give
//! the same when it is read again; one that is not must have a message.

use std::path::Path;
use std::sync::LazyLock;

use pipeline::{ModuleRef, Undescribed, Vars};
use topology::description::ModuleDescription;

/// A module with most of what a description can say.
const MODULE: &str = r#"{
  "name": "fraud", "version": "1.0.0",
  "inputs": [
    { "name": "in", "key-format": "string", "value-format": "json" },
    { "name": "side", "key-format": "any", "value-format": "bytes", "options": [{ "name": "needs", "value": "[\"origin\"]" }] }
  ],
  "outputs": [{ "name": "out", "key-format": "string", "value-format": "json" },
              { "name": "late", "key-format": "any", "value-format": "any" }],
  "stores": [{ "name": "seen", "kind": "key-value", "schema": 2 }],
  "parameters": [{ "name": "limit", "kind": "integer", "default": "3" }, { "name": "mode", "kind": "string" }]
}"#;

static DESCRIBED: LazyLock<ModuleDescription> = LazyLock::new(|| serde_json::from_str(MODULE).unwrap());

fn describe(reference: &ModuleRef) -> Result<ModuleDescription, Undescribed> {
    match reference {
        ModuleRef::File(path) if path.contains("gone") => Err(Undescribed {
            message: "there is no such file".into(),
            hint: None,
            known: vec!["fraud@1.0.0".into()],
        }),
        ModuleRef::Registered { version, .. } if version == "1" => {
            let one = |description: &mut ModuleDescription| {
                description.inputs.truncate(1);
                description.outputs.truncate(1);
                description.parameters.clear();
            };
            let mut description = DESCRIBED.clone();
            one(&mut description);
            Ok(description)
        }
        _ => Ok(DESCRIBED.clone()),
    }
}

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\0');
    let file = parts.next().unwrap_or_default();
    let mut vars = Vars::default();
    if let Some(Err(diagnostics)) = parts.next().map(|text| vars.file(text, "vars.toml")) {
        assert!(!diagnostics.render(false).is_empty());
    }
    let _ = parts.next().map(|text| vars.set(text));
    if let Some(text) = parts.next() {
        match server::Config::parse(text, Path::new("node.toml")) {
            Ok(config) => drop(config.kafka_settings()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let _ = pipeline::modules(file, &vars);
    match pipeline::parse(file, "pipeline.toml", &vars, &describe) {
        Ok(pipeline) => {
            assert!(!pipeline.topology.describe().is_empty());
            let json = serde_json::to_vec(&pipeline.topology).unwrap();
            let back: topology::Topology = serde_json::from_slice(&json).unwrap();
            assert_eq!(back, pipeline.topology);
            let changes = topology::compatibility(&back, &pipeline.topology);
            assert!(changes.is_empty(), "{changes:?}");
            let again = pipeline::parse(file, "pipeline.toml", &vars, &describe);
            assert_eq!(again.unwrap(), pipeline);
        }
        Err(diagnostics) => {
            assert!(!diagnostics.render(false).is_empty());
            assert!(!diagnostics.render(true).is_empty());
        }
    }
}
