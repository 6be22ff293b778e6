//! What is known of the committed values of a task's keys, and where their uncommitted ones are: one look-up by hash
//! leads to both.
//!
//! It is a write-back cache. A committed value stays here, marked as owed to the backend, until the stores write all
//! owed values back at once: a key that changes at every commit then costs the backend one write in a while. What is
//! owed or uncommitted cannot be evicted; the rest makes room by going round like the hand of a clock: an entry that was
//! read since the hand last passed is spared once.
//!
//! A store that is scanned and fits in here is known whole: its entries have an index in the order of their keys, so that
//! a scan needs no backend and nothing has to be written back for it, and what is not here is nowhere. It lasts until an
//! entry with a value is evicted.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::backend::Bounds;
use crate::bytes::Bytes;
use crate::index::Index;

/// What the backend would say of a key, had it been told of everything that was committed.
#[derive(Debug)]
pub enum Committed {
    /// Not asked yet: the key was only written.
    Unknown,
    Absent,
    Value(Bytes),
}

impl Committed {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.heap_bytes(),
            Self::Unknown | Self::Absent => 0,
        }
    }
}

impl From<Option<Bytes>> for Committed {
    fn from(value: Option<Bytes>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }
}

/// One key, in a line of the processor's cache of its own: a look-up of a key among many then waits for one line.
#[derive(Debug)]
#[repr(align(64))]
pub struct Known {
    pub key: Bytes,
    pub committed: Committed,
    /// Number of the key's uncommitted value in the overlay of `store`; [`NO_SLOT`] when it has none.
    pub slot: u32,
    store: u32,
    referenced: bool,
    owed: bool,
    /// In its store's index, where there is one.
    indexed: bool,
}

impl Known {
    /// Whether there is something to scan: a committed value, or a change.
    fn is_there(&self) -> bool {
        self.slot != NO_SLOT || matches!(self.committed, Committed::Value(_))
    }
}

pub const NO_SLOT: u32 = u32::MAX;
/// Store of a place that is free.
const VACANT: u32 = u32::MAX;
/// The entry and its place in the hash table.
pub const ENTRY_BYTES: usize = size_of::<Known>() + 8;
/// How far the hand moves for one new entry: past a long stretch of entries that must stay, the bound is met later.
const HAND_STEPS_MAX: usize = 64;

#[inline]
fn hash_of(hasher: &RandomState, store: u32, key: &[u8]) -> u64 {
    hasher.hash_one(key) ^ u64::from(store).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(Debug, Default)]
pub struct Cache {
    hasher: RandomState,
    /// Numbers of entries stay the same for life.
    entries: Vec<Known>,
    vacant: Vec<u32>,
    table: HashTable<u32>,
    hand: usize,
    bytes: usize,
    bytes_max: usize,
    /// Entries that are owed: which, their bytes, how many of each store.
    owed: Vec<u32>,
    owed_bytes: usize,
    owed_of: Vec<usize>,
    /// Of the stores that are known whole.
    indexes: Vec<Option<Index>>,
}

impl Cache {
    pub fn new(stores: usize, bytes_max: usize) -> Self {
        Self {
            bytes_max,
            owed_of: vec![0; stores],
            indexes: (0..stores).map(|_| None).collect(),
            ..Self::default()
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Half of the cache may be owed, so that the other half works as a cache.
    pub fn owes_much(&self) -> bool {
        self.owed_bytes > self.bytes_max / 2
    }

    pub fn owes(&self, store: usize) -> bool {
        self.owed_of.get(store).is_some_and(|owed| *owed > 0)
    }

    #[inline]
    pub fn hash(&self, store: usize, key: &[u8]) -> u64 {
        hash_of(&self.hasher, store as u32, key)
    }

    #[inline]
    pub fn find(&self, hash: u64, store: usize, key: &[u8]) -> Option<u32> {
        self.table.find(hash, |entry| self.is_of(*entry, store, key)).copied()
    }

    /// Whether `entry` is that of the key.
    #[inline]
    pub fn is_of(&self, entry: u32, store: usize, key: &[u8]) -> bool {
        let known = self.entries.get(entry as usize);
        known.is_some_and(|e| e.store == store as u32 && e.key.as_slice() == key)
    }

    #[inline]
    pub fn get(&self, entry: u32) -> Option<&Known> {
        self.entries.get(entry as usize)
    }

    /// Spares the entry when the hand comes next.
    #[inline]
    pub fn touch(&mut self, entry: u32) -> Option<&Known> {
        let known = self.entries.get_mut(entry as usize)?;
        known.referenced = true;
        Some(known)
    }

    #[inline]
    pub fn set_slot(&mut self, entry: u32, slot: u32) {
        if let Some(known) = self.entries.get_mut(entry as usize) {
            known.slot = slot;
        }
        self.reindex(entry);
    }

    /// Brings the entry's place in its store's index up to date.
    #[inline]
    fn reindex(&mut self, entry: u32) {
        let Some(known) = self.entries.get_mut(entry as usize) else {
            return;
        };
        let Some(Some(index)) = self.indexes.get_mut(known.store as usize) else {
            return;
        };
        let there = known.is_there();
        if there != known.indexed {
            known.indexed = there;
            let before = index.bytes();
            index.set(&known.key, there.then_some(entry));
            self.bytes = self.bytes + index.bytes() - before;
        }
    }

    pub fn is_whole(&self, store: usize) -> bool {
        self.indexes.get(store).is_some_and(Option::is_some)
    }

    /// Bytes of a store up to which it is worth being known whole.
    pub fn whole_bytes_max(&self) -> usize {
        self.bytes_max / 4
    }

    /// `rows` is all that the backend has of a store; what is here is newer. Whether the store is known whole now: it is
    /// not where there was no room.
    pub fn make_whole(&mut self, store: usize, rows: Vec<(Bytes, Bytes)>) -> bool {
        if let Some(index) = self.indexes.get_mut(store) {
            *index = Some(Index::default());
        }
        for entry in self.entries_of(store) {
            if let Some(known) = self.entries.get_mut(entry as usize) {
                known.indexed = false;
            }
            self.reindex(entry);
        }
        for (key, value) in rows {
            let hash = self.hash(store, key.as_slice());
            match self.find(hash, store, key.as_slice()) {
                None => _ = self.insert(hash, store, key.as_slice(), Committed::Value(value)),
                Some(entry) => {
                    let unknown = self
                        .get(entry)
                        .is_some_and(|e| matches!(e.committed, Committed::Unknown));
                    if unknown {
                        self.learn(entry, Committed::Value(value));
                    }
                }
            }
        }
        for entry in self.entries_of(store) {
            if let Some(known) = self.entries.get_mut(entry as usize)
                && matches!(known.committed, Committed::Unknown)
            {
                known.committed = Committed::Absent;
            }
        }
        self.is_whole(store)
    }

    fn entries_of(&self, store: usize) -> Vec<u32> {
        let entries = self.entries.iter().enumerate();
        let of = entries.filter(|(_, known)| known.store == store as u32);
        of.map(|(entry, _)| entry as u32).collect()
    }

    /// Entries of a store that is known whole, within bounds that are not inverted, until `visit` says `false`.
    pub fn scan(&mut self, store: usize, bounds: &Bounds, descending: bool, visit: &mut dyn FnMut(&Known) -> bool) {
        let Some(Some(index)) = self.indexes.get(store) else {
            return;
        };
        let entries = &mut self.entries;
        index.scan(bounds, descending, &mut |entry| {
            let Some(known) = entries.get_mut(entry as usize) else {
                return true;
            };
            known.referenced = true;
            visit(known)
        });
    }

    /// Not every entry of the store is here any more.
    fn forget_whole(&mut self, store: u32) {
        if let Some(index) = self.indexes.get_mut(store as usize).and_then(Option::take) {
            self.bytes -= index.bytes();
        }
    }

    /// A key that is not here yet. The number of its entry.
    pub fn insert(&mut self, hash: u64, store: usize, key: &[u8], committed: Committed) -> u32 {
        let key = Bytes::new(key);
        let needed = ENTRY_BYTES + key.heap_bytes() + committed.heap_bytes();
        self.make_room(needed, HAND_STEPS_MAX);
        self.bytes += needed;
        let known = Known {
            key,
            committed,
            slot: NO_SLOT,
            store: store as u32,
            referenced: false,
            owed: false,
            indexed: false,
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                if let Some(place) = self.entries.get_mut(index as usize) {
                    *place = known;
                }
                index
            }
            None => {
                self.entries.push(known);
                self.entries.len() as u32 - 1
            }
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |i: &u32| {
            entries
                .get(*i as usize)
                .map_or(0, |e| hash_of(hasher, e.store, e.key.as_slice()))
        };
        self.table.insert_unique(hash, index, rehash);
        self.reindex(index);
        index
    }

    /// What the backend said of a key that was only written before.
    pub fn learn(&mut self, entry: u32, committed: Committed) {
        let Some(known) = self.entries.get_mut(entry as usize) else {
            return;
        };
        self.bytes += committed.heap_bytes();
        self.bytes -= known.committed.heap_bytes();
        known.committed = committed;
        self.reindex(entry);
    }

    /// The key's value is committed, and owed to the backend from now on.
    #[inline]
    pub fn settle(&mut self, entry: u32, value: Option<Bytes>) {
        let Some(known) = self.entries.get_mut(entry as usize) else {
            return;
        };
        let (added, freed) = (
            value.as_ref().map_or(0, Bytes::heap_bytes),
            known.committed.heap_bytes(),
        );
        self.bytes = self.bytes + added - freed;
        if known.owed {
            self.owed_bytes = self.owed_bytes + added - freed;
        } else {
            known.owed = true;
            self.owed_bytes += ENTRY_BYTES + known.key.heap_bytes() + added;
            self.owed.push(entry);
            if let Some(owed) = self.owed_of.get_mut(known.store as usize) {
                *owed += 1;
            }
        }
        known.committed = value.into();
        self.reindex(entry);
    }

    /// Every owed key with its store and value (`None`: deleted), by store and key: sorted writes cost the backend a
    /// third of unsorted ones.
    pub fn owed_entries(&self) -> Vec<(usize, &Bytes, Option<&Bytes>)> {
        let mut owed: Vec<_> = self
            .owed
            .iter()
            .filter_map(|entry| self.entries.get(*entry as usize))
            .map(|e| {
                let value = match &e.committed {
                    Committed::Value(value) => Some(value),
                    Committed::Unknown | Committed::Absent => None,
                };
                (e.store as usize, &e.key, value)
            })
            .collect();
        owed.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        owed
    }

    /// The backend has everything. Keys that were deleted are forgotten: what has expired does not come back, and would
    /// fill the cache of a store whose rows all do.
    pub fn paid(&mut self) {
        for index in std::mem::take(&mut self.owed) {
            let Some(entry) = self.entries.get_mut(index as usize) else {
                continue;
            };
            entry.owed = false;
            if entry.slot == NO_SLOT && matches!(entry.committed, Committed::Absent) {
                self.remove(index as usize);
            }
        }
        self.owed_bytes = 0;
        self.owed_of.fill(0);
        self.make_room(0, 2 * self.entries.len());
    }

    fn make_room(&mut self, bytes: usize, steps_max: usize) {
        let mut steps = 0;
        while self.bytes + bytes > self.bytes_max && steps < steps_max {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let Some(entry) = self.entries.get_mut(self.hand) else {
                return;
            };
            if entry.store != VACANT && !entry.owed && entry.slot == NO_SLOT {
                if entry.referenced {
                    entry.referenced = false;
                } else {
                    self.remove(self.hand);
                }
            }
            self.hand += 1;
            steps += 1;
        }
    }

    fn remove(&mut self, index: usize) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        let hash = hash_of(&self.hasher, entry.store, entry.key.as_slice());
        if let Ok(place) = self.table.find_entry(hash, |i| *i as usize == index) {
            place.remove();
        }
        self.bytes -= ENTRY_BYTES + entry.key.heap_bytes() + entry.committed.heap_bytes();
        let (store, valued) = (entry.store, matches!(entry.committed, Committed::Value(_)));
        entry.store = VACANT;
        entry.key = Bytes::new(&[]);
        entry.committed = Committed::Unknown;
        self.vacant.push(index as u32);
        if valued {
            self.forget_whole(store);
        }
    }

    /// Forgets every key. Nothing may be uncommitted or owed that is still wanted.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.vacant.clear();
        self.table.clear();
        self.hand = 0;
        self.bytes = 0;
        self.owed.clear();
        self.owed_bytes = 0;
        self.owed_of.fill(0);
        self.indexes.fill_with(|| None);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn put(cache: &mut Cache, store: usize, key: &[u8], value: Option<Bytes>) -> u32 {
        let hash = cache.hash(store, key);
        match cache.find(hash, store, key) {
            Some(entry) => {
                cache.learn(entry, value.into());
                entry
            }
            None => cache.insert(hash, store, key, value.into()),
        }
    }

    fn known(cache: &Cache, key: &[u8]) -> bool {
        cache.find(cache.hash(0, key), 0, key).is_some()
    }

    #[test]
    fn an_entry_is_one_cache_line() {
        assert_eq!(size_of::<Known>(), 64);
    }

    #[test]
    fn it_keeps_its_bound_and_answers_right() {
        let mut cache = Cache::new(2, 50 * ENTRY_BYTES);
        for i in 0..1000_u32 {
            let key = (i % 97).to_be_bytes();
            let value = (i % 3 > 0).then(|| Bytes::new(&i.to_be_bytes()));
            let entry = put(&mut cache, (i % 2) as usize, &key, value.clone());
            assert!(cache.bytes() <= 50 * ENTRY_BYTES);
            let found = match &cache.get(entry).unwrap().committed {
                Committed::Value(found) => Some(found.as_slice()),
                Committed::Absent => None,
                Committed::Unknown => panic!("it was told"),
            };
            assert_eq!(found, value.as_ref().map(Bytes::as_slice));
        }
        let count = (0..97_u32).filter(|k| known(&cache, &k.to_be_bytes())).count();
        assert!(count > 0 && count < 97, "{count}");
    }

    #[test]
    fn what_is_read_outlives_what_is_not() {
        let mut cache = Cache::new(1, 10 * ENTRY_BYTES);
        put(&mut cache, 0, b"hot", None);
        for i in 0..100_u32 {
            let hot = cache.find(cache.hash(0, b"hot"), 0, b"hot").unwrap();
            cache.touch(hot).unwrap();
            put(&mut cache, 0, &i.to_be_bytes(), None);
        }
    }

    #[test]
    fn what_is_owed_stays_until_it_is_paid() {
        let mut cache = Cache::new(1, 10 * ENTRY_BYTES);
        for i in 0..100_u32 {
            let entry = put(&mut cache, 0, &i.to_be_bytes(), None);
            cache.settle(entry, Some(Bytes::new(b"v")));
        }
        assert!(cache.owes_much() && cache.owes(0));
        let owed: Vec<u32> = cache
            .owed_entries()
            .iter()
            .map(|(_, key, _)| u32::from_be_bytes(key.as_slice().try_into().unwrap()))
            .collect();
        assert_eq!(owed, (0..100).collect::<Vec<_>>());
        cache.paid();
        assert!(!cache.owes(0) && cache.owed_entries().is_empty());
        assert!(cache.bytes() <= 10 * ENTRY_BYTES);
    }
}
