//! `pipeline reset`: read again from elsewhere, with and without what was counted before.

use it::node::{Broker, Node, Setup};
use it::place::{kafka, unique};
use it::until;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Until a count is there.
const COUNTED: Duration = Duration::from_secs(60);

struct Story {
    node: Node,
    name: String,
    topic: String,
    dir: tempfile::TempDir,
}

impl Story {
    fn begin(broker: &Broker) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (name, topic) = (unique("reset"), unique("reset-in"));
        let file = dir.path().join("pipeline.toml");
        let text = format!(
            "wasmill = 1\nname = \"{name}\"\n\
             [sources.in]\ntopic = \"{topic}\"\nkey = \"string\"\nvalue = \"string\"\n\
             [steps.words]\nop = \"count\"\nfrom = \"in\"\ngroup-by = \"value\"\n\
             [sinks.out]\nfrom = \"words\"\ntopic = \"{topic}-out\"\ncreate = {{ partitions = 1 }}\n"
        );
        fs::write(&file, text).unwrap();
        let node = Setup::new(dir.path(), broker).start();
        node.ask(&["topics", "create", &topic, "--partitions", "2"]).done();
        node.ask(&["apply", "--yes", file.to_str().unwrap()]).done();
        node.running(&name);
        let story = Self { node, name, topic, dir };
        story.produce(&["a", "b", "a"]);
        story.counts(&[("a", 2), ("b", 1)]);
        story
    }

    fn produce(&self, words: &[&str]) {
        let lines = self.dir.path().join("words.txt");
        fs::write(&lines, words.join("\n")).unwrap();
        self.node.ask(&["produce", &self.topic, lines.to_str().unwrap()]).done();
    }

    fn counts(&self, wanted: &[(&str, i64)]) {
        let wanted: BTreeMap<String, i64> = wanted.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect();
        let mut seen = BTreeMap::new();
        let reached = it::within(COUNTED, || {
            let entries = self.node.entries(&self.name, "words");
            let entry = |e: &serde_json::Value| Some((e["key"].as_str()?.to_owned(), e["value"].as_i64()?));
            seen = entries.iter().filter_map(entry).collect();
            (seen == wanted).then_some(())
        });
        assert!(reached.is_some(), "{seen:?} and not {wanted:?}\n{}", self.node.log());
    }

    fn reset(&self, words: &[&str]) -> it::told::Told {
        let mut all = vec!["pipeline", "reset", &self.name, "--yes"];
        all.extend(words);
        self.node.ask(&all)
    }

    fn play(self) {
        // From the start, with nothing of before: the same counts once more.
        self.reset(&[]).done().says(&["was reset"]);
        self.node.running(&self.name);
        self.counts(&[("a", 2), ("b", 1)]);
        self.produce(&["b"]);
        self.counts(&[("a", 2), ("b", 2)]);
        // What was counted stays, and counts again.
        self.reset(&["--keep-state", "--to", "earliest"]).done();
        self.node.running(&self.name);
        self.counts(&[("a", 4), ("b", 4)]);
        // Past everything.
        self.reset(&["--to", "latest"]).done();
        self.node.running(&self.name);
        self.produce(&["c"]);
        self.counts(&[("c", 1)]);
        // What makes no sense changes nothing.
        let topic = &self.topic;
        self.reset(&["--offset", &format!("{topic}:0=999")])
            .exits(1)
            .says(&["offset 999", "is not in the log"]);
        self.reset(&["--offset", "elsewhere:0=1"])
            .exits(1)
            .says(&["no source reads partition 0 of `elsewhere`"]);
        self.reset(&["--to", "yesterday"])
            .exits(1)
            .says(&["no position", "earliest"]);
        self.produce(&["c"]);
        self.counts(&[("c", 2)]);
        // A paused one stays paused.
        self.node.ask(&["pipeline", "pause", &self.name]).done();
        self.reset(&["--to", "earliest"]).done();
        until("paused", COUNTED, || {
            (self.node.pipeline(&self.name)?["state"] == "paused").then_some(())
        });
        self.node.ask(&["pipeline", "resume", &self.name]).done();
        self.node.running(&self.name);
        self.counts(&[("a", 2), ("b", 2), ("c", 2)]);
        // A broker that has just started loads what its coordinator keeps.
        self.node.stop(&["Failed to acquire transactional PID"]);
    }
}

#[test]
fn other_positions_on_the_embedded_log() {
    Story::begin(&Broker::Embedded).play();
}

#[test]
fn other_positions_on_kafka() {
    let Some(address) = kafka() else { return };
    Story::begin(&Broker::Kafka(address)).play();
}
