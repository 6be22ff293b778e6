//! A cluster under chaos: nodes are killed, stopped beyond their session, bounced, added and taken away, in an order
//! drawn from a seed, while records come at a steady pace through a repartition topic into counts. A read-committed
//! reader checks every update: exactly-once, those of each key are 1, 2, …, n.

mod events;
pub(crate) mod updates;

use crate::load::{Load, Shape};
use crate::node::{Broker, Node, STOP, Setup, TASKS};
use crate::place::{root, unique};
use crate::told::Told;
use crate::within;
use events::Event;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use updates::{Reader, Seen};

pub use crate::fire::Guarantee;

const PARTITIONS: i32 = 8;
/// Keys of the source.
const SPREAD: u64 = 977;
/// Nodes that are there at the beginning and at the end.
const NODES: usize = 3;
/// From the last record to its update, restores and sessions of the last event included.
const FINISH: Duration = Duration::from_secs(180);

/// What to do; all that is random follows from `seed`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub events: usize,
    /// Records a second.
    pub rate: u64,
    pub keys: u64,
    pub guarantee: Guarantee,
    /// Where `tests/kafka/kafka.sh` keeps the brokers, which are bounced, too; `None`: they are not ours.
    pub brokers: Option<PathBuf>,
}

struct Cluster<'a> {
    brokers: Option<PathBuf>,
    setups: Vec<Setup>,
    nodes: BTreeMap<usize, Node>,
    say: &'a mut dyn FnMut(String),
}

impl Cluster<'_> {
    fn start(&mut self, number: usize) {
        let node = self.setups[number].start();
        self.nodes.insert(number, node);
    }

    fn signal(&self, number: usize, signal: &str) {
        let id = self.nodes[&number].id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success(), "failed to send {signal} to node {number}");
    }

    fn broker(&self, what: &str, number: usize) {
        let folder = self.brokers.as_ref().unwrap().join(number.to_string());
        let mut command = Command::new("bash");
        command.arg(root().join("tests/kafka/kafka.sh")).arg(what).arg(folder);
        Told::by(&mut command).done();
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Kill { node, down } => {
                if let Some(node) = self.nodes.remove(node) {
                    node.kill();
                }
                std::thread::sleep(*down);
                self.start(*node);
            }
            Event::Stop { node, time } => {
                self.signal(*node, "-STOP");
                std::thread::sleep(*time);
                self.signal(*node, "-CONT");
            }
            Event::Bounce { node } => {
                if let Some(node) = self.nodes.remove(node) {
                    node.end();
                }
                self.start(*node);
            }
            Event::Leave { node, down } => {
                if let Some(mut node) = self.nodes.remove(node) {
                    node.ask(&["leave"]).done();
                    node.ended(STOP);
                }
                std::thread::sleep(*down);
                self.start(*node);
            }
            Event::Broker { number, down } => {
                self.broker("stop", *number);
                std::thread::sleep(*down);
                self.broker("again", *number);
            }
            Event::Add { time } => {
                self.start(NODES);
                std::thread::sleep(*time);
                // It does not come back: its tasks go to the others when its session is over.
                if let Some(node) = self.nodes.remove(&NODES) {
                    node.kill();
                }
            }
        }
    }
}

/// Does it all in `dir`, against the broker at `address`; gives what is wrong, in words.
pub fn run(
    plan: &Plan,
    broker: &Arc<dyn broker::Broker>,
    address: &str,
    dir: &Path,
    say: &mut dyn FnMut(String),
) -> Vec<String> {
    let (name, cluster) = (unique("chaos"), unique("chaos-cluster"));
    let (input, output) = (format!("{name}-in"), format!("{name}-out"));
    let setup = |number: usize| {
        let folder = dir.join(format!("node-{number}"));
        fs::create_dir_all(&folder).unwrap();
        let broker = Broker::Kafka(address.to_owned());
        Setup {
            cluster: cluster.clone(),
            node: format!("node-{number}"),
            threads: 2,
            ..Setup::new(&folder, &broker)
        }
    };
    let mut cluster = Cluster {
        brokers: plan.brokers.clone(),
        setups: (0..=NODES).map(setup).collect(),
        nodes: BTreeMap::new(),
        say,
    };
    (0..NODES).for_each(|number| cluster.start(number));
    let first = &cluster.nodes[&0];
    first
        .ask(&["topics", "create", &input, "--partitions", &PARTITIONS.to_string()])
        .done();
    let file = dir.join("pipeline.toml");
    fs::write(&file, text(&name, &input, &output, (plan.guarantee, plan.seed))).unwrap();
    first.ask(&["apply", "--yes", &file.display().to_string()]).done();
    let reader = Reader::start(&**broker, &output, PARTITIONS, Seen::default());
    let shape = Shape {
        topic: input.clone(),
        partitions: PARTITIONS,
        keys: plan.keys,
    };
    let load = Load::start(&**broker, shape, content, plan.rate, 0);
    let flows = within(TASKS, || (reader.seen().records() > 0).then_some(()));
    assert!(flows.is_some(), "nothing is counted:\n{}", cluster.nodes[&0].log());
    let brokers = plan.brokers.as_deref().map_or(1, folders);
    let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
    for number in 1..=plan.events {
        let (event, rest) = events::draw(&mut random, NODES, brokers);
        reader.seen().measure();
        let began = Instant::now();
        cluster.happen(&event);
        std::thread::sleep(rest);
        (cluster.say)(format!(
            "{number:2}. {event}; over {:.1} s the longest time without an update of a partition was {} ms",
            began.elapsed().as_secs_f64(),
            reader.seen().longest_pause().as_millis()
        ));
    }
    let (sent, ran) = load.end();
    let last = Instant::now();
    let counted = within(FINISH, || (reader.seen().counted() >= sent).then_some(()));
    (cluster.say)(format!(
        "{sent} records in {:.0} s; {} updates read, the last one {:.1} s after the last record",
        ran.as_secs_f64(),
        reader.seen().records(),
        last.elapsed().as_secs_f64()
    ));
    // What comes late would be there twice.
    std::thread::sleep(Duration::from_secs(2));
    let mut wrongs = reader.seen().wrongs(sent, plan.keys, plan.guarantee);
    if counted.is_none() {
        wrongs.push(format!("of {sent} records {} are counted", reader.seen().counted()));
        wrongs.extend(cluster.nodes.iter().map(|(number, node)| {
            let status = node.pipeline(&name).unwrap_or_default();
            format!("node {number} says {}", status["tasks"])
        }));
    }
    for (_, node) in std::mem::take(&mut cluster.nodes) {
        let log = node.end();
        wrongs.extend(log.lines().filter(|line| line.contains("panicked")).map(str::to_owned));
    }
    wrongs
}

/// How many brokers there are: those of a cluster lie in folders of their own.
fn folders(dir: &Path) -> usize {
    (1..).take_while(|number| dir.join(number.to_string()).is_dir()).count()
}

/// Record n is to be counted under `k` and n modulo the number of keys; its own key only spreads it over the source.
fn content(number: u64, shape: &Shape) -> (String, String) {
    (format!("s{}", number % SPREAD), format!("k{}", number % shape.keys))
}

/// Every other cluster keeps standbys.
fn text(name: &str, input: &str, output: &str, (guarantee, seed): (Guarantee, u64)) -> String {
    let standbys = seed % 2;
    let guarantee = match guarantee {
        Guarantee::ExactlyOnce => "exactly-once",
        Guarantee::AtLeastOnce => "at-least-once",
    };
    format!(
        r#"wasmill = 1
name = "{name}"
guarantee = "{guarantee}"
standbys = {standbys}

[sources.in]
topic = "{input}"
key = "string"
value = "string"
start = "earliest"

[steps.counts]
op = "count"
from = "in"
group-by = "value"
emit = "every-update"

[sinks.out]
from = "counts"
topic = "{output}"
create = {{ partitions = {PARTITIONS} }}
"#
    )
}
