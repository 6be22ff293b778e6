//! Exactly-once under fire: a node counts, is killed again and again, and a reader checks every update.
//!
//! Records with a thousand keys go through a repartition topic into `count`, every update to a topic. Nothing missing
//! and nothing twice means that the updates of each key are 1, 2, …, n, in this order.

mod kills;
mod load;
mod reader;

pub use kills::{Kill, Moment};
pub use reader::{Updates, read};

use crate::node::{Broker, Node, Setup};
use crate::place::unique;
use crate::told::Told;
use crate::within;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use worker::crash::CrashPoint;

/// Until a step was taken that a kill waits for: tasks join and restore before it.
const KILL: Duration = Duration::from_secs(180);
/// From the last kill to the last record: the rest of a million records on a busy machine, with restores before it.
const FINISH: Duration = Duration::from_secs(900);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    ExactlyOnce,
    AtLeastOnce,
}

/// What to do; all that is random follows from `seed`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub records: usize,
    pub keys: usize,
    pub kills: usize,
    /// Of these, with the local state removed before the restart.
    pub losses: usize,
    pub guarantee: Guarantee,
    /// Of the node; short where there are few records, so that there are commits enough to kill.
    pub commit_interval: &'static str,
}

/// Partitions of the topics, and stream threads of the node.
const PARTITIONS: usize = 4;
const THREADS: usize = 2;

/// One kill, as it happened.
#[derive(Debug)]
pub struct Shot {
    pub kill: Kill,
    /// Last step that each thread took.
    pub steps: Vec<String>,
    /// Offsets in the output when the work of this kill began; on Kafka, commit markers count too.
    pub written: u64,
}

#[derive(Debug)]
pub struct Report {
    pub shots: Vec<Shot>,
    pub updates: Updates,
    /// Records by key, as produced.
    pub expected: Vec<(String, u64)>,
    /// Of the store, at the end.
    pub counts: Vec<(String, u64)>,
    pub took: Duration,
}

/// Does it all in `dir`.
pub fn run(plan: &Plan, broker: &Broker, dir: &Path, say: &mut dyn FnMut(&str)) -> Report {
    let name = unique("fire");
    let steps_file = dir.join("steps");
    let settings = format!(
        "commit-interval = \"{0}\"\ncommit-interval-at-least-once = \"{0}\"\n",
        plan.commit_interval
    );
    let mut setup = Setup {
        threads: THREADS,
        ..Setup::new(dir, broker)
    }
    .settings(&settings);
    setup.env = vec![("WASMILL_STEPS_FILE", steps_file.display().to_string())];
    let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
    let load = load::Load::new(plan, &mut random);
    let kills = kills::plan(plan, &mut random);
    let run = Run {
        plan,
        name: &name,
        setup: &setup,
        dir,
    };
    let started = Instant::now();
    let shots = run.shoot(&load, kills, say);
    let node = setup.start();
    run.produce(&load, plan.kills, &node);
    node.ask(&["pipeline", "resume", &name]).done();
    let last = Instant::now();
    run.finish(&load, &node);
    say(&format!(
        "all counted {:.1} s after the last records came",
        last.elapsed().as_secs_f64()
    ));
    let updates = read(&node, &run.output());
    let counts = run.counts(&node);
    let shown = node.pipeline(&name).unwrap_or_default();
    say(&format!("since the last start: {}", shown["counters"]));
    node.ask(&["pipeline", "delete", &name, "--yes"]).done();
    node.end();
    Report {
        shots,
        updates,
        expected: load.expected,
        counts,
        took: started.elapsed(),
    }
}

struct Run<'a> {
    plan: &'a Plan,
    name: &'a str,
    setup: &'a Setup,
    dir: &'a Path,
}

impl Run<'_> {
    fn events(&self) -> String {
        format!("{}-events", self.name)
    }

    fn output(&self) -> String {
        format!("{}-out", self.name)
    }

    fn file(&self) -> String {
        let guarantee = match self.plan.guarantee {
            Guarantee::ExactlyOnce => "exactly-once",
            Guarantee::AtLeastOnce => "at-least-once",
        };
        format!(
            r#"wasmill = 1
name = "{name}"
guarantee = "{guarantee}"

[sources.events]
topic = "{events}"
key = "string"
value = "string"
start = "earliest"

[steps.per-key]
op = "count"
from = "events"
group-by = "value"
emit = "every-update"

[sinks.out]
from = "per-key"
topic = "{out}"
create = {{ partitions = {PARTITIONS} }}
"#,
            name = self.name,
            events = self.events(),
            out = self.output(),
        )
    }

    /// Slice `number` of the records: every kill has work of its own to hit.
    fn produce(&self, load: &load::Load, number: usize, node: &Node) {
        let input = self.dir.join("events.txt");
        load.write(&input, number, self.plan.kills + 1);
        node.ask(&[
            "produce",
            &self.events(),
            &input.display().to_string(),
            "--as",
            "text",
            "--separator",
            "\t",
        ])
        .done();
    }

    fn apply(&self, node: &Node) -> Told {
        let pipeline = self.dir.join("pipeline.toml");
        fs::write(&pipeline, self.file()).unwrap();
        node.ask(&["apply", "--yes", &pipeline.display().to_string()])
    }

    fn shoot(&self, load: &load::Load, kills: Vec<Kill>, say: &mut dyn FnMut(&str)) -> Vec<Shot> {
        let mut shots = Vec::new();
        for (number, kill) in kills.into_iter().enumerate() {
            // Fed by a node that nothing hits, so that every record is there exactly once.
            let node = self.start(&[]);
            if number == 0 {
                let partitions = PARTITIONS.to_string();
                node.ask(&["topics", "create", &self.events(), "--partitions", &partitions])
                    .done();
            } else {
                node.ask(&["pipeline", "pause", self.name]).done();
            }
            self.produce(load, number, &node);
            let written = self.written(&node).unwrap_or(0);
            self.hit(node, &kill, number == 0, written);
            let shot = Shot {
                steps: self.steps(),
                written,
                kill,
            };
            say(&format!(
                "kill {:2}: {}, {} updates committed before; threads at {}{}",
                number + 1,
                shot.kill.moment,
                shot.written,
                shot.steps.join(", "),
                if shot.kill.lose_state {
                    "; local state removed"
                } else {
                    ""
                }
            ));
            if shot.kill.lose_state {
                fs::remove_dir_all(self.setup.data().join("state")).unwrap();
            }
            shots.push(shot);
        }
        shots
    }

    /// A node that has taken no step yet.
    fn start(&self, env: &[(&'static str, String)]) -> Node {
        // There is none before the first start.
        drop(fs::remove_file(self.dir.join("steps")));
        let mut setup = self.setup.clone();
        setup.env.extend_from_slice(env);
        setup.start()
    }

    /// Lets the fed pipeline go, and the node die.
    fn hit(&self, node: Node, kill: &Kill, first: bool, written: u64) {
        let go = |node: &Node| {
            if first {
                self.apply(node)
            } else {
                node.ask(&["pipeline", "resume", self.name])
            }
        };
        match &kill.moment {
            Moment::Working { after } => {
                go(&node).done();
                let begun = || self.written(&node).filter(|now| *now > written);
                assert!(
                    within(KILL, begun).is_some(),
                    "nothing new was counted:\n{}",
                    node.log()
                );
                std::thread::sleep(*after);
                node.kill();
            }
            Moment::Starting { after } => {
                go(&node).done();
                node.end();
                let node = self.start(&[]);
                std::thread::sleep(*after);
                node.kill();
            }
            Moment::Step { step, count } => {
                node.end();
                let mut node = self.start(&[("WASMILL_KILL_AT", format!("{}:{count}", step.as_str()))]);
                // The node may die before it has answered.
                drop(go(&node));
                let ended = within(KILL, || node.has_ended().then_some(()));
                let times = format!("`{}` {count} times", step.as_str());
                assert!(ended.is_some(), "no thread took step {times}:\n{}", node.log());
            }
        }
    }

    /// Offsets of the output, which on Kafka count commit markers too.
    fn written(&self, node: &Node) -> Option<u64> {
        let topics = node.get("/v1/topics")?;
        let topic = topics
            .as_array()?
            .iter()
            .find(|t| t["name"] == self.output().as_str())?;
        topic["offsets"].as_array()?.iter().map(|ends| ends[1].as_u64()).sum()
    }

    fn steps(&self) -> Vec<String> {
        let bytes = fs::read(self.dir.join("steps")).unwrap_or_default();
        let step = |byte: &u8| match byte.checked_sub(1).and_then(CrashPoint::from_u8) {
            Some(point) => point.as_str().to_owned(),
            None => "no step yet".to_owned(),
        };
        let mut steps: Vec<String> = bytes.iter().map(step).collect();
        steps.resize(THREADS, "no step yet".to_owned());
        steps
    }

    fn finish(&self, load: &load::Load, node: &Node) {
        let total = load.expected.iter().map(|(_, n)| n).sum::<u64>();
        let mut lag = None;
        let done = within(FINISH, || {
            lag = node.pipeline(self.name).and_then(|p| p["lag"].as_i64());
            (lag == Some(0) && self.counts(node).iter().map(|(_, n)| n).sum::<u64>() >= total).then_some(())
        });
        assert!(
            done.is_some(),
            "not all records were counted: lag {lag:?}\n{}",
            node.log()
        );
    }

    fn counts(&self, node: &Node) -> Vec<(String, u64)> {
        let path = format!("/v1/pipelines/{}/stores/per-key/entries?limit=10000", self.name);
        let answer = node.get(&path).unwrap_or_default();
        assert!(answer["next"].is_null(), "more keys than one page holds");
        let entries = answer["entries"].as_array().cloned().unwrap_or_default();
        let entry = |e: serde_json::Value| (e["key"].as_str().unwrap().to_owned(), e["value"].as_u64().unwrap());
        let mut counts: Vec<(String, u64)> = entries.into_iter().map(entry).collect();
        counts.sort();
        counts
    }
}

impl Report {
    /// Everything that is wrong, in words; empty when nothing is.
    pub fn wrongs(&self, guarantee: Guarantee) -> Vec<String> {
        let mut wrongs = Vec::new();
        for (key, n) in &self.expected {
            let last = self.updates.last.get(key).copied().unwrap_or(0);
            let counted = self
                .counts
                .iter()
                .find(|(k, _)| k == key)
                .map_or(0, |(_, count)| *count);
            let right = match guarantee {
                Guarantee::ExactlyOnce => last == *n && counted == *n,
                Guarantee::AtLeastOnce => last >= *n && counted >= *n && last == counted,
            };
            if !right {
                wrongs.push(format!(
                    "`{key}`: {n} records, last update {last}, in the store {counted}"
                ));
            }
        }
        if guarantee == Guarantee::ExactlyOnce {
            wrongs.extend(self.updates.jumps.iter().cloned());
        }
        if self.updates.last.len() != self.expected.len() {
            wrongs.push(format!(
                "{} keys in the output, {} were sent",
                self.updates.last.len(),
                self.expected.len()
            ));
        }
        wrongs
    }

    /// Whether a kill fell between sending offsets and the commit.
    pub fn fell_before_commit(&self) -> bool {
        let point = CrashPoint::OffsetsSent.as_str();
        self.shots
            .iter()
            .any(|shot| shot.steps.iter().any(|step| step == point))
    }
}
