//! Steps whose module is an application: each node of its plan becomes a node `STEP-NODE`, read and built as a step of
//! the file would be. What is wrong with a node is told at the step's `module`.

use indexmap::IndexMap;
use topology::description::{ModuleDescription, Plan, PlanFunction, PlanNode};
use topology::{Closure, ClosureForm, Emit, Format, ModuleStep, NodeKind, Selector, StoreKind};

use crate::build::{Builder, feed, settle, was};
use crate::diagnostics::{Code, Diagnostic, meant};
use crate::file::{self, Defaults, ModulePart, Part, StepPart, Work};
use crate::module_steps::called;
use crate::modules::{Module, ModuleRef};
use crate::reader::Text;
use crate::steps;
use crate::tree::{Entry, Kind, Span, Table, Value, read_value};
use crate::wiring::{Out, Outputs};

/// Options that a node may not have: the plan or the file says them otherwise, and a module names no topic.
const NOT_OPTIONS: &[&str] = &["op", "module", "from", "left", "right", "was", "on-error", "late"];
/// Operators with named inputs or outputs, which a plan does not wire yet.
const OPERATORS_LATER: &[&str] = &["join", "cogroup", "branch"];

/// What all nodes of one application share.
struct Inside<'a> {
    step: &'a StepPart,
    /// `name@version`.
    shown: &'a str,
    /// The place for what is wrong inside.
    span: Span,
    plan: &'a Plan,
    /// A node that calls a closure, but for the closure.
    calls: ModuleStep,
    /// What comes out of input ports and of the nodes so far.
    known: IndexMap<String, Out>,
}

impl Inside<'_> {
    /// Of a node of the topology.
    fn name(&self, node: &PlanNode) -> String {
        format!("{}-{}", self.step.name.text, node.name)
    }

    /// The name under which the node's topics were made.
    fn topics(&self, node: &PlanNode) -> String {
        format!("{}-{}", was(self.step), node.name)
    }

    fn text(&self, text: impl Into<String>) -> Text {
        Text {
            text: text.into(),
            span: self.span.clone(),
        }
    }
}

impl Builder<'_> {
    pub(crate) fn application(
        &mut self,
        step: &StepPart,
        part: &ModulePart,
        reference: ModuleRef,
        description: ModuleDescription,
        module: &Module,
    ) -> Outputs {
        let shown = format!("{}@{}", description.name, description.version);
        let (edges, bound) = self.bind(step, &shown, module);
        self.check_grants(step, part, &shown, &description);
        self.modules.insert(step.name.text.clone(), reference);
        let Some(plan) = self.plan(part, &shown, &description) else {
            return Outputs::Unknown;
        };
        let mut inside = Inside {
            step,
            shown: &shown,
            span: part.module.span.clone(),
            plan: &plan,
            calls: ModuleStep {
                inputs: vec!["in".to_string()],
                outputs: vec!["out".to_string()],
                ..called(&description, part, module)
            },
            known: module.inputs.iter().map(|p| (p.name.clone(), Out::default())).collect(),
        };
        for (edge, out) in edges.iter().zip(bound) {
            if let Some(port) = module.inputs.get(edge.to_port as usize) {
                inside.known.insert(port.name.clone(), out);
            }
        }
        for node in &plan.nodes {
            let before = self.reader.problems.len();
            let out = self.planned(&inside, node);
            for problem in self.reader.problems.iter_mut().skip(before) {
                problem.message = format!("node `{}` of application `{shown}`: {}", node.name, problem.message);
            }
            inside.known.insert(node.name.clone(), out);
        }
        self.tune(&inside, part);
        self.ends(&inside, module)
    }

    /// The plan, where nothing about the application is beyond what a step can have.
    fn plan(&mut self, part: &ModulePart, shown: &str, description: &ModuleDescription) -> Option<Plan> {
        let span = &part.module.span;
        let before = self.reader.problems.len();
        if !description.parameters.is_empty() {
            self.reader
                .later(span, &format!("a parameter of application `{shown}`"));
        } else if let Some(params) = &part.params {
            crate::params::check(shown, &[], Some(params), &part.module, self.reader);
        }
        if !description.stores.is_empty() {
            let what = format!("a store of application `{shown}` that is not a node's");
            self.reader.later(span, &what);
        }
        let plan = description.plan.clone().unwrap_or_default();
        if plan.nodes.len() > file::PARTS_MAX {
            let message = format!("application `{shown}` has more than {} nodes", file::PARTS_MAX);
            self.reader.report(Diagnostic::at(Code::TooLarge, span, message));
        }
        (self.reader.problems.len() == before).then_some(plan)
    }

    /// One node with all that belongs to it.
    fn planned(&mut self, inside: &Inside<'_>, node: &PlanNode) -> Out {
        let span = &inside.span;
        let before = self.reader.problems.len();
        file::check_name(&inside.text(&node.name), self.reader);
        if self.reader.problems.len() == before {
            // With the step's name before it, it may be too long.
            file::check_name(&inside.text(inside.name(node)), self.reader);
        }
        if inside.known.contains_key(&node.name) {
            let message = "another node or an input port has this name".to_string();
            self.reader.report(Diagnostic::at(Code::DuplicateName, span, message));
        }
        let inputs = self.inputs(inside, node);
        if inputs.is_empty() {
            return Out::default();
        }
        let Some(table) = self.options(inside, node) else {
            return Out::default();
        };
        if OPERATORS_LATER.contains(&node.operator.as_str()) {
            let what = format!("operator `{}` in an application", node.operator);
            self.reader.later(span, &what);
            return Out::default();
        }
        let outputs = match (node.functions.as_slice(), inputs.as_slice()) {
            ([], _) => self.native(inside, node, &table, inputs),
            ([function], [(from, input)]) => self.closure(inside, node, &table, function, (from, input)),
            _ => {
                self.reader.later(
                    span,
                    "a node with a function and several inputs, or with several functions,",
                );
                Outputs::Unknown
            }
        };
        match outputs {
            Outputs::One(out) => out,
            Outputs::Ports(_) | Outputs::Global(_) | Outputs::Unknown => Out::default(),
        }
    }

    fn inputs(&mut self, inside: &Inside<'_>, node: &PlanNode) -> Vec<(Text, Out)> {
        if node.inputs.is_empty() {
            let message = "it has no input".to_string();
            self.reader
                .report(Diagnostic::at(Code::BadModule, &inside.span, message));
        }
        let inputs = node.inputs.iter().map(|name| {
            let known = inside.known.get(name);
            if known.is_none() {
                let message = format!("it takes `{name}`, which is no input port and no node before it");
                let hint = meant(name, inside.known.keys().map(String::as_str));
                let problem = Diagnostic::at(Code::BadModule, &inside.span, message);
                self.reader.report(problem.maybe_hint(hint));
            }
            (inside.text(name), known.cloned().unwrap_or_default())
        });
        inputs.collect()
    }

    /// The node as a table of a file would have it. `None`: it has none, and that was reported.
    fn options(&mut self, inside: &Inside<'_>, node: &PlanNode) -> Option<Table> {
        let span = &inside.span;
        let text = |text: &String| Value {
            span: span.clone(),
            kind: Kind::Text(text.clone()),
        };
        let from = match node.inputs.as_slice() {
            [one] => text(one),
            many => Value {
                span: span.clone(),
                kind: Kind::List(many.iter().map(text).collect()),
            },
        };
        let mut values = vec![("op".to_string(), text(&node.operator)), ("from".to_string(), from)];
        let before = self.reader.problems.len();
        for option in &node.options {
            let (name, said) = (&option.name, format!("{} = {}", option.name, option.value));
            if NOT_OPTIONS.contains(&name.as_str()) {
                let message = format!("it has the option `{said}`, which a node cannot have");
                self.reader.report(Diagnostic::at(Code::BadModule, span, message));
            } else if values.iter().any(|(other, _)| other == name) {
                let message = format!("it has the option `{name}` twice");
                self.reader.report(Diagnostic::at(Code::BadModule, span, message));
            }
            match read_value(&option.value) {
                Some(mut value) => {
                    place(&mut value, span);
                    values.push((name.clone(), value));
                }
                None => {
                    let message = format!("its option `{said}` is no TOML");
                    self.reader.report(Diagnostic::at(Code::BadModule, span, message));
                }
            }
        }
        let entries = values.into_iter().map(|(key, value)| Entry {
            key,
            key_span: span.clone(),
            value,
        });
        (self.reader.problems.len() == before).then(|| Table {
            span: span.clone(),
            entries: entries.collect(),
        })
    }

    /// An operator of the host.
    fn native(&mut self, inside: &Inside<'_>, node: &PlanNode, table: &Table, inputs: Vec<(Text, Out)>) -> Outputs {
        let name = inside.text(inside.name(node));
        let mut part = steps::read(name, table, &Defaults::default(), self.reader);
        part.was = inside.step.was.as_ref().map(|_| inside.text(inside.topics(node)));
        match (&part.work, inputs.as_slice()) {
            (Work::Merge, _) => {
                let inputs = inputs.iter().map(|(from, input)| (from, input.clone()));
                self.merged(&part.name.text, inputs.collect())
            }
            (work, [(from, input)]) => self.operator(&part, work, input.clone(), from),
            // Several inputs of another operator were reported.
            _ => Outputs::Unknown,
        }
    }

    /// An operator with a closure where the file would have an expression.
    fn closure(
        &mut self,
        inside: &Inside<'_>,
        node: &PlanNode,
        table: &Table,
        function: &PlanFunction,
        (from, input): (&Text, &Out),
    ) -> Outputs {
        let forms = ClosureForm::ALL.into_iter();
        let form = forms
            .filter(|form| form.role() == function.role)
            .find(|form| form.word() == node.operator);
        let Some(form) = form else {
            let what = format!("a function with the role `{}` of `{}`", function.role, node.operator);
            self.reader.later(&inside.span, &what);
            return Outputs::Unknown;
        };
        self.no_table(input, from, "a function on a table");
        let mut keys = vec!["op", "from"];
        let own = [
            ("key-result", form.makes_keys()),
            ("result", form.makes_values()),
            ("partitions", form.is_aggregate()),
        ];
        keys.extend(own.iter().filter(|(_, has)| *has).map(|(key, _)| key));
        let what = format!("a function of `{}`", node.operator);
        self.reader.keys(table, &what, &keys, &["emit", "window", "group-by"]);
        let mut input = input.clone();
        if form.is_aggregate() {
            let by = Part {
                selector: Selector::Key,
                span: inside.span.clone(),
            };
            let partitions = file::partitions(table, self.reader);
            let (name, topics) = (inside.name(node), inside.topics(node));
            input = self.regroup_as((&name, &topics), input, &by, partitions);
        }
        let reader = &mut *self.reader;
        let mut said = |key, natural| Some(file::format(table, key, reader).map_or(natural, |(format, _)| format));
        // As an expression's: a key is text unless the node says otherwise, a value is JSON.
        let key = if form.makes_keys() {
            said("key-result", Format::String)
        } else {
            input.key
        };
        let value = if form.makes_values() {
            said("result", Format::Json)
        } else {
            input.value
        };
        self.call(inside, node, (form, function.number), &input, (key, value))
    }

    fn call(
        &mut self,
        inside: &Inside<'_>,
        node: &PlanNode,
        (form, number): (ClosureForm, u32),
        input: &Out,
        (key, value): (Option<Format>, Option<Format>),
    ) -> Outputs {
        let mut call = inside.calls.clone();
        if form.is_aggregate() {
            let form = (StoreKind::Timestamped, 1, settle(key), settle(value));
            let (name, topics) = (inside.name(node), inside.topics(node));
            call.stores = vec![self.store(&name, &topics, &inside.span, form, Emit::EveryUpdate)];
        }
        call.closure = Some(Box::new(Closure {
            form,
            step: inside.step.name.text.clone(),
            number,
            plan: inside.plan.digest.clone(),
            key: settle(key),
            value: settle(value),
        }));
        let id = self.node(inside.name(node), NodeKind::Module(call), vec![feed(input, 0)]);
        Outputs::One(Out {
            node: id,
            port: 0,
            key,
            value,
            key_changed: input.key_changed || form.makes_keys(),
            // What comes out of an aggregate are its updates: its rows do not say what they replace.
            table: false,
        })
    }

    /// What the file says of the nodes' stores.
    fn tune(&mut self, inside: &Inside<'_>, part: &ModulePart) {
        for tuning in part.stores.values() {
            let name = format!("{}-{}", inside.step.name.text, tuning.name.text);
            if !self.stores.iter().any(|store| store.name == name) {
                let message = format!(
                    "no node `{}` of application `{}` has a store",
                    tuning.name.text, inside.shown
                );
                self.reader
                    .report(Diagnostic::at(Code::UnknownName, &tuning.name.span, message));
            } else if let Some(bytes) = tuning.cache_bytes {
                self.store_caches.insert(name, bytes);
            }
        }
    }

    /// The output ports, in the order of the description.
    fn ends(&mut self, inside: &Inside<'_>, module: &Module) -> Outputs {
        let shown = inside.shown;
        for binding in &inside.plan.outputs {
            if !module.outputs.iter().any(|port| port.name == binding.port) {
                let message = format!(
                    "application `{shown}` binds output `{}`, which it does not have",
                    binding.port
                );
                self.reader
                    .report(Diagnostic::at(Code::BadModule, &inside.span, message));
            }
        }
        let outs = module.outputs.iter().map(|port| {
            let mut nodes = inside.plan.outputs.iter().filter(|binding| binding.port == port.name);
            let (Some(binding), None) = (nodes.next(), nodes.next()) else {
                let message = format!("application `{shown}` must bind output `{}` once", port.name);
                self.reader
                    .report(Diagnostic::at(Code::BadModule, &inside.span, message));
                return (port.name.clone(), Out::default());
            };
            let Some(out) = inside.known.get(&binding.node).cloned() else {
                let message = format!(
                    "application `{shown}` binds output `{}` to `{}`, which is no node of it",
                    port.name, binding.node
                );
                self.reader
                    .report(Diagnostic::at(Code::BadModule, &inside.span, message));
                return (port.name.clone(), Out::default());
            };
            for (what, says, given) in [("keys", port.key, out.key), ("values", port.value, out.value)] {
                if let Some(given) = given.filter(|given| !says.accepts(*given)) {
                    let message = format!(
                        "output `{}` of application `{shown}` has {what} as `{}`, but `{}` gives `{}`",
                        port.name,
                        says.word(),
                        binding.node,
                        given.word()
                    );
                    self.reader
                        .report(Diagnostic::at(Code::BadModule, &inside.span, message));
                }
            }
            (port.name.clone(), out)
        });
        Outputs::Ports(outs.collect())
    }
}

/// Gives a value of a plan the place in the file that is to be blamed for it.
fn place(value: &mut Value, span: &Span) {
    value.span = span.clone();
    match &mut value.kind {
        Kind::List(values) => values.iter_mut().for_each(|value| place(value, span)),
        Kind::Table(table) => {
            table.span = span.clone();
            for entry in &mut table.entries {
                entry.key_span = span.clone();
                place(&mut entry.value, span);
            }
        }
        _ => {}
    }
}
