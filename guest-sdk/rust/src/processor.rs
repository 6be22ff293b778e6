//! A processor, and the loop that runs it over the rows of a call.

use std::collections::HashSet;
use std::rc::Rc;

use crate::bindings::exports::wasmill::streams::module::Migrated;
pub use crate::bindings::wasmill::data::columns::Now;
use crate::bindings::wasmill::data::columns::{Batch, Column};
use crate::bindings::wasmill::streams::answers::{self, Answer, Disposition, Emitted};
use crate::bindings::wasmill::streams::description::{Description, Setting, Task};
use crate::columns::{ColumnBuilder, Given};
use crate::component::Component;
use crate::http::Queue;
use crate::log;
use crate::module::{Module, Open};
use crate::outbox::Outbox;
use crate::outcome::{Error, Outcome, Reject, Result};
use crate::row::{Row, Rows};
use crate::store::Buffer;

/// A step with code in it: any number of inputs, outputs and stores.
///
/// What it keeps must be in its stores: the host makes a new instance whenever it likes, and may give an instance a row
/// that it has seen before. Its fields are the handles of what it declares.
pub trait Processor: Sized + 'static {
    /// Declares ports, stores and parameters and keeps their handles. Runs to describe the module and once for every
    /// instance; it must declare the same each time and do nothing else.
    fn declare(module: &mut Module) -> Self;

    /// Once for an instance, before any row. An error refuses the pipeline or the swap.
    fn open(&mut self, cx: &mut Open) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Before the rows of a call, for speed only: what all of them need, in one go. An error fails the whole call.
    fn prefetch(&self, rows: &Rows) -> Result<()> {
        let _ = rows;
        Ok(())
    }

    /// For every row, in order. What it sends, stores and schedules counts only if it ends well.
    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome;

    /// For a schedule that is due. What it sends, stores and schedules counts only if it ends well.
    fn punctuate(&mut self, name: &str, now: Now, out: &mut Outbox) -> Result<()> {
        let _ = (name, now, out);
        Ok(())
    }

    /// Turns an entry of a store that an older schema wrote into any number of new ones, in bytes.
    fn migrate(store: &str, schema: u32, key: &[u8], value: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let _ = (key, value);
        Err(Error::new(format!(
            "the module cannot migrate store `{store}` from schema {schema}"
        )))
    }
}

/// An instance of a processor.
#[doc(hidden)]
pub struct Running<P> {
    processor: P,
    stores: Vec<Rc<Buffer>>,
    requests: Vec<Rc<Queue>>,
    /// The schedules that are by the wall clock, as far as this instance has seen them start.
    wall: HashSet<String>,
}

impl<P: Processor> Component for Running<P> {
    fn describe(name: &str, version: &str, summary: &str) -> Description {
        let mut module = Module::default();
        P::declare(&mut module);
        module.describe(name, version, summary)
    }

    fn open(settings: Vec<Setting>, task: Task) -> Result<Self, String> {
        let mut module = Module::with_settings(settings);
        let mut processor = P::declare(&mut module);
        if let Some(errors) = module.errors() {
            return Err(errors);
        }
        let stores = module.buffers();
        let requests = module.queues();
        let mut cx = Open::new(task);
        processor.open(&mut cx).map_err(|error| error.to_string())?;
        let running = Running {
            processor,
            stores,
            requests,
            wall: cx.wall,
        };
        if let Some(error) = running.store_error() {
            return Err(error);
        }
        running.stores.iter().for_each(|store| store.flush());
        Ok(running)
    }

    fn process(&mut self, _: Now, batch: Batch, ports: Vec<u8>) -> Result<Answer, String> {
        self.begin();
        let given = Rc::new(Given { batch, ports });
        self.processor
            .prefetch(&Rows::new(&given))
            .map_err(|error| error.to_string())?;
        let mut out = Outbox::new(Rc::clone(&given));
        let mut outcomes = Vec::new();
        for row in 0..given.rows() {
            log::at(Some(row as u32));
            out.begin(row as u32);
            let Err(reject) = self.row(Row::new(&given, row), &mut out) else {
                continue;
            };
            let again = matches!(reject, Reject::Retry { .. });
            outcomes.push(answers::Outcome {
                row: row as u32,
                disposition: disposition(reject),
            });
            if again {
                // The host undoes the whole call, so nothing more of it needs to be done.
                return Ok(Answer {
                    emitted: Emitted::Nothing,
                    outcomes,
                });
            }
        }
        log::at(None);
        out.start_timers(&mut self.wall);
        self.stores.iter().for_each(|store| store.flush());
        Ok(Answer {
            emitted: out.emitted(),
            outcomes,
        })
    }

    fn punctuate(&mut self, now: Now, name: &str) -> Result<answers::Rows, String> {
        self.begin();
        let mut out = Outbox::new(Rc::new(Given::nothing()));
        out.set_clock(if self.wall.contains(name) {
            now.wall_time
        } else {
            now.stream_time
        });
        self.processor
            .punctuate(name, now, &mut out)
            .map_err(|error| error.to_string())?;
        if let Some(error) = out.take_error().or_else(|| self.store_error()) {
            return Err(error);
        }
        out.start_timers(&mut self.wall);
        self.stores.iter().for_each(|store| store.flush());
        Ok(out.rows())
    }

    fn migrate(store: u32, schema: u32, keys: &Column, values: &Column) -> Result<Migrated, String> {
        let mut module = Module::default();
        P::declare(&mut module);
        let name = module.store_name(store);
        let (mut new_keys, mut new_values) = (ColumnBuilder::default(), ColumnBuilder::default());
        for (key, value) in keys.iter().zip(values.iter()) {
            let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
            for (key, value) in P::migrate(name, schema, key, value).map_err(|error| error.to_string())? {
                new_keys.push(Some(&key));
                new_values.push(Some(&value));
            }
        }
        Ok(Migrated {
            keys: new_keys.finish(),
            values: new_values.finish(),
        })
    }
}

impl<P: Processor> Running<P> {
    fn begin(&self) {
        log::at(None);
        self.stores.iter().for_each(|store| store.clear());
        self.requests.iter().for_each(|queue| queue.clear());
    }

    fn store_error(&self) -> Option<String> {
        self.stores.iter().filter_map(|store| store.take_error()).next()
    }

    /// Runs one row and keeps or undoes what it did.
    fn row(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        let outcome = self.processor.process(row, out);
        let error = out.take_error().or_else(|| self.store_error());
        let outcome = outcome.and(error.map_or(Ok(()), |error| Err(Reject::Fail(error))));
        if outcome.is_ok() {
            out.keep();
            self.stores.iter().for_each(|store| store.keep());
        } else {
            out.undo();
            self.stores.iter().for_each(|store| store.undo());
        }
        outcome
    }
}

pub(crate) fn disposition(reject: Reject) -> Disposition {
    match reject {
        Reject::Drop(reason) => Disposition::Drop(reason),
        Reject::DeadLetter(reason) => Disposition::DeadLetter(reason),
        Reject::Retry { after, reason } => {
            let after_ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
            Disposition::Retry(answers::Retry { after_ms, reason })
        }
        Reject::Fail(reason) => Disposition::Fail(reason),
    }
}
