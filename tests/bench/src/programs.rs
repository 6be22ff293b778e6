//! The three programs of the table and how each is told to do the same job.

use crate::process::Process;
use anyhow::{Context, Result, ensure};
use broker::Isolation;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// A function looks at every value and drops half.
    Pass,
    /// A count per key in RocksDB, every update written.
    Count,
    /// The same with updates gathered between commits of 100 ms.
    CountOnCommit,
    /// As `pass`, with microseconds of arithmetic for every value: what more threads are for.
    Burn,
    /// A count per key and minute with ten seconds of grace, every update written.
    Window,
    /// A stream meets a table with a row for every key.
    StreamTable,
    /// Two streams, half of the records each: pairs of one key within ten seconds.
    StreamStream,
}

impl Job {
    /// Measured exactly-once only: what their bars are about.
    pub fn is_exactly_once(self) -> bool {
        self == Job::Window || self.is_join()
    }

    pub fn is_join(self) -> bool {
        matches!(self, Job::StreamTable | Job::StreamStream)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    ExactlyOnce,
    AtLeastOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    Wasmill,
    Streams,
    Floor,
}

/// Length of the windows of [`Job::Window`].
pub const WINDOW_MS: i64 = 60_000;
/// How far apart the records of a pair may be.
pub const WITHIN_MS: i64 = 10_000;

macro_rules! words {
    ($($name:ty),*) => {$(
        impl $name {
            /// As it is typed and printed.
            pub fn name(self) -> String {
                self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
            }
        }
    )*};
}
words!(Job, Guarantee, System);

impl Guarantee {
    pub fn isolation(self) -> Isolation {
        match self {
            Guarantee::ExactlyOnce => Isolation::ReadCommitted,
            Guarantee::AtLeastOnce => Isolation::ReadUncommitted,
        }
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    pub wasmill: PathBuf,
    pub floor: PathBuf,
    /// The component of `pass`.
    pub module: PathBuf,
    /// The component of `burn`.
    pub burn: PathBuf,
    /// `None`: no Java or Maven here, and the table has no Kafka Streams.
    pub streams_classpath: Option<String>,
    /// Words for the JVM.
    pub jvm: Vec<String>,
    /// More settings of Kafka Streams, `name=value`.
    pub streams_settings: Vec<String>,
    /// More of librdkafka for the node's `[kafka]`, `name=value`.
    pub node_settings: Vec<String>,
    pub brokers: String,
}

/// One program with one job.
#[derive(Clone, Debug)]
pub struct App {
    pub system: System,
    pub job: Job,
    pub guarantee: Guarantee,
    pub threads: usize,
    /// Consumer group, prefix of internal topics, cluster.
    pub name: String,
    pub input: String,
    /// The right side of a join.
    pub right: String,
    pub output: String,
    /// State and logs.
    pub dir: PathBuf,
    /// Port of the node's REST.
    pub port: u16,
    /// A node without brokers.
    pub embedded: bool,
    /// Kafka Streams as static member (a node always is one).
    pub static_member: bool,
    /// More settings of Kafka Streams for this one, `name=value`.
    pub settings: Vec<String>,
}

impl App {
    pub fn start(&self, programs: &Programs) -> Result<Process> {
        fs::create_dir_all(&self.dir)?;
        let command = match self.system {
            System::Wasmill => self.wasmill(programs)?,
            System::Streams => self.streams(programs)?,
            System::Floor => self.floor(programs),
        };
        Process::start(command, &self.dir.join("log"))
    }

    /// Where its stores lie; removing it makes it restore.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Milliseconds. Kafka Streams' default of 30 s hides at-least-once commits from runs that take less; both sides
    /// have it, and gathering updates is asked for with 100 ms.
    fn commit_ms(&self) -> u64 {
        match (self.guarantee, self.job) {
            (Guarantee::ExactlyOnce, _) | (_, Job::CountOnCommit) => 100,
            (Guarantee::AtLeastOnce, _) => 30_000,
        }
    }

    pub fn pipeline(&self, module: &Path) -> String {
        let (name, input, output) = (&self.name, &self.input, &self.output);
        if self.job.is_join() {
            return self.join();
        }
        let guarantee = self.guarantee.name();
        let step = match self.job {
            Job::Pass | Job::Burn => format!("module = \"{}\"", module.display()),
            Job::Count => "op = \"count\"\ngroup-by = \"key\"\nemit = \"every-update\"".to_owned(),
            Job::CountOnCommit => "op = \"count\"\ngroup-by = \"key\"\nemit = \"on-commit\"".to_owned(),
            Job::Window => format!(
                "op = \"count\"\nemit = \"every-update\"\nwindow = {{ tumbling = \"{WINDOW_MS}ms\", grace = \"10s\" }}"
            ),
            Job::StreamTable | Job::StreamStream => String::new(),
        };
        // The keys of windows are no longer strings.
        let sink = if self.job == Job::Window {
            ""
        } else {
            "key = \"string\"\n"
        };
        format!(
            "wasmill = 1\nname = \"{name}\"\nguarantee = \"{guarantee}\"\n\
             [sources.in]\ntopic = \"{input}\"\nkey = \"string\"\nstart = \"earliest\"\n\
             [steps.work]\nfrom = \"in\"\n{step}\n\
             [sinks.out]\nfrom = \"work\"\ntopic = \"{output}\"\n{sink}"
        )
    }

    fn join(&self) -> String {
        let (name, input, right, output) = (&self.name, &self.input, &self.right, &self.output);
        let guarantee = self.guarantee.name();
        let (table, window) = match self.job {
            Job::StreamTable => ("as = \"table\"\n", String::new()),
            _ => ("", format!("within = \"{WITHIN_MS}ms\"\ngrace = \"0s\"\n")),
        };
        let source = "key = \"string\"\nvalue = \"string\"\nstart = \"earliest\"\n";
        format!(
            "wasmill = 1\nname = \"{name}\"\nguarantee = \"{guarantee}\"\n\
             [sources.in]\ntopic = \"{input}\"\n{source}\
             [sources.right]\ntopic = \"{right}\"\n{source}{table}\
             [steps.work]\nop = \"join\"\nleft = \"in\"\nright = \"right\"\n{window}\
             [sinks.out]\nfrom = \"work\"\ntopic = \"{output}\"\n"
        )
    }

    fn wasmill(&self, programs: &Programs) -> Result<Command> {
        let file = self.dir.join("pipeline.toml");
        fs::write(
            &file,
            self.pipeline(if self.job == Job::Burn {
                &programs.burn
            } else {
                &programs.module
            }),
        )?;
        let node = self.dir.join("node.toml");
        let mut kafka = String::new();
        for setting in &programs.node_settings {
            let (name, value) = setting.split_once('=').context("a setting is NAME=VALUE")?;
            kafka.push_str(&format!("\"{name}\" = \"{value}\"\n"));
        }
        let commit_ms = self.commit_ms();
        let brokers = if self.embedded { "" } else { &programs.brokers };
        fs::write(
            &node,
            format!(
                "cluster = \"{}\"\nnode = \"{}-node\"\ndata-dir = \"{}\"\nlisten = \"127.0.0.1:{}\"\nbrokers = \"{}\"\n\
                 threads = {}\ncommit-interval = \"{}ms\"\ncommit-interval-at-least-once = \"{commit_ms}ms\"\n[kafka]\n{kafka}",
                self.name,
                self.name,
                self.state().display(),
                self.port,
                brokers,
                self.threads,
                commit_ms.min(100),
            ),
        )?;
        let mut command = Command::new(&programs.wasmill);
        command.args(["run", "--log", "warn", "--config"]).arg(node).arg(file);
        Ok(command)
    }

    fn streams(&self, programs: &Programs) -> Result<Command> {
        let classpath = programs.streams_classpath.as_ref().context("no Java and Maven here")?;
        let mut command = Command::new("java");
        command.args(&programs.jvm).arg("-Dlog4j2.level=ERROR");
        command.args(["-cp", classpath, "wasmill.bench.Jobs"]);
        let mut set = |name: &str, value: &str| _ = command.arg(format!("{name}={value}"));
        set("job", &self.streams_job());
        set("in", &self.input);
        set("right", &self.right);
        set("window.ms", &WINDOW_MS.to_string());
        set("within.ms", &WITHIN_MS.to_string());
        set("out", &self.output);
        set("application.id", &self.name);
        set("bootstrap.servers", &programs.brokers);
        set("state.dir", &self.state().to_string_lossy());
        set("num.stream.threads", &self.threads.to_string());
        set("commit.interval.ms", &self.commit_ms().to_string());
        set("auto.offset.reset", "earliest");
        set("replication.factor", "1");
        let guarantee = match self.guarantee {
            Guarantee::ExactlyOnce => "exactly_once_v2",
            Guarantee::AtLeastOnce => "at_least_once",
        };
        set("processing.guarantee", guarantee);
        if matches!(self.job, Job::Count | Job::Window) {
            // Every update: without its record cache.
            set("statestore.cache.max.bytes", "0");
        }
        if self.static_member {
            set("group.instance.id", &format!("{}-node", self.name));
        }
        command.args(&programs.streams_settings).args(&self.settings);
        Ok(command)
    }

    fn streams_job(&self) -> String {
        match self.job {
            Job::CountOnCommit => Job::Count.name(),
            job => job.name(),
        }
    }

    fn floor(&self, programs: &Programs) -> Command {
        let mut command = Command::new(&programs.floor);
        command.args([&programs.brokers, &self.name, &self.input, &self.output]);
        command.arg(if self.job == Job::Pass { "pass" } else { "count" });
        command.args([self.guarantee.name(), self.threads.to_string()]);
        command
    }

    pub fn remove(&self) -> Result<()> {
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir)?;
        }
        ensure!(!self.dir.exists(), "{} could not be removed", self.dir.display());
        Ok(())
    }
}
