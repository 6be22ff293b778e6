//! A topology while it is written down, and the plan that is made of it.

use std::collections::HashSet;

use crate::application_bindings::exports::wasmill::streams::topology::{self, Binding, Plan};
use crate::bindings::wasmill::streams::description::{Attribute, Description, Port};
use crate::dsl::Function;
use crate::format::Format;
use crate::module::{Module, attribute_of, port};

/// What an [`crate::dsl::Application`] has written down.
#[derive(Default)]
pub(crate) struct Draft {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    nodes: Vec<Node>,
    bindings: Vec<(String, At)>,
    functions: Vec<Function>,
    errors: Vec<String>,
}

/// Where records come from.
#[derive(Debug, Clone)]
pub(crate) enum At {
    Port(String),
    Node(usize),
}

struct Node {
    name: Option<String>,
    operator: &'static str,
    input: At,
    options: Vec<Attribute>,
    function: Option<topology::Function>,
    has_store: bool,
}

impl Draft {
    pub(super) fn input<K: Format, V: Format>(&mut self, name: &str) {
        if self.inputs.iter().any(|port| port.name == name) {
            self.errors
                .push(format!("input `{name}` is named twice: use its stream twice"));
        }
        self.inputs.push(port::<K, V>(name));
    }

    pub(super) fn output<K: Format, V: Format>(&mut self, name: &str, at: &At) {
        if self.outputs.iter().any(|port| port.name == name) {
            self.errors
                .push(format!("output `{name}` gets two streams, and may get one"));
        }
        self.outputs.push(port::<K, V>(name));
        self.bindings.push((name.to_owned(), at.clone()));
    }

    pub(super) fn node(
        &mut self,
        operator: &'static str,
        input: &At,
        options: Vec<(&str, String)>,
        function: Option<Function>,
    ) -> At {
        let function = function.map(|function| {
            let role = function.role().to_owned();
            self.functions.push(function);
            let number = (self.functions.len() - 1) as u32;
            topology::Function { role, number }
        });
        let options = options.into_iter().map(|(name, value)| attribute_of(name, value));
        self.nodes.push(Node {
            name: None,
            operator,
            input: input.clone(),
            options: options.collect(),
            function,
            has_store: false,
        });
        At::Node(self.nodes.len() - 1)
    }

    fn at(&mut self, at: &At) -> Option<&mut Node> {
        match at {
            At::Port(_) => None,
            At::Node(node) => self.nodes.get_mut(*node),
        }
    }

    pub(super) fn has_store(&mut self, at: &At) {
        if let Some(node) = self.at(at) {
            node.has_store = true;
        }
    }

    pub(super) fn option(&mut self, at: &At, name: &str, value: String) {
        if let Some(node) = self.at(at) {
            node.options.push(attribute_of(name, value));
        }
    }

    pub(super) fn name(&mut self, at: &At, name: &str) {
        match self.at(at) {
            Some(node) => node.name = Some(name.to_owned()),
            None => self.errors.push(format!(
                "`named(\"{name}\")` stands at an input, which is called by its port"
            )),
        }
    }

    pub(crate) fn describe(&self, name: &str, version: &str, summary: &str) -> Description {
        Description {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            ..Module::default().describe(name, version, summary)
        }
    }

    /// The plan and the functions that its numbers mean.
    ///
    /// # Errors
    /// Everything that is wrong with what was written down.
    pub(crate) fn finish(mut self) -> Result<(Plan, Vec<Function>), String> {
        let names = self.names();
        let named = |at: &At| match at {
            At::Port(port) => port.clone(),
            At::Node(node) => names.get(*node).cloned().unwrap_or_default(),
        };
        if !self.errors.is_empty() {
            return Err(self.errors.join("; "));
        }
        let nodes = self.nodes.iter().zip(&names).map(|(node, name)| topology::Node {
            name: name.clone(),
            operator: node.operator.to_owned(),
            inputs: vec![named(&node.input)],
            options: node.options.clone(),
            functions: node.function.iter().cloned().collect(),
        });
        let outputs = self.bindings.iter().map(|(port, at)| Binding {
            port: port.clone(),
            node: named(at),
        });
        let plan = Plan {
            nodes: nodes.collect(),
            outputs: outputs.collect(),
        };
        Ok((plan, self.functions))
    }

    /// Nodes without a name and without state are called by their operator, the second of them `map-values-2`.
    fn names(&mut self) -> Vec<String> {
        let ports = self.inputs.iter().map(|port| port.name.clone());
        let mut taken: HashSet<String> = ports
            .chain(self.nodes.iter().filter_map(|node| node.name.clone()))
            .collect();
        let mut names = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            if let Some(name) = &node.name {
                names.push(name.clone());
                continue;
            }
            if node.has_store {
                self.errors.push(format!(
                    "a `{}` has no name, and its store would be called by it: say `.named(\"…\")`",
                    node.operator
                ));
            }
            let numbered = (2..).map(|number| format!("{}-{number}", node.operator));
            let mut names_of_it = std::iter::once(node.operator.to_owned()).chain(numbered);
            let name = names_of_it.find(|name| !taken.contains(name)).unwrap_or_default();
            taken.insert(name.clone());
            names.push(name);
        }
        names
    }
}
