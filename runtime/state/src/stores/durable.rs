//! What is committed: into the cache, from there to the backend, and back from a changelog.

use super::{Stores, absent};
use crate::backend::{Change, Changes, Error, Snapshot};
use crate::bytes::Bytes;
use crate::cache::NO_SLOT;

/// So many slots ahead the cache's entries are asked for, so that they are near when their turn comes.
const AHEAD: usize = 16;

/// What a changelog row has beside its key and value, roughly.
const ROW_BYTES: usize = 16;

/// Bytes of changelog rows after which the backend is told, however few keys they changed: they are what a crash
/// replays.
const REPLAY_BYTES_MAX: usize = 16 << 20;

impl Stores {
    /// The broker has committed everything uncommitted, with these changelog offsets. The backend is told at once when
    /// much is owed to it, else later.
    ///
    /// # Errors
    /// Those of the backend: these stores are to be dropped, and caught up from the changelog.
    pub fn applied(&mut self, offsets: &[(usize, i64)]) -> Result<(), Error> {
        for overlay in &mut self.overlays {
            let mut slots = overlay.drain();
            while let Some(slot) = slots.next() {
                if let Some(later) = slots.as_slice().get(AHEAD) {
                    std::hint::black_box(self.cache.get(later.entry).map(|known| known.slot));
                }
                let value_bytes = slot.value.as_ref().map_or(0, |v| v.as_slice().len());
                self.replay_bytes += ROW_BYTES + slot.key.as_slice().len() + value_bytes;
                self.cache.settle(slot.entry, slot.value);
                self.cache.set_slot(slot.entry, NO_SLOT);
            }
        }
        self.note_offsets(offsets);
        self.write_back_if_due()
    }

    fn note_offsets(&mut self, offsets: &[(usize, i64)]) {
        for (store, next) in offsets {
            if let Some(offset) = self.offsets.get_mut(*store) {
                *offset = Some(*next);
            }
        }
    }

    fn write_back_if_due(&mut self) -> Result<(), Error> {
        if self.cache.owes_much() || self.replay_bytes >= REPLAY_BYTES_MAX {
            self.write_back()?;
        }
        Ok(())
    }

    /// Everything committed goes to the backend in one write, with the offsets that it reflects.
    ///
    /// # Errors
    /// Those of the backend; it is still owed everything then.
    pub fn write_back(&mut self) -> Result<(), Error> {
        let offsets = self.offsets.iter().enumerate();
        let offsets: Vec<(usize, i64)> = offsets.filter_map(|(store, next)| Some((store, (*next)?))).collect();
        let owed = self.cache.owed_entries();
        if owed.is_empty() && offsets.is_empty() {
            return Ok(());
        }
        let change = |(store, key, value): (usize, &Bytes, Option<&Bytes>)| {
            let key = key.clone();
            match value {
                Some(value) => Change::Put {
                    store,
                    key,
                    value: value.clone(),
                },
                None => Change::Delete { store, key },
            }
        };
        let changes = Changes {
            changes: owed.into_iter().map(change).collect(),
            offsets,
            replay_bytes: self.replay_bytes,
        };
        self.backend.as_mut().ok_or_else(absent)?.apply(&changes)?;
        self.cache.paid();
        self.offsets.fill(None);
        self.replay_bytes = 0;
        Ok(())
    }

    /// Drops all uncommitted changes.
    pub fn discard(&mut self) {
        for overlay in &mut self.overlays {
            for slot in overlay.drain() {
                self.cache.set_slot(slot.entry, NO_SLOT);
            }
        }
    }

    /// Takes rows of a changelog in their order, below the overlay, with `next` as the offset to go on from. A `None`
    /// deletes.
    ///
    /// # Errors
    /// Those of the backend; [`Error::Misuse`] for a store that is not there.
    pub fn restore<'a>(
        &mut self,
        store: usize,
        rows: impl Iterator<Item = (&'a [u8], Option<Bytes>)>,
        next: i64,
    ) -> Result<(), Error> {
        self.spec(store)?;
        for (key, value) in rows {
            let value_bytes = value.as_ref().map_or(0, |v| v.as_slice().len());
            self.replay_bytes += ROW_BYTES + key.len() + value_bytes;
            let entry = self.place(store, key);
            self.cache.settle(entry, value);
        }
        self.note_offsets(&[(store, next)]);
        self.write_back_if_due()
    }

    /// The next changelog offset that a store reflects, see [`Backend::offset`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn offset(&self, store: usize) -> Result<Option<i64>, Error> {
        match self.offsets.get(store).copied().flatten() {
            Some(next) => Ok(Some(next)),
            None => self.backend.as_ref().ok_or_else(absent)?.offset(store),
        }
    }

    /// See [`Backend::flush`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.write_back()?;
        self.backend.as_mut().ok_or_else(absent)?.flush()
    }

    /// See [`Backend::begin_flush`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn begin_flush(&mut self) -> Result<(), Error> {
        self.write_back()?;
        self.backend.as_mut().ok_or_else(absent)?.begin_flush()
    }

    /// Everything is gone: committed, cached and uncommitted.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn wipe(&mut self) -> Result<(), Error> {
        self.discard();
        self.cache.clear();
        self.scans_until_tried.fill(0);
        self.offsets.fill(None);
        self.replay_bytes = 0;
        self.backend.as_mut().ok_or_else(absent)?.wipe()
    }

    /// What is committed, for queries.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn snapshot(&mut self) -> Result<Box<dyn Snapshot>, Error> {
        self.write_back()?;
        self.backend.as_ref().ok_or_else(absent)?.snapshot()
    }
}
