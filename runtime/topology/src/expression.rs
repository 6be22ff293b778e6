//! Expressions in the graph: what a step asks or makes of a record. As texts; crate `expressions` knows their language.

use crate::{Format, Predicate, TimeOf};
use serde::{Deserialize, Serialize};

/// A text of the Common Expression Language over one record, and what its key and value are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expression {
    pub text: String,
    pub key: Format,
    pub value: Format,
}

/// What a key or value is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    Expression(Expression),
    /// A JSON object, its fields in order.
    Object(Vec<(String, Shape)>),
}

impl Shape {
    pub fn expressions(&self) -> Vec<&Expression> {
        match self {
            Self::Expression(expression) => vec![expression],
            Self::Object(fields) => fields.iter().flat_map(|(_, shape)| shape.expressions()).collect(),
        }
    }
}

/// Keeps the rows for which the condition holds; with `not`, the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    pub condition: Predicate,
    pub not: bool,
    /// The rows are a table's, and so are those that come out: one that is left out is a tombstone.
    #[serde(default)]
    pub table: bool,
}

/// New keys and values; with `each`, one row for each element of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    pub each: Option<Expression>,
    /// `None`: the row's own.
    pub key: Option<Shape>,
    pub value: Option<Shape>,
    pub key_format: Format,
    pub value_format: Format,
    /// The rows are a table's, and so are those that come out; only values are new then, and a tombstone stays one.
    #[serde(default)]
    pub table: bool,
}

/// Output port i takes the rows for which the expression gives the name of topic i; another name is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub topic: Expression,
    pub topics: Vec<String>,
}

impl crate::NodeKind {
    /// All expressions that the node evaluates.
    pub fn expressions(&self) -> Vec<&Expression> {
        match self {
            Self::Filter(filter) => filter.condition.expression().into_iter().collect(),
            Self::Map(map) => {
                let shapes = [map.key.as_ref(), map.value.as_ref()];
                let shapes = shapes.into_iter().flatten().flat_map(Shape::expressions);
                map.each.iter().chain(shapes).collect()
            }
            Self::Route(route) => vec![&route.topic],
            Self::Source(source) => match &source.timestamps.of {
                TimeOf::Expression { expression, .. } => vec![expression],
                _ => Vec::new(),
            },
            Self::Branch(branch) => branch
                .branches
                .iter()
                .filter_map(|(_, predicate)| predicate.expression())
                .collect(),
            Self::GlobalJoin(join) => join.on.expression().into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

impl Predicate {
    pub fn expression(&self) -> Option<&Expression> {
        match self {
            Self::Where(expression) => Some(expression),
            _ => None,
        }
    }
}
