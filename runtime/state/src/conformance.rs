//! What every [`Backend`] must do, as a test that its own crate runs.

use crate::backend::{Backend, Bounds, Change, Changes, Error};
use crate::bytes::Bytes;

/// A fresh, empty backend a call.
pub type Open<'a> = &'a mut dyn FnMut() -> Result<Box<dyn Backend>, Error>;

/// # Errors
/// The first thing that is not as it must be.
pub fn run(open: Open<'_>) -> Result<(), String> {
    points(open().map_err(text)?.as_mut()).map_err(|e| format!("points: {e}"))?;
    scans(open().map_err(text)?.as_mut()).map_err(|e| format!("scans: {e}"))?;
    offsets(open().map_err(text)?.as_mut()).map_err(|e| format!("offsets: {e}"))?;
    snapshots(open().map_err(text)?.as_mut()).map_err(|e| format!("snapshots: {e}"))
}

fn text(error: Error) -> String {
    error.to_string()
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, expected {expected:?}"))
    }
}

fn put(store: usize, key: &[u8], value: &[u8]) -> Change {
    Change::Put {
        store,
        key: Bytes::new(key),
        value: Bytes::new(value),
    }
}

fn delete(store: usize, key: &[u8]) -> Change {
    Change::Delete {
        store,
        key: Bytes::new(key),
    }
}

fn apply(backend: &mut dyn Backend, changes: Vec<Change>) -> Result<(), String> {
    backend
        .apply(&Changes {
            changes,
            offsets: Vec::new(),
            ..Changes::default()
        })
        .map_err(text)
}

fn points(backend: &mut dyn Backend) -> Result<(), String> {
    let get = |backend: &mut dyn Backend, store, key: &[u8]| backend.get(store, key).map_err(text);
    expect("an empty store", get(backend, 0, b"a")?, None)?;
    apply(
        backend,
        vec![
            put(0, b"a", b"0a"),
            put(1, b"a", b"1a"),
            put(0, b"", b"empty key"),
            put(0, b"e", b""),
        ],
    )?;
    expect("store 0", get(backend, 0, b"a")?, Some(b"0a".to_vec()))?;
    expect("store 1", get(backend, 1, b"a")?, Some(b"1a".to_vec()))?;
    expect("an empty key", get(backend, 0, b"")?, Some(b"empty key".to_vec()))?;
    expect("an empty value is not absent", get(backend, 0, b"e")?, Some(Vec::new()))?;
    apply(
        backend,
        vec![delete(0, b"a"), delete(0, b"never there"), put(1, b"a", b"2")],
    )?;
    expect("deleted", get(backend, 0, b"a")?, None)?;
    expect("overwritten", get(backend, 1, b"a")?, Some(b"2".to_vec()))?;
    backend.flush().map_err(text)?;
    expect("after a flush", get(backend, 1, b"a")?, Some(b"2".to_vec()))?;
    backend.wipe().map_err(text)?;
    expect("after a wipe", get(backend, 1, b"a")?, None)?;
    apply(backend, vec![put(1, b"a", b"3")])?;
    expect("written after a wipe", get(backend, 1, b"a")?, Some(b"3".to_vec()))
}

fn collect(backend: &dyn Backend, bounds: &Bounds, descending: bool, limit: usize) -> Result<Vec<Vec<u8>>, String> {
    let mut keys = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        keys.push([key, b"=", value].concat());
        keys.len() < limit
    };
    backend.scan(0, bounds, descending, visit).map_err(text)?;
    Ok(keys)
}

fn scans(backend: &mut dyn Backend) -> Result<(), String> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let keys: [&[u8]; 6] = [b"", b"\x00", b"a", b"ab", b"b", b"\xff\xff"];
    apply(backend, keys.iter().rev().map(|k| put(0, k, b"v")).collect())?;
    apply(backend, vec![put(1, b"aa", b"another store's")])?;
    let bound = |kind: u8, key: &[u8]| match kind {
        0 => Unbounded,
        1 => Included(key.to_vec()),
        _ => Excluded(key.to_vec()),
    };
    let probes: [&[u8]; 5] = [b"", b"a", b"aa", b"b", b"\xff\xff"];
    for (kind, lower) in (0..3).flat_map(|k| probes.map(|p| (k, p))) {
        for (upper_kind, upper) in (0..3).flat_map(|k| probes.map(|p| (k, p))) {
            let bounds = Bounds {
                lower: bound(kind, lower),
                upper: bound(upper_kind, upper),
            };
            let inside = |key: &[u8]| {
                let above = kind == 0 || (kind == 1 && key >= lower) || (kind == 2 && key > lower);
                above && (upper_kind == 0 || (upper_kind == 1 && key <= upper) || (upper_kind == 2 && key < upper))
            };
            let mut expected: Vec<Vec<u8>> = keys
                .iter()
                .filter(|k| inside(k))
                .map(|k| [*k, b"=v"].concat())
                .collect();
            expect(
                &format!("{bounds:?} ascending"),
                collect(backend, &bounds, false, 99)?,
                expected.clone(),
            )?;
            expected.reverse();
            expect(
                &format!("{bounds:?} descending"),
                collect(backend, &bounds, true, 99)?,
                expected,
            )?;
        }
    }
    expect(
        "a scan that is ended",
        collect(backend, &Bounds::all(), false, 2)?.len(),
        2,
    )?;
    let prefixed = collect(backend, &Bounds::prefix(b"\xff"), false, 9)?;
    expect("a prefix without upper bound", prefixed.len(), 1)?;
    expect("a prefix", collect(backend, &Bounds::prefix(b"a"), false, 9)?.len(), 2)
}

fn offsets(backend: &mut dyn Backend) -> Result<(), String> {
    expect("unknown", backend.offset(0).map_err(text)?, None)?;
    backend
        .apply(&Changes {
            changes: vec![put(0, b"a", b"1")],
            offsets: vec![(0, 7), (2, 1)],
            ..Changes::default()
        })
        .map_err(text)?;
    backend
        .apply(&Changes {
            changes: vec![put(1, b"a", b"1")],
            offsets: vec![(1, 3)],
            ..Changes::default()
        })
        .map_err(text)?;
    let all = [backend.offset(0), backend.offset(1), backend.offset(2)].map(|o| o.ok().flatten());
    expect("offsets", all, [Some(7), Some(3), Some(1)])?;
    expect(
        "no offset among the entries",
        collect(backend, &Bounds::all(), false, 9)?.len(),
        1,
    )?;
    backend.wipe().map_err(text)?;
    expect("after a wipe", backend.offset(0).map_err(text)?, None)
}

fn snapshots(backend: &mut dyn Backend) -> Result<(), String> {
    apply(backend, vec![put(0, b"a", b"1"), put(0, b"b", b"1")])?;
    let snapshot = backend.snapshot().map_err(text)?;
    apply(backend, vec![put(0, b"a", b"2"), delete(0, b"b"), put(0, b"c", b"2")])?;
    expect("point read", snapshot.get(0, b"a").map_err(text)?, Some(b"1".to_vec()))?;
    let mut keys = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        true
    };
    snapshot.scan(0, &Bounds::all(), true, visit).map_err(text)?;
    expect("scan", keys, vec![b"b".to_vec(), b"a".to_vec()])
}
