//! Files that are no modules of ours.

use it::node::{Broker, Setup, wasmill};
use it::told::Told;
use std::fs;

const FILE: &str = r#"wasmill = 1
name = "wrong"

[sources.lines]
topic = "lines"
value = "string"
create = { partitions = 2 }

[steps.words]
from = "lines"
module = "./module.wasm"

[sinks.o]
from = "words"
topic = "o"
create = { partitions = 2 }
"#;

/// `check`, `module add` and `apply` all say `parts`, and nothing is registered.
fn is_refused(bytes: &[u8], parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = dir.path().join("pipeline.toml");
    let module = dir.path().join("module.wasm");
    fs::write(&pipeline, FILE).unwrap();
    fs::write(&module, bytes).unwrap();
    let told = Told::by(wasmill().arg("check").arg(&pipeline)).exits(1).says(parts);
    told.says(&["pipeline.toml:11:10"]);
    let node = Setup::new(dir.path(), &Broker::Embedded).start();
    let (pipeline, module) = (pipeline.display().to_string(), module.display().to_string());
    node.ask(&["module", "add", &module]).exits(1).says(parts);
    node.ask(&["apply", "--yes", &pipeline]).exits(1).says(parts);
    assert_eq!(node.get("/v1/modules").unwrap(), serde_json::json!([]));
    assert_eq!(node.get("/v1/pipelines").unwrap(), serde_json::json!([]));
    node.stop(&[]);
}

#[test]
fn no_webassembly() {
    is_refused(
        b"hello, world",
        &["no WebAssembly at all, not a WebAssembly component", "wasmill build"],
    );
}

#[test]
fn a_core_module() {
    let core = wat::parse_str("(module (func (export \"run\")))").unwrap();
    is_refused(
        &core,
        &[
            "a core WebAssembly module, not a WebAssembly component",
            "wasmill componentize",
        ],
    );
}

#[test]
fn a_component_of_somebody_else() {
    let other = wat::parse_str(r#"(component (instance $i) (export "acme:tools/run@1.0.0" (instance $i)))"#).unwrap();
    is_refused(
        &other,
        &[
            "does not export `wasmill:streams/module@0.1.0`",
            "`acme:tools/run@1.0.0`",
        ],
    );
}

/// Both versions are named.
#[test]
fn another_version_of_the_contract() {
    let newer = wat::parse_str(
        r#"(component
            (instance $i)
            (export "wasmill:streams/module@0.9.0" (instance $i))
            (export "wasmill:streams/processing@0.9.0" (instance $i)))"#,
    )
    .unwrap();
    is_refused(&newer, &["wasmill:streams@0.9.0", "wasmill:streams@0.1.0"]);
}
