//! Nodes of an application that call one of its closures.

use serde::{Deserialize, Serialize};

use crate::Format;

/// A closure of the module, called for the rows of its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    pub form: ClosureForm,
    /// The step of the pipeline file that the application is.
    pub step: String,
    /// Its number in the plan.
    pub number: u32,
    /// Hex sha-256 of the plan that the number is from: an instance with another plan is refused.
    pub plan: String,
    /// Formats of what it gives.
    pub key: Format,
    pub value: Format,
}

/// What goes into a closure, and what may come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClosureForm {
    Filter,
    MapValues,
    FlatMapValues,
    SelectKey,
    Map,
    FlatMap,
    /// Rows of a key go into the key's entry of the node's store.
    Aggregate,
    /// The same, beginning with the first row's value.
    Reduce,
}

impl ClosureForm {
    pub const ALL: [Self; 8] = [
        Self::Filter,
        Self::MapValues,
        Self::FlatMapValues,
        Self::SelectKey,
        Self::Map,
        Self::FlatMap,
        Self::Aggregate,
        Self::Reduce,
    ];

    /// The operator in pipeline.toml's words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::MapValues => "map-values",
            Self::FlatMapValues => "flat-map-values",
            Self::SelectKey => "select-key",
            Self::Map => "map",
            Self::FlatMap => "flat-map",
            Self::Aggregate => "aggregate",
            Self::Reduce => "reduce",
        }
    }

    /// The closure's role in the contract.
    pub fn role(self) -> &'static str {
        match self.is_aggregate() {
            true => "aggregate",
            false => "transform",
        }
    }

    pub fn is_aggregate(self) -> bool {
        matches!(self, Self::Aggregate | Self::Reduce)
    }

    /// Whether rows get another key.
    pub fn makes_keys(self) -> bool {
        matches!(self, Self::SelectKey | Self::Map | Self::FlatMap)
    }

    /// Whether rows get another value.
    pub fn makes_values(self) -> bool {
        !matches!(self, Self::Filter | Self::SelectKey)
    }

    /// Whether each row that goes well gives exactly one.
    pub fn gives_one(self) -> bool {
        matches!(self, Self::MapValues | Self::SelectKey | Self::Map)
    }
}
