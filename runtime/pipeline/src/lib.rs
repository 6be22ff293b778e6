//! pipeline.toml to [`topology::Topology`], with diagnostics that point into the file.
//!
//! All problems of a file are reported at once. What a module is like comes from whoever calls ([`ModuleRef`] to
//! [`topology::description::ModuleDescription`]); no file, node or component is touched here.
//! Words of the language that this version does not do yet are known and refused as such, apart from unknown ones.

mod application;
mod build;
mod cogroup;
mod diagnostics;
mod edit;
mod failures;
mod file;
mod foreign;
mod globals;
mod grants;
mod joins;
mod module_steps;
mod modules;
mod operators;
mod params;
mod reader;
mod routes;
mod selectors;
mod sinks;
mod sources;
mod stateless;
mod steps;
mod stream_joins;
mod suppress;
mod tables;
mod timestamps;
mod tree;
mod units;
mod vars;
mod windows;
mod wiring;

use indexmap::IndexMap;
use serde::Serialize;
use topology::Topology;
use topology::description::ModuleDescription;

pub use diagnostics::{Code, Diagnostic, Diagnostics, Place};
pub use edit::with_modules;
pub use modules::{DescriptionProblems, ModuleRef, Undescribed, check_description};
pub use sources::start_of as start;
pub use units::duration_ms;
pub use vars::Vars;

use file::File;
use reader::Reader;
use tree::Span;

/// Largest pipeline file. Files that people write have some kilobytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// A file that was understood.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pipeline {
    /// Validated: ordered, cut, with its internal stores.
    pub topology: Topology,
    /// How the file names the module of each step.
    pub modules: IndexMap<String, ModuleRef>,
    /// Object cache of a store in bytes, by the store's full name, where the file tunes it.
    pub store_caches: IndexMap<String, u64>,
}

/// Reads a pipeline file. `describe` is asked once for every step with a module.
///
/// # Errors
/// Everything that is wrong with the file, in its order.
pub fn parse(
    text: &str,
    file_name: &str,
    vars: &Vars,
    describe: &dyn Fn(&ModuleRef) -> Result<ModuleDescription, Undescribed>,
) -> Result<Pipeline, Diagnostics> {
    let mut reader = Reader::default();
    let pipeline = understand(text, vars, describe, &mut reader);
    match pipeline {
        Some(pipeline) if reader.problems.is_empty() => Ok(pipeline),
        _ => Err(Diagnostics::new(file_name, text, without_echoes(reader.problems))),
    }
}

/// A string whose variable is not there is no topic and no format either; saying so would be noise.
fn without_echoes(problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let start = |problem: &Diagnostic| problem.place.as_ref().map(|place| place.start);
    let unresolved: Vec<usize> = problems
        .iter()
        .filter(|problem| problem.code == Code::UnknownVariable)
        .filter_map(start)
        .collect();
    let echo = |problem: &Diagnostic| {
        problem.code != Code::UnknownVariable && start(problem).is_some_and(|at| unresolved.contains(&at))
    };
    problems.into_iter().filter(|problem| !echo(problem)).collect()
}

/// The modules that a file names, before anything else of it is checked: the CLI uploads the files among them.
/// A file that is no TOML names none.
pub fn modules(text: &str, vars: &Vars) -> Vec<ModuleRef> {
    let mut problems = Vec::new();
    let Some(root) = tree(text, vars, &mut problems) else {
        return Vec::new();
    };
    let Some(tree::Kind::Table(steps)) = root.get("steps").map(|value| &value.kind) else {
        return Vec::new();
    };
    let mut found: Vec<ModuleRef> = Vec::new();
    for entry in &steps.entries {
        let tree::Kind::Table(step) = &entry.value.kind else {
            continue;
        };
        let Some(tree::Kind::Text(module)) = step.get("module").map(|value| &value.kind) else {
            continue;
        };
        if let Ok(module) = ModuleRef::parse(module)
            && !found.contains(&module)
        {
            found.push(module);
        }
    }
    found
}

fn tree(text: &str, vars: &Vars, problems: &mut Vec<Diagnostic>) -> Option<tree::Table> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!(
            "a pipeline file has at most {FILE_BYTES_MAX} bytes, this one has {}",
            text.len()
        );
        problems.push(Diagnostic::nowhere(Code::TooLarge, message));
        return None;
    }
    let mut root = tree::read(text, problems);
    // What follows a syntax error may be anything: more messages would only hide it.
    if !problems.is_empty() {
        return None;
    }
    let values = vars::resolve(root.get("vars"), vars, problems);
    let declared = root
        .entries
        .iter()
        .position(|entry| entry.key == "vars")
        .map(|at| root.entries.remove(at));
    vars::substitute(&mut root, &values, problems);
    root.entries.extend(declared);
    Some(root)
}

fn understand(
    text: &str,
    vars: &Vars,
    describe: &dyn Fn(&ModuleRef) -> Result<ModuleDescription, Undescribed>,
    reader: &mut Reader,
) -> Option<Pipeline> {
    let root = tree(text, vars, &mut reader.problems)?;
    let file = file::read(&root, reader)?;
    let (topology, modules, store_caches) = build::Builder::new(&file, reader, describe).build();
    if !reader.problems.is_empty() {
        return None;
    }
    match topology.validated() {
        Ok(topology) => Some(Pipeline {
            topology,
            modules,
            store_caches,
        }),
        Err(topology::Error(problems)) => {
            for problem in problems {
                let span = span_of(&file, &problem.node);
                reader.report(Diagnostic::at(Code::BadTopology, &span, problem.to_string()));
            }
            None
        }
    }
}

/// The name in the file that a node of the topology comes from: its own, or the step's that made it.
fn span_of(file: &File, node: &str) -> Span {
    let sources = file.sources.iter().map(|source| &source.name);
    let steps = file.steps.iter().map(|step| &step.name);
    let names = sources
        .chain(steps)
        .chain(file.sinks.iter().map(|sink| &sink.name))
        .chain([&file.name]);
    names
        .filter(|name| node == name.text || node.strip_prefix(&name.text).is_some_and(|rest| rest.starts_with('-')))
        .max_by_key(|name| name.text.len())
        .map_or(0..0, |name| name.span.clone())
}
