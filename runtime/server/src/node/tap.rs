//! Taps: those who look at records between steps. A tap outlives the threads and the versions of a pipeline.
//!
//! The stream thread copies as many rows as a tap has room for, counts the others, and never waits; while nobody taps, a
//! run costs it one read of an atomic number.

use super::{Node, lock};
use crate::api::letters::Place;
use crate::api::tap::TappedRecord;
use crate::refusal::Refusal;
use crate::text;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use task::watch::{Seen, Watch};
use tokio::sync::Notify;
use topology::{Format, NodeId, NodeKind, Topology};

/// Records that wait for the reader: what a person scrolls through, little enough to copy at once.
const RECORDS_MAX: usize = 1_000;
/// Their bytes; one batch may go beyond it.
const BYTES_MAX: usize = 4 << 20;

/// Those who tap one pipeline.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    count: AtomicUsize,
    list: Mutex<Vec<Arc<Queue>>>,
}

#[derive(Debug)]
struct Queue {
    node: String,
    /// `None`: all ports.
    port: Option<u32>,
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Raw>,
    bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Raw {
    task: task::TaskId,
    port: u32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: i64,
    origin: Option<Place>,
    headers: record::RowHeaders,
}

impl Queue {
    fn takes(&self, node: &str, port: u32) -> bool {
        self.node == node && self.port.is_none_or(|wanted| wanted == port)
    }

    fn room(&self) -> usize {
        let waiting = lock(&self.waiting);
        if waiting.bytes >= BYTES_MAX {
            0
        } else {
            RECORDS_MAX.saturating_sub(waiting.records.len())
        }
    }

    fn push(&self, seen: &Seen<'_>) {
        let mut waiting = lock(&self.waiting);
        // Another task may have filled it since the room was measured.
        let room = RECORDS_MAX.saturating_sub(waiting.records.len()).min(seen.rows.len());
        for row in 0..room {
            let key = seen.rows.key(row).map(<[u8]>::to_vec);
            let value = seen.rows.value(row).map(<[u8]>::to_vec);
            waiting.bytes += key.as_ref().map_or(0, Vec::len) + value.as_ref().map_or(0, Vec::len);
            waiting.records.push_back(Raw {
                task: seen.task,
                port: seen.port,
                key,
                value,
                timestamp: seen.rows.timestamps().get(row).copied().unwrap_or(-1),
                origin: seen
                    .origins
                    .get(row)
                    .cloned()
                    .flatten()
                    .map(|(partition, offset)| Place {
                        topic: partition.topic.to_string(),
                        partition: partition.partition,
                        offset,
                    }),
                headers: seen.rows.headers().map(|h| h.row(row).to_vec()).unwrap_or_default(),
            });
        }
        waiting.dropped += (seen.rows_in_all - room) as u64;
        drop(waiting);
        self.news.notify_one();
    }
}

impl Watch for Taps {
    fn is_on(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn room(&self, node: &str, port: u32) -> Option<usize> {
        let list = lock(&self.list);
        list.iter()
            .filter(|queue| queue.takes(node, port))
            .map(|queue| queue.room())
            .max()
    }

    fn saw(&self, seen: &Seen<'_>) {
        let list = lock(&self.list);
        for queue in list.iter().filter(|queue| queue.takes(seen.node, seen.port)) {
            queue.push(seen);
        }
    }
}

/// One tap; it ends when this is dropped.
pub(crate) struct Tap {
    taps: Arc<Taps>,
    queue: Arc<Queue>,
    ports: Vec<String>,
    formats: Vec<(Format, Format)>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        lock(&self.taps.list).retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.taps.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tap {
    pub(crate) async fn news(&self) {
        self.queue.news.notified().await;
    }

    /// What waits, and how many records were dropped since the last call.
    pub(crate) fn take(&self) -> (u64, Vec<TappedRecord>) {
        let waiting = std::mem::take(&mut *lock(&self.queue.waiting));
        let records = waiting.records.into_iter().map(|raw| self.shown(raw));
        (waiting.dropped, records.collect())
    }

    fn shown(&self, raw: Raw) -> TappedRecord {
        let port = raw.port as usize;
        let (key, value) = self
            .formats
            .get(port)
            .copied()
            .unwrap_or((Format::String, Format::String));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let headers = raw.headers.into_iter().map(|(name, value)| (name, value.map(text)));
        TappedRecord {
            step: self.queue.node.clone(),
            port: self.ports.get(port).filter(|_| self.ports.len() > 1).cloned(),
            task: raw.task.to_string(),
            key: text::decode(key, raw.key.as_deref()),
            value: text::decode(value, raw.value.as_deref()),
            timestamp: raw.timestamp,
            origin: raw.origin,
            headers: headers.collect(),
        }
    }
}

impl Node {
    /// The taps of a pipeline, whether it runs now or not.
    pub(crate) fn taps(&self, pipeline: &str) -> Arc<Taps> {
        lock(&self.taps).entry(pipeline.to_owned()).or_default().clone()
    }

    /// Starts one at `STEP[.PORT]`.
    pub(crate) fn tap(&self, pipeline: &str, step: &str) -> Result<Tap, Refusal> {
        let topology = self.entry(pipeline)?.details.topology;
        let (node, id, port) = find(&topology, step)?;
        let ports = ports_of(&topology, id);
        let declared = self.declared_formats(&topology, id);
        let formats = (0..ports.len().max(1)).map(|port| formats_at(&topology, id, port, &declared, 0));
        let tap = Tap {
            taps: self.taps(pipeline),
            queue: Arc::new(Queue {
                node,
                port,
                waiting: Mutex::default(),
                news: Notify::new(),
            }),
            formats: formats.collect(),
            ports,
        };
        lock(&tap.taps.list).push(tap.queue.clone());
        tap.taps.count.fetch_add(1, Ordering::Relaxed);
        Ok(tap)
    }

    /// What the module's description says of its outputs.
    fn declared_formats(&self, topology: &Topology, id: NodeId) -> Vec<(Option<Format>, Option<Format>)> {
        let Some(NodeKind::Module(step)) = topology.nodes.get(id).map(|node| &node.kind) else {
            return Vec::new();
        };
        if let Some(closure) = &step.closure {
            return vec![(Some(closure.key), Some(closure.value))];
        }
        let registry = self.registry();
        let record = registry.view().module_by_digest(&step.digest);
        let outputs = record
            .map(|record| record.description.outputs.as_slice())
            .unwrap_or_default();
        let named = |name: &str| text::format_named(name).filter(|format| *format != Format::Any);
        outputs
            .iter()
            .map(|port| (named(&port.key_format), named(&port.value_format)))
            .collect()
    }
}

/// Name and number of the node, and the number of the port if one is named.
fn find(topology: &Topology, step: &str) -> Result<(String, NodeId, Option<u32>), Refusal> {
    let (name, port) = step
        .split_once('.')
        .map_or((step, None), |(name, port)| (name, Some(port)));
    let id = topology
        .nodes
        .iter()
        .position(|node| node.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
            let message = format!("`{}` has no step `{name}`; it has: {}", topology.name, names.join(", "));
            Refusal::not_found(message)
        })?;
    let Some(port) = port else {
        return Ok((name.to_owned(), id, None));
    };
    let ports = ports_of(topology, id);
    let number = ports.iter().position(|known| known == port).ok_or_else(|| {
        let known = if ports.is_empty() {
            "one without a name".to_owned()
        } else {
            ports.join(", ")
        };
        Refusal::not_found(format!("step `{name}` has no output `{port}`; it has: {known}"))
    })?;
    Ok((name.to_owned(), id, Some(number as u32)))
}

fn ports_of(topology: &Topology, id: NodeId) -> Vec<String> {
    match topology.nodes.get(id).map(|node| &node.kind) {
        Some(NodeKind::Module(step)) => step.outputs.clone(),
        Some(NodeKind::Branch(branch)) => {
            let names = branch.branches.iter().map(|(name, _)| name.clone());
            names.chain(branch.default.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// A label for showing: what the node or its module says, else what comes in or goes out says, else text.
fn formats_at(
    topology: &Topology,
    id: NodeId,
    port: usize,
    declared: &[(Option<Format>, Option<Format>)],
    depth: usize,
) -> (Format, Format) {
    let text = (Format::String, Format::String);
    let Some(node) = topology.nodes.get(id).filter(|_| depth <= topology.nodes.len()) else {
        return text;
    };
    let above = || {
        let input = node.inputs.first();
        input.map_or(text, |edge| {
            formats_at(topology, edge.from, edge.from_port as usize, &[], depth + 1)
        })
    };
    let of_store = |store: usize| topology.stores.get(store).map(|store| (store.key, store.value));
    match &node.kind {
        NodeKind::Source(source) => (source.key, source.value),
        NodeKind::Sink(sink) => (sink.key, sink.value),
        NodeKind::Repartition(repartition) => (repartition.key, repartition.value),
        NodeKind::Suppress(suppress) => (suppress.key, suppress.value),
        NodeKind::StreamJoin(join) => (join.key, Format::Json),
        NodeKind::WindowAggregate(_) if port == 1 => above(),
        NodeKind::WindowAggregate(window) => of_store(window.aggregate.store).unwrap_or(text),
        NodeKind::TableJoin(join) => (join.key, Format::Json),
        NodeKind::GlobalJoin(join) => (join.key, Format::Json),
        NodeKind::GroupTable(_) => (below(topology, id, port).map_or(Format::String, |f| f.0), Format::Bytes),
        NodeKind::ForeignSubscribe(_) | NodeKind::ForeignLookup(_) => {
            (below(topology, id, port).map_or(Format::String, |f| f.0), Format::Bytes)
        }
        NodeKind::ForeignResolve(resolve) => (resolve.join.left_key, Format::Json),
        NodeKind::TtlTable(table) => of_store(table.store).unwrap_or(text),
        NodeKind::VersionedTable(table) => of_store(table.store).unwrap_or(text),
        NodeKind::Aggregate(aggregate) | NodeKind::TableAggregate(aggregate) => {
            of_store(aggregate.store).unwrap_or(text)
        }
        NodeKind::ToTable { store } => of_store(*store).unwrap_or(text),
        NodeKind::Cogroup(cogroup) => of_store(cogroup.store).unwrap_or(text),
        NodeKind::Branch(_) | NodeKind::Merge | NodeKind::Dedup(_) | NodeKind::Filter(_) | NodeKind::Route(_) => {
            above()
        }
        NodeKind::Map(map) => (map.key_format, map.value_format),
        NodeKind::SelectKey(_) => (below(topology, id, port).map_or(Format::String, |f| f.0), above().1),
        NodeKind::Module(_) => {
            let (key, value) = declared.get(port).copied().unwrap_or((None, None));
            let known = below(topology, id, port).unwrap_or_else(above);
            (key.unwrap_or(known.0), value.unwrap_or(known.1))
        }
    }
}

/// What the first sink or repartition topic after the port says.
fn below(topology: &Topology, id: NodeId, port: usize) -> Option<(Format, Format)> {
    let reads = |node: &&topology::Node| {
        let mut edges = node.inputs.iter();
        edges.any(|edge| edge.from == id && edge.from_port as usize == port)
    };
    topology.nodes.iter().filter(reads).find_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some((sink.key, sink.value)),
        NodeKind::Repartition(repartition) => Some((repartition.key, repartition.value)),
        _ => None,
    })
}

/// By pipeline.
pub(super) type TapsByPipeline = Mutex<BTreeMap<String, Arc<Taps>>>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use record::{BatchBuilder, TopicPartition};

    fn seen(taps: &Taps, node: &str, port: u32, rows: usize) {
        let Some(room) = taps.room(node, port) else { return };
        let mut batch = BatchBuilder::default();
        for row in 0..rows.min(room) {
            batch.push(None, Some(row.to_string().as_bytes()), row as i64);
        }
        let rows_seen = batch.finish();
        taps.saw(&Seen {
            task: "0_1".parse().unwrap(),
            node,
            port,
            origins: vec![Some((TopicPartition::new("in", 1), 5)); rows_seen.len()],
            rows: rows_seen,
            rows_in_all: rows,
        });
    }

    fn tap(taps: &Arc<Taps>, node: &str, port: Option<u32>) -> Tap {
        let tap = Tap {
            taps: taps.clone(),
            queue: Arc::new(Queue {
                node: node.into(),
                port,
                waiting: Mutex::default(),
                news: Notify::new(),
            }),
            ports: vec!["one".into(), "two".into()],
            formats: Vec::new(),
        };
        lock(&taps.list).push(tap.queue.clone());
        taps.count.fetch_add(1, Ordering::Relaxed);
        tap
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let taps = Arc::new(Taps::default());
        assert!(!taps.is_on());
        let all = tap(&taps, "a", None);
        let second = tap(&taps, "a", Some(1));
        for (node, port, rows) in [("a", 0, 600), ("a", 1, 600), ("b", 0, 9)] {
            seen(&taps, node, port, rows);
        }
        let (dropped, records) = all.take();
        assert_eq!((dropped, records.len()), (200, RECORDS_MAX));
        let first = records.first().unwrap();
        assert_eq!(first.origin.as_ref().unwrap().to_string(), "in-1-5");
        assert_eq!((first.port.as_deref(), first.task.as_str()), (Some("one"), "0_1"));
        assert_eq!((second.take().0, all.take()), (0, (0, Vec::new())));
        drop((all, second));
        assert!(!taps.is_on());
        assert_eq!(taps.room("a", 0), None);
    }
}
