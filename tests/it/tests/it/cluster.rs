//! Two nodes on one Kafka: either answers for what both hold, and what one gives up the other goes on with.

use it::node::{Broker, Node, STOP, Setup, TASKS};
use it::place::{kafka, unique};
use it::told::Told;
use it::until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const PARTITIONS: i64 = 4;
const KEYS: u64 = 40;

type Counts = BTreeMap<String, u64>;

struct Story {
    name: String,
    topic: String,
    setups: [Setup; 2],
    /// What the store has to say.
    counts: Counts,
}

impl Story {
    fn begin(dir: &Path, address: &str) -> (Self, [Node; 2]) {
        let (name, cluster) = (unique("cluster"), unique("it"));
        let topic = format!("{name}-in");
        let setups = ["a", "b"].map(|node| {
            let folder = dir.join(node);
            fs::create_dir_all(&folder).unwrap();
            Setup {
                cluster: cluster.clone(),
                node: node.into(),
                ..Setup::new(&folder, &Broker::Kafka(address.to_owned()))
            }
        });
        let nodes = [setups[0].start(), setups[1].start()];
        let count = PARTITIONS.to_string();
        nodes[0]
            .ask(&["topics", "create", &topic, "--partitions", &count])
            .done();
        let file = dir.join("pipeline.toml");
        let text = format!(
            "wasmill = 1\nname = \"{name}\"\n\
             [sources.in]\ntopic = \"{topic}\"\nkey = \"string\"\nvalue = \"string\"\n\
             [steps.counts]\nop = \"count\"\nfrom = \"in\"\n\
             [sinks.out]\nfrom = \"counts\"\ntopic = \"{topic}-out\"\ncreate = {{ partitions = 4 }}\n"
        );
        fs::write(&file, text).unwrap();
        nodes[0].ask(&["apply", "--yes", file.to_str().unwrap()]).done();
        let story = Self {
            name,
            topic,
            setups,
            counts: Counts::new(),
        };
        until("both nodes have tasks", TASKS, || {
            nodes.iter().all(|node| story.tasks(node) > 0).then_some(())
        });
        (story, nodes)
    }

    fn tasks(&self, node: &Node) -> usize {
        let status = node.pipeline(&self.name);
        status.map_or(0, |status| status["tasks"].as_array().map_or(0, Vec::len))
    }

    /// One more of every key.
    fn produce(&mut self, dir: &Path, node: &Node) {
        let lines: Vec<String> = (0..KEYS)
            .map(|n| format!("{{\"key\":\"k{n}\",\"value\":\"v\"}}"))
            .collect();
        let file = dir.join("records.jsonl");
        fs::write(&file, lines.join("\n")).unwrap();
        node.ask(&["produce", &self.topic, file.to_str().unwrap()]).done();
        (0..KEYS).for_each(|n| *self.counts.entry(format!("k{n}")).or_default() += 1);
    }

    fn query(&self, node: &Node, words: &[&str]) -> Told {
        let mut all = vec!["query", &self.name, "counts", "--format", "json"];
        all.extend(words);
        node.ask(&all)
    }

    /// The whole store, from `node`; `None` when it says that it cannot answer now. Never anything that was not true.
    fn all(&self, node: &Node) -> Option<Counts> {
        let told = self.query(node, &["--limit", "0"]);
        if told.code != 0 {
            assert!(
                told.err.contains("wasmill status") || told.err.contains("advertise"),
                "{told:?}"
            );
            return None;
        }
        let entry = |e: &Value| (e["key"].as_str().unwrap().to_owned(), e["value"].as_u64().unwrap());
        Some(told.json().as_array().unwrap().iter().map(entry).collect())
    }

    fn agree(&self, what: &str, nodes: &[&Node]) {
        for node in nodes {
            until(what, TASKS, || {
                (self.all(node).as_ref() == Some(&self.counts)).then_some(())
            });
        }
    }

    /// Page by page over REST: every key once, whoever holds it.
    fn pages(&self, node: &Node) {
        let path = format!("/v1/pipelines/{}/stores/counts/entries?limit=7", self.name);
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = node.get(&format!("{path}{after}")).unwrap();
            let entries = page["entries"].as_array().unwrap();
            assert!(entries.len() <= 7);
            seen.extend(entries.iter().map(|e| e["key"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={}", next.replace('+', "%2B")),
                None => break,
            }
        }
        assert_eq!(seen.len() as u64, KEYS);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len() as u64, KEYS);
    }

    /// The whole cluster on one screen, from `node`, as `(node, tasks)`; no tasks of one that does not answer.
    fn top(&self, node: &Node) -> Vec<(String, Option<usize>)> {
        let seen = node.ask(&["top", "--count", "1", "--format", "json"]).done().json();
        let one = |seen: &Value| {
            let pipelines = seen["status"]["pipelines"].as_array();
            let tasks = pipelines.map(|all| all.iter().filter_map(|p| p["tasks"].as_array()).map(Vec::len).sum());
            (seen["node"].as_str().unwrap().to_owned(), tasks)
        };
        seen["nodes"].as_array().unwrap().iter().map(one).collect()
    }

    /// Answers carry positions, and can be bound to one.
    fn positions(&self, node: &Node) {
        let path = format!("/v1/pipelines/{}/stores/counts/entries?key=k1", self.name);
        let answer = node.get(&path).unwrap();
        let positions = answer["positions"].as_object().unwrap();
        assert_eq!(positions.len() as i64, PARTITIONS, "{answer}");
        let (partition, next) = positions.iter().next().unwrap();
        let reached = format!("{partition}:{next}");
        self.query(node, &["--key", "k1", "--at-least", &reached]).done();
        let beyond = format!("{partition}:{}", next.as_i64().unwrap() + 1);
        self.query(node, &["--key", "k1", "--at-least", &beyond])
            .exits(3)
            .says(&["is committed up to", "ask again"]);
        self.query(node, &["--key", "k1", "--at-least", "elsewhere-0:1"])
            .exits(1)
            .says(&["elsewhere-0:1", &self.topic]);
    }
}

#[test]
fn two_nodes_answer_as_one() {
    let Some(address) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (mut story, [mut a, b]) = Story::begin(dir.path(), &address);
    story.produce(dir.path(), &a);
    story.agree("both nodes know all counts", &[&a, &b]);
    for node in [&a, &b] {
        assert!(story.tasks(node) < PARTITIONS as usize, "a node holds everything");
        let one = story.query(node, &["--key", "k7"]).done().json();
        assert_eq!(
            (one.as_array().unwrap().len(), &one[0]["value"]),
            (1, &Value::from(1)),
            "{one}"
        );
        story.pages(node);
        story.positions(node);
        let tasks = PARTITIONS as usize / 2;
        assert_eq!(story.top(node), [("a".into(), Some(tasks)), ("b".into(), Some(tasks))]);
    }

    // What a hands over b has when the command is back, or a moment later.
    a.ask(&["leave"]).done();
    a.ended(STOP);
    story.produce(dir.path(), &b);
    story.agree("b goes on with all of it", &[&b]);

    // And gives some back to one that comes.
    let a = story.setups[0].start();
    until("a has tasks again", TASKS, || (story.tasks(&a) > 0).then_some(()));
    story.produce(dir.path(), &a);
    story.agree("both know all counts again", &[&a, &b]);

    // A node that is gone: no answer, or the right one.
    b.kill();
    assert_eq!(story.top(&a).last(), Some(&("b".into(), None)));
    story.agree("a has taken over", &[&a]);
    story.produce(dir.path(), &a);
    story.agree("a goes on", &[&a]);
    a.end();
}
