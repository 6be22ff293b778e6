//! What a module writes and what passes between steps, looked at while it runs.

use it::node::{Broker, Node, Setup, TASKS};
use it::{place, until};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PIPELINE: &str = r#"wasmill = 1
name = "talking"

[sources.in]
topic = "in"
key = "string"
value = "string"
start = "earliest"
create = { partitions = 2 }

[steps.say]
from = "in"
module = "./talk.wasm"

[steps.counts]
op = "count"
from = "say"
group-by = "value"
emit = "on-commit"

[sinks.out]
from = "counts"
topic = "out"
create = { partitions = 1 }
"#;

/// Nobody goes on reading them when the test fails.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Reader {
    fn start(node: &Node, words: &[&str]) -> Self {
        let child = it::node::wasmill()
            .env("WASMILL_NODE", &node.address)
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    fn lines(&mut self, count: usize) -> Vec<String> {
        let out = BufReader::new(self.0.stdout.take().unwrap());
        out.lines().take(count).map(Result::unwrap).collect()
    }
}

fn started(dir: &Path) -> Option<(Setup, Node)> {
    fs::copy(place::guest("talk")?, dir.join("talk.wasm")).unwrap();
    fs::write(dir.join("pipeline.toml"), PIPELINE).unwrap();
    let setup = Setup::new(dir, &Broker::Embedded);
    let node = setup.start();
    let file = dir.join("pipeline.toml").display().to_string();
    node.ask(&["apply", "--yes", &file]).done();
    node.running("talking");
    Some((setup, node))
}

fn produce(node: &Node, dir: &Path, records: &[Value]) {
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    let file = dir.join("in.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    node.ask(&["produce", "in", &file.display().to_string()]).done();
}

fn record(value: &str, partition: i32) -> Value {
    json!({ "key": "k", "value": value, "partition": partition, "timestamp": 7 })
}

fn lines(node: &Node, words: &[&str]) -> Vec<Value> {
    let out = node.ask(&[&["logs", "--format", "json"], words].concat()).done().out;
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn logs_name_the_record_and_are_chosen_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_, node)) = started(dir.path()) else { return };
    produce(
        &node,
        dir.path(),
        &[
            record("a", 0),
            record("b", 1),
            record("warn c", 1),
            record("debug d", 1),
        ],
    );
    let said = until("three lines", TASKS, || {
        let said = lines(&node, &["talking"]);
        (said.len() >= 3).then_some(said)
    });
    let warning = said.iter().find(|line| line["level"] == "warn").unwrap();
    assert_eq!(warning["record"], json!({ "topic": "in", "partition": 1, "offset": 1 }));
    for (field, expected) in [
        ("message", "saw warn c"),
        ("pipeline", "talking"),
        ("step", "say"),
        ("task", "0_1"),
        ("module", "talk@0.1.0"),
    ] {
        assert_eq!(warning[field], expected, "{field}");
    }
    assert!(
        said.iter().all(|line| line["message"] != "saw debug d"),
        "nobody followed it"
    );
    for (filter, count) in [
        (&["--level", "warn"][..], 1),
        (&["--step", "say"], 3),
        (&["--step", "counts"], 0),
        (&["--since", "1h"], 3),
        (&["--since", "2999-01-01T00:00:00Z"], 0),
        (&["--tail", "2"], 2),
    ] {
        assert_eq!(lines(&node, filter).len(), count, "{filter:?}");
    }
    let text = node.ask(&["logs", "--level", "warn"]).done().out;
    assert!(
        text.contains("WARN  talking/say 0_1 talk@0.1.0 in-1-1: saw warn c"),
        "{text}"
    );

    // Finer levels are on while somebody follows them.
    let mut reader = Reader::start(
        &node,
        &["logs", "-f", "--level", "debug", "--tail", "0", "--format", "json"],
    );
    let (more, dir) = (dir.path(), &node);
    let followed = std::thread::scope(|scope| {
        let following = scope.spawn(|| reader.lines(1));
        until("a line at level debug", TASKS, || {
            produce(dir, more, &[record("debug e", 0)]);
            following.is_finished().then_some(())
        });
        following.join().unwrap()
    });
    let line: Value = serde_json::from_str(&followed[0]).unwrap();
    assert_eq!(
        (&line["level"], &line["message"]),
        (&json!("debug"), &json!("saw debug e"))
    );
    node.ask(&["logs", "nothing"]).exits(1).says(&["nothing", "talking"]);
    node.ask(&["logs", "--level", "loud"])
        .exits(1)
        .says(&["error, warn, info, debug, trace"]);
    node.stop(&["saw warn c"]);
}

#[test]
fn a_tap_shows_records_with_their_origin_and_costs_nothing_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_, node)) = started(dir.path()) else { return };
    let tapped = |words: &[&str]| {
        let limit = words[2].parse().unwrap();
        let mut reader = Reader::start(&node, &[&["tap", "talking"], &words[..1], &words[1..]].concat());
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| reader.lines(limit));
            until("tapped records", TASKS, || {
                produce(&node, dir.path(), &[record("a", 1), record("b", 0)]);
                reading.is_finished().then_some(())
            });
            reading.join().unwrap()
        })
    };
    let lines = tapped(&["say", "--limit", "3"]);
    for line in &lines {
        let line: Value = serde_json::from_str(line).unwrap();
        let (value, task, partition) = if line["value"] == "A" {
            ("A", "0_1", 1)
        } else {
            ("B", "0_0", 0)
        };
        assert_eq!((&line["value"], &line["task"]), (&json!(value), &json!(task)));
        assert_eq!(
            (&line["key"], &line["timestamp"], &line["step"]),
            (&json!("k"), &json!(7), &json!("say"))
        );
        let origin = &line["origin"];
        assert_eq!(
            (&origin["topic"], &origin["partition"]),
            (&json!("in"), &json!(partition))
        );
    }
    // What a table sends on at a commit, a source, and a sink.
    let table: Value = serde_json::from_str(&tapped(&["counts", "--limit", "1"])[0]).unwrap();
    assert!(table["key"] == "A" || table["key"] == "B", "{table}");
    assert!(table["value"].is_i64(), "{table}");
    let source: Value = serde_json::from_str(&tapped(&["in", "--limit", "1"])[0]).unwrap();
    assert!(source["value"] == "a" || source["value"] == "b", "{source}");
    tapped(&["out", "--limit", "1"]);
    node.ask(&["tap", "talking", "nobody"])
        .exits(1)
        .says(&["no step `nobody`", "say"]);
    node.ask(&["tap", "talking", "say.up"])
        .exits(1)
        .says(&["no output `up`"]);
    node.stop(&[]);
}

/// More at once than the queue holds: the pipeline does not wait, and what is left out is said.
#[test]
fn what_a_tap_does_not_show_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_, node)) = started(dir.path()) else { return };
    let many: Vec<Value> = (0..20_000).map(|n| record(&format!("v{}", n % 7), 0)).collect();
    let mut reader = Reader::start(&node, &["tap", "talking", "in"]);
    let (out, err) = (reader.0.stdout.take().unwrap(), reader.0.stderr.take().unwrap());
    let said = std::thread::scope(|scope| {
        scope.spawn(move || BufReader::new(out).lines().map_while(Result::ok).for_each(drop));
        let saying = scope.spawn(|| BufReader::new(err).lines().next().unwrap().unwrap());
        until("it is said", TASKS, || {
            produce(&node, dir.path(), &many);
            saying.is_finished().then_some(())
        });
        drop(reader);
        saying.join().unwrap()
    });
    assert!(said.contains("records passed that are not shown"), "{said}");
    node.stop(&["messages left out"]);
}

#[test]
fn a_case_is_made_of_what_runs_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_, node)) = started(dir.path()) else { return };
    produce(&node, dir.path(), &[record("a", 0), record("b", 1), record("a", 1)]);
    until("all is counted", TASKS, || {
        node.pipeline("talking").filter(|p| p["lag"] == 0)
    });
    let project = dir.path().display().to_string();
    let told = node
        .ask(&[
            "test", &project, "--record", "talking", "--from", "earliest", "--stores",
        ])
        .done();
    assert!(told.out.contains("recorded-1: 3 inputs, 2 outputs"), "{}", told.out);
    let told = told.says(&["out: "]);
    assert!(told.out.contains("ok     recorded-1"), "{}", told.out);
    let input = fs::read_to_string(dir.path().join("cases/recorded-1/input.jsonl")).unwrap();
    assert_eq!(input.lines().count(), 3);
    assert!(
        input.contains(r#"{"topic":"in","key":"k","value":"a","timestamp":7}"#),
        "{input}"
    );
    let expected = fs::read_to_string(dir.path().join("cases/recorded-1/expected.jsonl")).unwrap();
    assert!(expected.contains(r#""store":"counts""#), "{expected}");
    node.ask(&["test", &project]).done();

    // Another version gives something else, and the case says so.
    let text = expected.replace("\"A\"", "\"X\"");
    fs::write(dir.path().join("cases/recorded-1/expected.jsonl"), text).unwrap();
    node.ask(&["test", &project]).exits(5);
    node.ask(&["test", &project, "--record", "talking", "--name", "recorded-1"])
        .exits(1)
        .says(&["is there already"]);
    let newest = node
        .ask(&["test", &project, "--record", "talking", "--limit", "1"])
        .done();
    assert!(newest.out.contains("recorded-2: 1 inputs"), "{}", newest.out);
    node.stop(&[]);
}

#[test]
fn variables_choose_what_is_tested() {
    let dir = tempfile::tempdir().unwrap();
    let text = "wasmill = 1\nname = \"vars\"\n[vars]\ninput = \"a\"\n[sources.in]\ntopic = \"${input}\"\nvalue = \"string\"\n\
                [sinks.out]\nfrom = \"in\"\ntopic = \"out\"\n";
    fs::write(dir.path().join("pipeline.toml"), text).unwrap();
    let case = dir.path().join("cases/one");
    fs::create_dir_all(&case).unwrap();
    fs::write(case.join("input.jsonl"), "{\"topic\": \"b\", \"value\": \"x\"}\n").unwrap();
    fs::write(case.join("expected.jsonl"), "{\"topic\": \"out\", \"value\": \"x\"}\n").unwrap();
    fs::write(dir.path().join("b.toml"), "input = \"b\"\n").unwrap();
    let test = |words: &[&str]| {
        let mut command: Command = it::node::wasmill();
        it::told::Told::by(command.arg("test").arg(dir.path()).args(words))
    };
    test(&[]).exits(1).says(&["no topic `b`"]);
    test(&["--set", "input=b"]).done();
    test(&["--vars", &dir.path().join("b.toml").display().to_string()]).done();
    test(&["--set", "input"]).exits(1).says(&["NAME=VALUE"]);
    test(&["--set", "output=b"]).exits(1).says(&["output", "[vars]"]);
}
