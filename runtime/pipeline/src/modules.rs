//! Modules as a file refers to them, and what their descriptions say in pipeline.toml's words.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use topology::description::{Attribute, ModuleDescription, PortDescription, StoreDescription, World};
use topology::{Format, StoreKind};

use crate::file::{FormatWord, parse_format};
use crate::params;
use crate::tree::{Kind, read_value};

/// What `module = "…"` says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleRef {
    /// `name@version`, in the node's registry.
    Registered { name: String, version: String },
    /// `./x.wasm`, beside the pipeline file; the CLI uploads it.
    File(String),
}

impl fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { name, version } => write!(f, "{name}@{version}"),
            Self::File(path) => write!(f, "{path}"),
        }
    }
}

impl ModuleRef {
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("./") || text.starts_with("../") || text.starts_with('/') || text.ends_with(".wasm") {
            return Ok(Self::File(text.to_string()));
        }
        let Some((name, version)) = text.split_once('@') else {
            return Err(format!(
                "say which version, like \"{text}@1\", or name a file, like \"./{text}.wasm\""
            ));
        };
        if let Some(problem) = topology::name_problem(name) {
            return Err(problem);
        }
        if version.is_empty() || version.starts_with(['^', '~', '=', '>', '<']) || version.contains(['*', ' ', '@']) {
            return Err("a version is an exact string, as the module's own description says it".to_string());
        }
        Ok(Self::Registered {
            name: name.to_string(),
            version: version.to_string(),
        })
    }
}

/// Why there is no description of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undescribed {
    /// Completes "module `x@1`: …".
    pub message: String,
    pub hint: Option<String>,
    /// Modules that there are, as `name@version`, for the nearest match.
    pub known: Vec<String>,
}

/// A description in our types.
#[derive(Clone, Debug)]
pub struct Module {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub stores: Vec<StoreForm>,
    pub params: Vec<params::Declared>,
    pub needs_headers: bool,
    pub needs_origin: bool,
    pub needs_stream_times: bool,
}

#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub key: Format,
    pub value: Format,
    /// Of an output: every row has the key of its cause.
    pub keys_kept: bool,
}

#[derive(Clone, Debug)]
pub struct StoreForm {
    pub name: String,
    pub kind: StoreKind,
    pub schema: u32,
    pub key: Format,
    pub value: Format,
}

/// Everything that is wrong with a description, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptionProblems(pub Vec<String>);

impl fmt::Display for DescriptionProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for DescriptionProblems {}

/// Checks a description's words, names and defaults, as a module is registered.
///
/// # Errors
/// Everything that is wrong.
pub fn check_description(description: &ModuleDescription) -> Result<(), DescriptionProblems> {
    understand(description).map(|_| ())
}

pub fn understand(description: &ModuleDescription) -> Result<Module, DescriptionProblems> {
    let mut problems = Vec::new();
    check_identity(description, &mut problems);
    let mut needs = HashSet::new();
    let inputs = description
        .inputs
        .iter()
        .map(|p| port("input", p, &mut needs, &mut problems))
        .collect();
    let outputs = description
        .outputs
        .iter()
        .map(|p| port("output", p, &mut needs, &mut problems))
        .collect();
    let stores = description
        .stores
        .iter()
        .filter_map(|s| store(s, &mut problems))
        .collect();
    let params = description
        .parameters
        .iter()
        .filter_map(|p| params::declared(p, &mut problems))
        .collect();
    for capability in &description.capabilities {
        let optional = matches!(option(&capability.options, "optional"), Some(Kind::Boolean(true)));
        let known = topology::grants::CAPABILITIES.contains(&capability.name.as_str());
        if let Err(problem) = topology::grants::Want::of(capability)
            && (known || !optional)
        {
            problems.push(problem);
        }
    }
    for option in &description.options {
        problems.push(format!(
            "it has the option `{}`, which this host does not know",
            option.name
        ));
    }
    if !problems.is_empty() {
        return Err(DescriptionProblems(problems));
    }
    Ok(Module {
        inputs,
        outputs,
        stores,
        params,
        needs_headers: needs.contains("headers"),
        needs_origin: needs.contains("origin"),
        needs_stream_times: needs.contains("stream-times"),
    })
}

fn check_identity(description: &ModuleDescription, problems: &mut Vec<String>) {
    if let Some(problem) = topology::name_problem(&description.name) {
        problems.push(format!("it calls itself `{}`: {problem}", description.name));
    }
    if description.version.is_empty() {
        problems.push("it has no version".to_string());
    }
    if description.world == World::Application && description.plan.is_none() && description.parameters.is_empty() {
        problems.push("it is an application, and exports no topology".to_string());
    }
    // The port of a row is a byte of the contract.
    if description.inputs.is_empty() || description.inputs.len() > 256 {
        problems.push(format!(
            "it has {} inputs, and must have 1 to 256",
            description.inputs.len()
        ));
    }
    unique("input", description.inputs.iter().map(|port| &port.name), problems);
    unique("output", description.outputs.iter().map(|port| &port.name), problems);
    unique("store", description.stores.iter().map(|store| &store.name), problems);
    unique(
        "parameter",
        description.parameters.iter().map(|parameter| &parameter.name),
        problems,
    );
}

fn unique<'n>(what: &str, names: impl Iterator<Item = &'n String>, problems: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for name in names {
        if let Some(problem) = topology::name_problem(name) {
            problems.push(format!("{what} `{name}`: {problem}"));
        }
        if !seen.insert(name) {
            problems.push(format!("two {what}s are called `{name}`"));
        }
    }
}

pub fn option(options: &[Attribute], name: &str) -> Option<Kind> {
    options
        .iter()
        .find(|option| option.name == name)
        .and_then(|option| read_value(&option.value))
        .map(|v| v.kind)
}

fn port(what: &str, port: &PortDescription, needs: &mut HashSet<String>, problems: &mut Vec<String>) -> Port {
    let mut keys_kept = false;
    for option in &port.options {
        let value = read_value(&option.value).map(|value| value.kind);
        let ok = match (option.name.as_str(), &value) {
            ("keys", Some(Kind::Text(word))) if what == "output" => {
                keys_kept = word == "kept";
                word == "kept" || word == "changed"
            }
            ("kind", Some(Kind::Text(word))) => {
                if word != "stream" {
                    problems.push(format!(
                        "{what} `{}` is a `{word}`, which is not supported yet",
                        port.name
                    ));
                }
                true
            }
            ("needs", Some(Kind::List(words))) => words.iter().all(|word| match &word.kind {
                Kind::Text(word) if matches!(word.as_str(), "headers" | "origin" | "stream-times") => {
                    needs.insert(word.clone());
                    true
                }
                _ => false,
            }),
            _ => false,
        };
        if !ok {
            let said = format!("{} = {}", option.name, option.value);
            problems.push(format!(
                "{what} `{}` has the option `{said}`, which this host does not know",
                port.name
            ));
        }
    }
    let key = format(
        &format!("the keys of {what} `{}`", port.name),
        &port.key_format,
        problems,
    );
    let value = format(
        &format!("the values of {what} `{}`", port.name),
        &port.value_format,
        problems,
    );
    Port {
        name: port.name.clone(),
        key,
        value,
        keys_kept,
    }
}

fn format(what: &str, word: &str, problems: &mut Vec<String>) -> Format {
    // Nothing said: nothing is asked.
    if word.is_empty() {
        return Format::Any;
    }
    match parse_format(word) {
        Ok(format) => return format,
        Err(FormatWord::Later) => problems.push(format!("{what} are `{word}`, which is not supported yet")),
        Err(FormatWord::Unknown) => problems.push(format!("{what} are `{word}`, which is no format")),
    }
    Format::Any
}

fn store(store: &StoreDescription, problems: &mut Vec<String>) -> Option<StoreForm> {
    let what = format!("store `{}`", store.name);
    let kind = match store.kind.as_str() {
        "key-value" => StoreKind::KeyValue,
        "timestamped" => StoreKind::Timestamped,
        "window" | "session" | "versioned" => {
            problems.push(format!(
                "{what} is a `{}` store, which is not supported yet",
                store.kind
            ));
            return None;
        }
        other => {
            problems.push(format!("{what} is a `{other}` store, which this host does not know"));
            return None;
        }
    };
    let (mut key, mut value) = (Format::Bytes, Format::Bytes);
    for option in &store.options {
        let said = read_value(&option.value).map(|value| value.kind);
        match (option.name.as_str(), said) {
            ("key-format", Some(Kind::Text(word))) => key = format(&format!("the keys of {what}"), &word, problems),
            ("value-format", Some(Kind::Text(word))) => {
                value = format(&format!("the values of {what}"), &word, problems)
            }
            ("retention" | "ttl" | "shared", _) => {
                problems.push(format!("{what} has `{}`, which is not supported yet", option.name));
            }
            _ => problems.push(format!(
                "{what} has the option `{}`, which this host does not know",
                option.name
            )),
        }
    }
    Some(StoreForm {
        name: store.name.clone(),
        kind,
        schema: store.schema,
        key,
        value,
    })
}
