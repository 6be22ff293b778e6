//! Who feeds whom: names of sources and steps, ports, the order of steps, cycles.

use std::collections::{BTreeSet, HashMap};

use topology::{Format, GlobalId, NodeId};

use crate::diagnostics::{Code, Diagnostic, meant};
use crate::file::{File, StepPart};
use crate::reader::{Reader, Text};

/// Where rows come from, and what is known of them.
#[derive(Clone, Debug, Default)]
pub struct Out {
    pub node: NodeId,
    pub port: u32,
    /// `None`: unknown, because of a problem that was reported or a module that takes anything.
    pub key: Option<Format>,
    pub value: Option<Format>,
    /// Since the rows were read: an operator that works by key needs a repartition topic first.
    pub key_changed: bool,
    /// Each row replaces the one before it with the same key.
    pub table: bool,
}

#[derive(Clone, Debug)]
pub enum Outputs {
    One(Out),
    /// By name, in the order of the ports.
    Ports(Vec<(String, Out)>),
    /// A global table, which only a join looks into.
    Global(GlobalId),
    /// What comes out is not known; the reason was reported.
    Unknown,
}

/// `NAME` or `NAME.PORT`.
pub fn split(from: &str) -> (&str, Option<&str>) {
    match from.split_once('.') {
        Some((name, port)) => (name, Some(port)),
        None => (from, None),
    }
}

/// Names that two parts have. Sinks have names of their own: nothing refers to one.
pub fn check_names(file: &File, reader: &mut Reader) {
    let mut seen: HashMap<&str, (&Text, &str)> = HashMap::new();
    let sources = file.sources.iter().map(|source| (&source.name, "source"));
    for (name, what) in sources.chain(file.steps.iter().map(|step| (&step.name, "step"))) {
        if let Some((first, first_what)) = seen.insert(&name.text, (name, what)) {
            let message = format!("a {first_what} and a {what} are called `{}`", name.text);
            let problem = Diagnostic::at(Code::DuplicateName, &name.span, message).also(&first.span, "the other one");
            reader.report(problem.hint("`from` could mean either; give one of them another name"));
        }
    }
}

/// Steps so that each comes after those that feed it; among independent ones, in the order of the file. Steps of a
/// cycle, which is reported, come last.
pub fn order(file: &File, reader: &mut Reader) -> Vec<usize> {
    let by_name: HashMap<&str, usize> = file
        .steps
        .iter()
        .enumerate()
        .map(|(id, step)| (step.name.text.as_str(), id))
        .collect();
    let feeders = |step: &StepPart| -> BTreeSet<usize> {
        step.inputs
            .texts()
            .iter()
            .filter_map(|from| by_name.get(split(&from.text).0))
            .copied()
            .collect()
    };
    let mut waiting: Vec<BTreeSet<usize>> = file.steps.iter().map(feeders).collect();
    let mut order: Vec<usize> = Vec::with_capacity(file.steps.len());
    // Each round takes the first step that waits for nothing; `PARTS_MAX` bounds the rounds.
    while let Some(next) =
        (0..waiting.len()).find(|id| !order.contains(id) && waiting.get(*id).is_some_and(BTreeSet::is_empty))
    {
        order.push(next);
        for feeders in &mut waiting {
            feeders.remove(&next);
        }
    }
    let stuck: Vec<usize> = (0..file.steps.len()).filter(|id| !order.contains(id)).collect();
    if let Some(first) = stuck.first() {
        report_cycle(file, *first, &waiting, reader);
    }
    order.extend(stuck);
    order
}

/// Walks from a stuck step to a stuck feeder until a step comes up again.
fn report_cycle(file: &File, first: usize, waiting: &[BTreeSet<usize>], reader: &mut Reader) {
    let mut path = vec![first];
    let cycle = loop {
        let Some(next) = path
            .last()
            .and_then(|at| waiting.get(*at))
            .and_then(|feeders| feeders.first())
        else {
            return;
        };
        if let Some(start) = path.iter().position(|step| step == next) {
            break path.split_off(start);
        }
        path.push(*next);
    };
    let steps: Vec<&StepPart> = cycle.iter().filter_map(|id| file.steps.get(*id)).collect();
    let Some(step) = steps.iter().min_by_key(|step| step.name.span.start) else {
        return;
    };
    // The path goes upstream; rows go the other way.
    let mut names: Vec<String> = steps.iter().rev().map(|step| format!("`{}`", step.name.text)).collect();
    names.extend(names.first().cloned());
    let message = format!("these steps feed each other in a circle: {}", names.join(" -> "));
    let inside: Vec<&str> = steps.iter().map(|step| step.name.text.as_str()).collect();
    let span = step
        .inputs
        .texts()
        .iter()
        .find(|from| inside.contains(&split(&from.text).0))
        .map(|from| &from.span);
    let problem = Diagnostic::at(Code::Cycle, span.unwrap_or(&step.name.span), message).label("closes the circle");
    reader.report(
        problem.hint("rows can go round through a topic of your own: a sink writes it, another pipeline reads it"),
    );
}

/// What `from` means.
pub fn resolve(from: &Text, file: &File, outputs: &HashMap<String, Outputs>, reader: &mut Reader) -> Out {
    let (name, port) = split(&from.text);
    let is_step = file.steps.iter().any(|step| step.name.text == name);
    if !is_step && !file.sources.iter().any(|source| source.name.text == name) {
        report_unknown(from, name, file, reader);
        return Out::default();
    }
    match (outputs.get(name), port) {
        // Unknown, or part of a cycle: reported already.
        (None | Some(Outputs::Unknown), _) => Out::default(),
        (Some(Outputs::Global(_)), _) => {
            report_global(from, name, reader);
            Out::default()
        }
        (Some(Outputs::One(out)), None) => out.clone(),
        (Some(Outputs::One(_)), Some(port)) => {
            let message = format!("`{name}` has no ports, so no port `{port}`");
            let problem = Diagnostic::at(Code::UnknownPort, &from.span, message).label("no such port");
            reader.report(problem.hint(format!("say `from = \"{name}\"`")));
            Out::default()
        }
        (Some(Outputs::Ports(ports)), Some(port)) => match ports.iter().find(|(name, _)| name == port) {
            Some((_, out)) => out.clone(),
            None => {
                let message = format!("`{name}` has no output port `{port}`");
                let hint = meant(port, ports.iter().map(|(name, _)| name.as_str()));
                let problem = Diagnostic::at(Code::UnknownPort, &from.span, message).label("no such port");
                reader.report(problem.hint(hint.unwrap_or_else(|| "it has no output at all".to_string())));
                Out::default()
            }
        },
        (Some(Outputs::Ports(ports)), None) => match ports.as_slice() {
            [(_, out)] => out.clone(),
            [] => {
                let message = format!("nothing comes out of `{name}`");
                reader.report(Diagnostic::at(Code::UnknownPort, &from.span, message).label("has no output"));
                Out::default()
            }
            many => {
                let list: Vec<String> = many.iter().map(|(port, _)| format!("`{name}.{port}`")).collect();
                let message = format!("`{name}` has {} outputs, and `from` must name one", many.len());
                let problem = Diagnostic::at(Code::UnknownPort, &from.span, message).label("which output?");
                reader.report(problem.hint(format!("there are {}", list.join(", "))));
                Out::default()
            }
        },
    }
}

fn report_global(from: &Text, name: &str, reader: &mut Reader) {
    let message = format!("`{name}` is a global table: it has no rows to go on, only rows to be found");
    let hint = format!(
        "a join looks into it: `op = \"join\"`, `left = \"STREAM\"`, `right = \"{name}\"`, `on = \"value.FIELD\"`; \
         `as = \"table\"` makes a table whose changes go on"
    );
    let problem = Diagnostic::at(Code::BadValue, &from.span, message).label("a global table");
    reader.report(problem.hint(hint));
}

fn report_unknown(from: &Text, name: &str, file: &File, reader: &mut Reader) {
    let message = format!("there is no source or step `{name}`");
    let hint = if file.sinks.iter().any(|sink| sink.name.text == name) {
        Some(format!("`{name}` is a sink, and nothing comes out of a sink"))
    } else {
        let sources = file.sources.iter().map(|source| source.name.text.as_str());
        meant(
            name,
            sources.chain(file.steps.iter().map(|step| step.name.text.as_str())),
        )
    };
    reader.report(
        Diagnostic::at(Code::UnknownName, &from.span, message)
            .label("not there")
            .maybe_hint(hint),
    );
}
