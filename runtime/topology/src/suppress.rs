//! Tables whose updates are held back.

use serde::{Deserialize, Serialize};

use crate::{Format, StoreId, WindowKind};

/// Until when an update waits. All times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// Its window's end and grace lie behind the operator's time. `size_ms`: of a time window; a session has its end.
    WindowCloses { kind: SuppressedWindow, grace_ms: i64 },
    /// The operator's time is this much later than the first update's that waits.
    TimeLimit { ms: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuppressedWindow {
    Time { size_ms: i64 },
    Session,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest update goes on before its time.
    #[default]
    EmitEarly,
    /// The row that finds the buffer full fails.
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppress {
    pub until: Until,
    pub records_max: Option<u64>,
    pub bytes_max: Option<u64>,
    pub when_full: WhenFull,
    pub store: StoreId,
    pub key: Format,
    pub value: Format,
}

impl SuppressedWindow {
    pub fn kind(self) -> WindowKind {
        match self {
            Self::Time { .. } => WindowKind::Time,
            Self::Session => WindowKind::Session,
        }
    }
}

impl Suppress {
    /// For people.
    pub fn describe(&self) -> String {
        match self.until {
            Until::WindowCloses { grace_ms, .. } => format!("until the window closes, grace {grace_ms} ms"),
            Until::TimeLimit { ms } => format!("until {ms} ms have passed"),
        }
    }
}
