//! An embedded durable log: [`broker::Broker`] on one directory, for one process with several threads.
//!
//! What it promises: a transaction is committed with everything in it or not at all, in one write; readers, whatever
//! their isolation, see committed records only, in the order of their offsets. What was committed survives the end of
//! the process, however it ends. It survives the loss of power only up to the last [`Log::sync`], or at every commit
//! with [`Options::sync`].
//!
//! Offsets are given out when records are flushed. A transaction that aborts with offsets which are not the last of
//! their partition leaves a gap, as Kafka does; otherwise offsets are dense.
//!
//! What it leaves out: several processes (the directory is locked), membership beyond this process, compression by
//! batch, timestamps checked against a clock. Nothing runs by itself: call [`Log::maintain`] from time to time.

mod admin;
mod book;
mod chunk;
mod codec;
mod compact;
mod consumer;
mod formats;
mod maintain;
mod member;
mod producer;
mod stamp;
mod storage;

pub use formats::{check_book_entry, check_chunk};
pub use maintain::Maintained;

use book::Book;
use broker::{
    Admin, Broker, Consumer, ConsumerOptions, Error, ErrorKind, Fencing, Member, MemberOptions, Producer,
    ProducerOptions,
};
use rocksdb::{FlushOptions, WriteBatch, WriteOptions};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use storage::{Storage, failed};

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Waits at every commit until it is on the disk, so that it survives the loss of power too. Default: no.
    pub sync: bool,
    /// Memory for blocks that were read.
    pub cache_bytes: usize,
    /// Memory for records that are not in a file of their own yet; twice this for a short time.
    pub write_buffer_bytes: usize,
    /// Bound for what an open transaction, or a producer without one, may hold in memory.
    pub queue_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: false,
            cache_bytes: 32 << 20,
            write_buffer_bytes: 32 << 20,
            queue_bytes_max: 512 << 20,
        }
    }
}

/// An open log. Cloning shares it; the directory is free again when the last clone and all that it made are dropped.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    book: Mutex<Book>,
    /// Counts what readers may wait for.
    news: Mutex<u64>,
    told: Condvar,
    compaction: Mutex<compact::Compaction>,
    pub storage: Storage,
    pub options: Options,
    pub cluster_id: String,
    /// Last, so that the lock goes after the database is closed.
    _directory: stamp::Directory,
}

impl Log {
    /// Opens the log in `dir`; a directory that is empty or not there becomes one.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`]: the directory is in use, holds something else, or has another format.
    /// [`ErrorKind::Corrupt`]: it is damaged. Its data are left as they are in every case.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        let directory = stamp::Directory::take(dir)?;
        let (cache, buffer) = (options.cache_bytes, options.write_buffer_bytes);
        let storage = Storage::open(&directory.database(), directory.fresh, cache, buffer)?;
        let book = book::load(&storage, &directory.cluster_id, directory.fresh)?;
        if directory.fresh {
            directory.made()?;
        }
        tracing::debug!(topics = book.topics.len(), dir = %dir.display(), "log opened");
        let shared = Shared {
            book: Mutex::new(book),
            news: Mutex::new(0),
            told: Condvar::new(),
            compaction: Mutex::default(),
            storage,
            options,
            cluster_id: directory.cluster_id.clone(),
            _directory: directory,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Everything committed before this call survives the loss of power.
    pub fn sync(&self) -> Result<(), Error> {
        self.shared
            .storage
            .db
            .flush_wal(true)
            .map_err(|e| failed("sync the log", &e))
    }

    /// Writes all that is in memory to files, so that the next start is quick. Dropping the log is safe without it.
    pub fn close(self) -> Result<(), Error> {
        self.sync()?;
        let storage = &self.shared.storage;
        let families = [storage.book()?, storage.index()?, storage.log()?];
        storage
            .db
            .flush_cfs_opt(&families, &FlushOptions::default())
            .map_err(|e| failed("close the log", &e))
    }

    /// Retention and compaction, a bounded amount of work a call. `now_ms`: milliseconds since 1970 UTC.
    /// Call it from time to time, again at once while [`Maintained::more`] says so.
    ///
    /// A topic loses old records only if it has `retention.ms` or `retention.bytes`; compacted topics are compacted
    /// when their settings say that it is worth it.
    pub fn maintain(&self, now_ms: i64) -> Result<Maintained, Error> {
        self.shared.maintain(now_ms)
    }
}

impl Broker for Log {
    fn admin(&self) -> Result<Box<dyn Admin>, Error> {
        Ok(Box::new(admin::LogAdmin {
            log: Arc::clone(&self.shared),
        }))
    }

    fn member(&self, options: &MemberOptions) -> Result<Box<dyn Member>, Error> {
        Ok(Box::new(member::LogMember::join(Arc::clone(&self.shared), options)))
    }

    fn consumer(&self, options: &ConsumerOptions) -> Result<Box<dyn Consumer>, Error> {
        Ok(Box::new(consumer::LogConsumer::new(Arc::clone(&self.shared), options)))
    }

    fn producer(&self, options: &ProducerOptions) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(producer::LogProducer::new(Arc::clone(&self.shared), options)))
    }

    /// Done when this returns.
    fn fence(&self, transactional_id: &str) -> Box<dyn Fencing> {
        let doing = format!("fence `{transactional_id}`");
        Box::new(Fenced(self.shared.raise_epoch(transactional_id, &doing).map(|_| ())))
    }
}

struct Fenced(Result<(), Error>);

impl Fencing for Fenced {
    fn poll(&mut self) -> Option<Result<(), Error>> {
        Some(self.0.clone())
    }
}

impl Shared {
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `batch` for whoever holds the book. After a failure nothing more is written (see [`Book::failed`]).
    pub fn write(&self, book: &mut Book, batch: WriteBatch, doing: &str) -> Result<(), Error> {
        if let Some(cause) = &book.failed {
            let cause = format!("an earlier write failed: {cause}\nhint: free disk space, then start again");
            return Err(Error::new(ErrorKind::Fatal, doing, cause));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.set_sync(self.options.sync);
        self.storage.db.write_opt(batch, &options).map_err(|e| {
            tracing::error!(error = %e, "a write to the log failed; it is read-only until it is opened anew");
            book.failed = Some(e.to_string());
            failed(doing, &e)
        })
    }

    /// Makes `id` that of a new producer and ends the open transaction of the old one.
    pub fn raise_epoch(&self, id: &str, doing: &str) -> Result<i64, Error> {
        let mut book = self.book();
        let epoch = book.producers.get(id).map_or(0, |p| p.epoch) + 1;
        let reserved = book.producers.get(id).map(|p| p.reserved.clone()).unwrap_or_default();
        let mut batch = WriteBatch::default();
        batch.put_cf(self.storage.book()?, book::producer_key(id), epoch.to_le_bytes());
        book.give_back(&self.storage, &mut batch, id)?;
        self.write(&mut book, batch, doing)?;
        book.producers.entry(id.to_owned()).or_default().epoch = epoch;
        book.publish_all(&reserved);
        drop(book);
        self.tell();
        Ok(epoch)
    }

    /// Wakes readers: there may be something to read.
    pub fn tell(&self) {
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.told.notify_all();
    }

    pub fn news(&self) -> u64 {
        *self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something happened after `seen`, at most until `deadline`. Whether something did.
    pub fn wait(&self, seen: u64, deadline: Instant) -> bool {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        while *news == seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (news, _) = self
                .told
                .wait_timeout(news, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(e) = self.storage.db.flush_wal(true) {
            tracing::warn!(error = %e, "the log was not synced when it was closed");
        }
    }
}
