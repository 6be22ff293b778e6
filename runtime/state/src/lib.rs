//! The state of one task: stores over an overlay of uncommitted writes, an object cache and a backend.
//!
//! Writes between commits live in the [`Overlay`](overlay::Overlay) with savepoints; a commit applies one
//! [`Changes`] to the [`Backend`], atomically, with the changelog offsets that it reflects. Dropping the overlay is a
//! roll-back. The backend on RocksDB is in `rocks`, one in memory is here. Knows nothing of topics or tasks.

pub mod backend;
pub mod memory;
pub mod overlay;
pub mod stores;

mod bytes;
mod cache;
mod columns;
pub mod conformance;
mod global;
mod index;
mod scan;
mod windowed;

pub use backend::{Backend, Bounds, Change, Changes, Entry, Error, Snapshot};
pub use bytes::Bytes;
pub use columns::{Entries, Page, join, split};
pub use global::{GLOBAL_ROWS, GLOBAL_STORES, GlobalReader, GlobalTable};
pub use overlay::Overlay;
pub use stores::{Guess, NO_TIME, Savepoint, StoreSpec, Stores, TIMESTAMP_BYTES, Update};
pub use windowed::{Layout, WindowedKey};
