//! Entries of the tasks that are here, as a query shows them.

use super::Place;
use crate::api::{QueryAnswer, QueryRequest, StoreEntry};
use crate::refusal::Refusal;
use crate::text;
use state::Bounds;
use std::fmt;
use std::ops::Bound;
use worker::TaskSnapshot;

/// Event time in front of a timestamped value.
const TIMESTAMP_BYTES: usize = 8;

pub(super) fn key_bytes(place: &Place, key: &str) -> Result<Vec<u8>, Refusal> {
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

pub(super) fn bounds(place: &Place, request: &QueryRequest) -> Result<Bounds, Refusal> {
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
        lag: None,
    }
}

pub(super) fn one(place: &Place, tasks: &[TaskSnapshot], key: &[u8]) -> Result<QueryAnswer, Refusal> {
    let mut answer = QueryAnswer::default();
    for task in tasks {
        if let Some(value) = task.stores.get(place.store, key).map_err(failed)? {
            answer.entries.push(shown(place, task.task.partition, key, &value));
        }
    }
    Ok(answer)
}

/// Where a page ends: `PARTITION:BASE64 OF THE LAST KEY`, or `PARTITION` when nothing of that one was given yet.
pub(super) struct After {
    pub(super) partition: i32,
    pub(super) key: Option<Vec<u8>>,
}

impl After {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = || Refusal::invalid("invalid-page", "`after` is not what the last page gave as `next`");
        let (partition, key) = text.split_once(':').map_or((text, None), |(p, key)| (p, Some(key)));
        Ok(Self {
            partition: partition.parse().map_err(|_| wrong())?,
            key: key.map(|key| text::from_base64(key).ok_or_else(wrong)).transpose()?,
        })
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}:{}", self.partition, text::to_base64(key)),
            None => write!(f, "{}", self.partition),
        }
    }
}

/// Task after task, each in the order of its keys.
pub(super) fn page(
    place: &Place,
    tasks: &[TaskSnapshot],
    bounds: &Bounds,
    after: Option<&str>,
    limit: usize,
) -> Result<QueryAnswer, Refusal> {
    let after = after.map(After::parse).transpose()?;
    let mut answer = QueryAnswer::default();
    for task in tasks {
        let partition = task.task.partition;
        let mut bounds = bounds.clone();
        match &after {
            Some(after) if partition < after.partition => continue,
            Some(After {
                partition: last,
                key: Some(key),
            }) if partition == *last => bounds.lower = Bound::Excluded(key.clone()),
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
            answer.next = Some(
                After {
                    partition,
                    key: last_key,
                }
                .to_string(),
            );
            return Ok(answer);
        }
    }
    Ok(answer)
}
