//! The main job on the whole novel: every word counted right, through restarts, losses and second thoughts.

use it::node::{Broker, Node, STOP, Setup, TASKS};
use it::told::Told;
use it::{place, until, within};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// 208,000 words on a busy machine.
const COUNTED: Duration = Duration::from_secs(180);
/// A broker that has just started loads its coordinators, and librdkafka says at each try that it tries again.
const EXPECTED: [&str; 1] = ["Failed to acquire "];

type Counts = BTreeMap<String, u64>;

/// Counted here, without the tokenizer, by the rule in its documentation.
fn counted_here(text: &str) -> Counts {
    let mut counts = Counts::new();
    let mut word = String::new();
    for letter in text.chars().chain([' ']) {
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        } else if !word.is_empty() {
            *counts.entry(std::mem::take(&mut word)).or_default() += 1;
        }
    }
    counts
}

/// The example, with names of its own where a broker is shared.
struct Story {
    name: String,
    lines: String,
    output: String,
    file: PathBuf,
    setup: Setup,
}

impl Story {
    fn new(dir: &Path, broker: &Broker) -> Self {
        let example = place::root().join("examples/word-count/pipeline.toml");
        let setup = Setup::new(dir, broker);
        let (name, lines, output) = ("word-count", "lines", "word-counts");
        if *broker == Broker::Embedded {
            return Self {
                name: name.into(),
                lines: lines.into(),
                output: output.into(),
                file: example,
                setup,
            };
        }
        let prefix = place::unique("it");
        let named = |name: &str| format!("{prefix}-{name}");
        let mut text = fs::read_to_string(example).unwrap();
        for (key, value) in [("name", name), ("topic", lines), ("topic", output)] {
            let (old, new) = (format!("{key} = \"{value}\""), format!("{key} = \"{}\"", named(value)));
            assert!(text.contains(&old), "the example says no `{old}`");
            text = text.replace(&old, &new);
        }
        let file = dir.join("pipeline.toml");
        fs::write(&file, text).unwrap();
        Self {
            name: named(name),
            lines: named(lines),
            output: named(output),
            file,
            setup,
        }
    }

    fn file(&self) -> String {
        self.file.display().to_string()
    }

    fn apply(&self, node: &Node, module: &Path) {
        node.ask(&["module", "add", &module.display().to_string()]).done();
        let plan = node.ask(&["plan", &self.file()]).exits(4);
        assert!(plan.out.contains("create-pipeline"), "{}", plan.out);
        node.ask(&["apply", "--yes", &self.file()]).done();
    }

    fn counts(&self, node: &Node) -> Counts {
        let entry = |e: &Value| (e["key"].as_str().unwrap().to_owned(), e["value"].as_u64().unwrap());
        node.entries(&self.name, "counts").iter().map(entry).collect()
    }

    /// Waits until everything is counted, then compares all of it.
    fn counts_are(&self, node: &Node, expected: &Counts) {
        let total: u64 = expected.values().sum();
        let mut seen = 0;
        let lag_gone = || node.pipeline(&self.name).filter(|p| p["lag"] == 0).map(|_| ());
        let done = within(COUNTED, || {
            lag_gone()?;
            seen = self.counts(node).values().sum();
            (seen >= total).then_some(())
        });
        assert!(done.is_some(), "{seen} of {total} words were counted\n{}", node.log());
        let counts = self.counts(node);
        let wrong: Vec<_> = expected
            .iter()
            .filter(|(word, n)| counts.get(*word) != Some(n))
            .take(10)
            .collect();
        assert!(
            wrong.is_empty(),
            "counted wrong, for example (word, expected): {wrong:?}"
        );
        assert_eq!(counts.len(), expected.len(), "words that are not in the text");
    }
}

fn novel() -> (PathBuf, String) {
    let path = place::root().join("examples/word-count/moby-dick.txt");
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

/// The story from the first apply to the delete.
fn lives(broker: &Broker, tools: impl FnOnce(&Story, &Counts)) {
    let Some(module) = place::guest("tokenize") else { return };
    let dir = tempfile::tempdir().unwrap();
    let story = Story::new(dir.path(), broker);
    let (path, text) = novel();
    let expected = counted_here(&text);

    let node = story.setup.start();
    story.apply(&node, &module);
    node.ask(&["produce", &story.lines, &path.display().to_string()]).done();
    story.counts_are(&node, &expected);
    let entries = node.entries(&story.name, "counts");
    tools(&story, &expected);

    apply_again_changes_nothing(&story, &node);
    restart_restores_nothing(&story, node, &entries);
    lost_state_comes_back(&story, &entries);

    let node = story.setup.start();
    node.running(&story.name);
    let more = pause_and_resume(&story, &node, dir.path(), expected);
    story.counts_are(&node, &more);
    delete(&story, &node);
    node.stop(&EXPECTED);
}

fn apply_again_changes_nothing(story: &Story, node: &Node) {
    let before = node.pipeline(&story.name).unwrap();
    let plan = node.ask(&["plan", &story.file()]).done();
    assert!(plan.out.contains("nothing to change"), "{}", plan.out);
    let again = node.ask(&["apply", "--yes", &story.file()]).done();
    assert!(again.out.contains("nothing to change"), "{}", again.out);
    let after = node.pipeline(&story.name).unwrap();
    for field in ["applied-at", "incarnation", "epoch"] {
        assert_eq!(before[field], after[field], "`{field}` after a second apply");
    }
}

fn restart_restores_nothing(story: &Story, node: Node, entries: &[Value]) {
    node.stop(&EXPECTED);
    let node = story.setup.start();
    node.running(&story.name);
    assert_eq!(node.counter(&story.name, "records-restored"), 0);
    assert_eq!(node.counter(&story.name, "stores-wiped"), 0);
    assert_eq!(node.entries(&story.name, "counts"), entries);
    node.stop(&EXPECTED);
}

/// Values and event times, in every partition.
fn lost_state_comes_back(story: &Story, entries: &[Value]) {
    fs::remove_dir_all(story.setup.data().join("state")).unwrap();
    let node = story.setup.start();
    node.running(&story.name);
    let restored = node.counter(&story.name, "records-restored");
    assert!(
        restored >= entries.len() as u64,
        "{restored} records restored for {} entries",
        entries.len()
    );
    assert_eq!(node.entries(&story.name, "counts"), entries);
    node.stop(&EXPECTED);
}

/// Lines that come meanwhile wait. Gives what must be counted in the end.
fn pause_and_resume(story: &Story, node: &Node, dir: &Path, mut counts: Counts) -> Counts {
    node.ask(&["pipeline", "pause", &story.name]).done();
    until("it is paused", TASKS, || {
        node.pipeline(&story.name).filter(|p| p["state"] == "paused")
    });
    let more = "Nantucket! Take out your map and look at it.\nA mere hillock, and elbow of sand; Ahabzzz\n";
    fs::write(dir.join("more.txt"), more).unwrap();
    node.ask(&["produce", &story.lines, &dir.join("more.txt").display().to_string()])
        .done();
    until("two lines wait", TASKS, || {
        node.pipeline(&story.name).filter(|p| p["lag"] == 2)
    });
    assert_eq!(story.counts(node), counts);
    node.ask(&["pipeline", "resume", &story.name]).done();
    for (word, n) in counted_here(more) {
        *counts.entry(word).or_default() += n;
    }
    counts
}

/// What is its own goes, the user's topics stay.
fn delete(story: &Story, node: &Node) {
    node.ask(&["pipeline", "delete", &story.name, "--yes"]).done();
    node.ask(&["query", &story.name, "counts"])
        .exits(1)
        .says(&[&story.name]);
    let topics = node
        .ask(&["topics", "list", "--internal", "--format", "json"])
        .done()
        .json();
    let names: Vec<&str> = topics
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|t| t["name"].as_str())
        .collect();
    assert!(
        names.contains(&story.lines.as_str()) && names.contains(&story.output.as_str()),
        "{names:?}"
    );
    let own = format!("{}-", story.name);
    let left: Vec<_> = names.iter().filter(|name| name.starts_with(&own)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    let state = story.setup.data().join("state").join(&story.name);
    assert!(!state.exists(), "`{}` is still there", state.display());
}

#[test]
fn on_the_embedded_log() {
    lives(&Broker::Embedded, |_, _| {});
}

#[test]
fn on_kafka() {
    let Some(address) = place::kafka() else { return };
    lives(&Broker::Kafka(address.clone()), |story, expected| {
        kafkas_own_tools_agree(&address, story, expected)
    });
}

/// A plain consumer reads the counts, and the group's lag is what Kafka's tool says.
fn kafkas_own_tools_agree(address: &str, story: &Story, expected: &Counts) {
    if !Command::new("java")
        .arg("-version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return place::skipped("Kafka's own tools need Java");
    }
    let consumer = [
        "kafka-console-consumer",
        "--topic",
        &story.output,
        "--from-beginning",
        "--isolation-level",
        "read_committed",
        "--formatter-property",
        "print.key=true",
        "--formatter-property",
        "value.deserializer=org.apache.kafka.common.serialization.LongDeserializer",
        "--timeout-ms",
        "10000",
    ];
    let read = tool(address, &consumer);
    let mut last = Counts::new();
    // Its talk goes to the same place: that it waited in vain for more.
    for (word, count) in read.out.lines().filter_map(|line| line.split_once('\t')) {
        last.insert(word.to_owned(), count.parse().unwrap());
    }
    assert!(
        last == *expected,
        "the console consumer reads other counts ({} words)",
        last.len()
    );

    let lag = until("the group's lag of the source is 0", STOP, || {
        let told = tool(
            address,
            &["kafka-consumer-groups", "--describe", "--group", &story.name],
        );
        let lags = lags(&told.out, &story.lines);
        (lags.len() == 4 && lags.iter().all(|lag| *lag == 0)).then_some(lags)
    });
    assert_eq!(lag, [0; 4]);
}

fn tool(address: &str, words: &[&str]) -> Told {
    let script = place::root().join("tests/kafka/kafka.sh");
    let mut command = Command::new("bash");
    command
        .arg(script)
        .arg("tool")
        .arg(words[0])
        .args(["--bootstrap-server", address])
        .args(&words[1..]);
    Told::by(&mut command).done()
}

/// `LAG` of every partition of `topic`, by the column's title.
fn lags(table: &str, topic: &str) -> Vec<i64> {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let Some(head) = rows.by_ref().find(|row| row.contains(&"LAG")) else {
        return Vec::new();
    };
    let column = |name: &str| head.iter().position(|title| *title == name).unwrap();
    let (name, lag) = (column("TOPIC"), column("LAG"));
    rows.filter(|row| row.get(name) == Some(&topic))
        .filter_map(|row| row.get(lag)?.parse().ok())
        .collect()
}
