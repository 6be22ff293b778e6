//! From changelogs to stores and back, and the start of a task.

use std::collections::BTreeSet;

use record::{Batch, BatchBuilder};
use state::{Bytes, Layout, NO_TIME, Stores, join, split};

use crate::call::enter;
use crate::error::Error;
use crate::plan::Work;
use crate::processor::{Failure, Now, Origin};
use crate::task::Task;
use crate::times;

/// See [`Task::restore`]. `layouts`: of each store.
pub(crate) fn take_rows(
    stores: &mut Stores,
    layouts: &[Option<Layout>],
    store: usize,
    rows: &Batch,
    next: i64,
) -> Result<(), Error> {
    let timestamped = stores.spec(store)?.timestamped;
    if let Some(layout) = layouts.get(store).copied().flatten() {
        return take_windowed(stores, store, layout, rows, next);
    }
    let rows = rows.timestamps().iter().enumerate().filter_map(|(row, timestamp)| {
        let value = rows.value(row).map(|value| match timestamped {
            true => Bytes::from(join(*timestamp, value)),
            false => Bytes::new(value),
        });
        Some((rows.key(row)?, value))
    });
    Ok(stores.restore(store, rows, next)?)
}

/// A changelog has the keys of Kafka Streams, in another order of their parts.
fn take_windowed(stores: &mut Stores, store: usize, layout: Layout, rows: &Batch, next: i64) -> Result<(), Error> {
    let mut keys = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        let mut key = Vec::new();
        let read = rows.key(row).and_then(|key| layout.read_changelog(key));
        let parts = read.ok_or_else(|| {
            Error::State(state::Error::Storage {
                doing: format!("restore store {store}"),
                cause: "a key of the changelog is no windowed key".into(),
            })
        })?;
        layout.write(&parts, &mut key);
        keys.push(key);
    }
    let values = rows.timestamps().iter().enumerate();
    let values = values.map(|(row, timestamp)| rows.value(row).map(|value| Bytes::from(join(*timestamp, value))));
    let rows = keys.iter().map(Vec::as_slice).zip(values);
    Ok(stores.restore(store, rows, next)?)
}

impl Task {
    /// The next changelog offset of a store; `None`: begin at the start.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn restored_offset(&self, store: usize) -> Result<Option<i64>, Error> {
        Ok(self.context.stores.offset(store)?)
    }

    /// Takes rows of a changelog into the stores, below what is uncommitted, with `next` as the offset to go on from.
    ///
    /// # Errors
    /// Those of the backend; [`Error::Contract`] for a store that is not there.
    pub fn restore(&mut self, store: usize, rows: &Batch, next: i64) -> Result<(), Error> {
        take_rows(&mut self.context.stores, &self.plan.layouts, store, rows, next)
    }

    /// Empties all stores, and forgets their offsets.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn wipe(&mut self) -> Result<(), Error> {
        Ok(self.context.stores.wipe()?)
    }

    /// After the restore: `stream_time` from the commit metadata (-1: unknown), times and punctuations from the internal
    /// store; opens the processors.
    ///
    /// # Errors
    /// [`Error::Stop`] when a processor refuses to open; those of the backend.
    pub fn start(&mut self, stream_time: i64, wall_time: i64) -> Result<(), Error> {
        let (stored, schedules) = times::read(&self.plan, &mut self.context.stores)?;
        times::read_latest(&self.plan, &mut self.context.stores, &mut self.queues)?;
        self.stream_time = stream_time.max(stored);
        self.committed_stream_time = self.stream_time;
        self.context
            .schedules
            .restore(schedules.into_iter().collect(), BTreeSet::new());
        for node in 0..self.plan.nodes.len() {
            self.open(node, wall_time)?;
        }
        // An abort does not open the processors again, so what they started here must outlive it.
        self.committed_schedules = self
            .context
            .schedules
            .running()
            .map(|(id, r)| (id.clone(), *r))
            .collect();
        self.unwritten_schedules = self.context.schedules.changed().clone();
        self.started = true;
        Ok(())
    }

    /// Opens the processor of `node`, if it has one.
    pub(crate) fn open(&mut self, node: usize, wall_time: i64) -> Result<(), Error> {
        let Some(Work::Module { stores, .. }) = self.plan.nodes.get(node).map(|n| &n.work) else {
            return Ok(());
        };
        let Some(Some(processor)) = self.processors.get_mut(node) else {
            return Ok(());
        };
        let now = Now {
            stream_time: self.stream_time,
            wall_time,
        };
        enter(&mut self.context, node, stores, now);
        self.context.origin = Origin::default();
        let opened = processor.open(&mut self.context);
        self.context.schedules.take_started();
        opened.map_err(|failure| self.stop(node, None, failure))
    }

    pub(crate) fn module(&self, node: usize) -> String {
        self.processors
            .get(node)
            .and_then(|p| p.as_ref())
            .map(|p| p.module().to_owned())
            .unwrap_or_default()
    }

    pub(crate) fn step(&self, node: usize) -> String {
        self.plan
            .nodes
            .get(node)
            .map(|n| n.name.to_string())
            .unwrap_or_default()
    }

    pub(crate) fn stop(&self, node: usize, origin: Option<(record::TopicPartition, i64)>, failure: Failure) -> Error {
        Error::Stop {
            step: self.step(node),
            module: self.module(node),
            origin,
            failure,
        }
    }

    /// One batch for each changed store, keys in the order of their first change since the last commit, last value
    /// only. A timestamped value is a row with the plain value and its time; null is a tombstone. To be called once a
    /// commit, after [`flush_tables`](Self::flush_tables).
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn changelog_rows(&mut self) -> Result<Vec<(usize, Batch)>, Error> {
        self.sweep()?;
        let (stream_time, committed) = (self.stream_time, self.committed_stream_time);
        let context = &mut self.context;
        times::write(
            &self.plan,
            &mut context.stores,
            &mut context.schedules,
            &self.queues,
            stream_time,
            committed,
        )?;
        let mut changed = Vec::new();
        for (store, spec) in self.plan.stores.iter().enumerate() {
            let slots = self.context.stores.uncommitted(store);
            if slots.is_empty() {
                continue;
            }
            let mut rows = BatchBuilder::with_capacity(slots.len(), 16 * slots.len(), 16 * slots.len());
            let layout = self.plan.layouts.get(store).copied().flatten();
            for slot in slots {
                let parts = layout.and_then(|layout| Some(layout.changelog(&layout.read(slot.key.as_slice())?)));
                let key = Some(parts.as_deref().unwrap_or(slot.key.as_slice()));
                let timestamp = if slot.timestamp == NO_TIME {
                    stream_time
                } else {
                    slot.timestamp
                }
                .max(0);
                match &slot.value {
                    Some(stored) if spec.timestamped => {
                        let (time, value) = split(stored.as_slice());
                        rows.push(key, Some(value), time.max(0));
                    }
                    Some(value) => rows.push(key, Some(value.as_slice()), timestamp),
                    None => rows.push(key, None, timestamp),
                }
            }
            changed.push((store, rows.finish()));
        }
        Ok(changed)
    }
}
