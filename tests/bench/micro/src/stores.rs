//! Overlay, object cache and RocksDB.

use crate::{KEYS, Part, ROWS, key, scattered};
use state::memory::Memory;
use state::{StoreSpec, Stores};
use std::hint::black_box;

/// Entries of one commit: what 100 ms of a fast `count` change.
const COMMIT: usize = 20_000;

fn keys() -> Vec<String> {
    (0..KEYS).map(|number| key(scattered(number))).collect()
}

fn spec() -> Vec<StoreSpec> {
    vec![StoreSpec {
        name: "counts".into(),
        timestamped: true,
    }]
}

/// Keys that neither overlay nor cache have, 20,000 of them; they are dropped again, which is counted as well.
pub fn overlay_insert() -> Part {
    let keys = keys();
    let mut stores = Stores::new(spec(), Box::new(Memory::default()), 64 << 20);
    let run = move || {
        for key in keys.iter().take(COMMIT) {
            stores.write(0, key.as_bytes(), Some(&[7; 16]), 1).unwrap();
        }
        black_box(stores.uncommitted(0).len());
        stores.discard();
    };
    (COMMIT, Box::new(run))
}

/// Keys that the overlay has already.
pub fn overlay_change() -> Part {
    let keys = keys();
    let mut stores = Stores::new(spec(), Box::new(Memory::default()), 64 << 20);
    let run = move || {
        for key in keys.iter().take(COMMIT) {
            stores.write(0, key.as_bytes(), Some(&[7; 16]), 2).unwrap();
        }
    };
    (COMMIT, Box::new(run))
}

/// Committed values that the object cache holds.
pub fn cache_hit() -> Part {
    let keys = keys();
    let mut stores = Stores::new(spec(), Box::new(Memory::default()), 64 << 20);
    for key in keys.iter().take(ROWS) {
        stores.write(0, key.as_bytes(), Some(&[7; 16]), 1).unwrap();
    }
    stores.applied(&[(0, 1)]).unwrap();
    let run = move || {
        for key in keys.iter().take(ROWS) {
            black_box(stores.read(0, key.as_bytes(), |value| value.map(<[u8]>::len)).unwrap());
        }
    };
    (ROWS, Box::new(run))
}

/// Stores on RocksDB in a directory of its own, and the directory.
fn on_rocks(cache_bytes_max: usize) -> (Stores, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let memory = rocks::Memory::new(256 << 20);
    let directory = rocks::Directory::open(folder.path(), &["counts".to_owned()], &memory).unwrap();
    let stores = Stores::new(spec(), Box::new(rocks::Database::new(directory)), cache_bytes_max);
    (stores, folder)
}

/// Reads that reach RocksDB: 100,000 keys that were flushed, no object cache.
pub fn rocks_get() -> Part {
    let (keys, (mut stores, folder)) = (keys(), on_rocks(0));
    for key in &keys {
        stores.write(0, key.as_bytes(), Some(&[7; 16]), 1).unwrap();
    }
    stores.applied(&[(0, 1)]).unwrap();
    stores.flush().unwrap();
    let mut at = 0;
    let run = move || {
        _ = &folder;
        for _ in 0..ROWS {
            at = (at + 1) % keys.len();
            black_box(
                stores
                    .read(0, keys[at].as_bytes(), |value| value.map(<[u8]>::len))
                    .unwrap(),
            );
        }
    };
    (ROWS, Box::new(run))
}

/// 20,000 changes in the overlay and a commit of them, which RocksDB is told of now and then.
pub fn rocks_commit() -> Part {
    let (keys, (mut stores, folder)) = (keys(), on_rocks(16 << 20));
    let (mut at, mut offset) = (0, 0);
    let run = move || {
        _ = &folder;
        for _ in 0..COMMIT {
            at = (at + 1) % keys.len();
            stores.write(0, keys[at].as_bytes(), Some(&[7; 16]), 1).unwrap();
        }
        offset += COMMIT as i64;
        stores.applied(&[(0, offset)]).unwrap();
    };
    (COMMIT, Box::new(run))
}
