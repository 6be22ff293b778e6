//! Where the times of a source's rows come from.

use serde::{Deserialize, Serialize};

use crate::{Expression, Selector};

/// The records' own times, unless the file says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamps {
    pub of: TimeOf,
    pub invalid: InvalidTime,
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
        *self == Self::default()
    }

    /// For people: `value.at, where invalid: skip`.
    pub fn describe(&self) -> String {
        let of = match &self.of {
            TimeOf::Record => "of the record".to_string(),
            TimeOf::WallClock => return "of the wall clock".to_string(),
            TimeOf::Part { part, form } => format!("`{}`{}", part.word(), form.describe()),
            TimeOf::Expression { expression, form } => format!("`{}`{}", expression.text, form.describe()),
        };
        format!("{of}, where invalid: {}", self.invalid.word())
    }
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
