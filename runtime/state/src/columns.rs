//! Stores as guests use them: keys and values in columns, ranges in pages.

use std::ops::Bound;

use arrow_array::builder::BinaryBuilder;
use arrow_array::{Array, BinaryArray};

use crate::backend::{Bounds, Error};
use crate::stores::{NO_TIME, Stores, TIMESTAMP_BYTES};

/// Bytes of keys and values in one page: what one guest call should have to take at most.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Entries of a store in columns; `timestamps` is `None` unless the store is timestamped.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries {
    pub keys: BinaryArray,
    /// Null: absent, or to be deleted.
    pub values: BinaryArray,
    /// Milliseconds; 0 where the value is null in an answer.
    pub timestamps: Option<Vec<i64>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub entries: Entries,
    /// There is more.
    pub more: bool,
}

#[derive(Default)]
struct Builder {
    keys: BinaryBuilder,
    values: BinaryBuilder,
    timestamps: Vec<i64>,
    bytes: usize,
}

impl Builder {
    fn push(&mut self, timestamped: bool, key: &[u8], stored: &[u8]) {
        let (timestamp, value) = if timestamped { split(stored) } else { (0, stored) };
        self.keys.append_value(key);
        self.values.append_value(value);
        self.timestamps.push(timestamp);
        self.bytes += key.len() + value.len();
    }

    fn finish(mut self, timestamped: bool) -> Entries {
        Entries {
            keys: self.keys.finish(),
            values: self.values.finish(),
            timestamps: timestamped.then_some(self.timestamps),
        }
    }
}

/// Time and value of stored bytes of a timestamped store.
pub fn split(stored: &[u8]) -> (i64, &[u8]) {
    match stored.split_first_chunk::<TIMESTAMP_BYTES>() {
        Some((time, value)) => (i64::from_be_bytes(*time), value),
        None => (0, stored),
    }
}

/// Stored bytes of a timestamped store.
pub fn join(timestamp: i64, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(TIMESTAMP_BYTES + value.len());
    stored.extend_from_slice(&timestamp.to_be_bytes());
    stored.extend_from_slice(value);
    stored
}

impl Stores {
    /// One entry a key, in the order of `keys`; a key may occur twice.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a null key or a store that is not there; those of the backend.
    pub fn get(&mut self, store: usize, keys: &BinaryArray) -> Result<Entries, Error> {
        let timestamped = self.spec(store)?.timestamped;
        no_null_keys(keys)?;
        let mut values = BinaryBuilder::with_capacity(keys.len(), 16 * keys.len());
        let mut timestamps = Vec::with_capacity(if timestamped { keys.len() } else { 0 });
        for row in 0..keys.len() {
            self.read(store, keys.value(row), |stored| {
                let parts = stored.map(|s| if timestamped { split(s) } else { (0, s) });
                values.append_option(parts.map(|p| p.1));
                if timestamped {
                    timestamps.push(parts.map_or(0, |p| p.0));
                }
            })?;
        }
        Ok(Entries {
            keys: keys.clone(),
            values: values.finish(),
            timestamps: timestamped.then_some(timestamps),
        })
    }

    /// In order of rows; a null value deletes.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a null key, columns of different lengths, timestamps that are missing, negative or not
    /// asked for, a store that is not there. Nothing was written then.
    pub fn put(&mut self, store: usize, entries: &Entries) -> Result<(), Error> {
        let spec = self.spec(store)?;
        let (timestamped, name) = (spec.timestamped, &spec.name);
        no_null_keys(&entries.keys)?;
        let rows = entries.keys.len();
        if entries.values.len() != rows || entries.timestamps.as_ref().is_some_and(|t| t.len() != rows) {
            return Err(Error::Misuse(format!(
                "columns of different lengths for store `{name}`"
            )));
        }
        match (&entries.timestamps, timestamped) {
            (None, true) if rows > 0 => {
                return Err(Error::Misuse(format!("timestamps are missing for store `{name}`")));
            }
            (Some(times), true) if times.iter().any(|t| *t < 0) => {
                return Err(Error::Misuse(format!("a negative timestamp for store `{name}`")));
            }
            (Some(times), false) if !times.is_empty() => {
                return Err(Error::Misuse(format!("store `{name}` takes no timestamps")));
            }
            _ => {}
        }
        let mut stored = Vec::new();
        for row in 0..rows {
            let timestamp = match &entries.timestamps {
                Some(times) if timestamped => times.get(row).copied().unwrap_or_default(),
                _ => NO_TIME,
            };
            let key = entries.keys.value(row);
            if entries.values.is_null(row) {
                self.write(store, key, None, timestamp)?;
            } else if timestamped {
                stored.clear();
                stored.extend_from_slice(&timestamp.to_be_bytes());
                stored.extend_from_slice(entries.values.value(row));
                self.write(store, key, Some(&stored), timestamp)?;
            } else {
                self.write(store, key, Some(entries.values.value(row)), timestamp)?;
            }
        }
        Ok(())
    }

    /// Entries with `lower <= key < upper`, at most `limit`. The next page begins where the last one ended: ascending
    /// at `lower` = its last key with `after`, descending at `upper` = its last key.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a store that is not there; those of the backend.
    pub fn range(
        &mut self,
        store: usize,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
        after: bool,
        descending: bool,
        limit: usize,
    ) -> Result<Page, Error> {
        let mut bounds = Bounds::half_open(lower, upper);
        if let (true, Bound::Included(lower)) = (after && !descending, &mut bounds.lower) {
            bounds.lower = Bound::Excluded(std::mem::take(lower));
        }
        self.page(store, &bounds, descending, limit)
    }

    /// Entries whose key begins with `prefix`, at most `limit`, in order beyond the key `after`.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn prefix(
        &mut self,
        store: usize,
        prefix: &[u8],
        after: Option<&[u8]>,
        descending: bool,
        limit: usize,
    ) -> Result<Page, Error> {
        let mut bounds = Bounds::prefix(prefix);
        match after {
            // A key beyond the prefix's last one would widen the bounds.
            Some(key) if descending && (key.starts_with(prefix) || key < prefix) => {
                bounds.upper = Bound::Excluded(key.to_vec());
            }
            Some(_) if descending => {}
            Some(key) if key >= prefix => bounds.lower = Bound::Excluded(key.to_vec()),
            _ => {}
        }
        self.page(store, &bounds, descending, limit)
    }

    /// Deletes `lower <= key < upper`.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn delete_range(&mut self, store: usize, lower: &[u8], upper: &[u8]) -> Result<(), Error> {
        self.delete_bounds(store, &Bounds::half_open(Some(lower), Some(upper)), NO_TIME)
    }

    fn page(&mut self, store: usize, bounds: &Bounds, descending: bool, limit: usize) -> Result<Page, Error> {
        let timestamped = self.spec(store)?.timestamped;
        let mut builder = Builder::default();
        let mut more = false;
        self.scan(store, bounds, descending, &mut |key, value| {
            if builder.timestamps.len() >= limit || builder.bytes >= PAGE_BYTES_MAX {
                more = true;
                return false;
            }
            builder.push(timestamped, key, value);
            true
        })?;
        Ok(Page {
            entries: builder.finish(timestamped),
            more,
        })
    }
}

fn no_null_keys(keys: &BinaryArray) -> Result<(), Error> {
    if keys.null_count() > 0 {
        return Err(Error::Misuse("a null key for a store".into()));
    }
    Ok(())
}
