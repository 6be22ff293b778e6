//! Windows: how rows of a key are put together by their time.

use serde::{Deserialize, Serialize};

use crate::{Aggregate, Edge, Format, InvalidTime, NodeKind, StoreKind, Topology};

/// All times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Windows {
    /// `[start, start + size)`, starts at multiples of `advance` since 1970: tumbling where both are the same.
    Time { size_ms: i64, advance_ms: i64 },
    /// `[end - difference, end]`, ends at the records' times and starts just after them.
    Sliding { difference_ms: i64 },
    /// From a key's first record to its last one; a pause longer than `gap` begins another.
    Session { gap_ms: i64 },
    /// One window that never ends.
    Unlimited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windowing {
    pub windows: Windows,
    /// How long after its end a window still takes rows.
    pub grace_ms: i64,
    /// How long the store keeps a window, counted from its start (a session: from its end).
    pub retention_ms: i64,
    /// Each window's result goes on once, when it has closed.
    pub on_close: bool,
    /// Rows that came too late for all of their windows go to output port 1.
    pub late: bool,
}

/// A reduction per key and window; its store's keys are windowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowAggregate {
    pub aggregate: Aggregate,
    pub windowing: Windowing,
}

/// What stands behind a windowed key's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Key, then the start in 8 bytes big-endian, as Kafka's `TimeWindowedSerializer`.
    Time,
    /// Key, then end and start, as Kafka's `SessionWindowedSerializer`.
    Session,
}

/// Kafka Streams' smallest segment, so that a short retention does not make many.
pub(crate) const SEGMENT_MS_MIN: i64 = 60_000;

impl Windowing {
    /// Kafka Streams' choice: about two segments are alive at a time.
    fn segment_ms(&self) -> i64 {
        (self.retention_ms / 2).max(SEGMENT_MS_MIN)
    }

    pub fn is_sliding(&self) -> bool {
        matches!(self.windows, Windows::Sliding { .. })
    }

    /// The store that such windows are kept in.
    pub fn store_kind(&self) -> StoreKind {
        match self.windows {
            Windows::Time { .. } | Windows::Unlimited => StoreKind::Window,
            Windows::Sliding { .. } => StoreKind::KeyedWindow {
                segment_ms: self.segment_ms(),
            },
            Windows::Session { .. } => StoreKind::Session {
                segment_ms: self.segment_ms(),
            },
        }
    }

    pub fn window_kind(&self) -> WindowKind {
        match self.windows {
            Windows::Session { .. } => WindowKind::Session,
            _ => WindowKind::Time,
        }
    }

    /// For people: `tumbling 60000 ms, grace 0 ms`.
    pub fn describe(&self) -> String {
        let windows = match self.windows {
            Windows::Time { size_ms, advance_ms } if size_ms == advance_ms => format!("tumbling {size_ms} ms"),
            Windows::Time { size_ms, advance_ms } => format!("hopping {size_ms} ms by {advance_ms} ms"),
            Windows::Sliding { difference_ms } => format!("sliding {difference_ms} ms"),
            Windows::Session { gap_ms } => format!("session {gap_ms} ms"),
            Windows::Unlimited => return "unlimited".to_string(),
        };
        let on_close = if self.on_close { ", on close" } else { "" };
        format!(
            "{windows}, grace {} ms, retention {} ms{on_close}",
            self.grace_ms, self.retention_ms
        )
    }
}

impl Topology {
    /// Key and value format of what goes along an edge, see [`Topology::output_formats`].
    pub(crate) fn edge_formats(&self, edge: &Edge) -> Option<(Format, Format)> {
        let from = self.nodes.get(edge.from)?;
        match &from.kind {
            // Rows that came too late go on as they came.
            NodeKind::WindowAggregate(_) if edge.from_port == 1 => self.output_formats(from.inputs.first()?.from),
            _ => self.output_formats(edge.from),
        }
    }
}

impl StoreKind {
    /// Whether stored values begin with 8 bytes of event time.
    pub fn is_timestamped(self) -> bool {
        !matches!(self, Self::KeyValue)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::KeyValue => "key-value",
            Self::Timestamped => "timestamped",
            Self::Window | Self::KeyedWindow { .. } => "window",
            Self::Session { .. } => "session",
        }
    }
}

impl NodeKind {
    /// Whether the node keeps times of its own in the internal store of its sub-topology.
    pub fn keeps_times(&self) -> bool {
        match self {
            Self::Module(_) | Self::WindowAggregate(_) | Self::StreamJoin(_) | Self::Suppress(_) => true,
            Self::Source(source) => source.timestamps.invalid == InvalidTime::PartitionTime,
            _ => false,
        }
    }
}

/// Formats of keys, of the same keys with a time window, and with a session.
const WINDOWED: [(Format, Format, Format); 5] = [
    (Format::Bytes, Format::WindowedBytes, Format::SessionBytes),
    (Format::String, Format::WindowedString, Format::SessionString),
    (Format::I64, Format::WindowedI64, Format::SessionI64),
    (Format::F64, Format::WindowedF64, Format::SessionF64),
    (Format::Json, Format::WindowedJson, Format::SessionJson),
];

impl Format {
    /// The format of keys in windows whose own format is this.
    pub fn windowed(self, kind: WindowKind) -> Self {
        let found = WINDOWED.iter().find(|(plain, ..)| *plain == self);
        let (_, time, session) = found
            .copied()
            .unwrap_or((Self::Bytes, Self::WindowedBytes, Self::SessionBytes));
        match kind {
            WindowKind::Time => time,
            WindowKind::Session => session,
        }
    }

    /// How many bytes at the end of a key are its window's; 0 where it has none.
    pub fn window_bytes(self) -> usize {
        match self.unwindowed() {
            None => 0,
            Some((_, WindowKind::Time)) => 8,
            Some((_, WindowKind::Session)) => 16,
        }
    }

    /// The key's own format, of a windowed one.
    pub fn unwindowed(self) -> Option<(Self, WindowKind)> {
        WINDOWED.iter().find_map(|(plain, time, session)| {
            if self == *time {
                Some((*plain, WindowKind::Time))
            } else {
                (self == *session).then_some((*plain, WindowKind::Session))
            }
        })
    }
}
