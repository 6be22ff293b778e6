//! Keys of windowed stores: how they lie in a store, in its changelog, and on the wire.
//!
//! A changelog has Kafka Streams' keys, so that Java reads it key for key; a store has the same parts in an order in
//! which what expires together lies together. The wire has Kafka's `TimeWindowedSerializer` and
//! `SessionWindowedSerializer`. Times are never negative, so their bytes order as they do.

use crate::backend::Bounds;

/// In which order a store has the parts of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Start, key, sequence number.
    Window,
    /// Segment of the start, key, start, sequence number.
    KeyedWindow { segment_ms: i64 },
    /// Segment of the end, key, end, start.
    Session { segment_ms: i64 },
}

/// The parts of a windowed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowedKey<'a> {
    pub key: &'a [u8],
    pub start: i64,
    /// Of a session; the start otherwise.
    pub end: i64,
    /// Tells rows of one key and time apart; 0 but in stores that keep each row.
    pub sequence: u32,
}

impl<'a> WindowedKey<'a> {
    /// Of a window that is known by its start.
    pub fn at(key: &'a [u8], start: i64) -> Self {
        Self {
            key,
            start,
            end: start,
            sequence: 0,
        }
    }
}

fn time(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
}

fn sequence(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The rest and the last `N` bytes.
fn last(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.len().checked_sub(length)?)
}

impl Layout {
    /// The number of the segment that a time is in.
    pub fn segment(self, at: i64) -> i64 {
        match self {
            Self::Window => at,
            Self::KeyedWindow { segment_ms } | Self::Session { segment_ms } => at.max(0) / segment_ms.max(1),
        }
    }

    /// The first time of a segment.
    pub fn begins(self, segment: i64) -> i64 {
        match self {
            Self::Window => segment,
            Self::KeyedWindow { segment_ms } | Self::Session { segment_ms } => {
                segment.saturating_mul(segment_ms.max(1))
            }
        }
    }

    /// Appends the store's key to `to`.
    pub fn write(self, key: &WindowedKey<'_>, to: &mut Vec<u8>) {
        match self {
            Self::Window => {
                to.extend_from_slice(&key.start.to_be_bytes());
                to.extend_from_slice(key.key);
                to.extend_from_slice(&key.sequence.to_be_bytes());
            }
            Self::KeyedWindow { .. } => {
                to.extend_from_slice(&self.segment(key.start).to_be_bytes());
                to.extend_from_slice(key.key);
                to.extend_from_slice(&key.start.to_be_bytes());
                to.extend_from_slice(&key.sequence.to_be_bytes());
            }
            Self::Session { .. } => {
                to.extend_from_slice(&self.segment(key.end).to_be_bytes());
                to.extend_from_slice(key.key);
                to.extend_from_slice(&key.end.to_be_bytes());
                to.extend_from_slice(&key.start.to_be_bytes());
            }
        }
    }

    /// The parts of a store's key; `None`: it is none.
    pub fn read(self, stored: &[u8]) -> Option<WindowedKey<'_>> {
        let (first, rest) = stored.split_at_checked(8)?;
        match self {
            Self::Window => {
                let (key, number) = last(rest, 4)?;
                let start = time(first)?;
                Some(WindowedKey {
                    sequence: sequence(number)?,
                    ..WindowedKey::at(key, start)
                })
            }
            Self::KeyedWindow { .. } => self.read_changelog(rest),
            Self::Session { .. } => self.read_changelog(rest),
        }
    }

    /// The parts of a changelog's key; `None`: it is none.
    pub fn read_changelog(self, row: &[u8]) -> Option<WindowedKey<'_>> {
        match self {
            Self::Window | Self::KeyedWindow { .. } => {
                let (rest, number) = last(row, 4)?;
                let (key, start) = last(rest, 8)?;
                let start = time(start)?;
                Some(WindowedKey {
                    sequence: sequence(number)?,
                    ..WindowedKey::at(key, start)
                })
            }
            Self::Session { .. } => {
                let (rest, start) = last(row, 8)?;
                let (key, end) = last(rest, 8)?;
                Some(WindowedKey {
                    key,
                    start: time(start)?,
                    end: time(end)?,
                    sequence: 0,
                })
            }
        }
    }

    /// The parts of a key as it is in topics; `None`: it is none.
    pub fn read_wire(self, wire: &[u8]) -> Option<WindowedKey<'_>> {
        if matches!(self, Self::Session { .. }) {
            return self.read_changelog(wire);
        }
        let (key, start) = last(wire, 8)?;
        let start = time(start)?;
        Some(WindowedKey::at(key, start))
    }

    /// The changelog's key.
    pub fn changelog(self, key: &WindowedKey<'_>) -> Vec<u8> {
        let mut row = Vec::new();
        self.write_wire(key, &mut row);
        if !matches!(self, Self::Session { .. }) {
            row.extend_from_slice(&key.sequence.to_be_bytes());
        }
        row
    }

    /// Appends the key as it is in topics.
    pub fn write_wire(self, key: &WindowedKey<'_>, to: &mut Vec<u8>) {
        to.extend_from_slice(key.key);
        if matches!(self, Self::Session { .. }) {
            to.extend_from_slice(&key.end.to_be_bytes());
        }
        to.extend_from_slice(&key.start.to_be_bytes());
    }

    /// The store's key as it is in topics; what is none is left as it is.
    pub fn wire(self, stored: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        match self.read(stored) {
            Some(key) => self.write_wire(&key, &mut wire),
            None => wire.extend_from_slice(stored),
        }
        wire
    }

    /// Bounds of a store's keys in one segment whose key is `key` and whose time (a session's end) is `from` or later;
    /// keys that begin with it may lie between.
    pub fn bounds_from(self, segment: i64, key: &[u8], from: i64) -> Bounds {
        let mut lower = segment.to_be_bytes().to_vec();
        lower.extend_from_slice(key);
        let mut upper = lower.clone();
        lower.extend_from_slice(&from.max(0).to_be_bytes());
        upper.extend_from_slice(&[u8::MAX; 16]);
        Bounds::half_open(Some(&lower), Some(&upper))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LAYOUTS: [Layout; 3] = [
        Layout::Window,
        Layout::KeyedWindow { segment_ms: 60_000 },
        Layout::Session { segment_ms: 60_000 },
    ];

    #[test]
    fn what_is_written_is_read() {
        for layout in LAYOUTS {
            for key in [&b""[..], b"k", &[0, 255, 0, 0, 0, 0, 0, 0, 0, 7]] {
                let session = matches!(layout, Layout::Session { .. });
                let parts = WindowedKey {
                    key,
                    start: 123_456,
                    end: if session { 200_000 } else { 123_456 },
                    sequence: if session { 0 } else { 9 },
                };
                let mut stored = Vec::new();
                layout.write(&parts, &mut stored);
                assert_eq!(layout.read(&stored), Some(parts));
                assert_eq!(layout.read_changelog(&layout.changelog(&parts)), Some(parts));
            }
            assert_eq!(layout.read(&[0; 3]), None);
        }
    }

    /// Byte for byte what `WindowKeySchema`, `SessionKeySchema` and `TimeWindowedSerializer` write.
    #[test]
    fn keys_are_kafkas() {
        let parts = WindowedKey {
            key: b"k",
            start: 1,
            end: 2,
            sequence: 3,
        };
        assert_eq!(Layout::Window.changelog(&parts), b"k\0\0\0\0\0\0\0\x01\0\0\0\x03");
        assert_eq!(
            Layout::Session { segment_ms: 1 }.changelog(&parts),
            b"k\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01"
        );
        let mut stored = Vec::new();
        Layout::Window.write(&parts, &mut stored);
        assert_eq!(Layout::Window.wire(&stored), b"k\0\0\0\0\0\0\0\x01");
    }
}
