//! The uncommitted writes of one store: found by hash, remembered in the order of their first change, undone to a
//! savepoint. What is committed below it is not known here.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::Bound;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::bytes::Bytes;

/// One changed key.
#[derive(Clone, Debug)]
pub struct Slot {
    pub key: Bytes,
    /// `None`: deleted.
    pub value: Option<Bytes>,
    /// Time of the last write in milliseconds, for the changelog row; [`NO_TIME`](crate::NO_TIME) where it has none.
    pub timestamp: i64,
    /// The newest savepoint that has this slot's older state in the undo log.
    marked: u64,
}

#[derive(Debug)]
enum Undo {
    Inserted,
    Changed {
        slot: u32,
        value: Option<Bytes>,
        timestamp: i64,
        marked: u64,
    },
}

/// A point in the life of an [`Overlay`] to which it can be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    undone: usize,
}

/// What an entry costs besides its bytes: the slot, its place in the hash table and in the undo log.
const SLOT_BYTES: usize = size_of::<Slot>() + 16 + size_of::<Undo>();

#[derive(Debug, Default)]
pub struct Overlay {
    hasher: RandomState,
    /// In the order of first change.
    slots: Vec<Slot>,
    table: HashTable<u32>,
    /// Built by the first ordered scan, kept up to date until the overlay is cleared.
    ordered: Option<BTreeMap<Bytes, u32>>,
    undo: Vec<Undo>,
    /// Serial number of the newest savepoint; 0 before the first: nothing is logged then.
    serial: u64,
    bytes: usize,
}

impl Overlay {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Estimate of the memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changed keys in the order of their first change.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// `None`: not changed here. `Some(None)`: deleted here.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        self.slots
            .get(slot as usize)
            .map(|s| s.value.as_ref().map(Bytes::as_slice))
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |slot: &u32| self.slots.get(*slot as usize).is_some_and(|s| s.key.as_slice() == key);
        self.table.find(hash, same).copied()
    }

    /// For [`slot_of`](Self::slot_of) and [`insert`](Self::insert).
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The number of a changed key in [`slots`](Self::slots).
    #[inline]
    pub fn slot_of(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.find(hash, key)
    }

    /// Writes or (`None`) deletes. `timestamp` in milliseconds.
    #[inline]
    pub fn set(&mut self, key: &[u8], value: Option<Bytes>, timestamp: i64) {
        let hash = self.hasher.hash_one(key);
        match self.find(hash, key) {
            Some(slot) => self.change(slot, value, timestamp),
            None => self.insert(hash, key, value, timestamp),
        }
    }

    /// Overwrites slot `slot`, which is there.
    #[inline]
    pub fn change(&mut self, slot: u32, value: Option<Bytes>, timestamp: i64) {
        let Some(entry) = self.slots.get_mut(slot as usize) else {
            return;
        };
        self.bytes += value.as_ref().map_or(0, Bytes::heap_bytes);
        let old = std::mem::replace(&mut entry.value, value);
        let old_timestamp = std::mem::replace(&mut entry.timestamp, timestamp);
        if entry.marked < self.serial {
            let marked = std::mem::replace(&mut entry.marked, self.serial);
            self.undo.push(Undo::Changed {
                slot,
                value: old,
                timestamp: old_timestamp,
                marked,
            });
        } else {
            self.bytes -= old.as_ref().map_or(0, Bytes::heap_bytes);
        }
    }

    /// Writes or deletes a key that has no slot yet.
    pub fn insert(&mut self, hash: u64, key: &[u8], value: Option<Bytes>, timestamp: i64) {
        let slot = self.slots.len() as u32;
        let key = Bytes::new(key);
        self.bytes += SLOT_BYTES + key.heap_bytes() + value.as_ref().map_or(0, Bytes::heap_bytes);
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(key.clone(), slot);
            self.bytes += SLOT_BYTES + key.heap_bytes();
        }
        self.slots.push(Slot {
            key,
            value,
            timestamp,
            marked: self.serial,
        });
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |s: &u32| slots.get(*s as usize).map_or(0, |s| hasher.hash_one(s.key.as_slice()));
        self.table.insert_unique(hash, slot, rehash);
        if self.serial > 0 {
            self.undo.push(Undo::Inserted);
        }
    }

    /// Changed keys in the order of their bytes.
    pub fn ordered(&mut self) {
        let slots = &self.slots;
        let bytes = &mut self.bytes;
        self.ordered.get_or_insert_with(|| {
            slots
                .iter()
                .enumerate()
                .map(|(i, s)| {
                    *bytes += SLOT_BYTES + s.key.heap_bytes();
                    (s.key.clone(), i as u32)
                })
                .collect()
        });
    }

    /// Changed keys within bounds that are not inverted, after [`ordered`](Self::ordered) was called.
    pub fn range<'a>(
        &'a self,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let range = self.ordered.as_ref().map(|o| o.range::<[u8], _>((lower, upper)));
        range
            .into_iter()
            .flatten()
            .map(|(key, slot)| (key.as_slice(), self.value(*slot)))
    }

    fn value(&self, slot: u32) -> Option<&[u8]> {
        self.slots
            .get(slot as usize)
            .and_then(|s| s.value.as_ref())
            .map(Bytes::as_slice)
    }

    pub fn savepoint(&mut self) -> Mark {
        self.serial += 1;
        Mark {
            undone: self.undo.len(),
        }
    }

    /// Undoes everything since `mark`. Marks taken later are void.
    pub fn rollback_to(&mut self, mark: Mark) {
        while self.undo.len() > mark.undone {
            match self.undo.pop() {
                Some(Undo::Inserted) => self.remove_last(),
                Some(Undo::Changed {
                    slot,
                    value,
                    timestamp,
                    marked,
                }) => {
                    if let Some(entry) = self.slots.get_mut(slot as usize) {
                        self.bytes -= entry.value.as_ref().map_or(0, Bytes::heap_bytes);
                        *entry = Slot {
                            key: entry.key.clone(),
                            value,
                            timestamp,
                            marked,
                        };
                    }
                }
                None => return,
            }
        }
    }

    fn remove_last(&mut self) {
        let Some(slot) = self.slots.pop() else { return };
        let index = self.slots.len() as u32;
        let hash = self.hasher.hash_one(slot.key.as_slice());
        if let Ok(entry) = self.table.find_entry(hash, |s| *s == index) {
            entry.remove();
        }
        self.bytes -= SLOT_BYTES + slot.key.heap_bytes() + slot.value.as_ref().map_or(0, Bytes::heap_bytes);
        if let Some(ordered) = &mut self.ordered {
            ordered.remove(&slot.key);
            self.bytes -= SLOT_BYTES + slot.key.heap_bytes();
        }
    }

    /// Forgets how to undo: what was written so far stays whatever comes. All marks are void.
    pub fn release(&mut self) {
        for undo in self.undo.drain(..) {
            if let Undo::Changed { value: Some(value), .. } = undo {
                self.bytes -= value.heap_bytes();
            }
        }
    }

    /// Empties it. The slots, for whoever keeps them.
    pub fn take(&mut self) -> Vec<Slot> {
        self.table.clear();
        self.ordered = None;
        self.undo.clear();
        self.bytes = 0;
        std::mem::take(&mut self.slots)
    }
}
