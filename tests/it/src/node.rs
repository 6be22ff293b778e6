//! A node as a process of its own, and what tests ask of it.

use crate::place::{self, unique};
use crate::told::Told;
use crate::{until, within};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use ureq::Agent;

/// From the start of the process to its first answer, on a machine with other work. A broker may be tried for 30 s.
pub const START: Duration = Duration::from_secs(90);
/// The last commit of every pipeline, at most 30 s by the node's own bound.
pub const STOP: Duration = Duration::from_secs(60);
/// Until every task of a pipeline runs: a broker that holds a dead node's session or transaction needs up to 15 s.
pub const TASKS: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(60);

/// Which broker a test runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    Embedded,
    Kafka(String),
}

impl Broker {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kafka(_) => "kafka",
        }
    }
}

/// How a node is started, and started again.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Data directory, settings and log of the node lie here.
    pub dir: PathBuf,
    pub broker: Broker,
    pub cluster: String,
    /// Its name in the cluster.
    pub node: String,
    pub threads: usize,
    pub env: Vec<(&'static str, String)>,
}

impl Setup {
    pub fn new(dir: &Path, broker: &Broker) -> Self {
        let cluster = unique("it");
        Self {
            dir: dir.to_owned(),
            broker: broker.clone(),
            cluster,
            node: "one".to_owned(),
            threads: 2,
            env: Vec::new(),
        }
    }

    /// Writes `node.toml`.
    pub fn settings(self, text: &str) -> Self {
        fs::write(self.dir.join("node.toml"), text).unwrap();
        self
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// `wasmill serve` or `wasmill run FILE`, with every setting by flag.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = wasmill();
        command.args(words).args([
            "--listen",
            "127.0.0.1:0",
            "--cluster",
            &self.cluster,
            "--node-name",
            &self.node,
        ]);
        command
            .args(["--threads", &self.threads.to_string()])
            .arg("--data-dir")
            .arg(self.data());
        if let Broker::Kafka(address) = &self.broker {
            command.args(["--brokers", address]);
        }
        if self.dir.join("node.toml").exists() {
            command.arg("--config").arg(self.dir.join("node.toml"));
        }
        command.envs(self.env.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    /// Starts it and waits until it answers.
    pub fn start(&self) -> Node {
        self.start_as(&["serve"])
    }

    /// As [`Setup::start`], for another command that is a node: `run FILE`, `dev DIR`.
    pub fn start_as(&self, words: &[&str]) -> Node {
        let from = fs::metadata(self.log()).map_or(0, |m| m.len() as usize);
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let child = self.command(words).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER))
            .build();
        let agent = config.into();
        let mut node = Node {
            child,
            address: String::new(),
            agent,
            log: self.log(),
            from,
        };
        node.address = until("the node's address in its log", START, || {
            if let Some(status) = node.child.try_wait().unwrap() {
                panic!("the node ended with {status} instead of serving:\n{}", node.log());
            }
            let log = node.log();
            let line = log.lines().find(|line| line.starts_with("wasmill node "))?;
            Some(line.split(" on ").nth(1)?.split(',').next()?.to_owned())
        });
        node
    }
}

/// The binary without settings of the caller's environment.
pub fn wasmill() -> Command {
    let mut command = Command::new(place::wasmill());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WASMILL_") {
            command.env_remove(name);
        }
    }
    command.current_dir(place::root()).stdin(Stdio::null());
    command
}

/// A running node; it is killed when this is dropped.
pub struct Node {
    child: Child,
    /// `http://…`.
    pub address: String,
    agent: Agent,
    log: PathBuf,
    /// Where this process's part of the log file begins.
    from: usize,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Node {
    /// What this process logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.from..).unwrap_or_default()).into_owned()
    }

    /// `wasmill WORDS…` against this node.
    pub fn ask(&self, words: &[&str]) -> Told {
        Told::by(wasmill().env("WASMILL_NODE", &self.address).args(words))
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// REST; `None` when there is no answer or a refusal.
    pub fn get(&self, path: &str) -> Option<Value> {
        let mut answer = self.agent.get(format!("{}{path}", self.address)).call().ok()?;
        if answer.status().as_u16() >= 400 {
            return None;
        }
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec().ok()?;
        serde_json::from_slice(&body).ok()
    }

    /// REST that changes something: `POST` with a body, else `DELETE`. The refusal's text where it is refused.
    ///
    /// # Errors
    /// What the node says, or that it says nothing.
    pub fn change(&self, path: &str, body: Option<&[u8]>) -> Result<Value, String> {
        let address = format!("{}{path}", self.address);
        let answer = match body {
            Some(body) => {
                let json = body.first() == Some(&b'{');
                let kind = if json { "application/json" } else { "application/wasm" };
                self.agent.post(address).header("content-type", kind).send(body)
            }
            None => self.agent.delete(address).call(),
        };
        let mut answer = answer.map_err(|e| format!("no answer: {e}"))?;
        let refused = answer.status().as_u16() >= 400;
        let text = answer
            .body_mut()
            .read_to_string()
            .map_err(|e| format!("no answer: {e}"))?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if refused {
            return Err(value["message"].as_str().unwrap_or(&text).to_owned());
        }
        Ok(value)
    }

    pub fn pipeline(&self, name: &str) -> Option<Value> {
        self.get(&format!("/v1/pipelines/{name}"))
    }

    /// Waits until every task runs and knows its lag.
    pub fn running(&self, pipeline: &str) -> Value {
        let mut last = None;
        let found = within(TASKS, || {
            last = self.pipeline(pipeline);
            last.clone().filter(|p| p["state"] == "running" && p["lag"].is_i64())
        });
        found.unwrap_or_else(|| panic!("`{pipeline}` does not run: {last:?}\n{}", self.log()))
    }

    /// Of the pipeline, since this node started.
    pub fn counter(&self, pipeline: &str, name: &str) -> u64 {
        let found = self.pipeline(pipeline).and_then(|p| p["counters"][name].as_u64());
        found.unwrap_or_else(|| panic!("`{pipeline}` has no counter `{name}`"))
    }

    /// Every entry of a store, in the order of the answer.
    pub fn entries(&self, pipeline: &str, store: &str) -> Vec<Value> {
        let told = self
            .ask(&["query", pipeline, store, "--limit", "0", "--format", "json"])
            .done();
        told.json().as_array().unwrap().clone()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for it to end by itself.
    pub fn ended(&mut self, bound: Duration) -> ExitStatus {
        until("the node ends", bound, || self.child.try_wait().unwrap())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// A clean stop. Gives what it logged.
    pub fn end(mut self) -> String {
        terminate(&self.child);
        let status = self.ended(STOP);
        let log = self.log();
        assert!(status.success(), "the node ended with {status}:\n{log}");
        log
    }

    /// A clean stop. Lines of its log that ask for attention must be among `expected`.
    pub fn stop(self, expected: &[&str]) {
        let log = self.end();
        let loud = |line: &&str| [" WARN ", " ERROR "].iter().any(|level| line.contains(level));
        let strange = |line: &&str| !expected.iter().any(|part| line.contains(part));
        let lines: Vec<&str> = log.lines().filter(loud).filter(strange).collect();
        assert!(
            lines.is_empty(),
            "not expected in the node's log:\n{}",
            lines.join("\n")
        );
    }
}

/// SIGTERM.
pub fn terminate(child: &Child) {
    let sent = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success(), "failed to signal the node");
}
