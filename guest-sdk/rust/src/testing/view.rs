//! A look into a store from a test.

use std::collections::BTreeMap;

use super::bytes;
use crate::format::{Datum, Format};

/// A store as it was when it was asked for.
#[derive(Debug, Clone)]
pub struct StoreView {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl StoreView {
    pub(crate) fn new(entries: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        StoreView { entries }
    }

    /// The bytes of a key's value.
    pub fn get(&self, key: impl Datum) -> Option<Vec<u8>> {
        self.entries.get(&bytes(key)?).cloned()
    }

    /// A key's value in its format.
    pub fn read<V: Format>(&self, key: impl Datum) -> Option<V::Value> {
        let read = |bytes: Vec<u8>| V::decode(Some(&bytes)).unwrap_or_else(|error| panic!("failed to read: {error}"));
        self.get(key).map(read)
    }

    /// All entries in the order of keys, in bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
