//! One task's database.

use crate::Memory;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, Options, ReadOptions,
    WriteBatch, WriteOptions,
};
use state::backend::Visit;
use state::{Backend, Bounds, Change, Changes, Error, Snapshot};
use std::any::Any;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Keys of the default column family: the offset of a store, and the stamp.
const OFFSET_PREFIX: &str = "offset:";
const STAMP: &[u8] = b"stamp";
/// Bytes of changelog rows after which memtables are written out, so that little is replayed after a crash.
const FLUSH_BYTES: usize = 16 << 20;
/// RocksDB's own log files that are kept: they are for a person who looks into a fault.
const LOG_FILES_MAX: usize = 2;

/// An open directory of a task. Dropping it closes the database without flushing.
#[derive(Clone)]
pub struct Directory {
    db: Arc<DB>,
    path: PathBuf,
    stores: Arc<[String]>,
}

fn storage(doing: &str, path: &Path) -> impl Fn(rocksdb::Error) -> Error {
    let doing = format!("{doing} `{}`", path.display());
    move |e| match e.kind() {
        rocksdb::ErrorKind::Corruption | rocksdb::ErrorKind::InvalidArgument => Error::Corrupt {
            path: doing.clone(),
            cause: e.into_string(),
        },
        _ => Error::Storage {
            doing: doing.clone(),
            cause: e.into_string(),
        },
    }
}

fn options(memory: &Memory) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&memory.cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_manager(&memory.write_buffers);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_atomic_flush(true);
    options.set_keep_log_file_num(LOG_FILES_MAX);
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options
}

impl Directory {
    /// Opens or makes the database at `path` with a column family for each of `stores`; stores that are no longer named
    /// stay where they are. Store number i is `stores[i]`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when RocksDB cannot make sense of the directory, [`Error::Storage`] for the rest (locked by
    /// another process, disk full).
    pub fn open(path: &Path, stores: &[String], memory: &Memory) -> Result<Self, Error> {
        let options = options(memory);
        std::fs::create_dir_all(path).map_err(|e| Error::Storage {
            doing: format!("create the directory `{}`", path.display()),
            cause: e.to_string(),
        })?;
        let mut families: Vec<String> = if path.join("CURRENT").exists() {
            DB::list_cf(&options, path).map_err(storage("list the stores in", path))?
        } else {
            vec!["default".into()]
        };
        families.extend(
            stores
                .iter()
                .filter(|s| !families.contains(s))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let descriptors: Vec<_> = families
            .into_iter()
            .map(|name| ColumnFamilyDescriptor::new(name, options.clone()))
            .collect();
        let db = DB::open_cf_descriptors(&options, path, descriptors).map_err(storage("open the state in", path))?;
        Ok(Self {
            db: Arc::new(db),
            path: path.to_owned(),
            stores: stores.into(),
        })
    }

    /// A copy of what was applied, at `path`, which must not be there: files that do not change are shared. It is removed
    /// from the disk when the copy is dropped.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub fn scratch(&self, path: &Path, memory: &Memory) -> Result<Scratch, Error> {
        let checkpoint = Checkpoint::new(&self.db).map_err(storage("copy the state in", &self.path))?;
        checkpoint
            .create_checkpoint(path)
            .map_err(storage("copy the state to", path))?;
        let directory = Self::open(path, &self.stores, memory)?;
        Ok(Scratch {
            database: Some(Database::new(directory)),
            path: path.to_owned(),
        })
    }

    /// What the owner wrote with [`Directory::set_stamp`].
    ///
    /// # Errors
    /// [`Error::Storage`] or [`Error::Corrupt`].
    pub fn stamp(&self) -> Result<Option<Vec<u8>>, Error> {
        self.db.get(STAMP).map_err(storage("read the stamp of", &self.path))
    }

    /// Written (`None`: removed) and flushed at once.
    ///
    /// # Errors
    /// [`Error::Storage`] or [`Error::Corrupt`].
    pub fn set_stamp(&self, stamp: Option<&[u8]>) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        match stamp {
            Some(stamp) => batch.put(STAMP, stamp),
            None => batch.delete(STAMP),
        }
        self.write(batch)?;
        self.flush_all(true)
    }

    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        self.db
            .write_opt(batch, &write)
            .map_err(storage("write to", &self.path))
    }

    fn families(&self) -> Result<Vec<&ColumnFamily>, Error> {
        (0..self.stores.len()).map(|store| self.family(store)).collect()
    }

    fn family(&self, store: usize) -> Result<&ColumnFamily, Error> {
        self.stores
            .get(store)
            .and_then(|name| self.db.cf_handle(name))
            .ok_or_else(|| Error::Misuse(format!("no store number {store} in `{}`", self.path.display())))
    }

    fn flush_all(&self, wait: bool) -> Result<(), Error> {
        let mut families = self.families()?;
        families.extend(self.db.cf_handle("default"));
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        self.db
            .flush_cfs_opt(&families, &options)
            .map_err(storage("flush", &self.path))
    }

    fn offset_key(&self, store: usize) -> Result<Vec<u8>, Error> {
        let name = self
            .stores
            .get(store)
            .ok_or_else(|| Error::Misuse(format!("no store number {store}")))?;
        Ok(format!("{OFFSET_PREFIX}{name}").into_bytes())
    }
}

impl Snapshot for Directory {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.db
            .get_cf(self.family(store)?, key)
            .map_err(storage("read from", &self.path))
    }

    fn scan(&self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error> {
        let mut read = ReadOptions::default();
        match &bounds.lower {
            Bound::Included(key) => read.set_iterate_lower_bound(key.clone()),
            Bound::Excluded(key) => read.set_iterate_lower_bound(after(key)),
            Bound::Unbounded => {}
        }
        match &bounds.upper {
            Bound::Included(key) => read.set_iterate_upper_bound(after(key)),
            Bound::Excluded(key) => read.set_iterate_upper_bound(key.clone()),
            Bound::Unbounded => {}
        }
        let mut rows = self.db.raw_iterator_cf_opt(self.family(store)?, read);
        if descending {
            rows.seek_to_last()
        } else {
            rows.seek_to_first()
        }
        while let Some((key, value)) = rows.item() {
            if !visit(key, value) {
                return Ok(());
            }
            if descending { rows.prev() } else { rows.next() }
        }
        rows.status().map_err(storage("scan", &self.path))
    }
}

/// The smallest key above `key`.
fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

/// The writing side of a [`Directory`]: the backend of its task.
pub struct Database {
    directory: Directory,
    unflushed_bytes: usize,
    /// Dropped last.
    _lease: Option<Box<dyn Any + Send>>,
}

impl Database {
    pub fn new(directory: Directory) -> Self {
        Self {
            directory,
            unflushed_bytes: 0,
            _lease: None,
        }
    }

    /// As [`Database::new`]; `lease` is let go when nothing is written here any more.
    pub fn leased(directory: Directory, lease: Box<dyn Any + Send>) -> Self {
        Self {
            _lease: Some(lease),
            ..Self::new(directory)
        }
    }
}

/// See [`Directory::scratch`].
pub struct Scratch {
    database: Option<Database>,
    path: PathBuf,
}

impl Scratch {
    fn database(&self) -> Result<&Database, Error> {
        self.database
            .as_ref()
            .ok_or_else(|| Error::Misuse("the copy is closed".into()))
    }

    fn database_mut(&mut self) -> Result<&mut Database, Error> {
        self.database
            .as_mut()
            .ok_or_else(|| Error::Misuse("the copy is closed".into()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Closed first. What stays behind is removed by whoever opens the directory above.
        self.database = None;
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Backend for Scratch {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.database()?.get(store, key)
    }

    fn scan(&self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error> {
        self.database()?.scan(store, bounds, descending, visit)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), Error> {
        self.database_mut()?.apply(changes)
    }

    fn offset(&self, store: usize) -> Result<Option<i64>, Error> {
        self.database()?.offset(store)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.database_mut()?.flush()
    }

    fn wipe(&mut self) -> Result<(), Error> {
        self.database_mut()?.wipe()
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.database()?.snapshot()
    }
}

impl Backend for Database {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Snapshot::get(&self.directory, store, key)
    }

    fn scan(&self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error> {
        Snapshot::scan(&self.directory, store, bounds, descending, visit)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), Error> {
        let families = self.directory.families()?;
        let of = |store: usize| {
            families
                .get(store)
                .copied()
                .ok_or_else(|| Error::Misuse(format!("no store number {store}")))
        };
        let mut batch = WriteBatch::default();
        for change in &changes.changes {
            match change {
                Change::Put { store, key, value } => batch.put_cf(of(*store)?, key.as_slice(), value.as_slice()),
                Change::Delete { store, key } => batch.delete_cf(of(*store)?, key.as_slice()),
            }
        }
        for (store, offset) in &changes.offsets {
            batch.put(self.directory.offset_key(*store)?, offset.to_be_bytes());
        }
        self.directory.write(batch)?;
        self.unflushed_bytes += changes.replay_bytes;
        if self.unflushed_bytes >= FLUSH_BYTES {
            self.unflushed_bytes = 0;
            self.directory.flush_all(false)?;
        }
        Ok(())
    }

    fn offset(&self, store: usize) -> Result<Option<i64>, Error> {
        let path = &self.directory.path;
        let found = self
            .directory
            .db
            .get(self.directory.offset_key(store)?)
            .map_err(storage("read from", path))?;
        match found {
            None => Ok(None),
            Some(bytes) => match <[u8; 8]>::try_from(bytes.as_slice()) {
                Ok(bytes) => Ok(Some(i64::from_be_bytes(bytes))),
                Err(_) => Err(Error::Corrupt {
                    path: path.display().to_string(),
                    cause: format!("the offset of store number {store} has {} bytes", bytes.len()),
                }),
            },
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.unflushed_bytes = 0;
        self.directory.flush_all(true)
    }

    fn begin_flush(&mut self) -> Result<(), Error> {
        self.unflushed_bytes = 0;
        self.directory.flush_all(false)
    }

    fn wipe(&mut self) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for store in 0..self.directory.stores.len() {
            let family = self.directory.family(store)?;
            let edge = |descending| {
                let mut edge = None;
                let mut first = |key: &[u8], _: &[u8]| {
                    edge = Some(key.to_vec());
                    false
                };
                Snapshot::scan(&self.directory, store, &Bounds::all(), descending, &mut first)?;
                Ok::<_, Error>(edge)
            };
            if let Some((first, last)) = edge(false)?.zip(edge(true)?) {
                batch.delete_range_cf(family, first, after(&last));
            }
            if self.offset(store)?.is_some() {
                batch.delete(self.directory.offset_key(store)?);
            }
        }
        if self.directory.stamp()?.is_some() {
            batch.delete(STAMP);
        }
        if batch.is_empty() {
            // A new directory: nothing to write, and no disk to wait for.
            return Ok(());
        }
        self.directory.write(batch)?;
        self.flush()
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(Box::new(self.directory.clone()))
    }
}
