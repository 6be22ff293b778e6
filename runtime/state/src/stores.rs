//! The stores of a task over one backend: reads through overlay, object cache and backend; a commit in one write.

use crate::backend::{Backend, Bounds, Change, Changes, Error, Snapshot, Visit};
use crate::bytes::Bytes;
use crate::cache::Cache;
use crate::overlay::{Mark, Overlay, Slot};
use crate::scan;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSpec {
    /// Full name, for messages.
    pub name: String,
    /// Stored values begin with 8 bytes of event time, big-endian; changelog rows have it as their timestamp instead.
    pub timestamped: bool,
}

/// Time of a write that has none of its own, as a guest's to a key-value store: a guest writes a batch of rows at once,
/// so which row a write is for is not known. Whoever needs a time takes that of the commit, which no cut of batches can
/// change.
pub const NO_TIME: i64 = -1;

/// What [`Stores::modify`] does with the value that its closure left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    Keep,
    Put,
    Delete,
}

/// A point to which all stores can be brought back.
#[derive(Clone, Debug, Default)]
pub struct Savepoint {
    marks: Vec<Mark>,
}

/// Bytes in front of the value of a timestamped store.
pub const TIMESTAMP_BYTES: usize = 8;

/// Stores are numbered as in the task's sub-topology. The default has none.
#[derive(Default)]
pub struct Stores {
    pub(crate) stores: Vec<StoreSpec>,
    overlays: Vec<Overlay>,
    cache: Cache,
    backend: Option<Box<dyn Backend>>,
    scratch: Vec<u8>,
}

fn absent() -> Error {
    Error::Misuse("there are no stores here".into())
}

impl Stores {
    /// `cache_bytes_max` bounds the object cache; 0 switches it off.
    pub fn new(stores: Vec<StoreSpec>, backend: Box<dyn Backend>, cache_bytes_max: usize) -> Self {
        let overlays = stores.iter().map(|_| Overlay::default()).collect();
        Self {
            stores,
            overlays,
            cache: Cache::new(cache_bytes_max),
            backend: Some(backend),
            ..Self::default()
        }
    }

    pub fn len(&self) -> usize {
        self.stores.len()
    }

    pub fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    /// # Errors
    /// [`Error::Misuse`] when there is no store of that number.
    pub fn spec(&self, store: usize) -> Result<&StoreSpec, Error> {
        self.stores
            .get(store)
            .ok_or_else(|| Error::Misuse(format!("there is no store {store}")))
    }

    /// The stored bytes of `key`, given to `read`; `None`: absent.
    ///
    /// # Errors
    /// Those of the backend; [`Error::Misuse`] for a store that is not there.
    #[inline]
    pub fn read<R>(&mut self, store: usize, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, Error> {
        let Some(overlay) = self.overlays.get(store) else {
            return Err(Error::Misuse(format!("there is no store {store}")));
        };
        if let Some(value) = overlay.get(key) {
            return Ok(read(value));
        }
        self.read_committed(store, key, read)
    }

    fn read_committed<R>(
        &mut self,
        store: usize,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, Error> {
        if let Some(value) = self.cache.get(store, key) {
            return Ok(read(value));
        }
        let value = self.backend.as_ref().ok_or_else(absent)?.get(store, key)?;
        let result = read(value.as_deref());
        self.cache.put(store, Bytes::new(key), value.map(Bytes::from));
        Ok(result)
    }

    /// Reads, changes and writes one key with one look-up where it was changed before. `change` sees the stored bytes
    /// and leaves the new ones in the empty vector it is given. `timestamp` is that of the changelog row.
    ///
    /// # Errors
    /// Those of the backend and of `change`; nothing was written then.
    #[inline]
    pub fn modify<E: From<Error>>(
        &mut self,
        store: usize,
        key: &[u8],
        timestamp: i64,
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Result<Update, E>,
    ) -> Result<(), E> {
        let Some(overlay) = self.overlays.get(store) else {
            return Err(Error::Misuse(format!("there is no store {store}")).into());
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let hash = overlay.hash(key);
        let slot = overlay.slot_of(hash, key);
        let update = match slot {
            Some(slot) => {
                let current = overlay.slots().get(slot as usize).and_then(|s| s.value.as_ref());
                change(current.map(Bytes::as_slice), &mut scratch)
            }
            None => {
                let changed = self.read_committed(store, key, |value| change(value, &mut scratch));
                changed.map_err(E::from).and_then(|r| r)
            }
        };
        let value = match update {
            Ok(Update::Put) => Some(Bytes::new(&scratch)),
            Ok(Update::Delete) => None,
            Ok(Update::Keep) | Err(_) => {
                self.scratch = scratch;
                return update.map(|_| ());
            }
        };
        self.scratch = scratch;
        if let Some(overlay) = self.overlays.get_mut(store) {
            match slot {
                Some(slot) => overlay.change(slot, value, timestamp),
                None => overlay.insert(hash, key, value, timestamp),
            }
        }
        Ok(())
    }

    /// Writes stored bytes, or (`None`) deletes. `timestamp` is that of the changelog row.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a store that is not there.
    pub fn write(&mut self, store: usize, key: &[u8], value: Option<&[u8]>, timestamp: i64) -> Result<(), Error> {
        let Some(overlay) = self.overlays.get_mut(store) else {
            return Err(Error::Misuse(format!("there is no store {store}")));
        };
        overlay.set(key, value.map(Bytes::new), timestamp);
        Ok(())
    }

    /// Stored entries within `bounds`, own writes included, until `visit` says `false`.
    ///
    /// # Errors
    /// Those of the backend; [`Error::Misuse`] for a store that is not there.
    pub fn scan(&mut self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error> {
        let Some(overlay) = self.overlays.get_mut(store) else {
            return Err(Error::Misuse(format!("there is no store {store}")));
        };
        scan::merged(
            overlay,
            self.backend.as_ref().ok_or_else(absent)?.as_ref(),
            store,
            bounds,
            descending,
            visit,
        )
    }

    /// Deletes every entry within `bounds`. Each costs a tombstone: a changelog knows no ranges.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn delete_bounds(&mut self, store: usize, bounds: &Bounds, timestamp: i64) -> Result<(), Error> {
        let mut keys = Vec::new();
        self.scan(store, bounds, false, &mut |key, _| {
            keys.push(key.to_vec());
            true
        })?;
        for key in keys {
            self.write(store, &key, None, timestamp)?;
        }
        Ok(())
    }

    /// Uncommitted changes of a store, in the order in which its keys first changed since the last commit.
    pub fn uncommitted(&self, store: usize) -> &[Slot] {
        self.overlays.get(store).map_or(&[], Overlay::slots)
    }

    /// Estimate of the memory that uncommitted changes hold.
    pub fn overlay_bytes(&self) -> usize {
        self.overlays.iter().map(Overlay::bytes).sum()
    }

    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint {
            marks: self.overlays.iter_mut().map(Overlay::savepoint).collect(),
        }
    }

    /// Undoes every write since `savepoint`; later savepoints are void.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) {
        for (overlay, mark) in self.overlays.iter_mut().zip(&savepoint.marks) {
            overlay.rollback_to(*mark);
        }
    }

    /// What was written so far can no longer be undone but by [`discard`](Self::discard). All savepoints are void.
    pub fn release(&mut self) {
        for overlay in &mut self.overlays {
            overlay.release();
        }
    }

    /// All uncommitted changes, for [`Backend::apply`].
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.overlays.iter().map(Overlay::len).sum());
        for (store, overlay) in self.overlays.iter().enumerate() {
            changes.extend(overlay.slots().iter().map(|slot| {
                let key = slot.key.as_slice().to_vec();
                match &slot.value {
                    Some(value) => Change::Put {
                        store,
                        key,
                        value: value.as_slice().to_vec(),
                    },
                    None => Change::Delete { store, key },
                }
            }));
        }
        changes
    }

    /// The broker has committed: everything uncommitted and these changelog offsets go to the backend in one write.
    ///
    /// # Errors
    /// Those of the backend; the changes stay uncommitted then.
    pub fn applied(&mut self, offsets: &[(usize, i64)]) -> Result<(), Error> {
        let changes = self.changes();
        if changes.is_empty() && offsets.is_empty() {
            return Ok(());
        }
        self.backend.as_mut().ok_or_else(absent)?.apply(&Changes {
            changes,
            offsets: offsets.to_vec(),
        })?;
        for (store, overlay) in self.overlays.iter_mut().enumerate() {
            for slot in overlay.take() {
                self.cache.put(store, slot.key, slot.value);
            }
        }
        Ok(())
    }

    /// Drops all uncommitted changes.
    pub fn discard(&mut self) {
        for overlay in &mut self.overlays {
            overlay.take();
        }
    }

    /// Writes straight to the backend, below the overlay: for a restore.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn restore(&mut self, changes: &Changes) -> Result<(), Error> {
        self.cache.clear();
        self.backend.as_mut().ok_or_else(absent)?.apply(changes)
    }

    /// See [`Backend::offset`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn offset(&self, store: usize) -> Result<Option<i64>, Error> {
        self.backend.as_ref().ok_or_else(absent)?.offset(store)
    }

    /// See [`Backend::flush`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.backend.as_mut().ok_or_else(absent)?.flush()
    }

    /// Everything is gone: committed, cached and uncommitted.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn wipe(&mut self) -> Result<(), Error> {
        self.discard();
        self.cache.clear();
        self.backend.as_mut().ok_or_else(absent)?.wipe()
    }

    /// What is committed, for queries.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.backend.as_ref().ok_or_else(absent)?.snapshot()
    }
}
