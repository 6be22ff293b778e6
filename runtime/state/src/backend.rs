//! What a task's stores stand on: an ordered map of bytes per store, written only in whole commits.

use std::ops::Bound;

use crate::bytes::Bytes;

/// What a backend suffered. The task that meets it closes, reopens and catches up from the changelog.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}: {cause}")]
    Storage { doing: String, cause: String },
    /// The directory is not what it should be; it is left untouched.
    #[error("{path}: {cause}")]
    Corrupt { path: String, cause: String },
    /// A use that the caller should have prevented.
    #[error("{0}")]
    Misuse(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// A range of keys in the order of their unsigned bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub lower: Bound<Vec<u8>>,
    pub upper: Bound<Vec<u8>>,
}

impl Bounds {
    pub fn all() -> Self {
        Self {
            lower: Bound::Unbounded,
            upper: Bound::Unbounded,
        }
    }

    /// `lower <= key < upper`, open where `None`.
    pub fn half_open(lower: Option<&[u8]>, upper: Option<&[u8]>) -> Self {
        Self {
            lower: lower.map_or(Bound::Unbounded, |b| Bound::Included(b.to_vec())),
            upper: upper.map_or(Bound::Unbounded, |b| Bound::Excluded(b.to_vec())),
        }
    }

    /// Whether no key at all can lie within: maps and iterators of others dislike such ranges.
    pub fn is_empty(&self) -> bool {
        match (&self.lower, &self.upper) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
            (Bound::Included(lower) | Bound::Excluded(lower), Bound::Included(upper) | Bound::Excluded(upper)) => {
                lower >= upper
            }
        }
    }

    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut upper = prefix.to_vec();
        while let Some(last) = upper.pop() {
            if last < u8::MAX {
                upper.push(last + 1);
                return Self {
                    lower: Bound::Included(prefix.to_vec()),
                    upper: Bound::Excluded(upper),
                };
            }
        }
        Self {
            lower: Bound::Included(prefix.to_vec()),
            upper: Bound::Unbounded,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put { store: usize, key: Bytes, value: Bytes },
    Delete { store: usize, key: Bytes },
}

/// One commit of a task, or several together: applied whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// At most one a key and store.
    pub changes: Vec<Change>,
    /// Per store: the next changelog offset to read; everything below it is in the backend after this.
    pub offsets: Vec<(usize, i64)>,
    /// Bytes of the changelog rows that this stands for: a crash replays those of everything that was not flushed, so
    /// a backend flushes when they add up.
    pub replay_bytes: usize,
}

/// Called with key and value in order; `false` ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// The durable part of a task's state. Stores are numbered as in the task's sub-topology.
pub trait Backend: Send {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Entries within `bounds`, ascending or descending, until `visit` says `false`.
    fn scan(&self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error>;

    /// Applies everything in one atomic step.
    fn apply(&mut self, changes: &Changes) -> Result<(), Error>;

    /// The next changelog offset to read; `None`: nothing is known, restore from the beginning.
    /// May be older than the data, never newer.
    fn offset(&self, store: usize) -> Result<Option<i64>, Error>;

    /// Makes what was applied durable.
    fn flush(&mut self) -> Result<(), Error>;

    /// Begins to, and does not wait for it.
    fn begin_flush(&mut self) -> Result<(), Error> {
        self.flush()
    }

    /// Deletes all data and offsets of all stores.
    fn wipe(&mut self) -> Result<(), Error>;

    /// A view of what was applied, for queries from other threads.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error>;
}

/// Reads for queries, from any thread: each call sees one whole commit, at least as new as when this was made, so an
/// answer is never behind a position that was read before it.
pub trait Snapshot: Send + Sync {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
    fn scan(&self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error>;
}
