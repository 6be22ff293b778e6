//! Queries of global tables: whole on every node that runs the pipeline, so the node that is asked answers.

use super::{NOT_READY, Place, Shared, limit, read};
use crate::api::{QueryAnswer, QueryRequest};
use crate::refusal::{Fault, Refusal};
use state::backend::Visit;
use state::{Bounds, Error, GLOBAL_ROWS, Snapshot};
use std::sync::Arc;
use task::TaskId;
use topology::{GlobalTable, StoreKind};
use worker::TaskSnapshot;

/// Of an entry: the table is not kept by partition.
const PARTITION: i32 = -1;

struct Settled(Arc<dyn Snapshot>);

impl Snapshot for Settled {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(store, key)
    }

    fn scan(&self, store: usize, bounds: &Bounds, descending: bool, visit: Visit<'_>) -> Result<(), Error> {
        self.0.scan(store, bounds, descending, visit)
    }
}

pub(super) fn answer(
    table: &GlobalTable,
    shared: Option<&Shared>,
    request: &QueryRequest,
) -> Result<QueryAnswer, Refusal> {
    if request.at_least.is_some() {
        let message = "`at-least` is for stores of tasks: a global table follows its topic by itself";
        return Err(Refusal::invalid("invalid-position", message));
    }
    let Some(kept) = shared.and_then(|shared| shared.globals.get(&table.name)) else {
        let message = format!(
            "global table `{}` is not whole here yet\nhint: `wasmill status`",
            table.name
        );
        return Err(Refusal::new(Fault::Unavailable, NOT_READY, message));
    };
    let place = Place {
        sub_topology: 0,
        store: GLOBAL_ROWS,
        kind: StoreKind::Timestamped,
        key: table.key,
        value: table.value,
        tasks: 1,
        topics: vec![table.topic.clone()],
    };
    let task = TaskId {
        sub_topology: 0,
        partition: PARTITION,
    };
    let whole = TaskSnapshot {
        task,
        task_epoch: 0,
        stores: Box::new(Settled(kept.settled())),
        positions: Vec::new(),
    };
    match &request.key {
        Some(key) => read::one(&place, &[whole], &read::key_bytes(&place, key)?),
        None => {
            let bounds = read::bounds(&place, request)?;
            read::page(&place, &[whole], &bounds, request.after.as_deref(), limit(request))
        }
    }
}
