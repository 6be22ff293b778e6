//! Global tables: a whole topic beside the tasks of a node, looked up by any key.

use serde::{Deserialize, Serialize};

use crate::{
    CreateTopic, Expression, Format, JoinKind, Node, NodeKind, Problem, Projection, Selector, Topology, name_problem,
    topic_problem,
};

/// Index of a table in [`Topology::globals`].
pub type GlobalId = usize;

/// A topic that every node keeps whole: no task reads it, and it has no changelog but itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GlobalTable {
    /// Of the source; also how its rows are asked for.
    pub name: String,
    pub topic: String,
    pub key: Format,
    pub value: Format,
    pub create: Option<CreateTopic>,
}

/// A stream with a global table. The rows keep their keys and times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GlobalJoin {
    /// `Inner` or `Left`.
    pub kind: JoinKind,
    pub table: GlobalId,
    /// The table's key, made of the stream's row.
    pub on: GlobalKey,
    /// What the table's keys are.
    pub table_key: Format,
    pub value: Projection,
    pub key: Format,
    pub left_value: Format,
    pub right_value: Format,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GlobalKey {
    /// Null, or a field that is not there, is no key.
    Part(Selector),
    Expression(Expression),
}

impl GlobalKey {
    /// As pipeline.toml says it.
    pub fn word(&self) -> String {
        match self {
            Self::Part(selector) => selector.word(),
            Self::Expression(expression) => format!("`{}`", expression.text),
        }
    }

    pub fn expression(&self) -> Option<&Expression> {
        match self {
            Self::Part(_) => None,
            Self::Expression(expression) => Some(expression),
        }
    }
}

impl Topology {
    /// The table of a join.
    pub fn global(&self, join: &GlobalJoin) -> Option<&GlobalTable> {
        self.globals.get(join.table)
    }

    /// For `describe`.
    pub(crate) fn global_join_details(&self, join: &GlobalJoin) -> String {
        let table = self.global(join).map_or("?", |table| &table.name);
        format!(
            "{}, a stream with global table {table} on {}, gives json",
            join.kind.word(),
            join.on.word()
        )
    }
}

/// Names, topics and joins of global tables.
impl Topology {
    pub(crate) fn check_globals(&self, problems: &mut Vec<Problem>) {
        let mut complain = |node: &str, message: String| {
            problems.push(Problem {
                node: node.to_string(),
                message,
            })
        };
        for (at, table) in self.globals.iter().enumerate() {
            if let Some(message) = name_problem(&table.name) {
                complain(&table.name, message);
            }
            if let Some(message) = topic_problem(&table.topic) {
                complain(&table.name, message);
            }
            let others = self.globals.iter().take(at);
            if self
                .nodes
                .iter()
                .any(|node| node.name == table.name && !matches!(node.kind, NodeKind::Sink(_)))
                || others.clone().any(|other| other.name == table.name)
            {
                complain(&table.name, "two nodes have this name".to_string());
            }
            if self.stores.iter().any(|store| store.name == table.name) {
                complain(&table.name, format!("a store is called `{}` as well", table.name));
            }
            let read = |node: &&Node| matches!(&node.kind, NodeKind::Source(s) if s.topics.contains(&table.topic));
            let reader = self.nodes.iter().find(read).map(|node| &node.name);
            let reader = reader.or(others
                .clone()
                .find(|other| other.topic == table.topic)
                .map(|other| &other.name));
            if let Some(reader) = reader {
                complain(&table.name, format!("`{reader}` reads topic `{}` already", table.topic));
            }
        }
        for node in &self.nodes {
            let NodeKind::GlobalJoin(join) = &node.kind else {
                continue;
            };
            if join.kind == JoinKind::Outer {
                complain(
                    &node.name,
                    "a stream and a global table are joined `inner` or `left`".to_string(),
                );
            }
            if self.global(join).is_none() {
                complain(&node.name, format!("global table {} is not there", join.table));
            }
        }
    }
}
