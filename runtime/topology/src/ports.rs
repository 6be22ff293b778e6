//! What goes in and out of a node: ports, formats, stores.

use crate::{Format, ModuleStep, Node, NodeId, NodeKind, StoreId, Topology, TtlTable, VersionedTable};

impl NodeKind {
    /// One word for the kind, as `describe` prints it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Module(step) => step.closure.as_ref().map_or("module", |closure| closure.form.word()),
            Self::Branch(_) => "branch",
            Self::Merge => "merge",
            Self::SelectKey(_) => "select-key",
            Self::Repartition(_) => "repartition",
            Self::Aggregate(aggregate) => aggregate.function.word(),
            Self::ToTable { .. } => "to-table",
            Self::Sink(_) => "sink",
            Self::WindowAggregate(window) => window.aggregate.function.word(),
            Self::StreamJoin(_) => "join",
            Self::Suppress(_) => "suppress",
            Self::TableJoin(_) => "join",
            Self::ForeignSubscribe(_) => "subscribe",
            Self::ForeignLookup(_) => "look-up",
            Self::ForeignResolve(_) => "resolve",
            Self::Dedup(_) => "dedup",
            Self::TtlTable(_) => "ttl-table",
            Self::VersionedTable(_) => "versioned-table",
            Self::GroupTable(_) => "group-table",
            Self::TableAggregate(aggregate) => aggregate.function.word(),
            Self::Filter(_) => "filter",
            Self::Map(_) => "map",
            Self::Route(_) => "route",
            Self::Cogroup(_) => "cogroup",
            Self::GlobalJoin(_) => "join",
        }
    }

    pub fn input_ports(&self) -> usize {
        match self {
            Self::Source(_) => 0,
            Self::Module(module) => module.inputs.len(),
            Self::Cogroup(cogroup) => cogroup.parts.len(),
            Self::StreamJoin(_) | Self::TableJoin(_) | Self::ForeignLookup(_) | Self::ForeignResolve(_) => 2,
            _ => 1,
        }
    }

    pub fn output_ports(&self) -> usize {
        match self {
            Self::Module(module) => module.outputs.len(),
            Self::Branch(branch) => branch.branches.len() + usize::from(branch.default.is_some()),
            Self::Sink(_) | Self::Repartition(_) => 0,
            Self::WindowAggregate(window) => 1 + usize::from(window.windowing.late),
            Self::VersionedTable(_) | Self::ForeignSubscribe(_) => 2,
            Self::Route(route) => route.topics.len(),
            _ => 1,
        }
    }

    /// Name of an output port, where ports have names.
    pub fn output_name(&self, port: u32) -> Option<&str> {
        let port = usize::try_from(port).ok()?;
        match self {
            Self::Module(module) => module.outputs.get(port).map(String::as_str),
            Self::Branch(branch) => match branch.branches.get(port) {
                Some((name, _)) => Some(name),
                None if port == branch.branches.len() => branch.default.as_deref(),
                None => None,
            },
            Self::WindowAggregate(_) if port == 1 => Some("late"),
            Self::VersionedTable(_) => Some(if port == 0 { "all" } else { "latest" }),
            Self::ForeignSubscribe(_) => Some(if port == 0 { "subscriptions" } else { "results" }),
            Self::Route(route) => route.topics.get(port).map(String::as_str),
            _ => None,
        }
    }

    /// Whether the node finds things by key, so that a key's rows must come to one task.
    pub fn works_by_key(&self) -> bool {
        matches!(self, Self::TableJoin(_) | Self::ForeignResolve(_)) || !self.stores().is_empty()
    }

    /// The stores that the node owns, and alone writes.
    pub fn stores(&self) -> Vec<StoreId> {
        match self {
            Self::Module(module) => module.stores.clone(),
            Self::Aggregate(aggregate) => vec![aggregate.store],
            Self::ToTable { store } => vec![*store],
            Self::WindowAggregate(window) => vec![window.aggregate.store],
            Self::StreamJoin(join) => join.stores(),
            Self::Suppress(suppress) => vec![suppress.store],
            Self::TableAggregate(aggregate) => vec![aggregate.store],
            Self::Dedup(dedup) => vec![dedup.store],
            Self::ForeignLookup(lookup) => vec![lookup.store],
            Self::TtlTable(table) => vec![table.store, table.index],
            Self::VersionedTable(table) => vec![table.store, table.history],
            Self::Cogroup(cogroup) => vec![cogroup.store],
            Self::TableJoin(join) => join.grace.iter().map(|grace| grace.buffer).collect(),
            _ => Vec::new(),
        }
    }
}

impl crate::AggregateFunction {
    pub fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

impl Format {
    pub fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::I64 => "i64",
            Self::F64 => "f64",
            Self::Json => "json",
            Self::Any => "any",
            Self::WindowedBytes => "windowed-bytes",
            Self::WindowedString => "windowed-string",
            Self::WindowedI64 => "windowed-i64",
            Self::WindowedF64 => "windowed-f64",
            Self::WindowedJson => "windowed-json",
            Self::SessionBytes => "session-bytes",
            Self::SessionString => "session-string",
            Self::SessionI64 => "session-i64",
            Self::SessionF64 => "session-f64",
            Self::SessionJson => "session-json",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        let plain = [Self::Bytes, Self::String, Self::I64, Self::F64, Self::Json];
        let windowed = plain.map(|f| f.windowed(crate::WindowKind::Time));
        let sessions = plain.map(|f| f.windowed(crate::WindowKind::Session));
        plain
            .into_iter()
            .chain([Self::Any])
            .chain(windowed)
            .chain(sessions)
            .find(|f| f.word() == word)
    }

    /// Whether what expects `self` may be given `given`. Formats are labels: everything is bytes, so `bytes` and `any`
    /// take all; nothing else is taken for another.
    pub fn accepts(self, given: Format) -> bool {
        matches!(self, Self::Bytes | Self::Any) || given == Self::Any || self == given
    }
}

impl Topology {
    /// The node that owns a store; `None` for internal stores, which belong to their sub-topology.
    pub fn store_owner(&self, store: StoreId) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.kind.stores().contains(&store))
    }

    /// The sub-topology that a node is in, once the topology was validated.
    pub fn sub_topology_of(&self, node: NodeId) -> Option<&crate::SubTopology> {
        self.sub_topologies.iter().find(|sub| sub.nodes.contains(&node))
    }

    /// Key and value format of a node's output where the graph alone tells it: `None` behind a module, whose
    /// description `pipeline` has checked already.
    pub fn output_formats(&self, node: NodeId) -> Option<(Format, Format)> {
        // A node's formats follow from its first input; a graph of n nodes has no longer way back than n.
        let mut at = self.nodes.get(node)?;
        let mut key: Option<Format> = None;
        for _ in 0..=self.nodes.len() {
            let (found_key, found_value) = match &at.kind {
                NodeKind::Source(source) => (Some(source.key), Some(source.value)),
                NodeKind::Aggregate(aggregate) | NodeKind::TableAggregate(aggregate) => {
                    (self.stores.get(aggregate.store).map(|s| s.key), Some(aggregate.result))
                }
                NodeKind::ToTable { store } => (
                    self.stores.get(*store).map(|s| s.key),
                    self.stores.get(*store).map(|s| s.value),
                ),
                NodeKind::Cogroup(cogroup) => (self.stores.get(cogroup.store).map(|s| s.key), Some(Format::Json)),
                NodeKind::Suppress(suppress) => (Some(suppress.key), Some(suppress.value)),
                NodeKind::StreamJoin(join) => (Some(join.key), Some(Format::Json)),
                NodeKind::WindowAggregate(window) => {
                    let key = self.stores.get(window.aggregate.store).map(|s| s.key);
                    (key, Some(window.aggregate.result))
                }
                NodeKind::TtlTable(TtlTable { store, .. }) | NodeKind::VersionedTable(VersionedTable { store, .. }) => {
                    (
                        self.stores.get(*store).map(|s| s.key),
                        self.stores.get(*store).map(|s| s.value),
                    )
                }
                NodeKind::ForeignSubscribe(_) | NodeKind::ForeignLookup(_) => (Some(Format::Any), Some(Format::Any)),
                NodeKind::ForeignResolve(resolve) => (Some(resolve.join.left_key), Some(Format::Json)),
                NodeKind::GroupTable(_) => (Some(Format::Any), Some(Format::Bytes)),
                NodeKind::TableJoin(join) => (Some(join.key), Some(Format::Json)),
                NodeKind::GlobalJoin(join) => (Some(join.key), Some(Format::Json)),
                NodeKind::Module(ModuleStep {
                    closure: Some(closure), ..
                }) => (Some(closure.key), Some(closure.value)),
                NodeKind::Module(_) | NodeKind::Sink(_) | NodeKind::Repartition(_) => return None,
                // The new key's format is not in the graph.
                NodeKind::SelectKey(_) => (Some(Format::Any), None),
                NodeKind::Branch(_) | NodeKind::Merge | NodeKind::Dedup(_) => (None, None),
                NodeKind::Map(map) => (Some(map.key_format), Some(map.value_format)),
                NodeKind::Filter(_) | NodeKind::Route(_) => (None, None),
            };
            key = key.or(found_key);
            if let (Some(key), Some(value)) = (key, found_value) {
                return Some((key, value));
            }
            at = self.nodes.get(first_input(at)?)?;
        }
        None
    }
}

fn first_input(node: &Node) -> Option<NodeId> {
    node.inputs.first().map(|edge| edge.from)
}
