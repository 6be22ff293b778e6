//! What a join makes of two rows.

use serde::{Deserialize, Serialize};

use crate::Selector;

/// Which rows of a join go on without a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinKind {
    #[default]
    Inner,
    Left,
    Outer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Left,
    Right,
}

/// The value of a joined row: a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Projection {
    /// `{"left": …, "right": …}`; a side that is not there is null.
    #[default]
    Both,
    /// Fields in their order: a name, and the part of a side that it has; null where that is not there.
    Fields(Vec<(String, Side, Selector)>),
}

impl JoinKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Inner => "inner",
            Self::Left => "left",
            Self::Outer => "outer",
        }
    }
}

impl Side {
    pub fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}
