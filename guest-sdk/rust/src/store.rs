//! Stores as a processor sees them: typed, with its own writes visible at once, and few calls to the host.
//!
//! A buffer per store holds what a call has read and written. A row's writes are undone when the row is rejected and
//! cross to the host in columns at the end of the call. Nothing is kept from one call to the next, because the host
//! may have undone the last one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::wasmill::data::columns::Column;
use crate::bindings::wasmill::state::key_value::Entries as Columns;
use crate::columns::ColumnBuilder;
use crate::format::{Encode, Format};
use crate::host;

/// Writes cross to the host in pieces of at most so many bytes, well below its limit for one call.
const PUT_BYTES_MAX: usize = 4 << 20;
/// Entries asked for at once in a scan: enough to make the call cheap, few enough to be held in memory.
const PAGE_ROWS_MAX: u32 = 1_000;

type Value = Option<Box<[u8]>>;

/// Why what a store holds cannot be read as its declared format. With `?` the row fails as `on-error` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An ordered map of the task. Keys are ordered by their bytes, so `i64` keys below zero come last.
pub struct KeyValue<K, V> {
    buffer: Rc<Buffer>,
    format: PhantomData<fn() -> (K, V)>,
}

impl<K: Format, V: Format> KeyValue<K, V> {
    pub(crate) fn new(buffer: Rc<Buffer>) -> Self {
        KeyValue {
            buffer,
            format: PhantomData,
        }
    }

    fn key(&self, key: impl Encode<K>) -> Vec<u8> {
        self.buffer.bytes(key).unwrap_or_default()
    }

    /// The value of a key. Fails when the stored bytes are not of the declared format.
    pub fn get(&self, key: impl Encode<K>) -> Result<Option<V::Value>, Unreadable> {
        let bytes = self.buffer.get(&self.key(key));
        bytes
            .map(|bytes| V::decode(Some(&bytes)).map_err(|e| self.buffer.unreadable("value", &e)))
            .transpose()
    }

    /// Sets a value.
    pub fn put(&self, key: impl Encode<K>, value: impl Encode<V>) {
        let key = self.key(key);
        let value = self.buffer.bytes(value);
        self.buffer.write(&key, value.map(Vec::into_boxed_slice));
    }

    /// Deletes a key, if it is there.
    pub fn delete(&self, key: impl Encode<K>) {
        self.buffer.write(&self.key(key), None);
    }

    /// Reads these keys (in bytes, as [`crate::Rows::keys`] gives them) in one call to the host, so that
    /// [`KeyValue::get`] finds them. Only for speed: a key that was not fetched is asked for on its own.
    pub fn fetch<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) {
        self.buffer.fetch(keys);
    }

    /// The same for keys that are made from the rows.
    pub fn fetch_keys(&self, keys: impl IntoIterator<Item = impl Encode<K>>) {
        let keys: Vec<Vec<u8>> = keys.into_iter().map(|key| self.key(key)).collect();
        self.buffer.fetch(keys.iter().map(Vec::as_slice));
    }

    /// All entries in the order of the keys' bytes, as they are now; writes during the iteration do not change it.
    /// An entry that cannot be read ends the iteration and fails the row or the punctuation.
    pub fn all(&self) -> Entries<K, V> {
        self.scan(None, None)
    }

    /// The entries with `lower <= key < upper`.
    pub fn range(&self, lower: impl Encode<K>, upper: impl Encode<K>) -> Entries<K, V> {
        self.scan(Some(self.key(lower)), Some(self.key(upper)))
    }

    /// The entries whose key's bytes start with `prefix`.
    pub fn prefix(&self, prefix: &[u8]) -> Entries<K, V> {
        let mut upper = prefix.to_vec();
        while upper.last() == Some(&0xff) {
            upper.pop();
        }
        let bounded = upper.last_mut().map(|last| *last += 1).is_some();
        self.scan(Some(prefix.to_vec()), bounded.then_some(upper))
    }

    fn scan(&self, lower: Option<Vec<u8>>, upper: Option<Vec<u8>>) -> Entries<K, V> {
        let written = self.buffer.written(lower.as_deref(), upper.as_deref());
        let scan = Scan {
            buffer: Rc::clone(&self.buffer),
            lower,
            upper,
            started: false,
            page: Vec::new().into_iter().peekable(),
            more: true,
            written: written.into_iter().peekable(),
        };
        Entries {
            scan,
            format: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for KeyValue<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyValue({})", self.buffer.name)
    }
}

/// An iterator over entries of a store. It reads pages; there is nothing to close.
pub struct Entries<K, V> {
    scan: Scan,
    format: PhantomData<fn() -> (K, V)>,
}

impl<K: Format, V: Format> Iterator for Entries<K, V> {
    type Item = (K::Value, V::Value);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.scan.next()?;
        let buffer = &self.scan.buffer;
        let entry = K::decode(Some(&key))
            .map_err(|e| buffer.unreadable("key", &e))
            .and_then(|key| {
                Ok((
                    key,
                    V::decode(Some(&value)).map_err(|e| buffer.unreadable("value", &e))?,
                ))
            });
        entry.map_err(|error| buffer.remember_error(error.0)).ok()
    }
}

type Bytes = Box<[u8]>;

/// Merges the host's pages with what this call has written and not yet handed over.
struct Scan {
    buffer: Rc<Buffer>,
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
    /// Whether `lower` is a key that was already seen.
    started: bool,
    page: std::iter::Peekable<std::vec::IntoIter<(Bytes, Bytes)>>,
    more: bool,
    written: std::iter::Peekable<std::vec::IntoIter<(Rc<[u8]>, Value)>>,
}

impl Scan {
    fn next(&mut self) -> Option<(Bytes, Bytes)> {
        loop {
            while self.page.peek().is_none() && self.more {
                self.read_page();
            }
            let ours = match (self.page.peek(), self.written.peek()) {
                (None, None) => return None,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some((theirs, _)), Some((ours, _))) => {
                    let (theirs, ours) = (theirs.as_ref(), ours.as_ref());
                    if theirs == ours {
                        self.page.next(); // overwritten by this call
                        true
                    } else {
                        ours < theirs
                    }
                }
            };
            if !ours {
                return self.page.next();
            }
            if let Some((key, Some(value))) = self.written.next() {
                return Some((key.as_ref().into(), value));
            }
        }
    }

    fn read_page(&mut self) {
        let page = host::range(
            self.buffer.store,
            self.lower.as_deref(),
            self.upper.as_deref(),
            self.started,
            PAGE_ROWS_MAX,
        );
        let keys = page.entries.keys.iter();
        let rows: Vec<(Bytes, Bytes)> = keys
            .zip(page.entries.values.iter())
            .filter_map(|(key, value)| Some((Box::from(key?), Box::from(value?))))
            .collect();
        self.more = page.more && !rows.is_empty();
        if let Some((last, _)) = rows.last() {
            self.lower = Some(last.to_vec());
            self.started = true;
        }
        self.page = rows.into_iter().peekable();
    }
}

/// What a call knows of one store.
pub(crate) struct Buffer {
    pub(crate) name: String,
    store: u32,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    index: HashMap<Rc<[u8]>, usize, BuildHasherDefault<KeyHasher>>,
    entries: Vec<Entry>,
    /// Entries that differ from the host's, in the order in which they were first written.
    dirty: Vec<usize>,
    /// What the running row has overwritten, to be put back if it is rejected.
    undo: Vec<(usize, Known, bool)>,
    error: Option<String>,
}

/// What a key holds; `None`: the host was not asked yet.
type Known = Option<Value>;

struct Entry {
    key: Rc<[u8]>,
    value: Known,
    dirty: bool,
}

impl Inner {
    /// The entry of a key, made where there is none.
    fn at(&mut self, key: &[u8]) -> usize {
        if let Some(at) = self.index.get(key) {
            return *at;
        }
        let key: Rc<[u8]> = key.into();
        let at = self.entries.len();
        self.entries.push(Entry {
            key: Rc::clone(&key),
            value: None,
            dirty: false,
        });
        self.index.insert(key, at);
        at
    }
}

impl Buffer {
    pub(crate) fn new(name: String, store: u32) -> Self {
        Buffer {
            name,
            store,
            inner: RefCell::default(),
        }
    }

    /// Encodes; what cannot be encoded fails the row.
    fn bytes<F: Format>(&self, value: impl Encode<F>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match value.encode(&mut out) {
            Ok(present) => present.then_some(out),
            Err(error) => {
                self.remember_error(format!("store `{}`: {error}", self.name));
                None
            }
        }
    }

    fn unreadable(&self, part: &str, error: &crate::Undecodable) -> Unreadable {
        Unreadable(format!(
            "store `{}` holds a {part} that cannot be read: {error}",
            self.name
        ))
    }

    fn remember_error(&self, error: String) {
        self.inner.borrow_mut().error.get_or_insert(error);
    }

    fn get(&self, key: &[u8]) -> Value {
        let mut inner = self.inner.borrow_mut();
        let at = inner.at(key);
        let entry = inner.entries.get_mut(at)?;
        let value = entry.value.get_or_insert_with(|| {
            let mut asked = ColumnBuilder::with_capacity(1, key.len());
            asked.push(Some(key));
            host::get(self.store, &asked.finish()).values.row(0).map(Box::from)
        });
        value.clone()
    }

    fn write(&self, key: &[u8], value: Value) {
        let mut inner = self.inner.borrow_mut();
        let at = inner.at(key);
        let Some(entry) = inner.entries.get_mut(at) else { return };
        let before = entry.value.replace(value);
        let was_dirty = std::mem::replace(&mut entry.dirty, true);
        if !was_dirty {
            inner.dirty.push(at);
        }
        inner.undo.push((at, before, was_dirty));
    }

    fn fetch<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) {
        let mut inner = self.inner.borrow_mut();
        let (mut asked, mut entries) = (ColumnBuilder::default(), Vec::new());
        for key in keys {
            let at = inner.at(key);
            if let Some(entry) = inner.entries.get_mut(at).filter(|entry| entry.value.is_none()) {
                entry.value = Some(None);
                asked.push(Some(key));
                entries.push(at);
            }
        }
        if entries.is_empty() {
            return;
        }
        let found: Column = host::get(self.store, &asked.finish()).values;
        for (at, value) in entries.into_iter().zip(found.iter()) {
            if let Some(entry) = inner.entries.get_mut(at) {
                entry.value = Some(value.map(Box::from));
            }
        }
    }

    /// What was written and lies within the bounds, in the order of keys.
    fn written(&self, lower: Option<&[u8]>, upper: Option<&[u8]>) -> Vec<(Rc<[u8]>, Value)> {
        let inner = self.inner.borrow();
        let mut written: Vec<(Rc<[u8]>, Value)> = inner
            .dirty
            .iter()
            .filter_map(|at| inner.entries.get(*at))
            .filter(|entry| lower.is_none_or(|lower| &*entry.key >= lower))
            .filter(|entry| upper.is_none_or(|upper| &*entry.key < upper))
            .map(|entry| (Rc::clone(&entry.key), entry.value.clone().flatten()))
            .collect();
        written.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        written
    }

    /// Forgets everything: a call begins.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.index.clear();
        inner.entries.clear();
        inner.dirty.clear();
        inner.undo.clear();
        inner.error = None;
    }

    /// The running row went well.
    pub(crate) fn keep(&self) {
        self.inner.borrow_mut().undo.clear();
    }

    /// The running row was rejected: what it wrote was never written.
    pub(crate) fn undo(&self) {
        let mut inner = self.inner.borrow_mut();
        let Inner {
            undo, entries, dirty, ..
        } = &mut *inner;
        while let Some((at, before, was_dirty)) = undo.pop() {
            let Some(entry) = entries.get_mut(at) else { continue };
            entry.value = before;
            entry.dirty = was_dirty;
            if !was_dirty {
                dirty.pop();
            }
        }
    }

    /// An error that had no place to be returned: of a write, or inside an iteration.
    pub(crate) fn take_error(&self) -> Option<String> {
        self.inner.borrow_mut().error.take()
    }

    /// Hands the writes of the call to the host.
    pub(crate) fn flush(&self) {
        let inner = self.inner.borrow();
        let mut rows = inner.dirty.iter().filter_map(|at| inner.entries.get(*at)).peekable();
        while rows.peek().is_some() {
            let (mut keys, mut values) = (ColumnBuilder::default(), ColumnBuilder::default());
            while keys.bytes() + values.bytes() < PUT_BYTES_MAX {
                let Some(entry) = rows.next() else { break };
                keys.push(Some(&entry.key));
                values.push(entry.value.as_ref().and_then(Option::as_deref));
            }
            let entries = Columns {
                keys: keys.finish(),
                values: values.finish(),
                timestamps: Vec::new(),
            };
            host::put(self.store, &entries);
        }
    }
}

/// A quick hash for short keys. Its seed is fixed, as every seed in a guest would be: there is no randomness there.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            self.write_u64(word.try_into().map_or(0, u64::from_le_bytes));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(words.remainder()) {
            *to = *from;
        }
        self.write_u64(u64::from_le_bytes(last));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        // The map takes its buckets from the low bits and its tags from the high ones.
        self.0 ^ (self.0 >> 32)
    }
}
