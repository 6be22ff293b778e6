//! Nodes on tables: what they use, and one call of theirs.
//!
//! In a batch, a join learns what a table had at a row from the table's next row of that key (`operators::table_join`).
//! A table that emits on commit sends no rows in a run. So there the join counts as a user of the table's store, and the
//! rules of [`crate::plan::Order`] do the rest: one row at a time.

use operators::{
    Applied, BufferedJoiner, Cogrouper, Deduplicator, ExpiringTable, Filtering, Lookup, Mapping, Resolver, Subscriber,
    TableAggregator, TableGrouper, TableJoiner, VersionedWriter,
};
use state::Stores;
use topology::{Emit, NodeKind, StoreId};

use crate::answer::{self, Out};
use crate::error::Error;
use crate::plan::{PlanNode, Work};
use crate::rows::{Lineage, Rows};
use crate::windows::results;

#[derive(Debug)]
pub enum TableWork {
    Join(TableJoiner),
    Buffered(BufferedJoiner),
    Group(TableGrouper),
    Aggregate(TableAggregator),
    Dedup(Deduplicator),
    Ttl(ExpiringTable),
    Versioned(VersionedWriter),
    Subscribe(Subscriber),
    Lookup(Lookup),
    Resolve(Resolver),
    /// Each with whether something downstream needs what its rows replace.
    Filter(Filtering, bool),
    Map(Mapping, bool),
    Cogroup(Cogrouper),
}

/// A node with the task's numbers of its stores.
pub struct Planned {
    pub work: TableWork,
    pub uses: Vec<usize>,
    /// The on-commit table that is kept here.
    pub flushed_store: Option<usize>,
}

/// `number` gives the task's number of a store.
pub fn table_work(
    kind: &NodeKind,
    number: &mut dyn FnMut(StoreId) -> Result<usize, Error>,
    olds: bool,
) -> Result<Planned, Error> {
    let (mut uses, mut flushed_store) = (Vec::new(), None);
    let mut numbered = |store: StoreId, is_used: bool| {
        let store = number(store)?;
        uses.extend(is_used.then_some(store));
        Ok::<usize, Error>(store)
    };
    let work = match kind {
        NodeKind::TtlTable(table) => TableWork::Ttl(ExpiringTable::new(
            table,
            numbered(table.store, true)?,
            numbered(table.index, true)?,
            olds,
        )),
        NodeKind::VersionedTable(table) => TableWork::Versioned(VersionedWriter::new(
            table,
            numbered(table.store, true)?,
            numbered(table.history, true)?,
            olds,
        )),
        NodeKind::Dedup(dedup) => TableWork::Dedup(Deduplicator::new(dedup, numbered(dedup.store, true)?)),
        NodeKind::TableAggregate(aggregate) => {
            let store = numbered(aggregate.store, true)?;
            flushed_store = (aggregate.emit == Emit::OnCommit).then_some(store);
            TableWork::Aggregate(TableAggregator::new(aggregate, store, olds))
        }
        NodeKind::Cogroup(cogroup) => {
            let store = numbered(cogroup.store, true)?;
            flushed_store = (cogroup.emit == Emit::OnCommit).then_some(store);
            TableWork::Cogroup(Cogrouper::new(cogroup, store, olds))
        }
        NodeKind::ForeignLookup(lookup) => {
            let store = numbered(lookup.store, true)?;
            TableWork::Lookup(Lookup::new(&lookup.join, store, numbered(lookup.right, false)?))
        }
        NodeKind::ForeignResolve(resolve) => {
            TableWork::Resolve(Resolver::new(&resolve.join, numbered(resolve.left, false)?))
        }
        NodeKind::ForeignSubscribe(join) => TableWork::Subscribe(Subscriber::new(join)),
        NodeKind::Filter(filter) => TableWork::Filter(Filtering::new(filter), olds),
        NodeKind::Map(map) => TableWork::Map(Mapping::new(map), olds),
        NodeKind::GroupTable(selector) => TableWork::Group(TableGrouper::new(selector.clone())),
        NodeKind::TableJoin(join) => {
            // What a table was at a time is in its stores only.
            let history = join.versions.map(|table| numbered(table.history, true)).transpose()?;
            let left = join.left.map(|left| numbered(left, false)).transpose()?;
            let right = numbered(join.right, false)?;
            match (&join.grace, join.versions, history) {
                (Some(grace), Some(table), Some(history)) => {
                    let stores = (right, history, numbered(grace.buffer, true)?);
                    TableWork::Buffered(BufferedJoiner::new(join, grace, table.history_ms, stores))
                }
                _ => TableWork::Join(TableJoiner::new(join, left, right, history, olds)),
            }
        }
        other => return Err(Error::Contract(format!("a `{}` is no node on tables", other.word()))),
    };
    Ok(Planned {
        work,
        uses,
        flushed_store,
    })
}

impl TableWork {
    /// What it makes of `rows`, and how many it left out.
    ///
    /// # Errors
    /// Those of the operator.
    pub fn apply(
        &self,
        rows: &Rows,
        stream_times: &[i64],
        stores: &mut Stores,
    ) -> Result<(Vec<Out>, u64), operators::Error> {
        let (batch, ports) = (&rows.batch, rows.ports.as_slice());
        let is_past = |table_row, row| rows.is_past(table_row, row);
        let applied = match self {
            Self::Join(join) => join.apply(batch, ports, &is_past, stream_times, stores)?,
            Self::Buffered(join) => join.apply(batch, ports, stores)?,
            Self::Group(grouper) => grouper.apply(batch)?,
            Self::Aggregate(aggregator) => aggregator.apply(batch, stores)?,
            Self::Dedup(dedup) => dedup.apply(batch, stream_times, stores)?,
            Self::Ttl(table) => table.apply(batch, stream_times, stores)?,
            Self::Lookup(lookup) => lookup.apply(batch, ports, &is_past, stores)?,
            Self::Resolve(resolver) => resolver.apply(batch, ports, &is_past, stores)?,
            Self::Filter(filtering, olds) => filtering.apply_to_table(batch, *olds)?,
            Self::Cogroup(cogroup) => cogroup.apply(batch, ports, stores)?,
            Self::Map(mapping, olds) => mapping.apply_to_table(batch, *olds)?,
            Self::Versioned(table) => {
                let taken = table.apply(batch, stores)?;
                let dropped = taken.all.dropped;
                return Ok((of_two(taken.all, taken.latest, 1), dropped));
            }
            Self::Subscribe(subscriber) => {
                let made = subscriber.apply(batch)?;
                let dropped = made.results.dropped;
                return Ok((of_two(made.subscriptions, made.results, 2), dropped));
            }
        };
        let dropped = applied.dropped;
        Ok((results(applied), dropped))
    }

    /// Stores of tables that it reads and that others keep.
    fn reads(&self) -> Vec<usize> {
        match self {
            Self::Join(join) => join.tables().collect(),
            Self::Lookup(lookup) => vec![lookup.right()],
            Self::Resolve(resolver) => vec![resolver.left()],
            _ => Vec::new(),
        }
    }
}

/// What a table suffered that has no record to blame.
pub fn of_a_table(error: operators::Error) -> Error {
    match error {
        operators::Error::State(error) => error.into(),
        operators::Error::Batch(error) => error.into(),
        operators::Error::Row { reason, .. } => Error::Contract(reason),
    }
}

/// Marks such joins as users of the stores they read. `emit` is that of the stores.
pub fn share_tables(nodes: &mut [PlanNode], emit: &[Emit]) {
    for node in nodes {
        let Work::Tables(work) = &node.work else { continue };
        let on_commit = |store: &usize| emit.get(*store) == Some(&Emit::OnCommit);
        let shared: Vec<usize> = work.reads().into_iter().filter(on_commit).collect();
        node.stores.extend(shared);
    }
}

/// Rows for port 0, then rows for port 1. The latter, one a cause, have the number `after` among those of their cause.
fn of_two(first: Applied, second: Applied, after: u32) -> Vec<Out> {
    let all = |rows: usize| (0..rows as u32).collect();
    let out = |port, applied: Applied, ordinals: fn(&[u32], u32) -> Vec<u32>| {
        let causes = applied.causes.unwrap_or_else(|| all(applied.rows.len()));
        let lineage = Lineage {
            ordinals: Some(ordinals(&causes, after)),
            causes: Some(causes),
        };
        Out {
            port,
            batch: applied.rows,
            lineage,
        }
    };
    let outs = [
        out(0, first, |causes, _| answer::ordinals(causes)),
        out(1, second, |causes, after| vec![after; causes.len()]),
    ];
    outs.into_iter().filter(|out| !out.batch.is_empty()).collect()
}
