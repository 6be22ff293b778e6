//! `wasmill pipeline describe`: the topology as text.
//!
//! The form is Kafka Streams' `Topology#describe`, with a line a node and what feeds and follows it below.

use std::fmt::Write as _;

use crate::{
    Aggregate, Branch, Edge, Emit, FieldPath, Guarantee, Limits, ModuleStep, Node, NodeId, NodeKind, OnError,
    Predicate, Retries, Selector, Source, SourceKind, Start, Timestamps, Topology,
};

/// Digits of a digest that tell two components apart for a reader.
const DIGEST_SHOWN: usize = 12;

impl Topology {
    /// The topology for people; `serde` gives it to programs.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        let guarantee = match self.guarantee {
            Guarantee::ExactlyOnce => "exactly-once",
            Guarantee::AtLeastOnce => "at-least-once",
        };
        let waits = match self.max_task_idle_ms {
            0 => String::new(),
            -1 => ", never waits for an input".to_string(),
            ms => format!(", waits {ms} ms for an input"),
        };
        let standbys = match self.standbys {
            0 => String::new(),
            1 => ", 1 standby".to_string(),
            count => format!(", {count} standbys"),
        };
        let _ = writeln!(out, "Pipeline {} ({guarantee}{waits}{standbys})", self.name);
        for sub in &self.sub_topologies {
            let _ = writeln!(out, "\nSub-topology {} reads {}", sub.id, sub.topics.join(", "));
            for (id, node) in sub
                .nodes
                .iter()
                .filter_map(|id| self.nodes.get(*id).map(|node| (*id, node)))
            {
                let _ = writeln!(out, "  {} {}: {}", node.kind.word(), node.name, self.details(node));
                for line in policy(node) {
                    let _ = writeln!(out, "    {line}");
                }
                for line in self.followers(id) {
                    let _ = writeln!(out, "    --> {line}");
                }
                if !node.inputs.is_empty() {
                    let from: Vec<String> = node.inputs.iter().map(|edge| self.feeder(*edge)).collect();
                    let _ = writeln!(out, "    <-- {}", from.join(", "));
                }
            }
            for store in sub.stores.iter().filter_map(|id| self.stores.get(*id)) {
                let kind = store.kind.word();
                let formats = format!("{} -> {}", store.key.word(), store.value.word());
                let _ = writeln!(
                    out,
                    "  store {}: {kind}, {formats}, changelog {}",
                    store.name, store.changelog
                );
            }
        }
        for table in &self.globals {
            let formats = format!("{} -> {}", table.key.word(), table.value.word());
            let _ = writeln!(
                out,
                "\nGlobal table {}: topic {}, {formats}, whole on every node",
                table.name, table.topic
            );
        }
        if let Some(letters) = &self.dead_letters {
            let partitions = match &letters.create {
                Some(create) => format!(", made with {} partitions where it is not there", create.partitions),
                None => String::new(),
            };
            let _ = writeln!(out, "\nDead letters go to {}{partitions}", letters.topic);
        }
        out
    }

    fn details(&self, node: &Node) -> String {
        match &node.kind {
            NodeKind::Source(source) => source_details(source),
            NodeKind::Module(module) => self.module_details(module),
            NodeKind::Branch(branch) => branch_details(branch),
            NodeKind::Merge => "all inputs to one output".to_string(),
            NodeKind::SelectKey(selector) => format!("new key is {}", selector.word()),
            NodeKind::Repartition(r) => {
                let count = r
                    .partitions
                    .map_or(String::new(), |count| format!(", {count} partitions"));
                format!("topic {}, {} -> {}{count}", r.topic, r.key.word(), r.value.word())
            }
            NodeKind::Aggregate(aggregate) => self.aggregate_details(aggregate),
            NodeKind::ToTable { store } => format!("store {}", self.store_name(*store)),
            NodeKind::Filter(filter) => filter_details(filter),
            NodeKind::Map(map) => map_details(map),
            NodeKind::Route(route) => format!("to the topic that `{}` gives", route.topic.text),
            NodeKind::Sink(sink) => format!("topic {}, {} -> {}", sink.topic, sink.key.word(), sink.value.word()),
            NodeKind::Suppress(suppress) => {
                format!("{}, store {}", suppress.describe(), self.store_name(suppress.store))
            }
            NodeKind::StreamJoin(join) => {
                let names: Vec<&str> = join.stores().into_iter().map(|store| self.store_name(store)).collect();
                format!("{}, stores {}", join.describe(), names.join(", "))
            }
            NodeKind::WindowAggregate(window) => format!(
                "{}, {}",
                window.windowing.describe(),
                self.aggregate_details(&window.aggregate)
            ),
            NodeKind::Dedup(dedup) => format!(
                "first of a key within {} ms, store {}",
                dedup.within_ms,
                self.store_name(dedup.store)
            ),
            NodeKind::TtlTable(table) => {
                format!("store {}, rows live {} ms", self.store_name(table.store), table.ttl_ms)
            }
            NodeKind::VersionedTable(table) => format!(
                "store {}, history of {} ms",
                self.store_name(table.store),
                table.history_ms
            ),
            NodeKind::ForeignSubscribe(join) => format!("{}, on {}", join.kind.word(), join.on.word()),
            NodeKind::ForeignLookup(lookup) => format!(
                "table {}, subscriptions in store {}",
                self.store_name(lookup.right),
                self.store_name(lookup.store)
            ),
            NodeKind::ForeignResolve(resolve) => format!("table {}, gives json", self.store_name(resolve.left)),
            NodeKind::GroupTable(selector) => format!("by {}, old and new values", selector.word()),
            NodeKind::TableAggregate(aggregate) => self.aggregate_details(aggregate),
            NodeKind::TableJoin(join) => self.join_details(join),
            NodeKind::GlobalJoin(join) => self.global_join_details(join),
            NodeKind::Cogroup(cogroup) => {
                let (parts, store) = (cogroup.describe(), self.store_name(cogroup.store));
                format!("{parts}, store {store}, gives json, emits {}", emits(cogroup.emit))
            }
        }
    }

    fn module_details(&self, module: &ModuleStep) -> String {
        let digest = module.digest.get(..DIGEST_SHOWN).unwrap_or(&module.digest);
        let mut text = format!("{}@{} ({digest})", module.module, module.version);
        if !module.stores.is_empty() {
            let names: Vec<&str> = module.stores.iter().map(|store| self.store_name(*store)).collect();
            let _ = write!(text, ", stores {}", names.join(", "));
        }
        if let Some(closure) = &module.closure {
            let (key, value) = (closure.key.word(), closure.value.word());
            let _ = write!(
                text,
                ", function {} of the application, gives {key} -> {value}",
                closure.number
            );
        }
        for (name, value) in &module.params {
            let _ = write!(text, ", {name} = {value}");
        }
        if !module.grants.is_empty() {
            let _ = write!(text, ", grants {}", module.grants);
        }
        text
    }

    fn aggregate_details(&self, aggregate: &Aggregate) -> String {
        let emit = emits(aggregate.emit);
        let of = match aggregate.function {
            crate::AggregateFunction::Count => String::new(),
            _ => format!("of {} ({}), ", aggregate.of.word(), aggregate.of_format.word()),
        };
        format!(
            "{of}store {}, gives {}, emits {emit}",
            self.store_name(aggregate.store),
            aggregate.result.word()
        )
    }

    fn store_name(&self, store: usize) -> &str {
        self.stores.get(store).map_or("?", |store| &store.name)
    }

    fn followers(&self, id: NodeId) -> Vec<String> {
        let mut lines = Vec::new();
        for node in &self.nodes {
            for edge in node.inputs.iter().filter(|edge| edge.from == id) {
                let out = self
                    .nodes
                    .get(id)
                    .and_then(|from| from.kind.output_name(edge.from_port));
                let arrow = out
                    .filter(|_| self.many_outputs(id))
                    .map_or(String::new(), |port| format!("{port}: "));
                lines.push(format!("{arrow}{}{}", node.name, input_port(node, edge)));
            }
        }
        lines
    }

    fn many_outputs(&self, id: NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| node.kind.output_ports() > 1)
    }

    fn feeder(&self, edge: Edge) -> String {
        let Some(from) = self.nodes.get(edge.from) else {
            return "?".to_string();
        };
        match from
            .kind
            .output_name(edge.from_port)
            .filter(|_| self.many_outputs(edge.from))
        {
            Some(port) => format!("{}.{port}", from.name),
            None => from.name.clone(),
        }
    }
}

fn emits(emit: Emit) -> &'static str {
    match emit {
        Emit::EveryUpdate => "every update",
        Emit::OnCommit => "on commit",
    }
}

/// What a module may use, and what becomes of records that fail.
fn policy(node: &Node) -> Vec<String> {
    match &node.kind {
        NodeKind::Module(step) => vec![
            format!("limits: {}", step.limits.words()),
            format!("on error: {}; retries: {}", node.on_error.word(), step.retries.words()),
        ],
        // The operators that look into a row, and so may fail on it.
        NodeKind::Branch(_)
        | NodeKind::SelectKey(_)
        | NodeKind::Aggregate(_)
        | NodeKind::WindowAggregate(_)
        | NodeKind::StreamJoin(_)
        | NodeKind::Suppress(_)
            if node.on_error != OnError::Stop =>
        {
            vec![format!("on error: {}", node.on_error.word())]
        }
        NodeKind::Filter(_)
        | NodeKind::Map(_)
        | NodeKind::Route(_)
        | NodeKind::Cogroup(_)
        | NodeKind::GlobalJoin(_)
            if node.on_error != OnError::Stop =>
        {
            vec![format!("on error: {}", node.on_error.word())]
        }
        _ => Vec::new(),
    }
}

impl OnError {
    /// As pipeline.toml says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Skip => "skip",
            Self::DeadLetter => "dead-letter",
        }
    }
}

impl Limits {
    /// For people, in the file's words and units.
    pub fn words(&self) -> String {
        format!(
            "memory {}, recycle {}, call {} ms, result {}, log-lines {} a second, http {} ms",
            size_word(self.memory_bytes),
            size_word(self.recycle_mark()),
            self.call_ms,
            size_word(self.result_bytes),
            self.log_lines_per_second,
            self.http_ms
        )
    }
}

impl Retries {
    fn words(&self) -> String {
        format!(
            "{} at most, after {} to {} ms",
            self.max, self.backoff_ms_min, self.backoff_ms_max
        )
    }
}

/// In the largest unit that divides it.
fn size_word(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = |(shift, _): &&(u32, &str)| bytes > 0 && bytes.is_multiple_of(1 << shift);
    match units.iter().find(fits) {
        Some((shift, name)) => format!("{}{name}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

impl Selector {
    /// As pipeline.toml says it: `key`, `value`, `value.FIELD`.
    pub fn word(&self) -> String {
        match self {
            Self::Key => "key".to_string(),
            Self::Value => "value".to_string(),
            Self::Field(FieldPath(path)) => format!("value.{}", path.join(".")),
        }
    }
}

fn input_port(node: &Node, edge: &Edge) -> String {
    match &node.kind {
        NodeKind::Module(module) if module.inputs.len() > 1 => module
            .inputs
            .get(edge.to_port as usize)
            .map_or(String::new(), |port| format!(" ({port})")),
        NodeKind::Cogroup(cogroup) => cogroup
            .parts
            .get(edge.to_port as usize)
            .map_or(String::new(), |(name, _)| format!(" ({name})")),
        _ => String::new(),
    }
}

fn source_details(source: &Source) -> String {
    let kind = match source.kind {
        SourceKind::Stream => "",
        SourceKind::Table => ", a table",
        SourceKind::Repartition => ", repartitioned",
    };
    let start = match source.start {
        _ if source.kind == SourceKind::Repartition => String::new(),
        Start::Earliest => ", from the earliest".to_string(),
        Start::Latest => ", from the latest".to_string(),
        Start::Time(at) => format!(", from time {at}"),
    };
    let times = match source.timestamps == Timestamps::default() {
        true => String::new(),
        false => format!(", time {}", source.timestamps.describe()),
    };
    let plural = if source.topics.len() == 1 { "topic" } else { "topics" };
    format!(
        "{plural} {}, {} -> {}{kind}{start}{times}",
        source.topics.join(", "),
        source.key.word(),
        source.value.word()
    )
}

fn branch_details(branch: &Branch) -> String {
    let mut parts: Vec<String> = branch
        .branches
        .iter()
        .map(|(name, predicate)| format!("{name} when {}", predicate.word()))
        .collect();
    parts.push(match &branch.default {
        Some(name) => format!("else {name}"),
        None => "else dropped".to_string(),
    });
    parts.join(", ")
}

impl Predicate {
    fn word(&self) -> String {
        match self {
            Self::Equals { of, value } => format!("{} = {value}", of.word()),
            Self::StartsWith { of, prefix } => format!("{} starts with {prefix:?}", of.word()),
            Self::Exists { of } => format!("{} exists", of.word()),
            Self::Where(expression) => format!("`{}`", expression.text),
        }
    }
}

fn filter_details(filter: &crate::Filter) -> String {
    let not = if filter.not { "not " } else { "" };
    let table = if filter.table { ", of a table" } else { "" };
    format!("rows with {not}{}{table}", filter.condition.word())
}

fn map_details(map: &crate::Map) -> String {
    let mut parts = Vec::new();
    if let Some(each) = &map.each {
        parts.push(format!("for each of `{}`", each.text));
    }
    for (what, shape) in [("key", &map.key), ("value", &map.value)] {
        if let Some(shape) = shape {
            parts.push(format!("{what} is {}", shape.word()));
        }
    }
    if map.table {
        parts.push("of a table".to_string());
    }
    parts.join(", ")
}

impl crate::Shape {
    fn word(&self) -> String {
        match self {
            Self::Expression(expression) => format!("`{}`", expression.text),
            Self::Object(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, shape)| format!("{name}: {}", shape.word()))
                    .collect();
                format!("{{ {} }}", fields.join(", "))
            }
        }
    }
}
