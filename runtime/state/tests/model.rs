//! Stores against a model: a `BTreeMap` a store, copied at savepoints and commits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use state::memory::Memory;
use state::{Bounds, StoreSpec, Stores, Update};

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    Append(usize, Vec<u8>),
    DeleteRange(usize, Vec<u8>, Vec<u8>),
    Get(usize, Vec<u8>),
    Scan {
        store: usize,
        lower: Option<Vec<u8>>,
        upper: Option<Vec<u8>>,
        descending: bool,
        limit: usize,
    },
    Prefix(usize, Vec<u8>),
    Savepoint,
    Rollback,
    Release,
    Commit,
    Discard,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(255)], 0..3),
        // Longer than what a short key takes.
        prop::collection::vec(Just(b'x'), 20..26),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let store = || 0..2_usize;
    let value = || prop::collection::vec(any::<u8>(), 0..30);
    prop_oneof![
        6 => (store(), key(), value()).prop_map(|(s, k, v)| Step::Put(s, k, v)),
        3 => (store(), key()).prop_map(|(s, k)| Step::Delete(s, k)),
        4 => (store(), key()).prop_map(|(s, k)| Step::Append(s, k)),
        1 => (store(), key(), key()).prop_map(|(s, a, b)| Step::DeleteRange(s, a, b)),
        4 => (store(), key()).prop_map(|(s, k)| Step::Get(s, k)),
        4 => (store(), prop::option::of(key()), prop::option::of(key()), any::<bool>(), 1..20_usize).prop_map(
            |(store, lower, upper, descending, limit)| Step::Scan { store, lower, upper, descending, limit }
        ),
        2 => (store(), key()).prop_map(|(s, k)| Step::Prefix(s, k)),
        2 => Just(Step::Savepoint),
        2 => Just(Step::Rollback),
        1 => Just(Step::Release),
        1 => Just(Step::Commit),
        1 => Just(Step::Discard),
    ]
}

type Model = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

fn scan(stores: &mut Stores, store: usize, bounds: &Bounds, descending: bool, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        found.len() < limit
    };
    stores.scan(store, bounds, descending, visit).unwrap();
    found
}

fn within(
    model: &BTreeMap<Vec<u8>, Vec<u8>>,
    inside: impl Fn(&[u8]) -> bool,
    descending: bool,
    limit: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<_> = model
        .iter()
        .filter(|(k, _)| inside(k))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if descending {
        found.reverse();
    }
    found.truncate(limit);
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn stores_are_ordered_maps_with_savepoints(
        steps in prop::collection::vec(step(), 1..120),
        cache_bytes_max in prop_oneof![Just(0_usize), Just(400), Just(1 << 20)],
    ) {
        let spec = |name: &str| StoreSpec { name: name.into(), timestamped: false };
        let memory = Memory::default();
        let mut stores = Stores::new(vec![spec("a"), spec("b")], Box::new(memory.clone()), cache_bytes_max);
        let mut model: Model = Default::default();
        let mut committed: Model = Default::default();
        let mut savepoints = Vec::new();
        for step in steps {
            match step {
                Step::Put(s, k, v) => {
                    stores.write(s, &k, Some(&v), 1).unwrap();
                    model[s].insert(k, v);
                }
                Step::Delete(s, k) => {
                    stores.write(s, &k, None, 1).unwrap();
                    model[s].remove(&k);
                }
                Step::Append(s, k) => {
                    let change = |old: Option<&[u8]>, new: &mut Vec<u8>| {
                        new.extend_from_slice(old.unwrap_or_default());
                        new.push(7);
                        Ok::<_, state::Error>(Update::Put)
                    };
                    stores.modify(s, &k, 1, change).unwrap();
                    model[s].entry(k).or_default().push(7);
                }
                Step::DeleteRange(s, a, b) => {
                    stores.delete_range(s, &a, &b).unwrap();
                    model[s].retain(|k, _| !(*k >= a && *k < b));
                }
                Step::Get(s, k) => {
                    let found = stores.read(s, &k, |v| v.map(<[u8]>::to_vec)).unwrap();
                    prop_assert_eq!(found.as_ref(), model[s].get(&k));
                }
                Step::Scan { store, lower, upper, descending, limit } => {
                    let bounds = Bounds::half_open(lower.as_deref(), upper.as_deref());
                    let inside = |k: &[u8]| {
                        lower.as_ref().is_none_or(|l| k >= l.as_slice()) && upper.as_ref().is_none_or(|u| k < u.as_slice())
                    };
                    let expected = within(&model[store], inside, descending, limit);
                    prop_assert_eq!(scan(&mut stores, store, &bounds, descending, limit), expected);
                }
                Step::Prefix(s, prefix) => {
                    let expected = within(&model[s], |k| k.starts_with(&prefix), false, 99);
                    prop_assert_eq!(scan(&mut stores, s, &Bounds::prefix(&prefix), false, 99), expected);
                }
                Step::Savepoint => savepoints.push((stores.savepoint(), model.clone())),
                Step::Rollback => {
                    if let Some((savepoint, then)) = savepoints.pop() {
                        stores.rollback_to(&savepoint);
                        model = then;
                    }
                }
                Step::Release => {
                    stores.release();
                    savepoints.clear();
                }
                Step::Commit => {
                    stores.applied(&[(0, 1)]).unwrap();
                    committed = model.clone();
                    savepoints.clear();
                }
                Step::Discard => {
                    stores.discard();
                    model = committed.clone();
                    savepoints.clear();
                }
            }
        }
        for (s, expected) in model.iter().enumerate() {
            let all: Vec<_> = expected.clone().into_iter().collect();
            prop_assert_eq!(scan(&mut stores, s, &Bounds::all(), false, usize::MAX), all);
            stores.write_back().unwrap();
            let kept: Vec<_> = committed[s].clone().into_iter().collect();
            prop_assert_eq!(memory.entries(s), kept);
        }
        stores.discard();
        prop_assert_eq!(stores.overlay_bytes(), 0);
    }

    /// Changelog rows go out in the order in which keys first changed.
    #[test]
    fn changes_keep_the_order_of_the_first_one(keys in prop::collection::vec((key(), any::<bool>()), 1..40)) {
        let spec = StoreSpec { name: "a".into(), timestamped: false };
        let mut stores = Stores::new(vec![spec], Box::new(Memory::default()), 0);
        let mut expected: Vec<Vec<u8>> = Vec::new();
        for (key, undone) in keys {
            let savepoint = stores.savepoint();
            let bytes = stores.overlay_bytes();
            stores.write(0, &key, Some(&[1; 40]), 1).unwrap();
            if undone {
                stores.rollback_to(&savepoint);
                prop_assert_eq!(stores.overlay_bytes(), bytes);
            } else if !expected.contains(&key) {
                expected.push(key);
            }
        }
        let found: Vec<Vec<u8>> = stores.uncommitted(0).iter().map(|s| s.key.as_slice().to_vec()).collect();
        prop_assert_eq!(found, expected);
    }
}

/// A small store is read once, and then known whole: scans see every change, and nothing is written back for them.
#[test]
fn a_scan_of_a_small_store_writes_nothing_back() {
    let spec = StoreSpec {
        name: "a".into(),
        timestamped: false,
    };
    let memory = Memory::default();
    let mut stores = Stores::new(vec![spec.clone()], Box::new(memory.clone()), 1 << 20);
    stores.write(0, b"old", Some(b"1"), 1).unwrap();
    stores.applied(&[]).unwrap();
    stores.flush().unwrap();
    let mut stores = Stores::new(vec![spec], Box::new(memory.clone()), 1 << 20);
    let all = |stores: &mut Stores| {
        scan(stores, 0, &Bounds::all(), false, 9)
            .into_iter()
            .map(|(k, _)| k)
            .collect::<Vec<_>>()
    };
    for (key, value) in [(&b"b"[..], Some(&b"2"[..])), (b"a", Some(b"3")), (b"b", None)] {
        stores.write(0, key, value, 1).unwrap();
        stores.applied(&[]).unwrap();
        assert!(all(&mut stores).contains(&b"old".to_vec()));
    }
    assert_eq!(all(&mut stores), [b"a".to_vec(), b"old".to_vec()]);
    assert_eq!(memory.entries(0).len(), 1, "only what was flushed");
    stores.write_back().unwrap();
    assert_eq!(memory.entries(0).len(), 2);
}
