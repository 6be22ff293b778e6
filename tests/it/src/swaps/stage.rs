//! A pipeline with one stamping step on a node of its own, and its versions.

use crate::node::{Node, Setup, TASKS};
use crate::place;
use crate::told::Told;
use crate::{until, within};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// From a swap's record to its end, beyond its watch, on a machine with other work.
const SWAP: Duration = Duration::from_secs(180);

/// The pipeline and where its records come from and go to.
pub struct Stage {
    pub setup: Setup,
    pub name: String,
    pub partitions: i32,
}

impl Stage {
    pub fn new(setup: Setup, partitions: i32) -> Self {
        Self {
            setup,
            name: place::unique("stamped"),
            partitions,
        }
    }

    pub fn input(&self) -> String {
        format!("{}-in", self.name)
    }

    pub fn output(&self) -> String {
        format!("{}-out", self.name)
    }

    pub fn dead_letters(&self) -> String {
        format!("{}-dead", self.name)
    }

    /// The pipeline file, which names this version of the module.
    pub fn file(&self, version: &str) -> String {
        format!(
            "wasmill = 1\nname = \"{}\"\n\n[defaults]\ndead-letters = \"{}\"\n\n\
             [sources.in]\ntopic = \"{}\"\nkey = \"string\"\nvalue = \"string\"\nstart = \"earliest\"\n\
             create = {{ partitions = {count} }}\n\n\
             [steps.stamp]\nfrom = \"in\"\nmodule = \"stamp@{version}\"\n\n\
             [sinks.out]\nfrom = \"stamp\"\ntopic = \"{}\"\ncreate = {{ partitions = {count} }}\n",
            self.name,
            self.dead_letters(),
            self.input(),
            self.output(),
            count = self.partitions,
        )
    }

    /// Where that file is, after it was written.
    pub fn write(&self, version: &str) -> String {
        let path = self.setup.dir.join("pipeline.toml");
        fs::write(&path, self.file(version)).unwrap();
        path.display().to_string()
    }

    /// A running node with the pipeline on version `1`.
    pub fn begin(&self, versions: &[&str]) -> Option<Node> {
        let modules: Vec<_> = versions
            .iter()
            .map(|v| place::guest(&format!("stamp-{v}")))
            .collect::<Option<_>>()?;
        let node = self.setup.start();
        for module in modules {
            node.ask(&["module", "add", &module.display().to_string()]).done();
        }
        node.ask(&["topics", "create", &self.dead_letters()]).done();
        node.ask(&["apply", "--yes", &self.write("1")]).done();
        node.running(&self.name);
        Some(node)
    }

    /// `wasmill swap` to a version, with more words.
    pub fn swap(&self, node: &Node, version: &str, words: &[&str]) -> Told {
        let change = format!("stamp=stamp@{version}");
        let mut all = vec!["--format", "json", "swap", self.name.as_str(), change.as_str()];
        all.extend(words);
        node.ask(&all)
    }

    pub fn versions(&self, node: &Node) -> Value {
        let path = format!("/v1/pipelines/{}/versions", self.name);
        node.get(&path)
            .unwrap_or_else(|| panic!("no versions of `{}`:\n{}", self.name, node.log()))
    }

    /// Waits until no swap is under way. Gives the version that the record names.
    pub fn settled(&self, node: &Node) -> String {
        let settled = || {
            let path = format!("/v1/pipelines/{}/versions", self.name);
            node.get(&path).filter(|versions| versions["swap"].is_null())
        };
        let found = within(SWAP, settled);
        let found = found.unwrap_or_else(|| panic!("the swap does not end: {}\n{}", self.versions(node), node.log()));
        version_of(found["running"]["stamp"]["module"].as_str().unwrap())
    }

    /// The versions that tasks run now, as the node says; one, when all is well.
    pub fn of_tasks(&self, node: &Node) -> BTreeSet<String> {
        let pipeline = node.running(&self.name);
        let tasks = pipeline["tasks"].as_array().cloned().unwrap_or_default();
        assert_eq!(tasks.len(), self.partitions as usize, "{pipeline}");
        let module = |task: &Value| version_of(task["modules"]["stamp"].as_str().unwrap_or("stamp@nothing"));
        tasks.iter().map(module).collect()
    }

    /// Waits until everything was processed.
    pub fn caught_up(&self, node: &Node) {
        until("no lag", TASKS * 2, || {
            node.pipeline(&self.name).filter(|p| p["lag"] == 0)
        });
    }
}

/// What comes after `@`.
fn version_of(id: &str) -> String {
    id.split_once('@').map_or(id, |(_, version)| version).to_owned()
}
