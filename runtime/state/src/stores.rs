//! The stores of a task over one backend: reads through overlay, cache and backend. What is committed is written to the
//! backend together, now and then: nothing but a flush makes it durable there, and a crash replays the changelog from
//! the offset that went with the last write (`runtime/decisions/2026-11-23-write-back.md`).

use crate::backend::{Backend, Bounds, Error, Visit};
use crate::bytes::Bytes;
use crate::cache::{Cache, Committed, ENTRY_BYTES, NO_SLOT};
use crate::overlay::{Mark, Overlay, Slot};
use crate::scan;

mod durable;

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

/// Number of a cache entry that may be a key's; the default is no key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess(u32);

impl Default for Guess {
    fn default() -> Self {
        Self(u32::MAX)
    }
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
    /// Per store: the next changelog offset, of commits that the backend has not been told of.
    offsets: Vec<Option<i64>>,
    /// Bytes of the changelog rows that the backend has not been told of.
    replay_bytes: usize,
    /// Per store: scans until it is tried again whether the cache can know it whole.
    scans_until_tried: Vec<u32>,
    scratch: Vec<u8>,
}

/// A store that was too large to be known whole is read again after this many scans at the earliest: reading it then
/// costs a small part of what they did.
const SCANS_UNTIL_TRIED: u32 = 10_000;
fn absent() -> Error {
    Error::Misuse("there are no stores here".into())
}

impl Stores {
    /// `cache_bytes_max` bounds the object cache; 0 switches it off.
    pub fn new(stores: Vec<StoreSpec>, backend: Box<dyn Backend>, cache_bytes_max: usize) -> Self {
        let overlays: Vec<_> = stores.iter().map(|_| Overlay::default()).collect();
        Self {
            stores,
            offsets: vec![None; overlays.len()],
            scans_until_tried: vec![0; overlays.len()],
            cache: Cache::new(overlays.len(), cache_bytes_max),
            overlays,
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
        let entry = self.entry(store, key, Guess::default())?;
        Ok(self.current(store, entry, read))
    }

    /// The cache's entry of a key whose value is known: uncommitted, or as the backend has it.
    #[inline]
    fn entry(&mut self, store: usize, key: &[u8], guess: Guess) -> Result<u32, Error> {
        let mut hash = None;
        let entry = if self.cache.is_of(guess.0, store, key) {
            Some(guess.0)
        } else {
            self.cache.find(*hash.insert(self.cache.hash(store, key)), store, key)
        };
        if let Some((entry, known)) = entry.and_then(|e| Some((e, self.cache.get(e)?)))
            && (known.slot != NO_SLOT || !matches!(known.committed, Committed::Unknown))
        {
            return Ok(entry);
        }
        self.spec(store)?;
        let committed = if self.cache.is_whole(store) {
            Committed::Absent
        } else {
            let value = self.backend.as_ref().ok_or_else(absent)?.get(store, key)?;
            value.map(Bytes::from).into()
        };
        Ok(match entry {
            Some(entry) => {
                self.cache.learn(entry, committed);
                entry
            }
            None => {
                let hash = hash.unwrap_or_else(|| self.cache.hash(store, key));
                self.cache.insert(hash, store, key, committed)
            }
        })
    }

    /// Where the keys of a batch are, as far as is known, in their order. Looked up together they wait for memory
    /// together: the processor begins with the next ones meanwhile.
    pub fn guesses<'k>(&self, store: usize, keys: impl Iterator<Item = Option<&'k [u8]>>, guesses: &mut Vec<Guess>) {
        guesses.clear();
        guesses.extend(keys.map(|key| {
            let entry = key.and_then(|key| self.cache.find(self.cache.hash(store, key), store, key));
            entry.map_or_else(Guess::default, Guess)
        }));
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
        self.modify_at(store, key, Guess::default(), timestamp, change)
    }

    /// As [`Stores::modify`], with what [`Stores::guesses`] said of the key, which may be out of date.
    ///
    /// # Errors
    /// As [`Stores::modify`].
    #[inline]
    pub fn modify_at<E: From<Error>>(
        &mut self,
        store: usize,
        key: &[u8],
        guess: Guess,
        timestamp: i64,
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Result<Update, E>,
    ) -> Result<(), E> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let entry = self.entry(store, key, guess)?;
        let update = self.current(store, entry, |current| change(current, &mut scratch));
        let value = match update {
            Ok(Update::Put) => Some(Bytes::new(&scratch)),
            Ok(Update::Delete) => None,
            Ok(Update::Keep) | Err(_) => {
                self.scratch = scratch;
                return update.map(|_| ());
            }
        };
        self.scratch = scratch;
        self.set(store, entry, value, timestamp);
        Ok(())
    }

    #[inline]
    fn current<R>(&mut self, store: usize, entry: u32, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let overlay = self.overlays.get(store);
        let Some(known) = self.cache.touch(entry) else {
            return read(None);
        };
        if known.slot != NO_SLOT {
            return read(overlay.and_then(|o| o.get(known.slot)).flatten());
        }
        read(match &known.committed {
            Committed::Value(value) => Some(value.as_slice()),
            Committed::Unknown | Committed::Absent => None,
        })
    }

    #[inline]
    fn set(&mut self, store: usize, entry: u32, value: Option<Bytes>, timestamp: i64) {
        let (Some(overlay), Some(known)) = (self.overlays.get_mut(store), self.cache.get(entry)) else {
            return;
        };
        if known.slot == NO_SLOT {
            let slot = overlay.push(known.key.clone(), entry, value, timestamp);
            self.cache.set_slot(entry, slot);
        } else {
            overlay.change(known.slot, value, timestamp);
        }
    }

    /// Writes stored bytes, or (`None`) deletes. `timestamp` is that of the changelog row.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a store that is not there.
    pub fn write(&mut self, store: usize, key: &[u8], value: Option<&[u8]>, timestamp: i64) -> Result<(), Error> {
        self.spec(store)?;
        let entry = self.place(store, key);
        self.set(store, entry, value.map(Bytes::new), timestamp);
        Ok(())
    }

    /// The cache's entry of a key whose committed value may not be known.
    fn place(&mut self, store: usize, key: &[u8]) -> u32 {
        let hash = self.cache.hash(store, key);
        match self.cache.find(hash, store, key) {
            Some(entry) => entry,
            None if self.cache.is_whole(store) => self.cache.insert(hash, store, key, Committed::Absent),
            None => self.cache.insert(hash, store, key, Committed::Unknown),
        }
    }

    /// Stored entries within `bounds`, own writes included, until `visit` says `false`.
    ///
    /// # Errors
    /// Those of the backend; [`Error::Misuse`] for a store that is not there.
    pub fn scan(&mut self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error> {
        if bounds.is_empty() {
            return Ok(());
        }
        if self.knows_whole(store)? {
            let overlay = self.overlays.get(store);
            self.cache.scan(store, bounds, descending, &mut |known| {
                let value = match &known.committed {
                    _ if known.slot != NO_SLOT => overlay.and_then(|o| o.get(known.slot)).flatten(),
                    Committed::Value(value) => Some(value.as_slice()),
                    Committed::Unknown | Committed::Absent => None,
                };
                value.is_none_or(|value| visit(known.key.as_slice(), value))
            });
            return Ok(());
        }
        if self.cache.owes(store) {
            self.write_back()?;
        }
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

    /// Whether the cache has everything of a store; a small one is read into it.
    fn knows_whole(&mut self, store: usize) -> Result<bool, Error> {
        if self.cache.is_whole(store) {
            return Ok(true);
        }
        let Some(wait) = self.scans_until_tried.get_mut(store) else {
            return Ok(false);
        };
        if *wait > 0 {
            *wait -= 1;
            return Ok(false);
        }
        *wait = SCANS_UNTIL_TRIED;
        let (mut rows, mut room) = (Vec::new(), Some(self.cache.whole_bytes_max()));
        let backend = self.backend.as_ref().ok_or_else(absent)?;
        backend.scan(store, &Bounds::all(), false, &mut |key, value| {
            room = room.and_then(|room| room.checked_sub(ENTRY_BYTES + key.len() + value.len()));
            if room.is_some() {
                rows.push((Bytes::new(key), Bytes::new(value)));
            }
            room.is_some()
        })?;
        Ok(room.is_some() && self.cache.make_whole(store, rows))
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

    /// What is committed of a key, whatever was written since.
    ///
    /// # Errors
    /// Those of the backend; [`Error::Misuse`] for a store that is not there.
    pub fn committed(&self, store: usize, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.spec(store)?;
        let entry = self.cache.find(self.cache.hash(store, key), store, key);
        match entry.and_then(|e| self.cache.get(e)).map(|known| &known.committed) {
            Some(Committed::Value(value)) => Ok(Some(value.clone())),
            Some(Committed::Absent) => Ok(None),
            Some(Committed::Unknown) | None => {
                let value = self.backend.as_ref().ok_or_else(absent)?.get(store, key)?;
                Ok(value.map(Bytes::from))
            }
        }
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
            overlay.rollback_to(*mark, |entry| self.cache.set_slot(entry, NO_SLOT));
        }
    }

    /// What was written so far can no longer be undone but by [`discard`](Self::discard). All savepoints are void.
    pub fn release(&mut self) {
        for overlay in &mut self.overlays {
            overlay.release();
        }
    }
}
