//! Tables: joins with them, and who needs the values that their rows replace.

use serde::{Deserialize, Serialize};

use crate::{Filter, Format, JoinKind, Map, NodeKind, Projection, StoreId, Topology};

/// A join with a table. Port 0 takes the left side, port 1 the rows of the right table, each with what it replaces.
///
/// A stream on the left is joined with what the table holds; tables on both sides make a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableJoin {
    pub kind: JoinKind,
    /// The left table's; `None`: the left side is a stream.
    pub left: Option<StoreId>,
    /// The right table's.
    pub right: StoreId,
    pub value: Projection,
    pub key: Format,
    pub left_value: Format,
    pub right_value: Format,
    /// How long rows of the tables live.
    #[serde(default)]
    pub left_ttl_ms: Option<i64>,
    #[serde(default)]
    pub right_ttl_ms: Option<i64>,
    /// The right table is looked up at the time of the stream's row.
    #[serde(default)]
    pub versions: Option<VersionedTable>,
    /// The stream's rows wait before they are looked up.
    #[serde(default)]
    pub grace: Option<JoinGrace>,
}

/// How long rows of a stream wait for late rows of the table that they are joined with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGrace {
    pub grace_ms: i64,
    /// Of the rows that wait.
    pub buffer: StoreId,
}

/// The first row of each key within a time goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    pub within_ms: i64,
    pub store: StoreId,
}

/// A table whose rows live for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlTable {
    pub ttl_ms: i64,
    pub store: StoreId,
    /// Its rows by time.
    pub index: StoreId,
}

/// A table that remembers what its rows were at an earlier time.
///
/// Port 0 gives all rows that were taken, port 1 those that are the latest of their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedTable {
    pub history_ms: i64,
    /// The latest of each key.
    pub store: StoreId,
    /// All of them.
    pub history: StoreId,
}

impl TableJoin {
    /// The table at an input port.
    pub fn table(&self, port: u32) -> Option<StoreId> {
        match port {
            0 => self.left,
            _ => Some(self.right),
        }
    }
}

impl Topology {
    /// By node: whether something downstream needs the values that its rows replace. Nodes are in topological order.
    pub fn olds_wanted(&self) -> Vec<bool> {
        let mut wanted = vec![false; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().rev() {
            let wants = wanted.get(id).copied().unwrap_or(false);
            for edge in &node.inputs {
                if node.kind.asks_for_olds(edge.to_port, wants)
                    && let Some(above) = wanted.get_mut(edge.from)
                {
                    *above = true;
                }
            }
            // A filter looks at them itself: what never passed is no row.
            if matches!(node.kind, NodeKind::Filter(Filter { table: true, .. }))
                && let Some(own) = wanted.get_mut(id)
            {
                *own = true;
            }
        }
        self.take_back(&mut wanted);
        wanted
    }

    /// A node that only passes on what it is given cannot say what its rows replace where the node above does not.
    fn take_back(&self, wanted: &mut [bool]) {
        for (id, node) in self.nodes.iter().enumerate() {
            let gives = |from: usize| {
                let kind = self.nodes.get(from).map(|node| &node.kind);
                kind.is_some_and(NodeKind::gives_olds) && wanted.get(from) == Some(&true)
            };
            if node.kind.passes_olds()
                && !node.inputs.iter().all(|edge| gives(edge.from))
                && let Some(own) = wanted.get_mut(id)
            {
                *own = false;
            }
        }
    }
}

impl Topology {
    /// For `describe`.
    pub(crate) fn join_details(&self, join: &TableJoin) -> String {
        let name = |store: StoreId| self.stores.get(store).map_or("?", |store| store.name.as_str());
        let left = match join.left {
            Some(store) => format!("table {}", name(store)),
            None => "a stream".to_string(),
        };
        let grace = match join.grace {
            Some(grace) => format!(", grace {} ms, buffer {}", grace.grace_ms, name(grace.buffer)),
            None => String::new(),
        };
        format!(
            "{}, {left} with table {}{grace}, gives json",
            join.kind.word(),
            name(join.right)
        )
    }
}

impl NodeKind {
    /// `wanted`: whether its own rows are to have them.
    fn asks_for_olds(&self, port: u32, wanted: bool) -> bool {
        match self {
            Self::GroupTable(_) | Self::ForeignSubscribe(_) => true,
            Self::ForeignLookup(_) | Self::ForeignResolve(_) => port == 1,
            Self::TableJoin(join) => join.table(port).is_some(),
            Self::Filter(filter) => filter.table,
            kind => kind.passes_olds() && wanted,
        }
    }

    fn passes_olds(&self) -> bool {
        matches!(
            self,
            Self::Merge | Self::Filter(Filter { table: true, .. }) | Self::Map(Map { table: true, .. })
        )
    }

    /// Whether its rows say what they replace when they are asked to.
    fn gives_olds(&self) -> bool {
        match self {
            Self::ToTable { .. } | Self::Aggregate(_) | Self::TableAggregate(_) | Self::Cogroup(_) => true,
            Self::TtlTable(_) | Self::VersionedTable(_) | Self::WindowAggregate(_) => true,
            Self::TableJoin(join) => join.left.is_some(),
            kind => kind.passes_olds(),
        }
    }
}
