//! The RocksDB database: column families, keys, and its errors in the broker's words.
//!
//! Three column families share one write-ahead log, so a batch over all of them is atomic:
//! - `book`: topics, committed offsets, producer epochs, where partitions start (see `book`),
//! - `index`: one small entry a chunk: how far it reaches, its size, its largest timestamp,
//! - `log`: the chunks.
//!
//! `index` and `log` have the same keys: topic number, partition, first offset, big endian, so they sort by offset.

use crate::chunk::Sealed;
use crate::codec::{Reader, Writer};
use broker::{Error, ErrorKind};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator,
    DBRecoveryMode, Options, ReadOptions, WriteBatch,
};
use std::path::Path;

const BOOK: &str = "book";
const INDEX: &str = "index";
const LOG: &str = "log";

/// Background flushes and compactions; more would take the processors from the pipelines of a small node.
const BACKGROUND_JOBS: i32 = 2;
/// Large blocks: chunks are read as a whole.
const LOG_BLOCK_BYTES: usize = 64 << 10;
/// RocksDB's own messages, kept for post-mortems.
const MESSAGE_FILES_MAX: usize = 4;

pub(crate) struct Storage {
    pub db: DB,
}

/// What the index says about a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub base: i64,
    pub span: u32,
    pub count: u32,
    pub bytes: u32,
    pub timestamp_max: i64,
    /// When tombstones in it may go, set by the first compaction that met them; 0 = none yet or no tombstones.
    pub tombstones_until: i64,
}

impl Entry {
    pub fn of(base: i64, sealed: &Sealed, tombstones_until: i64) -> Self {
        Self {
            base,
            span: sealed.span,
            count: sealed.count,
            bytes: sealed.value.len() as u32,
            timestamp_max: sealed.timestamp_max,
            tombstones_until,
        }
    }

    pub fn end(&self) -> i64 {
        self.base + i64::from(self.span)
    }
}

/// Key of the chunk that starts at `offset`.
pub(crate) fn chunk_key(topic: u32, partition: u32, offset: i64) -> [u8; 16] {
    let mut key = [0; 16];
    let (head, tail) = key.split_at_mut(8);
    let (topic_part, partition_part) = head.split_at_mut(4);
    topic_part.copy_from_slice(&topic.to_be_bytes());
    partition_part.copy_from_slice(&partition.to_be_bytes());
    tail.copy_from_slice(&offset.to_be_bytes());
    key
}

fn base_of(key: &[u8]) -> Result<i64, String> {
    let base = key
        .last_chunk::<8>()
        .ok_or_else(|| "a chunk key that is too short".to_owned())?;
    Ok(i64::from_be_bytes(*base))
}

impl Storage {
    /// Opens the database in `dir`, or makes one if `create`.
    pub fn open(dir: &Path, create: bool, cache_bytes: usize, write_buffer_bytes: usize) -> Result<Self, Error> {
        let cache = Cache::new_lru_cache(cache_bytes);
        let mut options = Options::default();
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        options.set_max_background_jobs(BACKGROUND_JOBS);
        options.set_keep_log_file_num(MESSAGE_FILES_MAX);
        options.set_max_total_wal_size(4 * write_buffer_bytes as u64);
        // Only the last write of a killed process may be torn; anything else that is unreadable is an error, not an end.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        let family = |name: &str, compression, block_bytes, buffer_bytes| {
            let mut family = Options::default();
            let mut table = BlockBasedOptions::default();
            table.set_block_cache(&cache);
            table.set_block_size(block_bytes);
            table.set_cache_index_and_filter_blocks(true);
            family.set_block_based_table_factory(&table);
            family.set_compression_type(compression);
            family.set_write_buffer_size(buffer_bytes);
            ColumnFamilyDescriptor::new(name, family)
        };
        let families = [
            family(BOOK, DBCompressionType::None, 4 << 10, 4 << 20),
            family(INDEX, DBCompressionType::None, 4 << 10, 4 << 20),
            family(LOG, DBCompressionType::Lz4, LOG_BLOCK_BYTES, write_buffer_bytes),
            family(
                rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
                DBCompressionType::None,
                4 << 10,
                1 << 20,
            ),
        ];
        let db = DB::open_cf_descriptors(&options, dir, families)
            .map_err(|e| failed(&format!("open the log in `{}`", dir.display()), &e))?;
        Ok(Self { db })
    }

    pub fn book(&self) -> Result<&ColumnFamily, Error> {
        self.family(BOOK)
    }

    pub fn index(&self) -> Result<&ColumnFamily, Error> {
        self.family(INDEX)
    }

    pub fn log(&self) -> Result<&ColumnFamily, Error> {
        self.family(LOG)
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, Error> {
        let missing = || Error::new(ErrorKind::Corrupt, "read the log", format!("no column family `{name}`"));
        self.db.cf_handle(name).ok_or_else(missing)
    }

    /// Adds a chunk with its index entry to `batch`.
    pub fn put_chunk(
        &self,
        batch: &mut WriteBatch,
        place: (u32, u32),
        sealed: &Sealed,
        entry: &Entry,
    ) -> Result<(), Error> {
        let key = chunk_key(place.0, place.1, entry.base);
        let mut value = Writer::default();
        for number in [entry.span, entry.count, entry.bytes] {
            value.u32(number);
        }
        value.i64(entry.timestamp_max);
        value.i64(entry.tombstones_until);
        batch.put_cf(self.log()?, key, &sealed.value);
        batch.put_cf(self.index()?, key, value.0);
        Ok(())
    }

    pub fn delete_chunk(&self, batch: &mut WriteBatch, place: (u32, u32), base: i64) -> Result<(), Error> {
        let key = chunk_key(place.0, place.1, base);
        batch.delete_cf(self.log()?, key);
        batch.delete_cf(self.index()?, key);
        Ok(())
    }

    /// Index entries from the chunk that holds `from`, in order, until `visit` says `false`.
    pub fn entries(
        &self,
        (topic, partition): (u32, u32),
        from: i64,
        mut visit: impl FnMut(Entry) -> bool,
    ) -> Result<(), Error> {
        let mut iterator = self.bounded(self.index()?, (topic, partition), i64::MAX);
        iterator.seek_for_prev(chunk_key(topic, partition, from));
        if !iterator.valid() {
            iterator.seek(chunk_key(topic, partition, from));
        }
        while let Some((key, value)) = iterator.item() {
            let entry = read_entry(key, value).map_err(|e| corrupt("read the index", e))?;
            if entry.end() > from && !visit(entry) {
                return Ok(());
            }
            iterator.next();
        }
        iterator.status().map_err(|e| failed("read the index", &e))
    }

    /// The last chunk of a partition.
    pub fn last_entry(&self, (topic, partition): (u32, u32)) -> Result<Option<Entry>, Error> {
        let mut iterator = self.bounded(self.index()?, (topic, partition), i64::MAX);
        iterator.seek_to_last();
        iterator.status().map_err(|e| failed("read the index", &e))?;
        let entry = iterator.item().map(|(key, value)| read_entry(key, value)).transpose();
        entry.map_err(|e| corrupt("read the index", e))
    }

    /// The chunk that holds `offset`, else the first one behind it and before `end`, with its first offset.
    pub fn chunk<T>(
        &self,
        (topic, partition): (u32, u32),
        offset: i64,
        end: i64,
        read: impl Fn(&[u8]) -> Result<(u32, T), String>,
    ) -> Result<Option<(i64, T)>, Error> {
        let doing = "read the log";
        let log = self.log()?;
        let key = chunk_key(topic, partition, offset);
        // Readers go from chunk to chunk, so the next one nearly always starts where they are.
        if let Some(value) = self.db.get_pinned_cf(log, key).map_err(|e| failed(doing, &e))? {
            return Ok(Some((offset, read(&value).map_err(|e| corrupt(doing, e))?.1)));
        }
        let mut iterator = self.bounded(log, (topic, partition), end);
        iterator.seek_for_prev(key);
        if !iterator.valid() {
            iterator.seek(key);
        }
        while let Some((key, value)) = iterator.item() {
            let base = base_of(key).map_err(|e| corrupt(doing, e))?;
            let (span, chunk) = read(value).map_err(|e| corrupt(doing, e))?;
            if base + i64::from(span) > offset {
                return Ok(Some((base, chunk)));
            }
            iterator.next();
        }
        iterator.status().map_err(|e| failed(doing, &e))?;
        Ok(None)
    }

    fn bounded<'a>(&'a self, family: &ColumnFamily, (topic, partition): (u32, u32), end: i64) -> DBRawIterator<'a> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(chunk_key(topic, partition, 0));
        options.set_iterate_upper_bound(chunk_key(topic, partition, end));
        self.db.raw_iterator_cf_opt(family, options)
    }
}

fn read_entry(key: &[u8], value: &[u8]) -> Result<Entry, String> {
    let mut reader = Reader(value);
    Ok(Entry {
        base: base_of(key)?,
        span: reader.u32()?,
        count: reader.u32()?,
        bytes: reader.u32()?,
        timestamp_max: reader.i64()?,
        tombstones_until: reader.i64()?,
    })
}

pub(crate) fn corrupt(doing: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, doing, cause)
}

/// An error of RocksDB.
pub(crate) fn failed(doing: &str, e: &rocksdb::Error) -> Error {
    let kind = match e.kind() {
        rocksdb::ErrorKind::Corruption | rocksdb::ErrorKind::InvalidArgument | rocksdb::ErrorKind::NotFound => {
            ErrorKind::Corrupt
        }
        rocksdb::ErrorKind::Busy | rocksdb::ErrorKind::TryAgain | rocksdb::ErrorKind::TimedOut => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Fatal,
    };
    Error::new(kind, doing, e)
}
