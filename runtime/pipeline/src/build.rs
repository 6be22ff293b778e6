//! From the parts of a file to the nodes, edges and stores of a topology.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use topology::description::ModuleDescription;
use topology::{
    Edge, Emit, Format, GlobalTable, Node, NodeId, NodeKind, OnError, Repartition, Selector, Sink, Source, SourceKind,
    Start, Store, StoreId, StoreKind, Timestamps, Topology, changelog_topic, is_internal_topic, repartition_topic,
};

use crate::diagnostics::{Code, Diagnostic};
use crate::file::{File, Inputs, Part, SourcePart, StepPart, Work};
use crate::modules::{ModuleRef, Undescribed};
use crate::reader::{Reader, Text};
use crate::tree::Span;
use crate::wiring::{self, Out, Outputs};

pub type Describe<'d> = &'d dyn Fn(&ModuleRef) -> Result<ModuleDescription, Undescribed>;

/// Builds all that can be built; what cannot is reported and its outputs are unknown, so that the rest is still checked.
pub struct Builder<'f> {
    pub(crate) file: &'f File,
    pub(crate) reader: &'f mut Reader,
    pub(crate) describe: Describe<'f>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) stores: Vec<Store>,
    pub(crate) globals: Vec<GlobalTable>,
    pub(crate) outputs: HashMap<String, Outputs>,
    pub(crate) modules: IndexMap<String, ModuleRef>,
    pub(crate) store_caches: IndexMap<String, u64>,
    store_spans: HashMap<String, Span>,
    /// Of the step whose nodes are being made.
    on_error: OnError,
}

impl<'f> Builder<'f> {
    pub fn new(file: &'f File, reader: &'f mut Reader, describe: Describe<'f>) -> Self {
        Self {
            file,
            reader,
            describe,
            nodes: Vec::new(),
            stores: Vec::new(),
            globals: Vec::new(),
            outputs: HashMap::new(),
            modules: IndexMap::new(),
            store_caches: IndexMap::new(),
            store_spans: HashMap::new(),
            on_error: OnError::Stop,
        }
    }

    /// The topology, not validated yet; worth nothing when a problem was reported.
    pub fn build(mut self) -> (Topology, IndexMap<String, ModuleRef>, IndexMap<String, u64>) {
        let file = self.file;
        wiring::check_names(file, self.reader);
        self.sources();
        for id in wiring::order(file, self.reader) {
            if let Some(step) = file.steps.get(id) {
                self.step(step);
            }
        }
        self.sinks();
        let dead_letters = self.dead_letters();
        let topology = Topology {
            name: file.name.text.clone(),
            guarantee: file.guarantee,
            max_task_idle_ms: file.max_task_idle_ms,
            standbys: file.standbys,
            nodes: self.nodes,
            stores: self.stores,
            globals: self.globals,
            sub_topologies: Vec::new(),
            dead_letters,
        };
        (topology, self.modules, self.store_caches)
    }

    pub(crate) fn node(&mut self, name: impl Into<String>, kind: NodeKind, inputs: Vec<Edge>) -> NodeId {
        self.nodes.push(Node {
            name: name.into(),
            kind,
            inputs,
            on_error: self.on_error,
        });
        self.nodes.len() - 1
    }

    pub(crate) fn resolve(&mut self, from: &Text) -> Out {
        wiring::resolve(from, self.file, &self.outputs, self.reader)
    }

    /// `name`: the store's; `topics`: the name under which its changelog was made (`was`).
    pub(crate) fn store(
        &mut self,
        name: &str,
        topics: &str,
        span: &Span,
        form: (StoreKind, u32, Format, Format),
        emit: Emit,
    ) -> StoreId {
        if let Some(other) = self.store_spans.insert(name.to_string(), span.clone()) {
            let message = format!("two stores are called `{name}`");
            let hint = "a native operator's store is called like its step, a module's `STEP-STORE`; rename a step";
            let problem = Diagnostic::at(Code::DuplicateStore, span, message).also(&other, "the other one");
            self.reader.report(problem.hint(hint));
        }
        let (kind, schema, key, value) = form;
        let changelog = changelog_topic(&self.file.name.text, topics);
        self.stores.push(Store {
            name: name.to_string(),
            kind,
            schema,
            key,
            value,
            changelog,
            emit,
        });
        self.stores.len() - 1
    }

    /// Topics that the pipeline keeps for itself are not for sources and sinks.
    pub(crate) fn check_own(&mut self, topic: &Text) {
        if is_internal_topic(&self.file.name.text, &topic.text) {
            let message = format!("`{}` is a name for internal topics of this pipeline", topic.text);
            let problem = Diagnostic::at(Code::BadTopic, &topic.span, message);
            self.reader
                .report(problem.hint("to read a table's changes, write them with a sink to a topic of your own"));
        }
    }

    fn sources(&mut self) {
        let file = self.file;
        let mut readers: HashMap<&str, &Text> = HashMap::new();
        for source in &file.sources {
            for topic in &source.topics {
                self.check_own(topic);
                if let Some(other) = readers.insert(&topic.text, topic) {
                    let message = format!("topic `{}` is read twice", topic.text);
                    let problem = Diagnostic::at(Code::BadTopic, &topic.span, message).also(&other.span, "read here");
                    self.reader
                        .report(problem.hint("one source may feed any number of steps: name it in their `from`"));
                }
            }
            if source.global {
                self.global_source(source);
                continue;
            }
            let kind = if source.table {
                SourceKind::Table
            } else {
                SourceKind::Stream
            };
            self.source(source, kind);
        }
    }

    fn source(&mut self, source: &SourcePart, kind: SourceKind) {
        let mut out = Out {
            key: Some(source.key),
            value: Some(source.value),
            ..Out::default()
        };
        let node = Source {
            topics: source.topics.iter().map(|topic| topic.text.clone()).collect(),
            kind,
            key: source.key,
            value: source.value,
            start: source.start,
            create: source.create.clone(),
            timestamps: self.timestamps(source, &out),
        };
        let name = &source.name.text;
        out.node = self.node(name, NodeKind::Source(node), Vec::new());
        if source.table {
            let node = format!("{name}-table");
            out = self.table(&node, (name, name), &source.name.span, out, source.rows);
        }
        self.outputs.insert(name.clone(), Outputs::One(out));
    }

    fn step(&mut self, step: &StepPart) {
        self.check_dead_letters(step);
        self.on_error = step.on_error;
        let outputs = match &step.work {
            Work::Unknown => {
                // Its inputs are still looked up, so that a wrong name in them is found.
                for from in step.inputs.texts() {
                    self.resolve(from);
                }
                Outputs::Unknown
            }
            Work::Module(part) => self.module(step, part),
            Work::Merge => self.merge(step),
            Work::Join(part) => self.join(step, part),
            Work::Cogroup(part) => self.cogroup(step, part),
            work => match &step.inputs {
                Inputs::One(from) => {
                    let input = self.resolve(from);
                    self.operator(step, work, input, from)
                }
                _ => Outputs::Unknown,
            },
        };
        self.on_error = OnError::Stop;
        self.outputs.insert(step.name.text.clone(), outputs);
    }

    pub(crate) fn operator(&mut self, step: &StepPart, work: &Work, input: Out, from: &Text) -> Outputs {
        let name = &step.name.text;
        match work {
            Work::SelectKey { by } => {
                let key = self.part_format(by, &input);
                let id = self.node(name, NodeKind::SelectKey(by.selector.clone()), vec![feed(&input, 0)]);
                Outputs::One(Out {
                    node: id,
                    port: 0,
                    key,
                    key_changed: true,
                    table: false,
                    ..input
                })
            }
            Work::GroupBy { by, partitions } => {
                self.no_table(&input, from, "a grouped table that several aggregates share");
                let grouped = self.regroup(step, input, by, *partitions);
                let id = self.node(name, NodeKind::Merge, vec![feed(&grouped, 0)]);
                Outputs::One(Out {
                    node: id,
                    port: 0,
                    ..grouped
                })
            }
            Work::ToTable { partitions, rows } => {
                let by = Part {
                    selector: Selector::Key,
                    span: from.span.clone(),
                };
                let grouped = self.regroup(step, input, &by, *partitions);
                Outputs::One(self.table(name, (name, was(step)), &step.name.span, grouped, *rows))
            }
            Work::Dedup { within_ms } => self.dedup(step, *within_ms, input, from),
            Work::Branch { branches, default } => self.branch(step, branches, default.as_ref(), input),
            Work::Aggregate(part) => self.aggregate(step, part, input, from),
            Work::Merge | Work::Module(_) | Work::Join(_) | Work::Cogroup(_) | Work::Unknown => Outputs::Unknown,
            Work::Suppress(part) => self.suppress(step, part, input, from),
            Work::Stateless(part) => self.stateless(step, part, input, from),
        }
    }

    pub(crate) fn no_table(&mut self, input: &Out, from: &Text, what: &str) {
        if input.table {
            let problem = Diagnostic::at(
                Code::NotSupportedYet,
                &from.span,
                format!("{what} is not supported yet"),
            );
            let hint = "this is a table: each row replaces the one before it with the same key";
            self.reader.report(problem.label("a table").hint(hint));
        }
    }

    fn merge(&mut self, step: &StepPart) -> Outputs {
        let texts = step.inputs.texts();
        if let Inputs::Several(list) = &step.inputs
            && list.len() < 2
        {
            let span = list.first().map_or(&step.name.span, |from| &from.span);
            self.reader
                .bad_value(span, "`merge` has two inputs at least".to_string(), None);
        }
        let inputs = texts.into_iter().map(|from| (from, self.resolve(from))).collect();
        self.merged(&step.name.text, inputs)
    }

    pub(crate) fn merged(&mut self, name: &str, inputs: Vec<(&Text, Out)>) -> Outputs {
        let mut merged = Out::default();
        for (from, input) in &inputs {
            for (what, all, one) in [
                ("keys", &mut merged.key, input.key),
                ("values", &mut merged.value, input.value),
            ] {
                match (&all, one) {
                    (Some(known), Some(given)) if *known != given => {
                        let message = format!(
                            "`{}` has {what} as `{}`, the input before it as `{}`",
                            from.text,
                            given.word(),
                            known.word()
                        );
                        let problem = Diagnostic::at(Code::FormatMismatch, &from.span, message);
                        self.reader.report(
                            problem
                                .label(format!("`{}`", given.word()))
                                .hint("merged streams have the same formats"),
                        );
                    }
                    _ => *all = all.or(one),
                }
            }
            merged.key_changed |= input.key_changed;
        }
        let edges = inputs.iter().map(|(_, input)| feed(input, 0)).collect();
        merged.node = self.node(name, NodeKind::Merge, edges);
        Outputs::One(merged)
    }

    /// What `by` selects becomes the key; where the key is another than the topics were partitioned by, a repartition
    /// topic follows.
    pub(crate) fn regroup(&mut self, step: &StepPart, input: Out, by: &Part, partitions: Option<i32>) -> Out {
        self.regroup_as((&step.name.text, was(step)), input, by, partitions)
    }

    /// `names`: of its nodes, and the one under which its topic was made.
    pub(crate) fn regroup_as(
        &mut self,
        (name, topics): (&str, &str),
        input: Out,
        by: &Part,
        partitions: Option<i32>,
    ) -> Out {
        let mut at = input;
        if by.selector != Selector::Key {
            let key = self.part_format(by, &at);
            let kind = NodeKind::SelectKey(by.selector.clone());
            let id = self.node(format!("{name}-select-key"), kind, vec![feed(&at, 0)]);
            at = Out {
                node: id,
                port: 0,
                key,
                key_changed: true,
                ..at
            };
        }
        if !at.key_changed {
            return at;
        }
        self.repartition(name, topics, at, partitions)
    }

    /// `name` is that of its nodes, `topics` the one under which its topic was made (`was`).
    pub(crate) fn repartition(&mut self, name: &str, topics: &str, at: Out, partitions: Option<i32>) -> Out {
        let topic = repartition_topic(&self.file.name.text, topics);
        let (key, value) = (settle(at.key), settle(at.value));
        let repartition = Repartition {
            topic: topic.clone(),
            key,
            value,
            partitions,
        };
        self.node(
            format!("{name}-repartition-sink"),
            NodeKind::Repartition(repartition),
            vec![feed(&at, 0)],
        );
        let kind = SourceKind::Repartition;
        let source = Source {
            topics: vec![topic],
            kind,
            key,
            value,
            start: Start::Earliest,
            create: None,
            timestamps: Timestamps::default(),
        };
        let id = self.node(
            format!("{name}-repartition-source"),
            NodeKind::Source(source),
            Vec::new(),
        );
        Out {
            node: id,
            port: 0,
            key_changed: false,
            table: false,
            ..at
        }
    }

    /// Format of a part of a row; a field needs JSON around it.
    pub(crate) fn part_format(&mut self, part: &Part, input: &Out) -> Option<Format> {
        match &part.selector {
            Selector::Key => input.key,
            Selector::Value => input.value,
            Selector::Field(_) => {
                if let Some(value) = input.value.filter(|value| !matches!(value, Format::Json | Format::Any)) {
                    let message = format!(
                        "`{}` is a field of a JSON value, but the values are `{}`",
                        part.selector.word(),
                        value.word()
                    );
                    let problem = Diagnostic::at(Code::FormatMismatch, &part.span, message);
                    self.reader
                        .report(problem.hint("where they are JSON, say `value = \"json\"` at their source"));
                }
                Some(Format::String)
            }
        }
    }

    fn sinks(&mut self) {
        let file = self.file;
        let mut names: HashSet<&str> = HashSet::new();
        let mut writers: HashMap<&str, (&Text, (Format, Format))> = HashMap::new();
        for sink in &file.sinks {
            names.insert(&sink.name.text);
            let Some(from) = &sink.from else { continue };
            let input = self.resolve(from);
            let key = self.sink_format("key", sink.key.as_ref(), input.key, from);
            let value = self.sink_format("value", sink.value.as_ref(), input.value, from);
            if let Some((by, topics)) = &sink.route {
                self.route(sink, by, topics, &input, (key, value));
            }
            let Some(topic) = &sink.topic else { continue };
            self.check_own(topic);
            if let Some(read) = file
                .sources
                .iter()
                .flat_map(|source| &source.topics)
                .find(|read| read.text == topic.text)
            {
                let message = format!("topic `{}` is read and written by this pipeline", topic.text);
                let problem = Diagnostic::at(Code::BadTopic, &topic.span, message).also(&read.span, "read here");
                self.reader
                    .report(problem.hint("its rows would go round for ever; write another topic"));
            }
            if let Some((other, formats)) = writers.insert(&topic.text, (topic, (key, value)))
                && formats != (key, value)
            {
                let show = |(key, value): (Format, Format)| format!("{} -> {}", key.word(), value.word());
                let message = format!("two sinks write topic `{}` in different formats", topic.text);
                let problem = Diagnostic::at(Code::FormatMismatch, &topic.span, message).label(show((key, value)));
                self.reader.report(problem.also(&other.span, show(formats)));
            }
            let node = Sink {
                topic: topic.text.clone(),
                key,
                value,
                create: sink.create.clone(),
            };
            self.node(&sink.name.text, NodeKind::Sink(node), vec![feed(&input, 0)]);
        }
    }

    fn sink_format(&mut self, what: &str, said: Option<&(Format, Span)>, given: Option<Format>, from: &Text) -> Format {
        let Some((format, span)) = said else {
            return settle(given);
        };
        if let Some(given) = given.filter(|given| !format.accepts(*given)) {
            let message = format!(
                "the {what} is `{}` here, but `{}` gives `{}`",
                format.word(),
                from.text,
                given.word()
            );
            let problem = Diagnostic::at(Code::FormatMismatch, span, message)
                .also(&from.span, format!("gives `{}`", given.word()));
            self.reader.report(problem.hint(format!(
                "formats label bytes and never convert; leave `{what}` out, or convert in a module"
            )));
        }
        *format
    }
}

/// The name under which the step's topics were made.
pub fn was(step: &StepPart) -> &str {
    step.was.as_ref().map_or(&step.name.text, |was| &was.text)
}

/// What is not known is bytes.
pub fn settle(format: Option<Format>) -> Format {
    match format {
        None | Some(Format::Any) => Format::Bytes,
        Some(format) => format,
    }
}

pub fn edge(from: NodeId, from_port: u32, to_port: u32) -> Edge {
    Edge {
        from,
        from_port,
        to_port,
    }
}

pub fn feed(from: &Out, to_port: u32) -> Edge {
    edge(from.node, from.port, to_port)
}
