//! Reductions per key and window.
//!
//! Rows are taken one after another, each with its own time: an operator's stream time is the largest timestamp of the
//! rows with a key that it saw, whatever else the task saw, and is state like the windows themselves. A row with a null
//! key is dropped. A null value counts in `count`, as in Kafka Streams' source (its documentation says otherwise), but
//! not in sliding windows, where it does not even move time; other functions leave out rows that have nothing to reduce.

mod clock;
mod keep;
mod session;
mod sliding;
mod time;

use record::{Batch, BatchBuilder, OldsBuilder};
use state::{Layout, Stores};
use topology::{StoreKind, WindowAggregate, Windowing, Windows};

pub(crate) use keep::{Expiry, remove_expired};
pub use keep::{sweep, wire_keys};

use crate::aggregate::{Aggregator, RowFault};
use crate::table_join::Timed;
use crate::{Applied, Error};
use clock::{Clock, Times};

/// A windowed reduction with its stores.
#[derive(Clone, Debug)]
pub struct WindowAggregator {
    aggregator: Aggregator,
    windowing: Windowing,
    layout: Layout,
    on_commit: bool,
    /// Whether something downstream needs what its rows replace.
    olds: bool,
    store: usize,
    times: Times,
}

/// What windows made of a batch.
#[derive(Clone, Debug)]
pub struct Windowed {
    pub applied: Applied,
    /// Input rows that came too late for all of their windows.
    pub late: Vec<u32>,
}

/// One row on its way into its windows.
struct Row<'a> {
    batch: &'a Batch,
    row: usize,
    key: &'a [u8],
    timestamp: i64,
}

/// The rows that come out.
#[derive(Default)]
struct Outcome {
    rows: BatchBuilder,
    /// What each replaces, where somebody asks.
    olds: Option<OldsBuilder>,
    causes: Vec<u32>,
    late: Vec<u32>,
    dropped: u64,
    /// The windowed key at hand.
    scratch: Vec<u8>,
}

impl Outcome {
    /// As on the wire, with the headers of the row that caused it.
    fn push(&mut self, cause: &Row<'_>, key: &[u8], value: Option<&[u8]>, timestamp: i64, old: Timed<'_>) {
        if let Some(olds) = &mut self.olds {
            olds.push(old);
        }
        match cause.batch.headers() {
            Some(headers) => {
                let headers = headers.row(cause.row).to_vec();
                self.rows.push_with_headers(Some(key), value, timestamp, headers);
            }
            None => self.rows.push(Some(key), value, timestamp),
        }
        self.causes.push(cause.row as u32);
    }

    fn too_late(&mut self, row: &Row<'_>) {
        self.late.push(row.row as u32);
    }
}

/// The layout of a store's keys; `None`: they are not windowed.
pub fn layout(kind: StoreKind) -> Option<Layout> {
    match kind {
        StoreKind::KeyValue | StoreKind::Timestamped => None,
        StoreKind::Window => Some(Layout::Window),
        StoreKind::KeyedWindow { segment_ms } => Some(Layout::KeyedWindow { segment_ms }),
        StoreKind::Session { segment_ms } => Some(Layout::Session { segment_ms }),
    }
}

impl WindowAggregator {
    /// `store` and `times` are the task's numbers of the aggregate's store and of its store of times; `name` is the
    /// node's.
    pub fn new(window: &WindowAggregate, store: usize, times: usize, name: &str, olds: bool) -> Self {
        let kind = window.windowing.store_kind();
        Self {
            aggregator: Aggregator::new(&window.aggregate, store, false),
            windowing: window.windowing,
            layout: layout(kind).unwrap_or(Layout::Window),
            on_commit: window.aggregate.emit == topology::Emit::OnCommit,
            olds,
            store,
            times: Times::new(times, name, window.windowing.is_sliding()),
        }
    }

    /// Whether each update goes on at once.
    fn emits_updates(&self) -> bool {
        !self.on_commit && !self.windowing.on_close
    }

    /// Reduces the rows in order.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row that does not parse or whose sum overflows; those of the stores.
    pub fn apply(&self, batch: &Batch, stores: &mut Stores) -> Result<Windowed, Error> {
        let mut clock = Clock::read(stores, &self.times)?;
        let before = clock;
        let mut outcome = Outcome {
            olds: self.olds.then(OldsBuilder::default),
            ..Outcome::default()
        };
        for (row, timestamp) in batch.timestamps().iter().copied().enumerate() {
            let moves_time = batch.value(row).is_some() || !self.windowing.is_sliding();
            let Some(key) = batch.key(row).filter(|_| moves_time) else {
                outcome.dropped += 1;
                continue;
            };
            let at = Row {
                batch,
                row,
                key,
                timestamp,
            };
            let observed = clock.observed;
            clock.observed = observed.max(timestamp);
            self.take(&at, observed, stores, &mut clock, &mut outcome)
                .map_err(|fault| fault.at(row))?;
        }
        if clock != before {
            clock.write(stores, &self.times)?;
        }
        let mut rows = outcome.rows.finish();
        if let Some(mut olds) = outcome.olds {
            rows = rows.with_olds(olds.finish())?;
        }
        Ok(Windowed {
            applied: Applied {
                rows,
                causes: Some(outcome.causes),
                dropped: outcome.dropped,
            },
            late: outcome.late,
        })
    }

    /// Time has come without a row: what closes goes on. An operator that has seen no row yet knows nothing of time.
    ///
    /// # Errors
    /// Those of the stores.
    pub fn go_on(&self, time: i64, stores: &mut Stores) -> Result<Batch, Error> {
        let mut clock = Clock::read(stores, &self.times)?;
        if clock.observed < 0 || time <= clock.observed {
            return Ok(Batch::empty());
        }
        clock.observed = time;
        let (nothing, mut outcome) = (Batch::empty(), Outcome::default());
        let row = Row {
            batch: &nothing,
            row: 0,
            key: &[],
            timestamp: time,
        };
        let close = time - self.windowing.grace_ms;
        let closed = match self.windowing.windows {
            Windows::Time { size_ms, advance_ms } => {
                self.close_windows(&row, (size_ms, advance_ms), stores, &mut clock, &mut outcome)
            }
            Windows::Session { gap_ms } if self.windowing.on_close && close - gap_ms > clock.next => {
                self.send_ended(&row, close - gap_ms, stores, &mut clock, &mut outcome)
            }
            Windows::Sliding { difference_ms } if self.windowing.on_close => {
                self.send_slid(&row, close - difference_ms - 1, stores, &mut clock, &mut outcome)
            }
            _ => Ok(()),
        };
        closed.map_err(|fault| fault.at(0))?;
        clock.write(stores, &self.times)?;
        Ok(outcome.rows.finish())
    }

    fn take(
        &self,
        row: &Row<'_>,
        before: i64,
        stores: &mut Stores,
        clock: &mut Clock,
        outcome: &mut Outcome,
    ) -> Result<(), RowFault> {
        match self.windowing.windows {
            Windows::Time { size_ms, advance_ms } => {
                self.reduce_windows(row, (size_ms, advance_ms), stores, clock, outcome)
            }
            Windows::Unlimited => self.reduce_windows(row, (i64::MAX, i64::MAX), stores, clock, outcome),
            Windows::Session { gap_ms } => self.reduce_session(row, (gap_ms, before), stores, clock, outcome),
            Windows::Sliding { difference_ms } => self.reduce_sliding(row, difference_ms, stores, clock, outcome),
        }
    }
}
