//! The entries of one store in the order of their keys.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::backend::Bounds;
use crate::bytes::Bytes;

/// What an entry costs here besides its key's own bytes: key, number, and its share of a tree's node.
const ENTRY_BYTES: usize = 48;

#[derive(Debug, Default)]
pub struct Index {
    entries: BTreeMap<Bytes, u32>,
    bytes: usize,
}

impl Index {
    /// Estimate of the memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts the entry of a key, or (`None`) takes it away.
    pub fn set(&mut self, key: &Bytes, entry: Option<u32>) {
        let cost = ENTRY_BYTES + key.heap_bytes();
        let (before, now) = match entry {
            Some(entry) => (self.entries.insert(key.clone(), entry), true),
            None => (self.entries.remove(key), false),
        };
        match (before.is_some(), now) {
            (false, true) => self.bytes += cost,
            (true, false) => self.bytes -= cost,
            _ => {}
        }
    }

    /// Entries within bounds that are not inverted, until `visit` says `false`.
    pub fn scan(&self, bounds: &Bounds, descending: bool, visit: &mut dyn FnMut(u32) -> bool) {
        let mut range = self
            .entries
            .range::<[u8], _>((borrowed(&bounds.lower), borrowed(&bounds.upper)));
        while let Some((_, entry)) = if descending { range.next_back() } else { range.next() } {
            if !visit(*entry) {
                return;
            }
        }
    }
}

pub fn borrowed(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(b) => Bound::Included(b.as_slice()),
        Bound::Excluded(b) => Bound::Excluded(b.as_slice()),
        Bound::Unbounded => Bound::Unbounded,
    }
}
