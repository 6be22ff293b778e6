//! The uncommitted writes of one store: in the order of their first change, undone to a savepoint. Which slot is a
//! key's is known to the [`Cache`](crate::cache::Cache); what is committed below it is not known here.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::bytes::Bytes;

/// One changed key.
#[derive(Clone, Debug)]
pub struct Slot {
    pub key: Bytes,
    /// `None`: deleted.
    pub value: Option<Bytes>,
    /// Time of the last write in milliseconds, for the changelog row; [`NO_TIME`](crate::NO_TIME) where it has none.
    pub timestamp: i64,
    /// The key's entry in the cache.
    pub(crate) entry: u32,
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

/// What an entry costs besides its bytes: the slot and its place in the undo log.
const SLOT_BYTES: usize = size_of::<Slot>() + size_of::<Undo>();

#[derive(Debug, Default)]
pub struct Overlay {
    /// In the order of first change.
    slots: Vec<Slot>,
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

    /// `None`: there is no such slot. `Some(None)`: deleted.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<Option<&[u8]>> {
        let slot = self.slots.get(slot as usize)?;
        Some(slot.value.as_ref().map(Bytes::as_slice))
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

    /// Writes or deletes a key that has no slot yet. The number of its slot.
    #[inline]
    pub fn push(&mut self, key: Bytes, entry: u32, value: Option<Bytes>, timestamp: i64) -> u32 {
        let slot = self.slots.len() as u32;
        self.bytes += SLOT_BYTES + key.heap_bytes() + value.as_ref().map_or(0, Bytes::heap_bytes);
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(key.clone(), slot);
            self.bytes += SLOT_BYTES + key.heap_bytes();
        }
        self.slots.push(Slot {
            key,
            value,
            timestamp,
            entry,
            marked: self.serial,
        });
        if self.serial > 0 {
            self.undo.push(Undo::Inserted);
        }
        slot
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

    /// Undoes everything since `mark`. Marks taken later are void. `gone` gets the entries whose slots are no more.
    pub fn rollback_to(&mut self, mark: Mark, mut gone: impl FnMut(u32)) {
        while self.undo.len() > mark.undone {
            match self.undo.pop() {
                Some(Undo::Inserted) => {
                    if let Some(slot) = self.remove_last() {
                        gone(slot.entry);
                    }
                }
                Some(Undo::Changed {
                    slot,
                    value,
                    timestamp,
                    marked,
                }) => {
                    if let Some(entry) = self.slots.get_mut(slot as usize) {
                        self.bytes -= entry.value.as_ref().map_or(0, Bytes::heap_bytes);
                        (entry.value, entry.timestamp, entry.marked) = (value, timestamp, marked);
                    }
                }
                None => return,
            }
        }
    }

    fn remove_last(&mut self) -> Option<Slot> {
        let slot = self.slots.pop()?;
        self.bytes -= SLOT_BYTES + slot.key.heap_bytes() + slot.value.as_ref().map_or(0, Bytes::heap_bytes);
        if let Some(ordered) = &mut self.ordered {
            ordered.remove(&slot.key);
            self.bytes -= SLOT_BYTES + slot.key.heap_bytes();
        }
        Some(slot)
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
    pub fn drain(&mut self) -> std::vec::Drain<'_, Slot> {
        self.ordered = None;
        self.undo.clear();
        self.bytes = 0;
        self.slots.drain(..)
    }
}
