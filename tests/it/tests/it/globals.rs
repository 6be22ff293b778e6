//! A global table on a node: whole before the first record, followed while it runs, kept over a restart and a crash.

use it::node::{Broker, Node, Setup, TASKS};
use it::place::{kafka, unique};
use it::{until, within};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// More than one poll of the table's reader takes.
const AIRPORTS: usize = 12_000;
const FLIGHTS: usize = 500;
/// A broker that has just started loads what its coordinator keeps.
const FRESH: &[&str] = &[
    "Failed to acquire transactional PID",
    "Failed to acquire idempotence PID",
];

struct Story {
    setup: Setup,
    name: String,
    dir: tempfile::TempDir,
}

impl Story {
    fn new(broker: &Broker) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            setup: Setup::new(dir.path(), broker),
            name: unique("globals"),
            dir,
        }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn apply(&self, node: &Node) {
        let name = &self.name;
        let file = self.path().join("pipeline.toml");
        let text = format!(
            r#"wasmill = 1
name = "{name}"

[sources.flights]
topic = "{name}-flights"
key = "string"
value = "json"

[sources.airports]
topic = "{name}-airports"
key = "string"
value = "json"
as = "global-table"

[steps.departures]
op = "join"
left = "flights"
right = "airports"
on = "value.from"
value = {{ flight = "key", city = "right.city" }}

[sinks.departures]
from = "departures"
topic = "{name}-departures"
create = {{ partitions = 2 }}
"#
        );
        fs::write(&file, text).unwrap();
        node.ask(&["apply", "--yes", file.to_str().unwrap()]).done();
    }

    fn produce(&self, node: &Node, topic: &str, records: impl Iterator<Item = Value>) {
        let file = self.path().join("records.jsonl");
        let lines: String = records.map(|record| format!("{record}\n")).collect();
        fs::write(&file, lines).unwrap();
        let words = ["--as", "jsonl", "--value-format", "json"];
        let (topic, file) = (self.topic(topic), file.display().to_string());
        node.ask(&[&["produce", &topic, &file], &words[..]].concat()).done();
    }

    fn airport(&self, node: &Node, key: &str, value: Value) {
        self.produce(node, "airports", [json!({"key": key, "value": value})].into_iter());
    }

    fn fly(&self, node: &Node, flight: &str, from: &str) {
        let record = json!({"key": flight, "value": {"from": from}});
        self.produce(node, "flights", [record].into_iter());
    }

    /// What the table has for a key.
    fn stored(&self, node: &Node, key: &str) -> Option<Value> {
        let told = node.ask(&["query", &self.name, "airports", "--key", key, "--format", "json"]);
        (told.code == 0).then(|| told.json()[0]["value"]["city"].clone())
    }

    fn departures(&self, node: &Node) -> Vec<Value> {
        let told = node
            .ask(&["consume", &self.topic("departures"), "--as", "jsonl"])
            .done();
        let row = |line: &str| serde_json::from_str::<Value>(line).unwrap()["value"].clone();
        told.out.lines().map(row).collect()
    }

    /// Waits for the departure of `flight`, and says where it was.
    fn city(&self, node: &Node, flight: &str) -> Value {
        until("the departure", TASKS, || {
            let rows = self.departures(node);
            Some(rows.iter().find(|row| row["flight"] == flight)?["city"].clone())
        })
    }

    fn begin(&self) -> Node {
        let node = self.setup.start();
        node.ask(&["topics", "create", &self.topic("flights"), "--partitions", "2"])
            .done();
        let airports = self.topic("airports");
        node.ask(&[
            "topics",
            "create",
            &airports,
            "--partitions",
            "3",
            "--cleanup",
            "compact",
        ])
        .done();
        // Flights first: only a table that is whole before any task runs has an airport for each.
        let flights = (0..FLIGHTS).map(|n| {
            let airport = format!("A{}", n * (AIRPORTS / FLIGHTS) + AIRPORTS / FLIGHTS - 1);
            json!({"key": format!("F{n}"), "value": {"from": airport}})
        });
        self.produce(&node, "flights", flights);
        let airports = (0..AIRPORTS).map(|n| json!({"key": format!("A{n}"), "value": {"city": format!("C{n}")}}));
        self.produce(&node, "airports", airports);
        self.apply(&node);
        node.running(&self.name);
        node
    }

    fn play(self) {
        let node = self.begin();
        let all = within(TASKS, || (self.departures(&node).len() == FLIGHTS).then_some(()));
        assert!(
            all.is_some(),
            "{} departures\n{}",
            self.departures(&node).len(),
            node.log()
        );
        assert_eq!(self.city(&node, "F499"), json!(format!("C{}", AIRPORTS - 1)));
        let described = node.ask(&["pipeline", "describe", &self.name]).done();
        assert!(described.out.contains("Global table airports"), "{}", described.out);
        let shown = node.pipeline(&self.name).unwrap();
        assert_eq!(shown["globals"][0]["state"], "whole", "{shown}");
        assert_eq!(node.entries(&self.name, "airports").len(), AIRPORTS);

        // It follows its topic.
        self.airport(&node, "A1", json!({"city": "moved"}));
        self.airport(&node, "A2", Value::Null);
        until("both changes", TASKS, || {
            let moved = self.stored(&node, "A1") == Some(json!("moved"));
            (moved && self.stored(&node, "A2").is_none()).then_some(())
        });
        self.fly(&node, "gone", "A2");
        self.fly(&node, "changed", "A1");
        assert_eq!(self.city(&node, "changed"), "moved");

        // A clean restart reads nothing again.
        node.stop(FRESH);
        let node = self.setup.start();
        node.running(&self.name);
        let log = node.log();
        let whole = log.lines().find(|line| line.contains("global tables are whole"));
        assert!(whole.is_some_and(|line| line.contains("read=0")), "{log}");
        self.fly(&node, "again", "A1");
        assert_eq!(self.city(&node, "again"), "moved");

        // A crash loses nothing.
        self.airport(&node, "A3", json!({"city": "new"}));
        until("the change", TASKS, || {
            (self.stored(&node, "A3") == Some(json!("new"))).then_some(())
        });
        node.kill();
        let node = self.setup.start();
        node.running(&self.name);
        assert_eq!(self.stored(&node, "A3"), Some(json!("new")));
        self.fly(&node, "last", "A3");
        assert_eq!(self.city(&node, "last"), "new");
        let rows = self.departures(&node);
        assert!(rows.iter().all(|row| row["flight"] != "gone"), "{rows:?}");
        assert_eq!(rows.len(), FLIGHTS + 3);
        node.stop(FRESH);
    }
}

#[test]
fn a_global_table_on_the_embedded_log() {
    Story::new(&Broker::Embedded).play();
}

#[test]
fn a_global_table_on_kafka() {
    let Some(address) = kafka() else { return };
    Story::new(&Broker::Kafka(address)).play();
}
