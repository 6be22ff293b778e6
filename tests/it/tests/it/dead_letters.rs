//! Dead letters from the record that fails to the record sent back: complete, found again, and each replayed once.

use it::node::{Broker, Node, Setup, TASKS};
use it::told::Told;
use it::{place, until};
use serde_json::{Value, json};
use std::fs;

/// A broker that has just started loads its coordinators, and librdkafka says at each try that it tries again.
/// What the guest says as it panics, and how much of that is too much; and of two replays at once, one is fenced.
const EXPECTED: [&str; 6] = [
    "Failed to acquire ",
    "guest: panicked at",
    "messages left out",
    "Failed to add partition",
    "fenced by a newer instance",
    "Producer terminating with",
];

/// A pipeline whose module panics at the value `boom`.
struct Story {
    name: String,
    dir: tempfile::TempDir,
    setup: Setup,
}

impl Story {
    fn new(broker: &Broker) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(place::guest("misbehave")?, dir.path().join("misbehave.wasm")).unwrap();
        let name = place::unique("letters");
        let text = format!(
            r#"wasmill = 1
name = "{name}"

[defaults]
dead-letters = "{name}.dead"
on-error = "dead-letter"

[sources.in]
topic = "{name}.in"
key = "string"
value = "string"
start = "earliest"
create = {{ partitions = 2 }}

[steps.odd]
from = "in"
module = "./misbehave.wasm"

[sinks.out]
from = "odd"
topic = "{name}.out"
create = {{ partitions = 1 }}
"#
        );
        fs::write(dir.path().join("pipeline.toml"), text).unwrap();
        let setup = Setup::new(dir.path(), broker);
        Some(Self { name, dir, setup })
    }

    fn start(&self) -> Node {
        let node = self.setup.start();
        node.ask(&["topics", "create", &self.topic("dead"), "--partitions", "2"])
            .done();
        let file = self.dir.path().join("pipeline.toml");
        node.ask(&["apply", "--yes", &file.display().to_string()]).done();
        node
    }

    fn topic(&self, last: &str) -> String {
        format!("{}.{last}", self.name)
    }

    fn produce(&self, node: &Node, records: &[Value]) {
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        let file = self.dir.path().join("in.jsonl");
        fs::write(&file, lines.join("\n")).unwrap();
        node.ask(&["produce", &self.topic("in"), &file.display().to_string()])
            .done();
    }

    fn letters(&self, node: &Node, filter: &[&str]) -> Vec<Value> {
        let words = [&["dead-letters", "list", &self.name, "--format", "json"], filter].concat();
        node.ask(&words).done().json().as_array().unwrap().clone()
    }

    fn wait_for(&self, node: &Node, count: usize) -> Vec<Value> {
        until(&format!("{count} dead letters"), TASKS, || {
            let letters = self.letters(node, &["--limit", "10000"]);
            (letters.len() >= count).then_some(letters)
        })
    }

    fn replay(&self, node: &Node, words: &[&str]) -> Told {
        node.ask(&[&["dead-letters", "replay", &self.name, "--format", "json"], words].concat())
    }

    fn records(&self, node: &Node, topic: &str) -> Vec<Value> {
        let out = node.ask(&["consume", topic]).done().out;
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn boom(key: &str, partition: i32) -> Value {
    json!({ "key": key, "value": "boom", "timestamp": 1_700_000_000_000_i64, "partition": partition,
        "headers": [["own", "kept"], ["own", null]] })
}

fn lives(broker: &Broker) {
    let Some(story) = Story::new(broker) else { return };
    let node = story.start();
    let good = |value: &str| json!({ "key": "k", "value": value, "partition": 1 });
    story.produce(&node, &[good("a"), boom("first", 1), good("c")]);
    let letters = story.wait_for(&node, 1);
    is_complete(&story, &letters[0]);
    is_shown(&story, &node, letters[0]["id"].as_str().unwrap());
    filters_choose(&story, &node);
    goes_back_and_fails_again(&story, &node);
    goes_elsewhere(&story, &node);
    refusals_say_what_to_do(&story, &node);
    node.stop(&EXPECTED);
}

fn is_complete(story: &Story, letter: &Value) {
    let record = &letter["record"];
    assert_eq!(
        (&record["key"], &record["value"], &record["timestamp"]),
        (&json!("first"), &json!("boom"), &json!(1_700_000_000_000_i64))
    );
    assert_eq!(record["headers"], json!([["own", "kept"], ["own", null]]));
    assert_eq!(
        letter["origin"],
        json!({ "topic": story.topic("in"), "partition": 1, "offset": 1 })
    );
    for (field, expected) in [
        ("stage", "processing"),
        ("step", "odd"),
        ("module", "misbehave@0.1.0"),
        ("task", "0_1"),
    ] {
        assert_eq!(letter[field], expected, "{field}");
    }
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.contains("asked to panic"), "{reason}");
    let trace = letter["backtrace"].as_str().unwrap();
    assert!(trace.contains("misbehave"), "{trace}");
    assert!(letter["at"].as_i64().unwrap() > 1_700_000_000_000, "{letter}");
}

fn is_shown(story: &Story, node: &Node, id: &str) {
    let table = node.ask(&["dead-letters", "list", &story.name]).done().out;
    let origin = format!("{}-1-1", story.topic("in"));
    for part in ["RECORD", id, "odd", "misbehave@0.1.0", &origin, "asked to panic"] {
        assert!(table.contains(part), "`{part}` is not in the table:\n{table}");
    }
    let shown = node.ask(&["dead-letters", "show", &story.name, id]).done().out;
    for part in [
        &*origin,
        "own: kept",
        "own: null",
        "  at misbehave",
        "\n  boom",
        "\n  first",
    ] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    let hex = node
        .ask(&["dead-letters", "show", &story.name, id, "--as", "hex"])
        .done()
        .out;
    assert!(hex.contains("62 6f 6f 6d"), "{hex}");
}

fn filters_choose(story: &Story, node: &Node) {
    for (filter, count) in [
        (["--step", "odd"], 1),
        (["--reason", "ASKED"], 1),
        (["--reason", "something else"], 0),
        (["--since", "1h"], 1),
        (["--since", "2999-01-01T00:00:00Z"], 0),
        (["--limit", "1"], 1),
    ] {
        assert_eq!(story.letters(node, &filter).len(), count, "{filter:?}");
    }
}

/// Which it does as it did the first time, so there is another letter, which says so.
fn goes_back_and_fails_again(story: &Story, node: &Node) {
    let to = story.topic("in");
    let tried = story.replay(node, &["--dry-run"]).done().json();
    assert_eq!((&tried["replayed"], &tried["topics"][&to]), (&json!(1), &json!(1)));
    assert_eq!(story.records(node, &to).len(), 3, "a dry run writes nothing");
    story.replay(node, &[]).done();
    let letters = story.wait_for(node, 2);
    let of = |replays: i64| letters.iter().find(|l| l["replays"] == replays).unwrap();
    assert_eq!(of(0)["replayed"]["topic"], to);
    assert_eq!(
        of(1)["record"]["headers"],
        json!([["own", "kept"], ["own", null], ["wasmill.replays", "1"]])
    );
    let record = story
        .records(node, &to)
        .into_iter()
        .find(|r| r["offset"].as_i64() > Some(2))
        .unwrap();
    assert_eq!((&record["key"], &record["partition"]), (&json!("first"), &json!(1)));
    assert_eq!(record["timestamp"], 1_700_000_000_000_i64);

    let second = story.replay(node, &[]).done().json();
    assert_eq!(
        (&second["replayed"], &second["before"], &second["replays-max"]),
        (&json!(1), &json!(1), &json!(2))
    );
    story.wait_for(node, 3);
    let out: Vec<Value> = story.records(node, &story.topic("out"));
    let values: Vec<&str> = out.iter().map(|r| r["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["a", "c"], "what failed leaves nothing");
}

/// By two at once, which is once for each letter all the same.
fn goes_elsewhere(story: &Story, node: &Node) {
    // Where nothing but failures comes, a task stops.
    let good = |n: i32| json!({ "key": "k", "value": "fine", "partition": n % 2 });
    let many: Vec<Value> = (0..60).flat_map(|n| [boom(&format!("k{n}"), n % 2), good(n)]).collect();
    story.produce(node, &many);
    story.wait_for(node, 63);
    let copy = story.topic("copy");
    node.ask(&["topics", "create", &copy, "--partitions", "3"]).done();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            // One of them may be fenced by the other.
            scope.spawn(|| story.replay(node, &["--to", &copy]));
        }
    });
    story.replay(node, &["--to", &copy]).done();
    let last = story.replay(node, &["--to", &copy]).done().json();
    assert_eq!((&last["replayed"], &last["before"]), (&json!(0), &json!(63)));
    let records = story.records(node, &copy);
    let mut keys: Vec<&str> = records.iter().map(|r| r["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    // The third letter of the first record, and the 60.
    let count = keys.len();
    keys.dedup();
    assert_eq!((keys.len(), count), (61, 61), "each once");

    let id = story.letters(node, &["--limit", "1"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let again = story.replay(node, &[&id, "--to", &copy, "--again"]).done().json();
    assert_eq!((&again["replayed"], story.records(node, &copy).len()), (&json!(1), 62));
}

fn refusals_say_what_to_do(story: &Story, node: &Node) {
    let ask = |words: &[&str]| node.ask(&[&["dead-letters"], words].concat());
    ask(&["list", "nothing"]).exits(1).says(&["nothing", &story.name]);
    ask(&["list", &story.name, "--step", "even"])
        .exits(1)
        .says(&["no step `even`", "odd"]);
    ask(&["show", &story.name, "0"]).exits(1).says(&["PARTITION:OFFSET"]);
    ask(&["show", &story.name, "0:99999"])
        .exits(1)
        .says(&["no dead letter 0:99999", "dead-letters list"]);
    ask(&["list", &story.name, "--since", "soon"])
        .exits(1)
        .says(&["`soon` is no time"]);
    story
        .replay(node, &["--to", "nowhere"])
        .exits(1)
        .says(&["no topic `nowhere`", "topics create"]);
}

#[test]
fn on_the_embedded_log() {
    lives(&Broker::Embedded);
}

#[test]
fn on_kafka() {
    let Some(address) = place::kafka() else { return };
    lives(&Broker::Kafka(address));
}

#[test]
fn a_pipeline_without_a_topic_for_them_says_how_to_get_one() {
    let Some(story) = Story::new(&Broker::Embedded) else {
        return;
    };
    let file = story.dir.path().join("pipeline.toml");
    let text = fs::read_to_string(&file).unwrap();
    let without: Vec<&str> = text.lines().filter(|l| !l.contains("dead")).collect();
    fs::write(&file, without.join("\n")).unwrap();
    let node = story.setup.start();
    node.ask(&["apply", "--yes", &file.display().to_string()]).done();
    node.ask(&["dead-letters", "list", &story.name])
        .exits(1)
        .says(&["no dead-letter topic", "dead-letters = "]);
    node.stop(&[]);
}
