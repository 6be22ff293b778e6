//! Two nodes that change one control topic at the same moment, again and again, each with its own warm writer.
//!
//! The nodes are asked by REST, so that what each is told is what a user is told. What stands in the topic is read by a
//! reader that knows nothing of either node ([`reader`]).

mod figures;
mod reader;

pub use figures::Figures;

use crate::node::{Broker, Node, Setup};
use crate::place::unique;
use crate::until;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// Until a node has read what another one wrote: it looks several times a second.
const SEEN: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(30);
/// A reader that begins at the beginning, after so many races.
const FRESH_EVERY: u64 = 10;

type Told = [Result<Value, String>; 2];

pub struct Races {
    broker: Arc<dyn broker::Broker>,
    cluster: String,
    nodes: [Node; 2],
    /// The same module twice, with other bytes.
    modules: [Vec<u8>; 2],
    /// `name@version` and digest, when it is registered.
    registered: Option<(String, String)>,
    pipeline: String,
    /// What the pipeline's file says, which every apply changes.
    idle_ms: u64,
    dice: ChaCha8Rng,
    began: Instant,
    figures: Figures,
}

/// The component with a custom section behind it: other bytes, the same in all else.
fn marked(component: &[u8], mark: u8) -> Vec<u8> {
    let section = [0, 6, 4, b'r', b'a', b'c', b'e', mark];
    [component, &section].concat()
}

impl Races {
    /// Starts the nodes, and a pipeline that stands still.
    pub fn begin(dir: &Path, address: &str, component: &[u8], seed: u64) -> Self {
        let cluster = unique("races");
        let nodes = ["a", "b"].map(|node| {
            let folder = dir.join(node);
            std::fs::create_dir_all(&folder).unwrap();
            let setup = Setup {
                cluster: cluster.clone(),
                node: node.into(),
                threads: 1,
                ..Setup::new(&folder, &Broker::Kafka(address.to_owned()))
            };
            setup.start()
        });
        let broker = kafka::Kafka::connect(address, Default::default(), CONNECT).unwrap();
        let mut races = Self {
            broker: Arc::new(broker),
            cluster,
            nodes,
            modules: [marked(component, b'a'), marked(component, b'b')],
            registered: None,
            pipeline: unique("raced"),
            idle_ms: 0,
            dice: ChaCha8Rng::seed_from_u64(seed),
            began: Instant::now(),
            figures: Figures::default(),
        };
        races.nodes[0].change("/v1/pipelines", Some(&races.file(0))).unwrap();
        races.settled();
        races.nodes[1]
            .change(&format!("/v1/pipelines/{}/pause", races.pipeline), Some(b"{}"))
            .unwrap();
        races.began = Instant::now();
        races
    }

    fn file(&self, idle_ms: u64) -> Vec<u8> {
        let name = &self.pipeline;
        let file = format!(
            "wasmill = 1\nname = \"{name}\"\nmax-task-idle = \"{idle_ms}ms\"\n\
             [sources.in]\ntopic = \"{name}-in\"\ncreate = {{ partitions = 1 }}\n\
             [steps.all]\nop = \"peek\"\nfrom = \"in\"\n\
             [sinks.out]\nfrom = \"all\"\ntopic = \"{name}-out\"\ncreate = {{ partitions = 1 }}\n"
        );
        json!({ "file": file, "file-name": "pipeline.toml", "by": "races" })
            .to_string()
            .into_bytes()
    }

    /// A pipeline that needs the module.
    fn user(&self, module: &str) -> (String, Vec<u8>) {
        let name = format!("{}-user", self.pipeline);
        let file = format!(
            "wasmill = 1\nname = \"{name}\"\n\
             [sources.in]\ntopic = \"{0}-in\"\nkey = \"string\"\n\
             [steps.pass]\nfrom = \"in\"\nmodule = \"{module}\"\n\
             [sinks.out]\nfrom = \"pass\"\ntopic = \"{0}-out\"\nkey = \"string\"\n",
            self.pipeline
        );
        let body = json!({ "file": file, "file-name": "user.toml", "by": "races" });
        (name, body.to_string().into_bytes())
    }

    /// Both at the same moment, as near as two threads come.
    fn both(&self, changes: [(&str, Option<&[u8]>); 2]) -> Told {
        let start = Barrier::new(2);
        let asked = |n: usize| {
            let (path, body) = changes[n];
            start.wait();
            self.nodes[n].change(path, body)
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| asked(0));
            let second = asked(1);
            [first.join().unwrap(), second]
        })
    }

    /// One race, of a kind that is drawn.
    pub fn race(&mut self) {
        self.figures.races += 1;
        match self.dice.random_range(0..20) {
            0..8 => self.register(),
            8..16 => self.apply(),
            16..18 => self.pause(),
            _ => self.need_and_remove(),
        }
        if self.figures.races.is_multiple_of(FRESH_EVERY) {
            self.look();
        }
    }

    /// Other bytes under one name and version.
    fn register(&mut self) {
        self.unregister();
        let path = "/v1/modules";
        let told = self.both([(path, Some(&self.modules[0])), (path, Some(&self.modules[1]))]);
        let winner = self.figures.one_of("register", &told);
        self.registered = winner.map(|n| named(told[n].as_ref().unwrap()));
        self.settled();
    }

    fn unregister(&mut self) {
        if let Some((id, _)) = self.registered.take() {
            let node = self.dice.random_range(0..2);
            let gone = self.nodes[node].change(&format!("/v1/modules/{id}"), None);
            gone.unwrap();
            self.settled();
        }
    }

    /// Two files for one pipeline.
    fn apply(&mut self) {
        let wanted = [self.idle_ms + 1, self.idle_ms + 2];
        let files = wanted.map(|idle_ms| self.file(idle_ms));
        let path = "/v1/pipelines";
        let told = self.both([(path, Some(&files[0])), (path, Some(&files[1]))]);
        let won = self.figures.some_of("apply", &told);
        let stands = self.fresh().idle_ms(&self.pipeline);
        let expected: Vec<u64> = won.iter().map(|n| wanted[*n]).collect();
        if !expected.iter().any(|idle_ms| stands == Some(*idle_ms)) {
            let wrong = format!("apply: {stands:?} stands, {expected:?} was told to have won: {told:?}");
            self.figures.wrongs.push(wrong);
        }
        self.idle_ms += 2;
        self.settled();
    }

    /// No conflict: who comes last has it. What stands is one of both, and both nodes say so.
    fn pause(&mut self) {
        let paths = ["pause", "resume"].map(|what| format!("/v1/pipelines/{}/{what}", self.pipeline));
        let told = self.both([(&paths[0], Some(b"{}")), (&paths[1], Some(b"{}"))]);
        self.figures.some_of("pause and resume", &told);
        self.settled();
        self.nodes[0].change(&paths[0], Some(b"{}")).unwrap();
        self.settled();
    }

    /// A pipeline that needs the module, and the end of the module.
    fn need_and_remove(&mut self) {
        if self.registered.is_none() {
            let node = self.dice.random_range(0..2);
            let made = self.nodes[node].change("/v1/modules", Some(&self.modules[node]));
            self.registered = Some(named(&made.unwrap()));
            self.settled();
        }
        let (id, _) = self.registered.clone().unwrap();
        let (user, file) = self.user(&id);
        let apply: (&str, Option<&[u8]>) = ("/v1/pipelines", Some(&file));
        let module = format!("/v1/modules/{id}");
        let remove = (module.as_str(), None);
        let applies = self.dice.random_range(0..2);
        let told = self.both(if applies == 0 { [apply, remove] } else { [remove, apply] });
        self.figures.one_of("need and remove", &told);
        if told[1 - applies].is_ok() {
            self.registered = None;
        }
        if told[applies].is_ok() {
            let deleted = self.nodes[applies].change(&format!("/v1/pipelines/{user}"), None);
            deleted.unwrap();
        }
        self.settled();
    }

    /// Waits until both nodes say what was written last.
    fn settled(&self) {
        let digest = self.registered.as_ref().map(|(_, digest)| digest.as_str());
        // What runs may still be starting on one of them.
        let paused = |node: &Node| node.pipeline(&self.pipeline).map(|p| p["state"] == "paused");
        until("both nodes say the same", SEEN, || {
            let know = self.nodes.iter().all(|node| {
                let modules = node.get("/v1/modules").unwrap_or_default();
                let modules = modules.as_array().map(Vec::as_slice).unwrap_or_default();
                modules.first().and_then(|m| m["digest"].as_str()) == digest
            });
            let pipelines = [paused(&self.nodes[0]), paused(&self.nodes[1])];
            (know && pipelines[0].is_some() && pipelines[0] == pipelines[1]).then_some(())
        });
    }

    fn fresh(&self) -> reader::Seen {
        reader::read(self.broker.as_ref(), &format!("wasmill-{}-control", self.cluster))
    }

    /// What a reader without a past sees.
    fn look(&mut self) {
        let seen = self.fresh();
        self.figures.wrongs.extend(seen.wrongs.iter().cloned());
        let digest = self.registered.as_ref().map(|(_, digest)| digest.clone());
        if seen.module_digest() != digest {
            let wrong = format!(
                "module {:?} stands, {digest:?} was told to have won",
                seen.module_digest()
            );
            self.figures.wrongs.push(wrong);
        }
        self.figures.records = seen.records;
        self.figures.looks += 1;
    }

    pub fn so_far(&mut self) -> &Figures {
        self.figures.seconds = self.began.elapsed().as_secs_f64();
        &self.figures
    }

    /// Looks once more, and stops the nodes.
    pub fn end(mut self) -> Figures {
        self.figures.seconds = self.began.elapsed().as_secs_f64();
        self.look();
        self.figures.wrongs.sort();
        self.figures.wrongs.dedup();
        for node in self.nodes {
            node.end();
        }
        self.figures
    }
}

/// `name@version` and digest of an answer.
fn named(module: &Value) -> (String, String) {
    let text = |field: &str| {
        module[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field} in {module}"))
            .to_owned()
    };
    (format!("{}@{}", text("name"), text("version")), text("digest"))
}
