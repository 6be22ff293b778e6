//! A day of operation in small: what happens once an hour happens every minute, under a steady load: a swap, a node that
//! joins and leaves, queries, a pause. A reader checks that every key is counted 1, 2, …, n; memory, threads and open
//! files of the nodes that stay are looked at after each minute, and must not grow.

use crate::chaos::updates::{Reader, Seen};
use crate::fire::Guarantee;
use crate::load::{Load, Shape};
use crate::node::{Broker, Node, STOP, Setup, TASKS};
use crate::place::{self, unique};
use crate::resources::Resources;
use crate::within;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 8;
const KEYS: u64 = 1_000;
/// Nodes that stay. One more comes and goes.
const NODES: usize = 2;
const MINUTE: Duration = Duration::from_secs(60);
const QUERIES: usize = 100;
/// From the last record to its update.
const FINISH: Duration = Duration::from_secs(120);
/// Minutes before figures count: caches and pools fill.
pub const SETTLE: usize = 4;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// More than twice [`SETTLE`].
    pub minutes: usize,
    /// Records a second.
    pub rate: u64,
}

struct Day<'a> {
    name: String,
    nodes: Vec<Node>,
    guest: Setup,
    reader: Reader,
    wrongs: Vec<String>,
    say: &'a mut dyn FnMut(String),
}

/// Does it all in `dir`; gives what is wrong, in words.
pub fn run(
    plan: &Plan,
    broker: &Arc<dyn broker::Broker>,
    address: &str,
    dir: &Path,
    say: &mut dyn FnMut(String),
) -> Vec<String> {
    let modules: Option<Vec<_>> = ["stamp-1", "stamp-2"].iter().map(|name| place::guest(name)).collect();
    let Some(modules) = modules else {
        return vec!["no modules to swap".into()];
    };
    let (name, cluster) = (unique("day"), unique("day-cluster"));
    let (input, output) = (format!("{name}-in"), format!("{name}-out"));
    let setup = |number: usize| {
        let folder = dir.join(format!("node-{number}"));
        fs::create_dir_all(&folder).unwrap();
        Setup {
            cluster: cluster.clone(),
            node: format!("node-{number}"),
            ..Setup::new(&folder, &Broker::Kafka(address.to_owned()))
        }
    };
    let nodes: Vec<Node> = (0..NODES).map(|number| setup(number).start()).collect();
    for module in modules {
        nodes[0].ask(&["module", "add", &module.display().to_string()]).done();
    }
    let file = dir.join("pipeline.toml");
    fs::write(&file, text(&name, &input, &output)).unwrap();
    nodes[0].ask(&["apply", "--yes", &file.display().to_string()]).done();
    let reader = Reader::start(&**broker, &output, PARTITIONS, Seen::default());
    let shape = Shape {
        topic: input,
        partitions: PARTITIONS,
        keys: KEYS,
    };
    let load = Load::start(&**broker, shape, content, plan.rate, 0);
    let flows = within(TASKS, || (reader.seen().records() > 0).then_some(()));
    assert!(flows.is_some(), "nothing is counted:\n{}", nodes[0].log());
    let mut day = Day {
        name,
        nodes,
        guest: setup(NODES),
        reader,
        wrongs: Vec::new(),
        say,
    };
    let looks: Vec<Vec<Resources>> = (1..=plan.minutes).map(|minute| day.minute(minute)).collect();
    day.flat(&looks);
    day.end(load)
}

impl Day<'_> {
    /// Everything once. Gives what the nodes that stay hold afterwards.
    fn minute(&mut self, minute: usize) -> Vec<Resources> {
        let began = Instant::now();
        self.reader.seen().measure();
        let swap = self.swap(if minute.is_multiple_of(2) { "1" } else { "2" });
        let mut guest = self.guest.start();
        self.wait(began, 20);
        let queries = self.queries(&guest);
        self.wait(began, 30);
        guest.ask(&["leave"]).done();
        guest.ended(STOP);
        self.wait(began, 40);
        let pause = self.reader.seen().longest_pause();
        self.nodes[0].ask(&["pipeline", "pause", &self.name]).done();
        std::thread::sleep(Duration::from_secs(1));
        self.nodes[1].ask(&["pipeline", "resume", &self.name]).done();
        self.wait(began, MINUTE.as_secs());
        let resources: Vec<Resources> = self.nodes.iter().map(|node| Resources::of(node.id())).collect();
        let shown: Vec<String> = resources.iter().map(ToString::to_string).collect();
        (self.say)(format!(
            "{minute:2}. swap {swap} ms, longest pause but for the asked one {} ms, queries p99 {} ms; {}",
            pause.as_millis(),
            queries.as_millis(),
            shown.join("; ")
        ));
        resources
    }

    /// Until so many seconds of the minute are over.
    fn wait(&self, began: Instant, seconds: u64) {
        std::thread::sleep(Duration::from_secs(seconds).saturating_sub(began.elapsed()));
    }

    /// Until the swap and its watch are over, in milliseconds.
    fn swap(&mut self, version: &str) -> u128 {
        let (began, change) = (Instant::now(), format!("stamp=stamp@{version}"));
        // On a machine with other work a good version may seem many times slower for a moment.
        let words = ["swap", &self.name, &change, "--watch", "1s", "--slower-max=1000"];
        let told = self.nodes[0].ask(&words);
        if told.code != 0 {
            self.wrongs.push(format!("the swap to {version} failed: {}", told.err));
        }
        began.elapsed().as_millis()
    }

    /// Keys asked for one by one, of all nodes in turn. Gives the 99th percentile; refusals while tasks move are waited out.
    fn queries(&mut self, guest: &Node) -> Duration {
        let nodes: Vec<&Node> = self.nodes.iter().chain([guest]).collect();
        let mut times: Vec<Duration> = Vec::with_capacity(QUERIES);
        for number in 0..QUERIES {
            let (node, key) = (nodes[number % nodes.len()], number as u64 * 7 % KEYS);
            let path = format!("/v1/pipelines/{}/stores/counts/entries?key=k{key}", self.name);
            let began = Instant::now();
            let answer = within(TASKS, || node.get(&path));
            times.push(began.elapsed());
            let count = answer.and_then(|answer| answer["entries"][0]["value"].as_u64());
            if count.is_none() {
                self.wrongs.push(format!("no count of `k{key}`"));
            }
        }
        times.sort();
        times[times.len() * 99 / 100]
    }

    /// The last quarter holds no more than the one after the beginning.
    fn flat(&mut self, looks: &[Vec<Resources>]) {
        let quarter = (looks.len() - SETTLE) / 2;
        for node in 0..NODES {
            let of = |looks: &[Vec<Resources>]| Resources::mean(looks.iter().map(|look| look[node]));
            let (early, late) = (
                of(&looks[SETTLE..SETTLE + quarter]),
                of(&looks[looks.len() - quarter..]),
            );
            (self.say)(format!("node {node}: {early} at first, {late} at the end"));
            self.wrongs
                .extend(late.grown(&early).map(|what| format!("node {node}: {what}")));
        }
    }

    fn end(mut self, load: Load) -> Vec<String> {
        let (sent, ran) = load.end();
        let counted = within(FINISH, || (self.reader.seen().counted() >= sent).then_some(()));
        // What comes late would be there twice.
        std::thread::sleep(Duration::from_secs(2));
        (self.say)(format!("{sent} records in {:.0} s", ran.as_secs_f64()));
        if counted.is_none() {
            let counted = self.reader.seen().counted();
            self.wrongs.push(format!("of {sent} records {counted} are counted"));
        }
        let wrongs = self.reader.seen().wrongs(sent, KEYS, Guarantee::ExactlyOnce);
        self.wrongs.extend(wrongs);
        for node in self.nodes {
            let log = node.end();
            let panics = log.lines().filter(|line| line.contains("panicked"));
            self.wrongs.extend(panics.map(str::to_owned));
        }
        self.wrongs
    }
}

/// Record n has the key `k` and n modulo the number of keys, and n as its value.
fn content(number: u64, shape: &Shape) -> (String, String) {
    (format!("k{}", number % shape.keys), number.to_string())
}

fn text(name: &str, input: &str, output: &str) -> String {
    format!(
        r#"wasmill = 1
name = "{name}"
standbys = 1

[sources.in]
topic = "{input}"
key = "string"
value = "string"
start = "earliest"
create = {{ partitions = {PARTITIONS} }}

[steps.stamp]
from = "in"
module = "stamp@1"

[steps.counts]
op = "count"
from = "stamp"
emit = "every-update"

[sinks.out]
from = "counts"
topic = "{output}"
create = {{ partitions = {PARTITIONS} }}
"#
    )
}
