//! `wasmill dev`: saves are taken over with the state kept, and what does not build leaves the version before running.

use it::node::{Node, Setup, TASKS};
use it::{place, until, within};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A compiler on a machine with other work.
const BUILT: Duration = Duration::from_secs(240);

const PIPELINE: &str = r#"wasmill = 1
name = "developed"

[sources.in]
topic = "in"
value = "string"
start = "earliest"
create = { partitions = 1 }

[steps.shout]
from = "in"
module = "./shout.wasm"

[steps.counts]
op = "count"
from = "shout"
group-by = "value"

[sinks.out]
from = "counts"
topic = "out"
create = { partitions = 1 }
"#;

/// `wasmill new` would write the same, with more around it.
fn project(dir: &Path) {
    let sdk = place::root().join("guest-sdk/rust");
    let manifest = fs::read_to_string(place::root().join("tests/guests/talk/Cargo.toml")).unwrap();
    let manifest = manifest
        .replace("name = \"talk\"", "name = \"shout\"")
        .replace("../../../guest-sdk/rust", &sdk.display().to_string());
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    fs::write(dir.join("pipeline.toml"), PIPELINE).unwrap();
    source(dir, "value.to_uppercase()");
}

fn source(dir: &Path, body: &str) {
    let text = format!("fn shout(value: &str) -> String {{\n    {body}\n}}\n\nwasmill_guest::map_values!(shout);\n");
    fs::write(dir.join("src/lib.rs"), text).unwrap();
}

fn module(node: &Node) -> Option<String> {
    Some(node.pipeline("developed")?["modules"]["shout"].as_str()?.to_owned())
}

fn counts(node: &Node) -> Vec<(String, u64)> {
    let entry = |e: &Value| (e["key"].as_str().unwrap().to_owned(), e["value"].as_u64().unwrap());
    node.entries("developed", "counts").iter().map(entry).collect()
}

fn counted(node: &Node, expected: &[(&str, u64)]) {
    let expected: Vec<(String, u64)> = expected.iter().map(|(key, n)| ((*key).to_owned(), *n)).collect();
    let mut last = Vec::new();
    let done = within(TASKS, || {
        node.pipeline("developed")
            .filter(|p| p["state"] == "running" && p["lag"] == 0)?;
        last = counts(node);
        (last == expected).then_some(())
    });
    assert!(done.is_some(), "counted {last:?}, not {expected:?}\n{}", node.log());
}

fn says(node: &Node, from: usize, part: &str) -> usize {
    until(part, BUILT, || {
        node.log()
            .get(from..)
            .is_some_and(|log| log.contains(part))
            .then_some(())
    });
    node.log().len()
}

#[test]
fn a_save_is_swapped_in_and_an_error_is_not() {
    // Where guests can be built, they were.
    if place::guest("talk").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("shout");
    project(&folder);
    let target = std::env::var_os("WASMILL_GUESTS").map(|guests| Path::new(&guests).join("../guests"));
    let mut setup = Setup::new(dir.path(), &it::node::Broker::Embedded);
    let inherited = ["WASMILL_GUEST_TOOLCHAIN"].map(|name| std::env::var(name).ok().map(|value| (name, value)));
    setup.env.extend(inherited.into_iter().flatten());
    setup
        .env
        .push(("CARGO_TARGET_DIR", target.unwrap().display().to_string()));
    setup.threads = 1;
    let node = setup.start_as(&["dev", &folder.display().to_string()]);
    let at = says(&node, 0, "running developed");
    let first = module(&node).unwrap();
    assert!(first.starts_with("shout@0.1.0+dev."), "{first}");
    produce(&node, "a\nb\na\n");
    counted(&node, &[("A", 2), ("B", 1)]);

    // State stays: what was counted goes on.
    source(&folder, "format!(\"{}!\", value.to_uppercase().trim_end_matches('A'))");
    let at = says(&node, at, "swapped in, ");
    let second = module(&node).unwrap();
    assert_ne!(first, second);
    produce(&node, "b\na\n");
    counted(&node, &[("!", 1), ("A", 2), ("B", 1), ("B!", 1)]);

    source(&folder, "value.to_uppercase(");
    let at = says(&node, at, "what ran before runs on");
    assert_eq!(module(&node), Some(second.clone()));
    produce(&node, "b\n");
    counted(&node, &[("!", 1), ("A", 2), ("B", 1), ("B!", 2)]);

    fs::write(
        folder.join("pipeline.toml"),
        PIPELINE.replace("[steps.counts]\nop", "[steps.counts]\nopp"),
    )
    .unwrap();
    says(&node, at, "missing-key");
    let at = says(&node, at, "what ran before runs on");
    fs::write(folder.join("pipeline.toml"), PIPELINE).unwrap();
    source(&folder, "value.to_lowercase()");
    says(&node, at, "swapped in, ");
    produce(&node, "B\n");
    counted(&node, &[("!", 1), ("A", 2), ("B", 1), ("B!", 2), ("b", 1)]);
}

fn produce(node: &Node, lines: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), lines).unwrap();
    node.ask(&["produce", "in", &file.path().display().to_string(), "--as", "text"])
        .done();
}
