//! Where the times of a source's rows come from.

use serde::{Deserialize, Serialize};

use crate::{Expression, NodeKind, Selector, SourceKind, SubTopology, Topology};

/// The records' own times, unless the file says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamps {
    pub of: TimeOf,
    pub invalid: InvalidTime,
    /// After so much wall time without rows stream time goes on without them, where all sources of a task say so.
    #[serde(default)]
    pub idle_ms: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeOf {
    #[default]
    Record,
    /// The task's clock when it first looks at the row.
    WallClock,
    Part {
        part: Selector,
        form: TimeForm,
    },
    Expression {
        expression: Expression,
        form: TimeForm,
    },
}

/// How a time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeForm {
    /// A whole number is milliseconds since 1970 UTC, a text is RFC 3339.
    #[default]
    Natural,
    /// Milliseconds since 1970 UTC.
    Ms,
    /// Seconds since 1970 UTC.
    S,
    /// `2026-01-31T12:00:00Z`.
    Rfc3339,
}

/// What becomes of a row that has no time, or one before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InvalidTime {
    /// It is left out and counted.
    #[default]
    Skip,
    /// The task stops at it.
    Fail,
    DeadLetter,
    /// It has the largest time of the rows of its partition before it; where there is none, the task stops.
    PartitionTime,
}

impl Timestamps {
    /// Whether rows have their records' own times, and those that have none are left out.
    pub fn is_plain(&self) -> bool {
        self.of == TimeOf::Record && self.invalid == InvalidTime::default()
    }

    /// For people: `value.at, where invalid: skip; goes on after 30000 ms`.
    pub fn describe(&self) -> String {
        let idle = self.idle_ms.map(|ms| format!("; goes on after {ms} ms"));
        format!("{}{}", self.source(), idle.unwrap_or_default())
    }

    fn source(&self) -> String {
        let of = match &self.of {
            TimeOf::Record => "of the record".to_string(),
            TimeOf::WallClock => return "of the wall clock".to_string(),
            TimeOf::Part { part, form } => format!("`{}`{}", part.word(), form.describe()),
            TimeOf::Expression { expression, form } => format!("`{}`{}", expression.text, form.describe()),
        };
        format!("{of}, where invalid: {}", self.invalid.word())
    }
}

impl Topology {
    /// The wall time without rows after which time goes on in tasks of a sub-topology; `None`: it never does.
    pub fn idle_ms(&self, sub: &SubTopology) -> Option<i64> {
        let nodes = sub.nodes.iter().filter_map(|id| self.nodes.get(*id));
        idle_ms(nodes.filter_map(|node| match &node.kind {
            NodeKind::Source(source) => Some(source.timestamps.idle_ms),
            _ => None,
        }))
    }

    /// A repartition topic is idle as long as the sources that fill it are. Nodes come after those that feed them.
    pub(crate) fn inherit_idle(&mut self) {
        for at in 0..self.nodes.len() {
            let Some(NodeKind::Source(source)) = self.nodes.get(at).map(|node| &node.kind) else {
                continue;
            };
            if source.kind != SourceKind::Repartition {
                continue;
            }
            let idle = idle_ms(self.feeding(&source.topics).into_iter());
            if let Some(NodeKind::Source(source)) = self.nodes.get_mut(at).map(|node| &mut node.kind) {
                source.timestamps.idle_ms = idle;
            }
        }
    }

    /// What the sources say whose rows come to a repartition topic.
    fn feeding(&self, topics: &[String]) -> Vec<Option<i64>> {
        let mut found = Vec::new();
        let mut above = vec![false; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().rev() {
            let writes = matches!(&node.kind, NodeKind::Repartition(r) if topics.contains(&r.topic));
            if !writes && above.get(id) != Some(&true) {
                continue;
            }
            if let NodeKind::Source(source) = &node.kind {
                found.push(source.timestamps.idle_ms);
            }
            for edge in &node.inputs {
                if let Some(above) = above.get_mut(edge.from) {
                    *above = true;
                }
            }
        }
        found
    }
}

/// The longest, where all say something.
fn idle_ms(sources: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    let all: Option<Vec<i64>> = sources.collect();
    all?.into_iter().max()
}

impl TimeForm {
    /// As pipeline.toml says it; `None`: it says nothing.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Natural => None,
            Self::Ms => Some("ms"),
            Self::S => Some("s"),
            Self::Rfc3339 => Some("rfc3339"),
        }
    }

    fn describe(self) -> String {
        self.word().map_or(String::new(), |word| format!(" ({word})"))
    }
}

impl InvalidTime {
    /// As pipeline.toml says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Fail => "fail",
            Self::DeadLetter => "dead-letter",
            Self::PartitionTime => "partition-time",
        }
    }
}
