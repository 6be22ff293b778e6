//! A global table: rows that one writer keeps and every task of a node reads.
//!
//! Its rows lie in a [`Backend`] with the positions up to which their topic was read, written together. What was read and
//! is not there yet is a layer in memory over it. A reader takes a [`GlobalReader`], which sees one and the same table from
//! its first read to its [`release`](GlobalReader::release), whatever is written meanwhile; so a run of a task finds what
//! its rows one by one would have found. A layer goes into the backend once every reader that does not know it has let go.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::RandomState;
use record::Fetched;

use crate::backend::{Backend, Bounds, Change, Changes, Error, Snapshot};
use crate::bytes::Bytes;
use crate::columns::{join, split};

/// What the backend of a global table holds: rows, each its time and its value, and the next offset of each partition.
pub const GLOBAL_STORES: [&str; 2] = ["rows", "positions"];
/// Number of the store with the rows.
pub const GLOBAL_ROWS: usize = 0;
const POSITIONS: usize = 1;

/// Layers over the backend before their writer waits for readers: each is looked through at every read.
const LAYERS_MAX: usize = 8;
/// Bytes of those layers.
const LAYER_BYTES_MAX: usize = 32 << 20;
/// Bytes of rows that one reader remembers; beyond it, it begins anew.
const READER_BYTES_MAX: usize = 8 << 20;
/// What a row costs beside its bytes, about.
const ROW_BYTES: usize = 64;

type Map<V> = std::collections::HashMap<Vec<u8>, V, RandomState>;

/// What was read of the topic and lies over the backend. `None`: deleted.
#[derive(Default)]
struct Layer {
    rows: Map<Option<Vec<u8>>>,
    positions: BTreeMap<i32, i64>,
    bytes: usize,
}

struct Version {
    /// The same for versions with the same rows.
    number: u64,
    /// The newest last.
    layers: Vec<Arc<Layer>>,
    below: Arc<dyn Snapshot>,
}

struct Published {
    current: Arc<Version>,
    /// Those that readers may still hold.
    past: Vec<Weak<Version>>,
}

/// See the page of the module. Written by one thread, read by any.
pub struct GlobalTable {
    backend: Mutex<Box<dyn Backend>>,
    published: Mutex<Published>,
}

impl fmt::Debug for GlobalTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GlobalTable")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GlobalTable {
    /// `backend` has the stores [`GLOBAL_STORES`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn new(backend: Box<dyn Backend>) -> Result<Self, Error> {
        let current = Arc::new(Version {
            number: 0,
            layers: Vec::new(),
            below: backend.snapshot()?.into(),
        });
        Ok(Self {
            backend: Mutex::new(backend),
            published: Mutex::new(Published {
                current,
                past: Vec::new(),
            }),
        })
    }

    /// The next offset to read of each partition that was read.
    ///
    /// # Errors
    /// Those of the backend; [`Error::Corrupt`] for positions that are none.
    pub fn positions(&self) -> Result<BTreeMap<i32, i64>, Error> {
        let mut positions = BTreeMap::new();
        let mut wrong = false;
        let layers = lock(&self.published).current.layers.clone();
        lock(&self.backend).scan(POSITIONS, &Bounds::all(), false, &mut |partition, next| {
            match (partition.try_into(), next.try_into()) {
                (Ok(partition), Ok(next)) => {
                    positions.insert(i32::from_be_bytes(partition), i64::from_be_bytes(next));
                }
                _ => wrong = true,
            }
            true
        })?;
        match wrong {
            true => Err(Error::Corrupt {
                path: "the positions of a global table".to_owned(),
                cause: "an entry is not a partition with its offset".to_owned(),
            }),
            false => {
                positions.extend(layers.iter().flat_map(|layer| &layer.positions));
                Ok(positions)
            }
        }
    }

    /// Takes rows of its topic as they were read. Null keys are left out; how many is the answer.
    /// Readers see the rows from their next release on; [`settle`](Self::settle) brings them to the backend.
    pub fn push(&self, parts: &[&Fetched]) -> u64 {
        let mut layer = Layer::default();
        let mut dropped = 0;
        for part in parts {
            let rows = &part.records;
            for (row, time) in rows.timestamps().iter().enumerate() {
                let Some(key) = rows.key(row) else {
                    dropped += 1;
                    continue;
                };
                let value = rows.value(row).map(|value| join(*time, value));
                layer.bytes += ROW_BYTES + key.len() + value.as_ref().map_or(0, Vec::len);
                layer.rows.insert(key.to_vec(), value);
            }
            layer.positions.insert(part.partition.partition, part.next);
        }
        let mut published = lock(&self.published);
        let mut layers = published.current.layers.clone();
        layers.push(Arc::new(layer));
        let version = Version {
            number: published.current.number + 1,
            layers,
            below: Arc::clone(&published.current.below),
        };
        published.publish(version);
        dropped
    }

    /// Whether as much as may be waits for readers to let go: nothing is to be pushed before it was settled.
    pub fn is_full(&self) -> bool {
        let layers = lock(&self.published).current.layers.clone();
        layers.len() >= LAYERS_MAX || layers.iter().map(|layer| layer.bytes).sum::<usize>() >= LAYER_BYTES_MAX
    }

    /// Writes what was pushed to the backend, unless a reader holds the table as it was before. Whether nothing waits.
    ///
    /// # Errors
    /// Those of the backend. What was pushed stays, for another try.
    pub fn settle(&self) -> Result<bool, Error> {
        let current = {
            let mut published = lock(&self.published);
            published.past.retain(|past| past.strong_count() > 0);
            if published.current.layers.is_empty() {
                return Ok(true);
            }
            if !published.past.is_empty() {
                return Ok(false);
            }
            Arc::clone(&published.current)
        };
        // Readers come and go meanwhile: those of this version read the layers first, so what lies below may change.
        let mut backend = lock(&self.backend);
        backend.apply(&merged(&current.layers))?;
        let below = backend.snapshot()?.into();
        drop(backend);
        let mut published = lock(&self.published);
        let number = current.number;
        drop(current);
        published.publish(Version {
            number,
            layers: Vec::new(),
            below,
        });
        Ok(true)
    }

    /// Makes what was settled durable.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn flush(&self) -> Result<(), Error> {
        lock(&self.backend).flush()
    }

    /// Deletes all rows and positions, before anybody reads.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn wipe(&self) -> Result<(), Error> {
        let mut backend = lock(&self.backend);
        backend.wipe()?;
        let below = backend.snapshot()?.into();
        drop(backend);
        let mut published = lock(&self.published);
        let number = published.current.number + 1;
        published.publish(Version {
            number,
            layers: Vec::new(),
            below,
        });
        Ok(())
    }

    /// What is in the backend, for queries; rows are in store [`GLOBAL_ROWS`].
    pub fn settled(&self) -> Arc<dyn Snapshot> {
        Arc::clone(&lock(&self.published).current.below)
    }

    pub fn reader(self: &Arc<Self>) -> GlobalReader {
        GlobalReader {
            table: Arc::clone(self),
            version: None,
            known: Map::default(),
            known_of: 0,
            known_bytes: 0,
        }
    }
}

impl Published {
    fn publish(&mut self, version: Version) {
        self.past.push(Arc::downgrade(&self.current));
        self.current = Arc::new(version);
    }
}

/// One write for all layers: of a key, what the newest says.
fn merged(layers: &[Arc<Layer>]) -> Changes {
    let mut rows: Map<&Option<Vec<u8>>> = Map::default();
    let mut positions = BTreeMap::new();
    for layer in layers {
        rows.extend(layer.rows.iter().map(|(key, value)| (key.clone(), value)));
        positions.extend(&layer.positions);
    }
    let store = GLOBAL_ROWS;
    let mut changes: Vec<Change> = Vec::with_capacity(rows.len() + positions.len());
    for (key, value) in rows {
        let key = Bytes::from(key);
        changes.push(match value {
            Some(value) => Change::Put {
                store,
                key,
                value: Bytes::new(value),
            },
            None => Change::Delete { store, key },
        });
    }
    changes.extend(positions.into_iter().map(|(partition, next): (i32, i64)| Change::Put {
        store: POSITIONS,
        key: Bytes::new(&partition.to_be_bytes()),
        value: Bytes::new(&next.to_be_bytes()),
    }));
    Changes {
        changes,
        offsets: Vec::new(),
        replay_bytes: layers.iter().map(|layer| layer.bytes).sum(),
    }
}

/// A task's way to the table.
pub struct GlobalReader {
    table: Arc<GlobalTable>,
    version: Option<Arc<Version>>,
    /// Rows that were read from below, of the version `known_of`.
    known: Map<Option<Vec<u8>>>,
    known_of: u64,
    known_bytes: usize,
}

impl GlobalReader {
    /// The row of a key, with its time.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn read<R>(&mut self, key: &[u8], read: impl FnOnce(Option<(i64, &[u8])>) -> R) -> Result<R, Error> {
        let version = self
            .version
            .get_or_insert_with(|| Arc::clone(&lock(&self.table.published).current));
        if version.number != self.known_of {
            self.known.clear();
            (self.known_of, self.known_bytes) = (version.number, 0);
        }
        if let Some(found) = version.layers.iter().rev().find_map(|layer| layer.rows.get(key)) {
            return Ok(read(found.as_deref().map(split)));
        }
        if let Some(known) = self.known.get(key) {
            return Ok(read(known.as_deref().map(split)));
        }
        let found = version.below.get(GLOBAL_ROWS, key)?;
        if self.known_bytes >= READER_BYTES_MAX {
            self.known.clear();
            self.known_bytes = 0;
        }
        self.known_bytes += ROW_BYTES + key.len() + found.as_ref().map_or(0, Vec::len);
        let known = self.known.entry(key.to_vec()).insert_entry(found);
        Ok(read(known.get().as_deref().map(split)))
    }

    /// The next read sees the table as it is then.
    pub fn release(&mut self) {
        self.version = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::memory::Memory;
    use record::{BatchBuilder, TopicPartition};

    fn push(table: &GlobalTable, partition: i32, rows: &[(Option<&str>, Option<&str>)], next: i64) -> u64 {
        let mut batch = BatchBuilder::default();
        for (time, (key, value)) in (0..).zip(rows) {
            batch.push(key.map(str::as_bytes), value.map(str::as_bytes), time);
        }
        table.push(&[&Fetched {
            partition: TopicPartition::new("t", partition),
            offsets: Vec::new(),
            records: batch.finish(),
            next,
        }])
    }

    fn seen(reader: &mut GlobalReader, key: &str) -> Option<String> {
        let text = |found: Option<(i64, &[u8])>| found.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap());
        reader.read(key.as_bytes(), text).unwrap()
    }

    #[test]
    fn a_reader_sees_one_table_until_it_lets_go() {
        let memory = Memory::default();
        let table = Arc::new(GlobalTable::new(Box::new(memory.clone())).unwrap());
        push(&table, 0, &[(Some("a"), Some("1")), (Some("b"), Some("1"))], 2);
        assert!(table.settle().unwrap());
        let (mut first, mut second) = (table.reader(), table.reader());
        assert_eq!(seen(&mut first, "a").as_deref(), Some("1"));
        push(&table, 1, &[(Some("a"), None), (Some("b"), Some("2"))], 7);
        // The first holds the table as it was; the second comes to it as it is.
        assert_eq!(seen(&mut first, "b").as_deref(), Some("1"));
        assert_eq!(seen(&mut second, "a"), None);
        assert!(!table.settle().unwrap());
        assert_eq!(memory.entries(GLOBAL_ROWS).len(), 2);
        first.release();
        assert_eq!(seen(&mut first, "b").as_deref(), Some("2"));
        // Both know all layers now, so they may go down while both hold the table.
        assert!(table.settle().unwrap());
        assert_eq!(seen(&mut first, "a"), None);
        assert_eq!(seen(&mut second, "b").as_deref(), Some("2"));
        assert_eq!(memory.entries(GLOBAL_ROWS).len(), 1);
        assert_eq!(table.positions().unwrap(), BTreeMap::from([(0, 2), (1, 7)]));
    }

    #[test]
    fn null_keys_are_left_out_and_the_last_of_a_key_stays() {
        let table = Arc::new(GlobalTable::new(Box::new(Memory::default())).unwrap());
        let batch = [(None, Some("x")), (Some("a"), Some("1")), (Some("a"), Some("2"))];
        assert_eq!(push(&table, 0, &batch, 3), 1);
        push(&table, 0, &[(Some("a"), Some("3"))], 4);
        assert_eq!(seen(&mut table.reader(), "a").as_deref(), Some("3"));
        assert!(table.settle().unwrap());
        let mut reader = table.reader();
        assert_eq!(seen(&mut reader, "a").as_deref(), Some("3"));
        // What a reader remembers goes with the version that it is of.
        table.wipe().unwrap();
        assert_eq!(seen(&mut reader, "a").as_deref(), Some("3"));
        reader.release();
        assert_eq!(seen(&mut reader, "a"), None);
        assert!(table.positions().unwrap().is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let table = Arc::new(GlobalTable::new(Box::new(Memory::default())).unwrap());
        let mut reader = table.reader();
        seen(&mut reader, "a");
        for next in 1..=LAYERS_MAX as i64 {
            assert!(!table.is_full());
            push(&table, 0, &[(Some("a"), Some("1"))], next);
        }
        assert!(table.is_full() && !table.settle().unwrap());
        reader.release();
        assert!(table.settle().unwrap() && !table.is_full());
    }
}
