//! Runs a module natively, without WebAssembly and without a broker: records in, records out, time at will.
//!
//! ```
//! use wasmill_guest::prelude::*;
//!
//! struct Doubled { numbers: Input<String, i64>, doubled: Output<String, i64> }
//!
//! impl Processor for Doubled {
//!     fn declare(m: &mut Module) -> Self {
//!         Doubled { numbers: m.input("numbers"), doubled: m.output("doubled") }
//!     }
//!     fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
//!         if let Some(n) = row.of(&self.numbers)? {
//!             out.send(&self.doubled, &n.key, n.value * 2);
//!         }
//!         done()
//!     }
//! }
//!
//! let mut t = testing::run::<Doubled>().start();
//! t.pipe("numbers", "a", 21, 1_000);
//! t.pipe("numbers", "b", "not eight bytes", 1_001);
//! assert_eq!(t.read::<String, i64>("doubled"), [testing::sent("a".to_owned(), 42, 1_000)]);
//! assert!(t.dead_letters()[0].reason.starts_with("deserialization: value"));
//! ```
//!
//! It follows the order of a task (a record, then the punctuations that it made due), not its commits, retries and
//! failure policies: what the module answered is there to be looked at. What is misused panics, as in any test.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::bindings::wasmill::data::columns::{Batch, Now};
use crate::bindings::wasmill::log::log::Level;
use crate::bindings::wasmill::streams::answers::{Answer, Disposition, Emitted, Rows};
use crate::bindings::wasmill::streams::description::{Description, Setting, Task, Value};
use crate::bindings::wasmill::timers::timers::Clock;
use crate::columns::{ColumnBuilder, bit};
use crate::component::{Component, Running};
use crate::format::{Datum, Format};
use crate::module::Parameter;
use crate::processor::Processor;

pub(crate) mod fake;
pub(crate) mod outside;
mod settings;
mod view;

pub use view::StoreView;

/// The call that a test describes a module with before it starts it.
pub fn run<P: Processor>() -> Start<Running<P>> {
    module()
}

/// A processor under test: what a function takes that helps with testing `P`.
pub type Test<P> = Module<Running<P>>;

/// The same for a module of one function: `testing::module::<Stateless>()`.
pub fn module<C: Component>() -> Start<C> {
    Start {
        settings: Vec::new(),
        wall_time: 0,
        outside: outside::Outside::default(),
        component: std::marker::PhantomData,
    }
}

/// Settings of a module that is to be tested.
pub struct Start<C> {
    settings: Vec<Setting>,
    wall_time: i64,
    outside: outside::Outside,
    component: std::marker::PhantomData<C>,
}

impl<C: Component> Start<C> {
    /// Gives a parameter a value, as a pipeline file would.
    pub fn param(mut self, name: &str, value: impl Given) -> Self {
        self.settings.push(Setting {
            name: name.to_owned(),
            value: value.value(),
        });
        self
    }

    /// Starts the wall clock at this time, in milliseconds since 1970 UTC; 0 unless said otherwise.
    pub fn wall_time(mut self, ms: i64) -> Self {
        self.wall_time = ms;
        self
    }

    /// Opens the module. Panics with its error if it refuses.
    pub fn start(self) -> Module<C> {
        self.try_start()
            .unwrap_or_else(|error| panic!("failed to open the module: {error}"))
    }

    /// Opens the module, or answers why it refuses.
    pub fn try_start(self) -> Result<Module<C>, String> {
        let description = C::describe("test", "0.0.0", "");
        let settings = settings::complete(&description, self.settings)?;
        let host = fake::Host {
            stores: vec![BTreeMap::new(); description.stores.len()],
            stream_time: -1,
            wall_time: self.wall_time,
            outside: self.outside,
            ..fake::Host::default()
        };
        let host = Rc::new(RefCell::new(host));
        let component = open(&host, &settings)?;
        let sent = description.outputs.iter().map(|_| VecDeque::new()).collect();
        Ok(Module {
            description,
            settings,
            host,
            component,
            sent,
            rejected: Vec::new(),
        })
    }
}

fn open<C: Component>(host: &Rc<RefCell<fake::Host>>, settings: &[Setting]) -> Result<C, String> {
    let task = Task {
        pipeline: "test".to_owned(),
        step: "test".to_owned(),
        sub_topology: 0,
        partition: 0,
    };
    fake::call(host, || C::open(settings.to_vec(), task))
}

/// A value of a parameter as a test writes it.
pub trait Given {
    #[doc(hidden)]
    fn value(self) -> Value;
}

impl<T: Parameter> Given for T {
    fn value(self) -> Value {
        self.to_value()
    }
}

impl Given for &str {
    fn value(self) -> Value {
        Value::Text(self.to_owned())
    }
}

/// A record as it was read from an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time in milliseconds.
    pub timestamp: i64,
}

/// A record to compare with.
pub fn sent<K, V>(key: K, value: V, timestamp: i64) -> Sent<K, V> {
    Sent { key, value, timestamp }
}

/// What was to happen with a row that did not go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Left out and counted.
    Drop,
    /// To the dead letters.
    DeadLetter,
    /// To be tried again. A test has to pipe it in again itself.
    Retry,
    /// As `on-error` says.
    Fail,
}

/// A row that did not go well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// What was to happen with it.
    pub kind: Kind,
    /// Why.
    pub reason: String,
    /// The input.
    pub port: String,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
    /// Event time in milliseconds.
    pub timestamp: i64,
}

type Bytes = Option<Vec<u8>>;

/// A row of an input, in bytes.
#[derive(Clone)]
struct Piped {
    port: u8,
    key: Bytes,
    value: Bytes,
    timestamp: i64,
}

/// A module under test, with a task of its own around it.
pub struct Module<C> {
    description: Description,
    settings: Vec<Setting>,
    host: Rc<RefCell<fake::Host>>,
    component: C,
    sent: Vec<VecDeque<(Bytes, Bytes, i64)>>,
    rejected: Vec<Rejected>,
}

impl<C: Component> Module<C> {
    /// Gives the module one record, then fires the punctuations that it made due.
    pub fn pipe(&mut self, port: &str, key: impl Datum, value: impl Datum, timestamp: i64) {
        self.pipe_batch(port, [(key, value, timestamp)]);
    }

    /// Gives the module records in one call, or in as many as the punctuations that they make due ask for.
    pub fn pipe_batch<K: Datum, V: Datum>(&mut self, port: &str, records: impl IntoIterator<Item = (K, V, i64)>) {
        let port = self.description.inputs.iter().position(|input| input.name == port);
        let port = port.unwrap_or_else(|| panic!("the module has no such input")) as u8;
        let piped = |(key, value, timestamp): (K, V, i64)| Piped {
            port,
            key: bytes(key),
            value: bytes(value),
            timestamp,
        };
        let mut rows: Vec<Piped> = records.into_iter().map(piped).collect();
        while !rows.is_empty() {
            let done = self.call(&rows);
            rows.drain(..done);
            self.fire(Clock::StreamTime);
        }
    }

    /// Lets time pass on the wall clock and fires the punctuations that this makes due.
    pub fn advance_wall(&mut self, by: Duration) {
        self.host.borrow_mut().wall_time += i64::try_from(by.as_millis()).expect("a duration below 290 million years");
        self.fire(Clock::WallTime);
    }

    /// Throws the instance away and opens a new one. Stores, schedules and time stay.
    pub fn restart(&mut self) {
        self.component =
            open(&self.host, &self.settings).unwrap_or_else(|error| panic!("failed to open again: {error}"));
    }

    /// What was sent to an output since it was last read.
    pub fn read<K: Format, V: Format>(&mut self, port: &str) -> Vec<Sent<K::Value, V::Value>> {
        let port = self.description.outputs.iter().position(|output| output.name == port);
        let port = port.unwrap_or_else(|| panic!("the module has no such output"));
        let decode = |(key, value, timestamp): (Bytes, Bytes, i64)| Sent {
            key: K::decode(key.as_deref()).unwrap_or_else(|error| panic!("failed to read a key: {error}")),
            value: V::decode(value.as_deref()).unwrap_or_else(|error| panic!("failed to read a value: {error}")),
            timestamp,
        };
        self.sent[port].drain(..).map(decode).collect()
    }

    /// The rows since the last call of this method that were to become dead letters.
    pub fn dead_letters(&mut self) -> Vec<Rejected> {
        self.rejected(Kind::DeadLetter)
    }

    /// The rows since the last call of this method that were dropped.
    pub fn drops(&mut self) -> Vec<Rejected> {
        self.rejected(Kind::Drop)
    }

    /// The rows since the last call of this method that were rejected in this way.
    pub fn rejected(&mut self, kind: Kind) -> Vec<Rejected> {
        let (taken, left) = std::mem::take(&mut self.rejected)
            .into_iter()
            .partition(|row| row.kind == kind);
        self.rejected = left;
        taken
    }

    /// A store to look into.
    pub fn store(&self, name: &str) -> StoreView {
        let store = self.description.stores.iter().position(|store| store.name == name);
        let store = store.unwrap_or_else(|| panic!("the module has no store `{name}`"));
        StoreView::new(self.host.borrow().stores[store].clone())
    }

    /// The largest event time so far; -1 before the first record.
    pub fn stream_time(&self) -> i64 {
        self.host.borrow().stream_time
    }

    /// The messages that the module has logged.
    pub fn log(&self) -> Vec<(Level, String)> {
        self.host.borrow().log.clone()
    }

    /// How many calls the module has made to its stores: what `prefetch` is there to keep low.
    pub fn store_calls(&self) -> usize {
        self.host.borrow().store_calls
    }

    /// Gives the module as many of the rows as may be in one call, and answers how many those were.
    fn call(&mut self, rows: &[Piped]) -> usize {
        let before = self.host.borrow().stream_time;
        let stream_times: Vec<i64> = rows
            .iter()
            .scan(before, |time, row| {
                *time = row.timestamp.max(*time);
                Some(*time)
            })
            .collect();
        let rows = &rows[..self.host.borrow().rows_until_due(&stream_times)];
        let saved = self.host.borrow().save();
        let answer = self.process(rows, &stream_times[..rows.len()], before);
        let cut = self.host.borrow_mut().cut.take();
        if let Some(cut) = cut.filter(|cut| *cut < rows.len()) {
            // A schedule that started in the call fell due inside it.
            self.host.borrow_mut().restore(saved);
            return self.call(&rows[..cut]);
        }
        let retry = answer
            .outcomes
            .iter()
            .position(|outcome| matches!(outcome.disposition, Disposition::Retry(_)));
        if let (Some(retry), true) = (retry, rows.len() > 1) {
            // Undone: the rows before it are given again on their own, then the row.
            self.host.borrow_mut().restore(saved);
            return self.call(&rows[..(answer.outcomes[retry].row as usize).max(1)]);
        }
        self.host.borrow_mut().stream_time = stream_times[rows.len() - 1];
        self.take(answer, rows);
        rows.len()
    }

    fn process(&mut self, rows: &[Piped], stream_times: &[i64], before: i64) -> Answer {
        let (mut keys, mut values) = (ColumnBuilder::default(), ColumnBuilder::default());
        for row in rows {
            keys.push(row.key.as_deref());
            values.push(row.value.as_deref());
        }
        let batch = Batch {
            keys: keys.finish(),
            values: values.finish(),
            timestamps: rows.iter().map(|row| row.timestamp).collect(),
            stream_times: Some(stream_times.to_vec()),
            headers: None,
            origin: None,
        };
        let ports = if self.description.inputs.len() > 1 {
            rows.iter().map(|row| row.port).collect()
        } else {
            Vec::new()
        };
        let now = Now {
            stream_time: before,
            wall_time: self.host.borrow().wall_time,
        };
        self.host.borrow_mut().stream_times = stream_times.to_vec();
        let answer = fake::call(&self.host, || self.component.process(now, batch, ports));
        answer.unwrap_or_else(|error| panic!("the call failed: {error}"))
    }

    fn take(&mut self, answer: Answer, rows: &[Piped]) {
        for outcome in answer.outcomes {
            let (kind, reason) = match outcome.disposition {
                Disposition::Drop(reason) => (Kind::Drop, reason),
                Disposition::DeadLetter(reason) => (Kind::DeadLetter, reason),
                Disposition::Retry(retry) => (Kind::Retry, retry.reason),
                Disposition::Fail(reason) => (Kind::Fail, reason),
            };
            let row = rows[outcome.row as usize].clone();
            let port = self.description.inputs[row.port as usize].name.clone();
            let Piped {
                key, value, timestamp, ..
            } = row;
            self.rejected.push(Rejected {
                kind,
                reason,
                port,
                key,
                value,
                timestamp,
            });
        }
        match answer.emitted {
            Emitted::Nothing => {}
            Emitted::Selected(bits) => {
                let selected = rows.iter().enumerate().filter(|(at, _)| bit(&bits, *at));
                self.sent[0].extend(selected.map(|(_, row)| (row.key.clone(), row.value.clone(), row.timestamp)));
            }
            Emitted::Rows(emitted) => self.send(&emitted, rows, 0),
        }
    }

    /// Sends rows on as the host would, and checks what it would check.
    fn send(&mut self, emitted: &Rows, rows: &[Piped], clock: i64) {
        let counts = [
            emitted.causes.as_ref().map(Vec::len),
            emitted.keys.as_ref().map(|column| column.rows()),
            emitted.values.as_ref().map(|column| column.rows()),
            emitted.timestamps.as_ref().map(Vec::len),
            emitted.targets.as_ref().map(Vec::len),
        ];
        let count = counts.into_iter().flatten().next().unwrap_or(rows.len());
        assert!(
            counts.into_iter().flatten().all(|n| n == count),
            "columns of different lengths: {counts:?}"
        );
        let causes = emitted.causes.clone().unwrap_or_else(|| (0..count as u32).collect());
        assert!(causes.is_sorted(), "causes decrease: {causes:?}");
        for (at, cause) in causes.into_iter().enumerate() {
            let cause = rows.get(cause as usize);
            let inherited = |of: fn(&Piped) -> &Bytes| cause.and_then(|row| of(row).clone());
            let given = |column: &crate::bindings::wasmill::data::columns::Column| column.row(at).map(<[u8]>::to_vec);
            let key = emitted.keys.as_ref().map_or_else(|| inherited(|row| &row.key), given);
            let value = emitted
                .values
                .as_ref()
                .map_or_else(|| inherited(|row| &row.value), given);
            let timestamp = emitted
                .timestamps
                .as_ref()
                .map_or_else(|| cause.map_or(clock, |row| row.timestamp), |t| t[at]);
            let target = emitted.targets.as_ref().map_or(0, |targets| targets[at] as usize);
            self.sent[target].push_back((key, value, timestamp));
        }
    }

    /// Fires what is due, each schedule once, in the order of the times at which they were due.
    fn fire(&mut self, clock: Clock) {
        loop {
            let due = self.host.borrow().due(clock);
            let Some(name) = due else { return };
            let now = {
                let mut host = self.host.borrow_mut();
                let time = host.time(clock);
                host.fired(&name, time);
                Now {
                    stream_time: host.stream_time,
                    wall_time: host.wall_time,
                }
            };
            let rows = fake::call(&self.host, || self.component.punctuate(now, &name));
            let rows = rows.unwrap_or_else(|error| panic!("the punctuation `{name}` failed: {error}"));
            assert!(rows.causes.is_none(), "a punctuation has no causes");
            let time = self.host.borrow().time(clock);
            self.send(&rows, &[], time);
        }
    }
}

pub(crate) fn bytes<D: Datum>(value: D) -> Bytes {
    let mut out = Vec::new();
    let present = value
        .encode(&mut out)
        .unwrap_or_else(|error| panic!("failed to write a value: {error}"));
    present.then_some(out)
}
