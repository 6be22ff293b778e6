//! Steps with a module: its description, its ports, parameters and stores.

use topology::description::{ModuleDescription, World};
use topology::grants::ungranted;
use topology::{Edge, Emit, Format, ModuleStep, NodeKind, StoreId};

use crate::build::{Builder, feed, was};
use crate::diagnostics::{Code, Diagnostic, meant, nearest};
use crate::file::{Inputs, ModulePart, StepPart};
use crate::modules::{Module, ModuleRef, Port, understand};
use crate::params;
use crate::reader::Text;
use crate::wiring::{Out, Outputs, split};

/// How a module is called, without what is read and written, and without its parameters.
pub(crate) fn called(description: &ModuleDescription, part: &ModulePart, module: &Module) -> ModuleStep {
    ModuleStep {
        module: description.name.clone(),
        version: description.version.clone(),
        digest: description.digest.clone(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        stores: Vec::new(),
        params: Default::default(),
        needs_headers: module.needs_headers,
        needs_origin: module.needs_origin,
        needs_stream_times: module.needs_stream_times,
        retries: part.retries,
        limits: part.limits,
        grants: Box::new(part.grants.clone().unwrap_or_default()),
        closure: None,
    }
}

impl Builder<'_> {
    pub(crate) fn module(&mut self, step: &StepPart, part: &ModulePart) -> Outputs {
        let Some((reference, description, module)) = self.described(part) else {
            for from in step.inputs.texts() {
                self.resolve(from);
            }
            return Outputs::Unknown;
        };
        if description.world == World::Application {
            return self.application(step, part, reference, description, &module);
        }
        let shown = format!("{}@{}", description.name, description.version);
        let (edges, inputs) = self.bind(step, &shown, &module);
        let params = params::check(&shown, &module.params, part.params.as_ref(), &part.module, self.reader);
        let stores = self.module_stores(step, part, &shown, &module);
        self.check_grants(step, part, &shown, &description);
        let outputs = module.outputs.clone();
        let node = ModuleStep {
            inputs: module.inputs.iter().map(|port| port.name.clone()).collect(),
            outputs: module.outputs.iter().map(|port| port.name.clone()).collect(),
            stores,
            params,
            ..called(&description, part, &module)
        };
        self.modules.insert(step.name.text.clone(), reference);
        let node = self.node(&step.name.text, NodeKind::Module(node), edges);
        let changed = inputs.iter().any(|input| input.key_changed);
        let key = common(inputs.iter().map(|input| input.key));
        let value = common(inputs.iter().map(|input| input.value));
        let outs = (0_u32..).zip(outputs).map(|(number, port)| {
            let out = Out {
                node,
                port: number,
                key: concrete(port.key).or(key),
                value: concrete(port.value).or(value),
                key_changed: changed || !port.keys_kept,
                table: false,
            };
            (port.name, out)
        });
        Outputs::Ports(outs.collect())
    }

    pub(crate) fn check_grants(
        &mut self,
        step: &StepPart,
        part: &ModulePart,
        module: &str,
        description: &ModuleDescription,
    ) {
        let Some(grants) = &part.grants else { return };
        for lacking in ungranted(&step.name.text, &description.capabilities, grants) {
            let message = format!("module `{module}` {}", lacking.message);
            let problem = Diagnostic::at(Code::NotGranted, &part.module.span, message);
            self.reader
                .report(problem.label("wants more than it is granted").hint(lacking.hint));
        }
    }

    fn described(&mut self, part: &ModulePart) -> Option<(ModuleRef, ModuleDescription, Module)> {
        let text = &part.module;
        let reference = match ModuleRef::parse(&text.text) {
            Ok(reference) => reference,
            Err(hint) => {
                let message = format!("`{}` names no module", text.text);
                self.reader
                    .report(Diagnostic::at(Code::UnknownModule, &text.span, message).hint(hint));
                return None;
            }
        };
        let description = match (self.describe)(&reference) {
            Ok(description) => description,
            Err(reason) => {
                let message = format!("module `{reference}`: {}", reason.message);
                let near = nearest(&text.text, reason.known.iter().map(String::as_str));
                let listed = || meant(&text.text, reason.known.iter().map(String::as_str));
                let hint = near
                    .map(|near| format!("did you mean `{near}`?"))
                    .or(reason.hint.clone())
                    .or_else(listed);
                let problem = Diagnostic::at(Code::UnknownModule, &text.span, message).label("no such module");
                self.reader.report(problem.maybe_hint(hint));
                return None;
            }
        };
        match understand(&description) {
            Ok(module) => Some((reference, description, module)),
            Err(problems) => {
                let message = format!("the description of module `{reference}` is wrong: {problems}");
                self.reader.report(Diagnostic::at(Code::BadModule, &text.span, message));
                None
            }
        }
    }

    pub(crate) fn bind(&mut self, step: &StepPart, module: &str, description: &Module) -> (Vec<Edge>, Vec<Out>) {
        let ports = &description.inputs;
        let mut bound: Vec<(usize, Text)> = Vec::new();
        match (&step.inputs, ports.as_slice()) {
            (Inputs::One(from), [_]) => bound.push((0, from.clone())),
            (Inputs::One(from), many) => {
                let names: Vec<String> = many.iter().map(|port| format!("{} = \"…\"", port.name)).collect();
                let message = format!("module `{module}` has {} inputs, and `from` must bind each", many.len());
                let problem = Diagnostic::at(Code::UnboundPort, &from.span, message).label("which input?");
                self.reader
                    .report(problem.hint(format!("say `from = {{ {} }}`", names.join(", "))));
                self.resolve(from);
            }
            (Inputs::Ports(given, span), _) => {
                for (name, from) in given {
                    match ports.iter().position(|port| port.name == name.text) {
                        Some(port) => bound.push((port, from.clone())),
                        None => {
                            let message = format!("module `{module}` has no input port `{}`", name.text);
                            let hint = meant(&name.text, ports.iter().map(|port| port.name.as_str()));
                            let problem = Diagnostic::at(Code::UnknownPort, &name.span, message).label("no such port");
                            self.reader.report(problem.maybe_hint(hint));
                            self.resolve(from);
                        }
                    }
                }
                for port in ports
                    .iter()
                    .filter(|port| !given.iter().any(|(name, _)| name.text == port.name))
                {
                    let message = format!("input `{}` of module `{module}` is not bound", port.name);
                    let hint = format!("say `{} = \"…\"` in `from`", port.name);
                    self.reader
                        .report(Diagnostic::at(Code::UnboundPort, span, message).hint(hint));
                }
            }
            (Inputs::None | Inputs::Several(_), _) => {}
        }
        let mut edges = Vec::new();
        let mut inputs = Vec::new();
        for (port, from) in bound {
            let input = self.resolve(&from);
            if let Some(expected) = ports.get(port) {
                self.check_port(module, expected, &from, &input);
            }
            edges.push(feed(&input, u32::try_from(port).unwrap_or(u32::MAX)));
            inputs.push(input);
        }
        (edges, inputs)
    }

    fn check_port(&mut self, module: &str, port: &Port, from: &Text, input: &Out) {
        for (what, expected, given) in [("key", port.key, input.key), ("value", port.value, input.value)] {
            let Some(given) = given.filter(|given| !expected.accepts(*given)) else {
                continue;
            };
            let message = format!(
                "input `{}` of module `{module}` takes {what}s as `{}`, but `{}` gives `{}`",
                port.name,
                expected.word(),
                from.text,
                given.word()
            );
            let mut problem = Diagnostic::at(Code::FormatMismatch, &from.span, message);
            let source = self
                .file
                .sources
                .iter()
                .find(|source| source.name.text == split(&from.text).0);
            problem = match source {
                Some(source) => {
                    let hint = format!(
                        "if they are, say `{what} = \"{}\"` at source `{}`",
                        expected.word(),
                        source.name.text
                    );
                    problem
                        .also(&source.name.span, format!("its {what}s are `{}`", given.word()))
                        .hint(hint)
                }
                None => problem.hint("formats label bytes and never convert; convert in a module between them"),
            };
            self.reader
                .report(problem.label(format!("gives {what}s as `{}`", given.word())));
        }
    }

    fn module_stores(
        &mut self,
        step: &StepPart,
        part: &ModulePart,
        module: &str,
        description: &Module,
    ) -> Vec<StoreId> {
        for tuning in part.stores.values() {
            if !description.stores.iter().any(|store| store.name == tuning.name.text) {
                let message = format!("module `{module}` declares no store `{}`", tuning.name.text);
                let hint = meant(
                    &tuning.name.text,
                    description.stores.iter().map(|store| store.name.as_str()),
                );
                let hint = hint.unwrap_or_else(|| "a module declares its stores, the file only tunes them".to_string());
                self.reader
                    .report(Diagnostic::at(Code::UnknownName, &tuning.name.span, message).hint(hint));
            }
        }
        let mut ids = Vec::new();
        for store in &description.stores {
            let name = format!("{}-{}", step.name.text, store.name);
            let topics = format!("{}-{}", was(step), store.name);
            let form = (store.kind, store.schema, store.key, store.value);
            ids.push(self.store(&name, &topics, &step.name.span, form, Emit::EveryUpdate));
            if let Some(bytes) = part.stores.get(&store.name).and_then(|tuning| tuning.cache_bytes) {
                self.store_caches.insert(name, bytes);
            }
        }
        ids
    }
}

fn concrete(format: Format) -> Option<Format> {
    Some(format).filter(|format| *format != Format::Any)
}

/// What an output of any format has: the inputs' format, where they agree.
fn common(mut formats: impl Iterator<Item = Option<Format>>) -> Option<Format> {
    let first = formats.next()??;
    formats.all(|format| format == Some(first)).then_some(first)
}
