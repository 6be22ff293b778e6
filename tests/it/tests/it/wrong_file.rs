//! Pipeline files with mistakes: each is told with its place and a way out, with exit code 1.

use it::node::{Broker, Node, Setup, wasmill};
use it::place;
use it::told::Told;
use std::fs;
use std::path::{Path, PathBuf};

const SOURCE: &str = r#"wasmill = 1
name = "wrong"

[sources.lines]
topic = "lines"
value = "string"
create = { partitions = 2 }
"#;

/// A file of `SOURCE` and more, in a folder of its own.
fn write(dir: &Path, more: &str) -> PathBuf {
    let path = dir.join("pipeline.toml");
    fs::write(&path, format!("{SOURCE}{more}")).unwrap();
    path
}

fn check(more: &str) -> Told {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), more);
    Told::by(wasmill().arg("check").arg(path))
}

fn node(dir: &Path) -> Node {
    Setup::new(dir, &Broker::Embedded).start()
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn an_unknown_key() {
    let told = check(
        "\n[steps.counts]\nop = \"count\"\nfrom = \"lines\"\ngroup_by = \"value\"\n\n[sinks.o]\nfrom = \"counts\"\ntopic = \"o\"\n",
    );
    // Line and column, the key, the nearest match.
    let parts = [
        "pipeline.toml:12:1",
        "a `count` step has no key `group_by`",
        "did you mean `group-by`?",
        "1 problem",
    ];
    told.exits(1).says(&parts);
}

#[test]
fn a_circle() {
    let steps = r#"
[steps.all]
op = "merge"
from = ["lines", "again"]

[steps.again]
op = "select-key"
by = "value"
from = "all"

[sinks.o]
from = "all"
topic = "o"
"#;
    check(steps).exits(1).says(&[
        "error[cycle]",
        "pipeline.toml:11:18",
        "`again` -> `all`",
        "closes the circle",
    ]);
}

#[test]
fn a_port_that_is_not_there() {
    let sink = |from: &str| format!("\n[sinks.o]\nfrom = \"{from}\"\ntopic = \"o\"\n");
    check(&sink("lines.all"))
        .exits(1)
        .says(&["error[unknown-port]", "pipeline.toml:10:8", "`lines` has no ports"]);

    let Some(module) = place::guest("tokenize") else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::copy(module, dir.path().join("tokenize.wasm")).unwrap();
    let steps = "\n[steps.words]\nfrom = \"lines\"\nmodule = \"./tokenize.wasm\"\n";
    let path = write(dir.path(), &format!("{steps}{}", sink("words.outt")));
    let told = Told::by(wasmill().arg("check").arg(&path)).exits(1);
    told.says(&[
        "error[unknown-port]",
        "pipeline.toml:14:8",
        "`words` has no output port `outt`",
        "did you mean `out`?",
    ]);
    let path = write(dir.path(), &format!("{steps}{}", sink("words")));
    Told::by(wasmill().arg("check").arg(&path)).done();
}

#[test]
fn two_stores_of_one_name() {
    let Some(module) = place::guest("dedup") else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::copy(module, dir.path().join("dedup.wasm")).unwrap();
    // The module's store `seen` at step `unique`, and a count whose store is called like its step.
    let steps = r#"
[sources.events]
topic = "events"
key = "string"
value = "json"
create = { partitions = 2 }

[steps.unique]
from = "events"
module = "./dedup.wasm"

[steps.unique-seen]
op = "count"
from = "events"

[sinks.o]
from = "unique"
topic = "o"
key = "string"
value = "json"
"#;
    let path = write(dir.path(), steps);
    let told = Told::by(wasmill().arg("check").arg(&path)).exits(1);
    told.says(&[
        "error[duplicate-store]",
        "two stores are called `unique-seen`",
        "the other one",
        "rename a step",
    ]);
}

#[test]
fn a_module_that_is_missing() {
    let words = |module: &str| {
        format!(
            "\n[steps.words]\nfrom = \"lines\"\nmodule = \"{module}\"\n\n[sinks.o]\nfrom = \"words\"\ntopic = \"o\"\n"
        )
    };
    check(&words("./gone.wasm"))
        .exits(1)
        .says(&["error[unknown-module]", "pipeline.toml:11:10", "gone.wasm"]);

    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let unknown = display(&write(dir.path(), &words("tokenise@1.0.0")));
    let parts = [
        "error[unknown-module]",
        "pipeline.toml:11:10",
        "module `tokenise@1.0.0`: it is not registered",
    ];
    node.ask(&["plan", &unknown]).exits(1).says(&parts);
    if let Some(module) = place::guest("tokenize") {
        node.ask(&["module", "add", &display(&module)]).done();
        node.ask(&["apply", "--yes", &unknown])
            .exits(1)
            .says(&parts)
            .says(&["did you mean `tokenize@1.0.0`?"]);
    }
    let gone = display(&write(dir.path(), &words("./gone.wasm")));
    node.ask(&["apply", "--yes", &gone]).exits(1).says(&["gone.wasm"]);
    assert_eq!(node.get("/v1/pipelines").unwrap(), serde_json::json!([]));
    node.stop(&[]);
}

#[test]
fn a_sink_to_an_unknown_topic() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let steps = "\n[steps.counts]\nop = \"count\"\nfrom = \"lines\"\ngroup-by = \"value\"\n\n[sinks.o]\nfrom = \"counts\"\ntopic = \"nowhere\"\n";
    let path = display(&write(dir.path(), steps));
    let parts = [
        "pipeline.toml",
        "topic `nowhere` is not there",
        "create = { partitions = N }",
    ];
    for command in [&["plan", &path][..], &["apply", "--yes", &path]] {
        node.ask(command).exits(1).says(&parts);
    }
    // Nothing of it was done.
    assert_eq!(node.get("/v1/pipelines").unwrap(), serde_json::json!([]));
    let topics = node.ask(&["topics", "list", "--format", "json"]).done().json();
    assert_eq!(topics, serde_json::json!([]));
    node.ask(&["topics", "create", "nowhere", "--partitions", "2"]).done();
    node.ask(&["plan", &path]).exits(4);
    node.stop(&[]);
}

#[test]
fn a_file_that_is_not_there_and_a_node_that_is_not() {
    Told::by(wasmill().args(["check", "no-such.toml"]))
        .exits(1)
        .says(&["no-such.toml", "No such file"]);
    let told = Told::by(wasmill().args(["status", "--node", "http://127.0.0.1:1"]));
    told.exits(3).says(&[
        "no node answers at http://127.0.0.1:1",
        "hint: start one with `wasmill serve`",
    ]);
    Told::by(wasmill().args(["consume"])).exits(2);
}
