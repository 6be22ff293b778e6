//! The state of a task on RocksDB: one database a task, a column family a store.
//!
//! A commit is one write batch over all stores and the changelog offsets that it reflects. There is no write-ahead log:
//! the changelog is the log, and atomic flush keeps all column families at one commit. Memory is one setting for the
//! node: every database shares the block cache and the write buffers of a [`Memory`].
//! What a directory belongs to (its stamp) is kept here as bytes and judged by its owner.

mod database;

pub use database::{Database, Directory, Scratch};

use rocksdb::{Cache, WriteBufferManager};

/// Block cache and memtables of all task databases of a node, bounded together.
#[derive(Clone)]
pub struct Memory {
    cache: Cache,
    write_buffers: WriteBufferManager,
}

impl Memory {
    /// `bytes` bounds blocks, filters, indexes and memtables; half of it at most is memtables.
    pub fn new(bytes: usize) -> Self {
        let cache = Cache::new_lru_cache(bytes);
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 2, false, cache.clone());
        Self { cache, write_buffers }
    }
}
