//! What the rows of a call cause: rows to send on, timers. Rows are built as columns, and what is inherited from the
//! cause is only written down when another row of the call differs.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use crate::bindings::wasmill::streams::answers::{Emitted, Rows};
pub use crate::bindings::wasmill::timers::timers::Clock;
use crate::columns::{ColumnBuilder, Given, bitmap, set_bit};
use crate::format::{Encode, Format};
use crate::host;
use crate::module::{Output, schedule};

/// Takes what the running row, or the punctuation, sends on. Of a row that is rejected nothing is kept.
pub struct Outbox {
    given: Rc<Given>,
    /// `None` in a punctuation.
    row: Option<u32>,
    causes: Vec<u32>,
    targets: Vec<u32>,
    /// `None`: every row so far inherits it.
    keys: Option<ColumnBuilder>,
    values: Option<ColumnBuilder>,
    timestamps: Option<Vec<i64>>,
    timers: Vec<Timer>,
    error: Option<String>,
    /// So many rows and timers are of rows that went well.
    kept: (usize, usize),
}

struct Timer {
    name: String,
    row: Option<u32>,
    /// `None` stops it.
    every: Option<(Duration, Clock)>,
}

impl Outbox {
    pub(crate) fn new(given: Rc<Given>) -> Self {
        Outbox {
            given,
            row: None,
            causes: Vec::new(),
            targets: Vec::new(),
            keys: None,
            values: None,
            timestamps: None,
            timers: Vec::new(),
            error: None,
            kept: (0, 0),
        }
    }

    /// Sends a record on, with the time of the row that causes it (in a punctuation: the clock's).
    pub fn send<K: Format, V: Format>(&mut self, to: &Output<K, V>, key: impl Encode<K>, value: impl Encode<V>) {
        let written = self.give_key(&key).and_then(|()| self.give_value(&value));
        self.inherit_timestamp();
        self.end(to.port, written);
    }

    /// Sends a record on with a time of its own, in milliseconds since 1970 UTC. It must not be negative.
    pub fn send_at<K: Format, V: Format>(
        &mut self,
        to: &Output<K, V>,
        key: impl Encode<K>,
        value: impl Encode<V>,
        timestamp: i64,
    ) {
        let written = self.give_key(&key).and_then(|()| self.give_value(&value));
        let sent = self.targets.len();
        let Outbox {
            timestamps,
            causes,
            given,
            ..
        } = self;
        let times = &given.batch.timestamps;
        timestamps
            .get_or_insert_with(|| causes.iter().take(sent).map(|row| time(times, *row)).collect())
            .push(timestamp);
        let legal = if timestamp < 0 {
            Err(format!("timestamp {timestamp} is negative"))
        } else {
            Ok(())
        };
        self.end(to.port, written.and(legal));
    }

    /// Sends a new value on under the key and the time of the row. (In a punctuation the key is null.)
    pub fn send_value<K: Format, V: Format>(&mut self, to: &Output<K, V>, value: impl Encode<V>) {
        self.inherit_key();
        let written = self.give_value(&value);
        self.inherit_timestamp();
        self.end(to.port, written);
    }

    /// Sends the row on as it is. (In a punctuation there is no row, and key and value are null.)
    pub fn forward<K: Format, V: Format>(&mut self, to: &Output<K, V>) {
        self.inherit_key();
        self.inherit_value();
        self.inherit_timestamp();
        self.end(to.port, Ok(()));
    }

    /// Starts a schedule because of this row, as [`crate::Open::every`] does.
    pub fn every(&mut self, name: &str, every: Duration, clock: Clock) {
        self.timers.push(Timer {
            name: name.to_owned(),
            row: self.row,
            every: Some((every, clock)),
        });
    }

    /// Stops a schedule, if there is one.
    pub fn stop(&mut self, name: &str) {
        self.timers.push(Timer {
            name: name.to_owned(),
            row: self.row,
            every: None,
        });
    }

    fn give_key<F: Format>(&mut self, key: &impl Encode<F>) -> Result<(), String> {
        let Outbox {
            keys, causes, given, ..
        } = self;
        give(keys, causes, key, |row| given.batch.keys.row(row)).map_err(|error| format!("key {error}"))
    }

    fn give_value<F: Format>(&mut self, value: &impl Encode<F>) -> Result<(), String> {
        let Outbox {
            values, causes, given, ..
        } = self;
        give(values, causes, value, |row| given.batch.values.row(row)).map_err(|error| format!("value {error}"))
    }

    fn inherit_key(&mut self) {
        if let Some(keys) = &mut self.keys {
            keys.push(self.row.and_then(|row| self.given.batch.keys.row(row as usize)));
        }
    }

    fn inherit_value(&mut self) {
        if let Some(values) = &mut self.values {
            values.push(self.row.and_then(|row| self.given.batch.values.row(row as usize)));
        }
    }

    fn inherit_timestamp(&mut self) {
        if let Some(timestamps) = &mut self.timestamps {
            timestamps.push(time(&self.given.batch.timestamps, self.row.unwrap_or(0)));
        }
    }

    /// Ends a row of output. One whose key or value could not be written is sent nowhere: it fails its cause.
    fn end(&mut self, target: u32, written: Result<(), String>) {
        match written {
            Ok(()) => {
                self.targets.push(target);
                self.causes.push(self.row.unwrap_or(0));
            }
            Err(error) => {
                let rows = self.targets.len();
                self.truncate(rows);
                self.error.get_or_insert(error);
            }
        }
    }

    pub(crate) fn begin(&mut self, row: u32) {
        self.row = Some(row);
    }

    pub(crate) fn take_error(&mut self) -> Option<String> {
        self.error.take()
    }

    pub(crate) fn keep(&mut self) {
        self.kept = (self.targets.len(), self.timers.len());
    }

    pub(crate) fn undo(&mut self) {
        let (rows, timers) = self.kept;
        self.truncate(rows);
        self.timers.truncate(timers);
        self.error = None;
    }

    fn truncate(&mut self, rows: usize) {
        self.causes.truncate(rows);
        self.targets.truncate(rows);
        for column in [&mut self.keys, &mut self.values].into_iter().flatten() {
            column.truncate(rows);
        }
        if let Some(timestamps) = &mut self.timestamps {
            timestamps.truncate(rows);
        }
    }

    /// Tells the host about the timers of the rows that went well.
    pub(crate) fn start_timers(&mut self, wall: &mut HashSet<String>) {
        for timer in self.timers.drain(..) {
            wall.remove(&timer.name);
            if let Some((_, Clock::WallTime)) = timer.every {
                wall.insert(timer.name.clone());
            }
            match timer.every {
                Some((every, clock)) => host::start(&timer.name, schedule(every, clock), timer.row),
                None => host::stop(&timer.name),
            }
        }
    }

    /// The answer of a `process` call.
    pub(crate) fn emitted(self) -> Emitted {
        if self.targets.is_empty() {
            return Emitted::Nothing;
        }
        let unchanged = self.keys.is_none() && self.values.is_none() && self.timestamps.is_none();
        let rising = self.causes.is_sorted_by(|a, b| a < b);
        if unchanged && rising && self.targets.iter().all(|target| *target == 0) {
            let mut bits = bitmap(self.given.rows());
            self.causes.iter().for_each(|row| set_bit(&mut bits, *row as usize));
            return Emitted::Selected(bits);
        }
        let rows = self.given.rows();
        let one_each = self.causes.len() == rows && self.causes.iter().zip(0..).all(|(cause, row)| *cause == row);
        let causes = (!one_each).then(|| self.causes.clone());
        Emitted::Rows(Rows { causes, ..self.rows() })
    }

    /// The rows without their causes: the answer of a `punctuate` call.
    pub(crate) fn rows(self) -> Rows {
        let sent = self.targets.len();
        // In a punctuation there is nothing to inherit, so columns are always given, even with no rows or only nulls.
        let nulls = || {
            let mut column = ColumnBuilder::default();
            (0..sent).for_each(|_| column.push(None));
            column
        };
        let punctuation = self.row.is_none();
        let given = |column: Option<ColumnBuilder>| match column {
            None if punctuation => Some(nulls()),
            column => column,
        };
        Rows {
            causes: None,
            targets: self.targets.iter().any(|target| *target != 0).then_some(self.targets),
            keys: given(self.keys).map(ColumnBuilder::finish),
            values: given(self.values).map(ColumnBuilder::finish),
            timestamps: self.timestamps,
            headers: None,
        }
    }

    /// In a punctuation rows without a time of their own get the clock's, which must be written down as soon as one
    /// row has its own.
    pub(crate) fn set_clock(&mut self, clock: i64) {
        if let Some(given) = Rc::get_mut(&mut self.given) {
            given.batch.timestamps = vec![clock];
        }
    }
}

/// Appends a row to a column, after writing down what the rows before it inherit.
fn give<'a, F: Format>(
    column: &mut Option<ColumnBuilder>,
    causes: &[u32],
    value: &impl Encode<F>,
    inherited: impl Fn(usize) -> Option<&'a [u8]>,
) -> Result<(), String> {
    let column = column.get_or_insert_with(|| {
        let mut column = ColumnBuilder::default();
        causes.iter().for_each(|row| column.push(inherited(*row as usize)));
        column
    });
    column.push_with(|out| value.encode(out))
}

fn time(times: &[i64], row: u32) -> i64 {
    times.get(row as usize).copied().unwrap_or(0)
}
