//! A backend in memory, for tests and the simulation. Clones share the data, so it can outlive a task; [`Memory::crash`]
//! takes it back to what was flushed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, Bounds, Change, Changes, Error, Snapshot, Visit};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug, Default)]
struct Data {
    /// Shared with snapshots; copied when written while one is alive.
    stores: BTreeMap<usize, Arc<Map>>,
    offsets: BTreeMap<usize, i64>,
}

#[derive(Debug, Default)]
struct Inner {
    live: Data,
    durable: Data,
}

#[derive(Clone, Debug, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was not flushed, as a killed process does.
    pub fn crash(&self) {
        let mut inner = self.lock();
        inner.live = inner.durable.clone();
    }

    /// A backend of its own with what this one holds now.
    #[must_use]
    pub fn copy(&self) -> Self {
        let inner = self.lock();
        Self {
            inner: Arc::new(Mutex::new(Inner {
                live: inner.live.clone(),
                durable: inner.durable.clone(),
            })),
        }
    }

    /// All entries of a store in order.
    pub fn entries(&self, store: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let inner = self.lock();
        inner
            .live
            .stores
            .get(&store)
            .map_or_else(Vec::new, |m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

impl Data {
    fn get(&self, store: usize, key: &[u8]) -> Option<Vec<u8>> {
        self.stores.get(&store).and_then(|m| m.get(key)).cloned()
    }

    fn scan(&self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) {
        let Some(map) = self.stores.get(&store) else { return };
        if bounds.is_empty() {
            return;
        }
        let slice = |b: &Bound<Vec<u8>>| -> Bound<Vec<u8>> { b.clone() };
        let mut range = map.range((slice(&bounds.lower), slice(&bounds.upper)));
        while let Some((key, value)) = if descending { range.next_back() } else { range.next() } {
            if !visit(key, value) {
                return;
            }
        }
    }
}

impl Backend for Memory {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.lock().live.get(store, key))
    }

    fn scan(&self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error> {
        // The lock is not held while `visit` runs: it may come back to this backend.
        let data = self.lock().live.clone();
        data.scan(store, bounds, descending, visit);
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), Error> {
        let mut inner = self.lock();
        for change in &changes.changes {
            match change {
                Change::Put { store, key, value } => {
                    Arc::make_mut(inner.live.stores.entry(*store).or_default())
                        .insert(key.as_slice().to_vec(), value.as_slice().to_vec());
                }
                Change::Delete { store, key } => {
                    Arc::make_mut(inner.live.stores.entry(*store).or_default()).remove(key.as_slice());
                }
            }
        }
        inner.live.offsets.extend(changes.offsets.iter().copied());
        Ok(())
    }

    fn offset(&self, store: usize) -> Result<Option<i64>, Error> {
        Ok(self.lock().live.offsets.get(&store).copied())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.durable = inner.live.clone();
        Ok(())
    }

    fn wipe(&mut self) -> Result<(), Error> {
        *self.lock() = Inner::default();
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(Box::new(View(self.lock().live.clone())))
    }
}

struct View(Data);

impl Snapshot for View {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(store, key))
    }

    fn scan(&self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error> {
        self.0.scan(store, bounds, descending, visit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bytes::Bytes;

    #[test]
    fn it_conforms() {
        crate::conformance::run(&mut || Ok(Box::new(Memory::default()))).unwrap();
    }

    #[test]
    fn a_crash_leaves_what_was_flushed() {
        let memory = Memory::default();
        let mut backend: Box<dyn Backend> = Box::new(memory.clone());
        let put = |value: &[u8], offset| Changes {
            changes: vec![Change::Put {
                store: 0,
                key: Bytes::new(b"k"),
                value: Bytes::new(value),
            }],
            offsets: vec![(0, offset)],
            ..Changes::default()
        };
        backend.apply(&put(b"1", 5)).unwrap();
        backend.flush().unwrap();
        backend.apply(&put(b"2", 6)).unwrap();
        memory.crash();
        assert_eq!(
            (memory.entries(0), backend.offset(0).unwrap()),
            (vec![(b"k".to_vec(), b"1".to_vec())], Some(5))
        );
    }
}
