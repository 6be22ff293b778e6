//! Committed values, and keys known to be absent, of all stores of a task, within a bound of bytes.
//!
//! Eviction goes round like the hand of a clock: an entry that was read since the hand last passed is spared once.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::bytes::Bytes;

#[derive(Debug)]
struct Cached {
    store: u32,
    key: Bytes,
    /// `None`: known to be absent.
    value: Option<Bytes>,
    referenced: bool,
}

/// The entry and its place in the hash table.
const ENTRY_BYTES: usize = size_of::<Cached>() + 8;

#[derive(Debug, Default)]
pub struct Cache {
    hasher: RandomState,
    entries: Vec<Cached>,
    table: HashTable<u32>,
    hand: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            ..Self::default()
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn hash(&self, store: u32, key: &[u8]) -> u64 {
        self.hasher.hash_one(key) ^ u64::from(store).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[inline]
    fn find(&self, store: u32, key: &[u8]) -> Option<u32> {
        let same = |i: &u32| {
            self.entries
                .get(*i as usize)
                .is_some_and(|e| e.store == store && e.key.as_slice() == key)
        };
        self.table.find(self.hash(store, key), same).copied()
    }

    /// `None`: not known here. `Some(None)`: known to be absent.
    #[inline]
    pub fn get(&mut self, store: usize, key: &[u8]) -> Option<Option<&[u8]>> {
        let index = self.find(store as u32, key)?;
        let entry = self.entries.get_mut(index as usize)?;
        entry.referenced = true;
        Some(entry.value.as_ref().map(Bytes::as_slice))
    }

    pub fn put(&mut self, store: usize, key: Bytes, value: Option<Bytes>) {
        let store = store as u32;
        let cost = |v: &Option<Bytes>| v.as_ref().map_or(0, Bytes::heap_bytes);
        let added = cost(&value);
        if let Some(entry) = self
            .find(store, key.as_slice())
            .and_then(|index| self.entries.get_mut(index as usize))
        {
            self.bytes += added;
            self.bytes -= cost(&entry.value);
            entry.value = value;
        } else {
            let needed = ENTRY_BYTES + key.heap_bytes() + added;
            if needed > self.bytes_max {
                return;
            }
            self.make_room(needed);
            let hash = self.hash(store, key.as_slice());
            self.bytes += needed;
            let index = self.entries.len() as u32;
            self.entries.push(Cached {
                store,
                key,
                value,
                referenced: false,
            });
            let (entries, hasher) = (&self.entries, &self.hasher);
            self.table.insert_unique(hash, index, |i| {
                entries.get(*i as usize).map_or(0, |e| {
                    hasher.hash_one(e.key.as_slice()) ^ u64::from(e.store).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                })
            });
        }
        self.make_room(0);
    }

    fn make_room(&mut self, bytes: usize) {
        while self.bytes + bytes > self.bytes_max && !self.entries.is_empty() {
            self.evict_one();
        }
    }

    fn evict_one(&mut self) {
        // Two rounds at most: the first clears the marks that the second then finds clear.
        for _ in 0..=2 * self.entries.len() {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let Some(entry) = self.entries.get_mut(self.hand) else {
                return;
            };
            if entry.referenced {
                entry.referenced = false;
                self.hand += 1;
            } else {
                let index = self.hand;
                self.remove(index);
                return;
            }
        }
    }

    fn remove(&mut self, index: usize) {
        let last = self.entries.len() - 1;
        for (from, to) in [(index, None), (last, Some(index as u32))] {
            if to.is_some() && from == index {
                continue;
            }
            let Some(entry) = self.entries.get(from) else { continue };
            let hash = self.hash(entry.store, entry.key.as_slice());
            let Ok(mut place) = self.table.find_entry(hash, |i| *i as usize == from) else {
                continue;
            };
            match to {
                Some(to) => *place.get_mut() = to,
                None => {
                    place.remove();
                }
            }
        }
        let entry = self.entries.swap_remove(index);
        self.bytes -= ENTRY_BYTES + entry.key.heap_bytes() + entry.value.as_ref().map_or(0, Bytes::heap_bytes);
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.table.clear();
        self.hand = 0;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn it_keeps_its_bound_and_answers_right() {
        let mut cache = Cache::new(50 * ENTRY_BYTES);
        for i in 0..1000_u32 {
            let key = (i % 97).to_be_bytes();
            let value = (i % 3 > 0).then(|| Bytes::new(&i.to_be_bytes()));
            cache.put((i % 2) as usize, Bytes::new(&key), value.clone());
            assert!(cache.bytes() <= 50 * ENTRY_BYTES);
            assert_eq!(
                cache.get((i % 2) as usize, &key),
                Some(value.as_ref().map(Bytes::as_slice))
            );
        }
        assert_eq!(cache.table.len(), cache.entries.len());
        let known = (0..97_u32)
            .filter(|k| cache.find(0, &k.to_be_bytes()).is_some())
            .count();
        assert!(known > 0 && known < 97, "{known}");
    }

    #[test]
    fn what_is_read_outlives_what_is_not() {
        let mut cache = Cache::new(10 * ENTRY_BYTES);
        cache.put(0, Bytes::new(b"hot"), None);
        for i in 0..100_u32 {
            assert_eq!(cache.get(0, b"hot"), Some(None));
            cache.put(0, Bytes::new(&i.to_be_bytes()), None);
        }
    }
}
