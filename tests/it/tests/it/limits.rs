//! A guest that never comes back or takes all memory ends with its task, and nothing else does.

use it::node::{Broker, Node, STOP, Setup, TASKS};
use it::{place, until, within};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A pipeline whose module misbehaves at the value `boom`, the third record.
fn write_pipeline(dir: &Path, mode: &str) -> Option<String> {
    fs::copy(place::guest("misbehave")?, dir.join("misbehave.wasm")).unwrap();
    let text = format!(
        r#"wasmill = 1
name = "bad"

[sources.in]
topic = "in"
key = "string"
value = "string"
start = "earliest"
create = {{ partitions = 1 }}

[steps.odd]
from = "in"
module = "./misbehave.wasm"
params = {{ mode = "{mode}" }}
limits = {{ call = "200ms", memory = "8MiB" }}

[sinks.out]
from = "odd"
topic = "out"
create = {{ partitions = 1 }}
"#
    );
    let path = dir.join("bad.toml");
    fs::write(&path, text).unwrap();
    fs::write(dir.join("in.txt"), "a\nb\nboom\nc\n").unwrap();
    Some(path.display().to_string())
}

fn stops_its_task_only(mode: &str, cause: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some(pipeline) = write_pipeline(dir.path(), mode) else {
        return;
    };
    let setup = Setup::new(dir.path(), &Broker::Embedded);
    let node = setup.start();
    node.ask(&["apply", "--yes", &pipeline]).done();
    node.ask(&[
        "module",
        "add",
        &place::guest("tokenize").unwrap().display().to_string(),
    ])
    .done();
    node.ask(&["apply", "--yes", "examples/word-count/pipeline.toml"])
        .done();
    node.ask(&["produce", "in", &dir.path().join("in.txt").display().to_string()])
        .done();

    until("the pipeline failed", TASKS, || {
        node.pipeline("bad").filter(|p| p["state"] == "failed")
    });
    let shown = node.ask(&["status"]).done().out;
    for part in ["bad task 0_0: stopped", "step `odd` (misbehave@0.1.0) at in-0-2", cause] {
        assert!(shown.contains(part), "`{part}` is not in the status:\n{shown}");
    }
    assert!(
        node.log().contains("step `odd` (misbehave@0.1.0) at in-0-2"),
        "{}",
        node.log()
    );
    // What came before the record was done, and nothing after it.
    let out = node.ask(&["consume", "out", "--as", "text"]).done().out;
    assert_eq!(out, "a\nb\n");

    second_pipeline_goes_on(&node, dir.path());
    node.stop(&["step `odd` (misbehave@0.1.0) at in-0-2"]);
}

fn second_pipeline_goes_on(node: &Node, dir: &Path) {
    fs::write(dir.join("lines.txt"), "to be or not to be\n").unwrap();
    node.ask(&["produce", "lines", &dir.join("lines.txt").display().to_string()])
        .done();
    let counted = within(TASKS, || {
        let told = node.ask(&["query", "word-count", "counts", "--key", "be", "--format", "json"]);
        (told.code == 0 && told.json()[0]["value"] == 2).then_some(())
    });
    assert!(counted.is_some(), "word-count does not go on:\n{}", node.log());
    assert_eq!(node.pipeline("word-count").unwrap()["state"], "running");
}

#[test]
fn an_endless_loop() {
    stops_its_task_only("loop", "`process` ran longer than 200 ms (`limits.call`)");
}

#[test]
fn a_memory_hog() {
    stops_its_task_only("hog", "`limits.memory` is 8MiB");
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn run_exits_with_the_cause(mode: &str, cause: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some(pipeline) = write_pipeline(dir.path(), mode) else {
        return;
    };
    let setup = Setup::new(dir.path(), &Broker::Embedded);
    let log = dir.path().join("run.log");
    let said = || fs::read_to_string(&log).unwrap();
    let mut command: Command = setup.command(&["run", &pipeline]);
    let child = command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let node = until("`run` says where it listens", TASKS, || {
        let said = said();
        let line = said.lines().find(|line| line.starts_with("wasmill node "))?;
        Some(line.split(" on ").nth(1)?.split(',').next()?.to_owned())
    });
    let input = dir.path().join("in.txt").display().to_string();
    until("the topic is there", TASKS, || {
        let mut produce = it::node::wasmill();
        let done = produce
            .env("WASMILL_NODE", &node)
            .args(["produce", "in", &input])
            .output()
            .unwrap();
        done.status.success().then_some(())
    });
    let status = until("`run` ends", STOP, || running.0.try_wait().unwrap());
    let said = said();
    assert_eq!(status.code(), Some(1), "{said}");
    let last: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    let last = last.join("\n");
    for part in ["bad", "in-0-2", cause] {
        assert!(last.contains(part), "`{part}` is not in what `run` says last:\n{said}");
    }
}

#[test]
fn run_ends_at_an_endless_loop() {
    run_exits_with_the_cause("loop", "`limits.call`");
}

#[test]
fn run_ends_at_a_memory_hog() {
    run_exits_with_the_cause("hog", "`limits.memory`");
}
