//! Topologies in code, as Kafka Streams' DSL has them: streams, closures over them, groups and their aggregates.
//!
//! ```
//! use wasmill_guest::dsl::*;
//! use wasmill_guest::prelude::*;
//!
//! struct WordCount;
//!
//! impl Application for WordCount {
//!     fn build(b: &mut Builder) {
//!         b.stream::<(), String>("lines")
//!             .flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
//!             .named("words")
//!             .group_by(|word| word.clone())
//!             .count()
//!             .named("counts")
//!             .to("counts");
//!     }
//! }
//!
//! wasmill_guest::application!(WordCount);
//! ```
//!
//! The host runs the topology: it repartitions, counts, keeps the stores. Closures stay here and are called with whole
//! batches. They are called again for a row that they have seen before, by this instance or by another, so they must
//! keep nothing.
//!
//! A value that is not in its format makes its row a dead letter of stage `deserialization`. A null value is given to a
//! closure only where the format is an `Option`: else `map_values` sends it on as null, and the others leave it out.
//! Values come bare (`T` of `Json<T>`) and are answered with their format (`Json(t)`).

mod calls;
mod draft;

pub use crate::application::Application;
pub use calls::Function;
pub(crate) use draft::Draft;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::format::{Datum, Encode, Format, FromBytes};
use crate::module::toml_string;
use draft::At;

/// Where a topology is written down.
#[derive(Default)]
pub struct Builder {
    draft: Shared,
}

type Shared = Rc<RefCell<Draft>>;

impl Builder {
    /// The records of an input port; the pipeline file says which topic or step it reads. `()` is any key, unread.
    /// Each port is named once; the stream can be used any number of times.
    pub fn stream<K: Format, V: Format>(&mut self, port: &str) -> Stream<K, V> {
        self.draft.borrow_mut().input::<K, V>(port);
        Stream::new(&self.draft, At::Port(port.to_owned()))
    }

    pub(crate) fn take(self) -> Draft {
        self.draft.take()
    }
}

/// Records with keys in format `K` and values in format `V`.
pub struct Stream<K, V> {
    draft: Shared,
    at: At,
    formats: PhantomData<fn() -> (K, V)>,
}

impl<K: Format, V: Format> Stream<K, V> {
    fn new(draft: &Shared, at: At) -> Self {
        Stream {
            draft: Rc::clone(draft),
            at,
            formats: PhantomData,
        }
    }

    fn then<K2: Format, V2: Format>(
        &self,
        operator: &'static str,
        options: &[(&str, &str)],
        function: Function,
    ) -> Stream<K2, V2> {
        let options = options.iter().map(|(name, text)| (*name, toml_string(text)));
        let at = self
            .draft
            .borrow_mut()
            .node(operator, &self.at, options.collect(), Some(function));
        Stream::new(&self.draft, at)
    }

    /// Names the node that made this stream. A node without state may go without: it is called by its operator then.
    pub fn named(self, name: &str) -> Self {
        self.draft.borrow_mut().name(&self.at, name);
        self
    }

    /// The records for whose value `keep` answers `true`, as they are.
    pub fn filter(&self, keep: impl Fn(&V::Value) -> bool + 'static) -> Stream<K, V> {
        self.then("filter", &[], calls::filter::<V>(keep))
    }

    /// Another value for each record; keys stay.
    pub fn map_values<D: Datum>(&self, map: impl Fn(V::Value) -> D + 'static) -> Stream<K, D::Format> {
        let options = [("result", D::Format::NAME)];
        self.then("map-values", &options, calls::map_values::<V, D>(map))
    }

    /// Any number of values for each record; keys stay.
    pub fn flat_map_values<I: IntoIterator<Item: Datum>>(
        &self,
        map: impl Fn(V::Value) -> I + 'static,
    ) -> Stream<K, <I::Item as Datum>::Format> {
        let options = [("result", <I::Item as Datum>::Format::NAME)];
        self.then("flat-map-values", &options, calls::flat_map_values::<V, I>(map))
    }

    /// A new key for each record, from its value.
    pub fn select_key<D: Datum>(&self, key: impl Fn(&V::Value) -> D + 'static) -> Stream<D::Format, V> {
        let options = [("key-result", D::Format::NAME)];
        self.then("select-key", &options, calls::select_key::<V, D>(key))
    }

    /// A new key and value for each record, from both.
    pub fn map<A: Datum, B: Datum>(
        &self,
        map: impl Fn(K::Value, V::Value) -> (A, B) + 'static,
    ) -> Stream<A::Format, B::Format> {
        let options = [("key-result", A::Format::NAME), ("result", B::Format::NAME)];
        self.then("map", &options, calls::map::<K, V, A, B>(map))
    }

    /// Any number of keys and values for each record, from both.
    pub fn flat_map<A: Datum, B: Datum, I: IntoIterator<Item = (A, B)>>(
        &self,
        map: impl Fn(K::Value, V::Value) -> I + 'static,
    ) -> Stream<A::Format, B::Format> {
        let options = [("key-result", A::Format::NAME), ("result", B::Format::NAME)];
        self.then("flat-map", &options, calls::flat_map::<K, V, A, B, I>(map))
    }

    /// Groups of what `key` gives: as [`Stream::select_key`], then [`Stream::group_by_key`].
    pub fn group_by<D: Datum>(&self, key: impl Fn(&V::Value) -> D + 'static) -> Grouped<D::Format, V> {
        self.select_key(key).group_by_key()
    }

    /// Groups of one key. Where keys have changed, the aggregate makes a repartition topic of its own name.
    pub fn group_by_key(&self) -> Grouped<K, V> {
        Grouped {
            stream: Stream::new(&self.draft, self.at.clone()),
        }
    }

    /// Sends the records out of an output port; the pipeline file says where to. One stream for each port.
    pub fn to(&self, port: &str) {
        self.draft.borrow_mut().output::<K, V>(port, &self.at);
    }
}

/// Records that are about to be aggregated by key. Those with a null key or value are left out, as in Kafka Streams.
pub struct Grouped<K, V> {
    stream: Stream<K, V>,
}

impl<K: Format, V: Format> Grouped<K, V> {
    /// How many records each key has had. Runs in the host alone.
    pub fn count(&self) -> Table<K, i64> {
        self.table("count", Vec::new(), None)
    }

    /// The records of a key put together, from `init` on. A null (`None` of an `Option`) removes the key.
    pub fn aggregate<A>(
        &self,
        init: impl Fn() -> A + 'static,
        add: impl Fn(A, V::Value) -> A + 'static,
    ) -> Table<K, <A as Datum>::Format>
    where
        A: Datum + for<'a> FromBytes<'a>,
    {
        let options = vec![("result", toml_string(<A as Datum>::Format::NAME))];
        self.table("aggregate", options, Some(calls::aggregate::<V, A>(init, add)))
    }

    /// The values of a key put together two at a time, from the first on.
    pub fn reduce(&self, reduce: impl Fn(V::Value, V::Value) -> V::Value + 'static) -> Table<K, V>
    where
        V: 'static,
        V::Value: Encode<V>,
    {
        let options = vec![("result", toml_string(V::NAME))];
        self.table("reduce", options, Some(calls::reduce::<V>(reduce)))
    }

    fn table<A: Format>(
        &self,
        operator: &'static str,
        options: Vec<(&str, String)>,
        function: Option<Function>,
    ) -> Table<K, A> {
        let Stream { draft, at, .. } = &self.stream;
        let at = draft.borrow_mut().node(operator, at, options, function);
        draft.borrow_mut().has_store(&at);
        Table {
            stream: Stream::new(draft, at),
        }
    }
}

/// When a table's changes go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// Each of them: what a table does unless it is told otherwise.
    EveryUpdate,
    /// The last one of each key, at the commit. Of `count` only.
    OnCommit,
}

/// A value for each key, in a store of the host: it can be queried by its name.
pub struct Table<K, V> {
    stream: Stream<K, V>,
}

impl<K: Format, V: Format> Table<K, V> {
    /// The name of the table and of its store, which every table must have: state is never named by a counter.
    pub fn named(self, name: &str) -> Self {
        Table {
            stream: self.stream.named(name),
        }
    }

    /// Says when changes go on.
    pub fn emit(self, emit: Emit) -> Self {
        let word = match emit {
            Emit::EveryUpdate => return self,
            Emit::OnCommit => "on-commit",
        };
        let Stream { draft, at, .. } = &self.stream;
        draft.borrow_mut().option(at, "emit", toml_string(word));
        self
    }

    /// Its changes as a stream.
    pub fn to_stream(&self) -> Stream<K, V> {
        let Stream { draft, at, .. } = &self.stream;
        let at = draft.borrow_mut().node("to-stream", at, Vec::new(), None);
        Stream::new(draft, at)
    }

    /// Sends its changes out of an output port, as [`Stream::to`] does.
    pub fn to(&self, port: &str) {
        self.stream.to(port);
    }
}

#[cfg(test)]
mod tests;
