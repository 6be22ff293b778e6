//! Queries of stores: committed state, task by task, in pages by key.

use super::{Node, lock};
use crate::api::{QueryAnswer, QueryRequest, StoreEntry};
use crate::refusal::{Fault, Refusal};
use crate::registry::PipelineEntry;
use crate::text;
use state::Bounds;
use std::ops::Bound;
use topology::{Format, StoreKind};
use worker::TaskSnapshot;

const ENTRIES_MAX: usize = 10_000;
const ENTRIES_DEFAULT: usize = 100;
/// Event time in front of a timestamped value.
const TIMESTAMP_BYTES: usize = 8;

/// Where a store is, and how its bytes are shown.
struct Place {
    sub_topology: u32,
    /// Number within the task.
    store: usize,
    kind: StoreKind,
    key: Format,
    value: Format,
    tasks: i32,
}

fn place(entry: &PipelineEntry, name: &str) -> Result<Place, Refusal> {
    let topology = &entry.details.topology;
    for (index, sub) in topology.sub_topologies.iter().enumerate() {
        for (store, id) in sub.stores.iter().enumerate() {
            if let Some(found) = topology.stores.get(*id).filter(|found| found.name == name) {
                let tasks = entry.details.tasks.get(index).copied().unwrap_or(0);
                let (kind, key, value) = (found.kind, found.key, found.value);
                return Ok(Place {
                    sub_topology: sub.id,
                    store,
                    kind,
                    key,
                    value,
                    tasks,
                });
            }
        }
    }
    let known: Vec<&str> = topology.stores.iter().map(|store| store.name.as_str()).collect();
    let message = format!(
        "`{}` has no store `{name}`; it has: {}",
        topology.name,
        known.join(", ")
    );
    Err(Refusal::not_found(message))
}

impl Node {
    pub fn query(&self, pipeline: &str, store: &str, request: &QueryRequest) -> Result<QueryAnswer, Refusal> {
        let place = place(&self.entry(pipeline)?, store)?;
        let shared = lock(&self.running).get(pipeline).map(|running| running.shared.clone());
        let mut tasks = shared.map(|shared| shared.snapshots()).unwrap_or_default();
        tasks.retain(|task| task.task.sub_topology == place.sub_topology);
        tasks.sort_by_key(|task| task.task);
        if tasks.len() < place.tasks as usize {
            let message = format!(
                "{} of {} tasks with store `{store}` run here now; the others start, restore or have stopped\n\
                 hint: `wasmill status`",
                tasks.len(),
                place.tasks
            );
            return Err(Refusal::new(Fault::Unavailable, "store-not-ready", message));
        }
        let limit = request.limit.unwrap_or(ENTRIES_DEFAULT).clamp(1, ENTRIES_MAX);
        match &request.key {
            Some(key) => one(&place, &tasks, &key_bytes(&place, key)?),
            None => page(
                &place,
                &tasks,
                &bounds(&place, request)?,
                request.after.as_deref(),
                limit,
            ),
        }
    }

    pub(crate) fn entry(&self, pipeline: &str) -> Result<PipelineEntry, Refusal> {
        let registry = self.registry();
        registry.view().pipelines.get(pipeline).cloned().ok_or_else(|| {
            let known: Vec<&str> = registry.view().pipelines.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            Refusal::not_found(format!("no pipeline `{pipeline}`; {known}"))
        })
    }
}

fn key_bytes(place: &Place, key: &str) -> Result<Vec<u8>, Refusal> {
    let refused = |e: String| Refusal::invalid("invalid-key", format!("the key {e}"));
    let bytes = text::encode_text(place.key, key).map_err(refused)?;
    let Some(layout) = operators::layout(place.kind) else {
        return Ok(bytes);
    };
    let parts = layout
        .read_wire(&bytes)
        .ok_or_else(|| refused("has no window".into()))?;
    let mut stored = Vec::new();
    layout.write(&parts, &mut stored);
    Ok(stored)
}

fn bounds(place: &Place, request: &QueryRequest) -> Result<Bounds, Refusal> {
    let asked = [&request.prefix, &request.lower, &request.upper];
    if operators::layout(place.kind).is_some() && asked.iter().any(|bound| bound.is_some()) {
        let message = "a store of windows lies in the order of time: ask for a key with its window, or list it whole";
        return Err(Refusal::invalid("invalid-key", message));
    }
    if let Some(prefix) = &request.prefix {
        return Ok(Bounds::prefix(&key_bytes(place, prefix)?));
    }
    let lower = request.lower.as_deref().map(|key| key_bytes(place, key)).transpose()?;
    let upper = request.upper.as_deref().map(|key| key_bytes(place, key)).transpose()?;
    Ok(Bounds {
        lower: lower.map_or(Bound::Unbounded, Bound::Included),
        upper: upper.map_or(Bound::Unbounded, Bound::Excluded),
    })
}

fn failed(error: state::Error) -> Refusal {
    Refusal::ours(format!("failed to {error}"))
}

fn shown(place: &Place, partition: i32, key: &[u8], value: &[u8]) -> StoreEntry {
    let (timestamp, value) = match value.split_at_checked(TIMESTAMP_BYTES) {
        Some((time, value)) if place.kind.is_timestamped() => (time.try_into().ok().map(i64::from_be_bytes), value),
        _ => (None, value),
    };
    let wire = operators::layout(place.kind).map(|layout| layout.wire(key));
    StoreEntry {
        key: text::decode(place.key, Some(wire.as_deref().unwrap_or(key))),
        value: text::decode(place.value, Some(value)),
        timestamp,
        partition,
    }
}

fn one(place: &Place, tasks: &[TaskSnapshot], key: &[u8]) -> Result<QueryAnswer, Refusal> {
    let mut answer = QueryAnswer::default();
    for task in tasks {
        if let Some(value) = task.stores.get(place.store, key).map_err(failed)? {
            answer.entries.push(shown(place, task.task.partition, key, &value));
        }
    }
    Ok(answer)
}

/// Task after task, each in the order of its keys. `after` is `PARTITION:BASE64 OF THE LAST KEY`, or
/// `PARTITION` when nothing of that one was given yet.
fn page(
    place: &Place,
    tasks: &[TaskSnapshot],
    bounds: &Bounds,
    after: Option<&str>,
    limit: usize,
) -> Result<QueryAnswer, Refusal> {
    let wrong = || Refusal::invalid("invalid-page", "`after` is not what the last page gave as `next`");
    let after: Option<(i32, Option<Vec<u8>>)> = match after.map(|text| text.split_once(':').unwrap_or((text, "-"))) {
        Some((partition, key)) => {
            let key = if key == "-" {
                None
            } else {
                Some(text::from_base64(key).ok_or_else(wrong)?)
            };
            Some((partition.parse().map_err(|_| wrong())?, key))
        }
        None => None,
    };
    let mut answer = QueryAnswer::default();
    for task in tasks {
        let partition = task.task.partition;
        let mut bounds = bounds.clone();
        match &after {
            Some((last, _)) if partition < *last => continue,
            Some((last, Some(key))) if partition == *last => bounds.lower = Bound::Excluded(key.clone()),
            _ => {}
        }
        let mut last_key: Option<Vec<u8>> = None;
        let mut more = false;
        task.stores
            .scan(place.store, &bounds, false, &mut |key, value| {
                if answer.entries.len() == limit {
                    more = true;
                    return false;
                }
                last_key = Some(key.to_vec());
                answer.entries.push(shown(place, partition, key, value));
                true
            })
            .map_err(failed)?;
        if more {
            answer.next = Some(match last_key {
                Some(key) => format!("{partition}:{}", text::to_base64(&key)),
                None => partition.to_string(),
            });
            return Ok(answer);
        }
    }
    Ok(answer)
}
