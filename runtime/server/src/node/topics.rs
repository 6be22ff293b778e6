//! Topics and records of the log, for people and scripts: list, create, delete, produce, consume.

use super::{Node, lock};
use crate::api::{ConsumeRequest, Consumed, CreateTopic, ProduceRequest, Produced, Record, Topic};
use crate::refusal::Refusal;
use crate::registry::now_ms;
use crate::text;
use broker::{
    Cleanup, ConsumerOptions, CreateOutcome, ErrorKind, Isolation, NewTopic, OffsetAt, Partitioning, Producer,
    ProducerOptions, TopicDescription,
};
use record::{BatchBuilder, Fetched, TopicPartition};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use topology::{Format, NodeKind};

/// Of one page of `consume`.
const RECORDS_MAX: usize = 10_000;
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a page waits for records that are known to be there.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const QUEUE_BYTES_MAX: usize = 16 << 20;
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn cleanup_named(name: Option<&str>) -> Result<Cleanup, Refusal> {
    Ok(match name.unwrap_or("delete") {
        "delete" => Cleanup::Delete,
        "compact" => Cleanup::Compact,
        "compact,delete" | "delete,compact" => Cleanup::CompactDelete,
        other => {
            let message = format!("cleanup `{other}` is none of `delete`, `compact`, `compact,delete`");
            return Err(Refusal::invalid("invalid-topic", message));
        }
    })
}

impl Node {
    /// Every topic with its offsets.
    pub fn topics(&self) -> Result<Vec<Topic>, Refusal> {
        let mut admin = self.broker.admin()?;
        let mut topics = Vec::new();
        for topic in admin.topics()? {
            let partitions = partitions_of(&topic);
            let offsets = admin.offsets(&partitions, OffsetAt::Earliest).and_then(|first| {
                Ok((
                    first,
                    admin.offsets(&partitions, OffsetAt::End(Isolation::ReadCommitted))?,
                ))
            });
            let (first, next) = match offsets {
                Ok(offsets) => offsets,
                // Deleted since the list was made.
                Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unavailable) => continue,
                Err(error) => return Err(error.into()),
            };
            topics.push(Topic {
                internal: self.is_internal(&topic.name),
                partitions: topic.partitions,
                cleanup: topic.cleanup.as_policy().to_owned(),
                offsets: first.into_iter().zip(next).collect(),
                name: topic.name,
            });
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    fn is_internal(&self, topic: &str) -> bool {
        let registry = self.registry();
        topic.starts_with("wasmill-")
            || registry
                .view()
                .pipelines
                .keys()
                .any(|pipeline| topology::is_internal_topic(pipeline, topic))
    }

    pub fn create_topic(&self, request: &CreateTopic) -> Result<(), Refusal> {
        let topic = NewTopic {
            name: request.name.clone(),
            partitions: request.partitions,
            cleanup: cleanup_named(request.cleanup.as_deref())?,
            settings: request.settings.clone(),
        };
        match self.broker.admin()?.create(&[topic])?.first() {
            Some(CreateOutcome::Exists(there)) => Err(Refusal::conflict(format!(
                "topic `{}` is there already, with {} partitions",
                there.name, there.partitions
            ))),
            _ => Ok(()),
        }
    }

    pub fn delete_topic(&self, name: &str) -> Result<(), Refusal> {
        self.topic(name)?;
        Ok(self.broker.admin()?.delete(&[name.to_owned()])?)
    }

    fn topic(&self, name: &str) -> Result<TopicDescription, Refusal> {
        let described = self.broker.admin()?.describe(&[name.to_owned()])?;
        described.into_iter().flatten().next().ok_or_else(|| {
            let hint = format!("hint: `wasmill topics create {name}`");
            Refusal::not_found(format!("there is no topic `{name}`\n{hint}"))
        })
    }

    /// Formats of keys and values as the pipelines that use the topic say.
    fn formats_of(&self, topic: &str) -> Option<(Format, Format)> {
        let registry = self.registry();
        let topologies = registry.view().pipelines.values().map(|entry| &entry.details.topology);
        let mut globals = topologies.clone().flat_map(|topology| &topology.globals);
        if let Some(table) = globals.find(|table| table.topic == topic) {
            return Some((table.key, table.value));
        }
        let nodes = topologies.flat_map(|topology| &topology.nodes);
        nodes
            .filter_map(|node| match &node.kind {
                NodeKind::Source(source) if source.topics.iter().any(|t| t == topic) => {
                    Some((source.key, source.value))
                }
                NodeKind::Sink(sink) if sink.topic == topic => Some((sink.key, sink.value)),
                _ => None,
            })
            .next()
    }

    /// Writes all records or none of a partition's tail: a failure names the first record that was not taken.
    pub fn produce(&self, topic: &str, request: &ProduceRequest) -> Result<Produced, Refusal> {
        let partitions = self.topic(topic)?.partitions;
        let invalid = |message: String| Refusal::invalid("invalid-record", message);
        let key_format = named(&request.key_format)?;
        let value_format = named(&request.value_format)?;
        let by_key = Partitioning::ByWindowedKey {
            count: partitions,
            window_bytes: key_format.window_bytes(),
        };
        let mut rows: BTreeMap<i32, BatchBuilder> = BTreeMap::new();
        for (index, record) in request.records.iter().enumerate() {
            let at = |what: &str, e: String| invalid(format!("record {index}: its {what}: {e}"));
            let key = text::encode(key_format, &record.key).map_err(|e| at("key", e))?;
            let value = text::encode(value_format, &record.value).map_err(|e| at("value", e))?;
            // Null keys go round: a page of lines is spread over the partitions.
            let spread = (index as i32).checked_rem(partitions).unwrap_or(0);
            let partition = record.partition.or(by_key.partition(key.as_deref())).unwrap_or(spread);
            if !(0..partitions).contains(&partition) {
                return Err(invalid(format!(
                    "record {index}: there is no partition {partition}, only {partitions}"
                )));
            }
            let headers = record
                .headers
                .iter()
                .map(|(name, v)| (name.clone(), v.clone().map(String::into_bytes)));
            rows.entry(partition).or_default().push_with_headers(
                key.as_deref(),
                value.as_deref(),
                record.timestamp.unwrap_or_else(now_ms),
                headers.collect(),
            );
        }
        self.deliver(topic, rows)?;
        Ok(Produced {
            records: request.records.len() as u64,
        })
    }

    /// The producer is kept for the next page, unless it failed: connecting takes longer than writing a page.
    fn deliver(&self, topic: &str, rows: BTreeMap<i32, BatchBuilder>) -> Result<(), Refusal> {
        let mut kept = lock(&self.producer);
        let mut producer = match kept.take() {
            Some(producer) => producer,
            None => self.new_producer()?,
        };
        for (partition, mut rows) in rows {
            producer.send(topic, Partitioning::Fixed(partition), &rows.finish(), 0)?;
        }
        producer.flush(DELIVERY_TIMEOUT)?;
        let failure = producer.take_failures().into_iter().next();
        producer.take_delivered();
        *kept = Some(producer);
        failure.map_or(Ok(()), |failure| Err(failure.error.into()))
    }

    fn new_producer(&self) -> Result<Box<dyn Producer>, Refusal> {
        let mut producer = self.broker.producer(&ProducerOptions {
            client_id: format!("{}-produce", self.config.node),
            transactional_id: None,
            transaction_timeout: DELIVERY_TIMEOUT,
            delivery_timeout: DELIVERY_TIMEOUT,
            upserts_only: false,
        })?;
        producer.init()?;
        Ok(producer)
    }

    /// A page of committed records.
    pub fn consume(&self, topic: &str, request: &ConsumeRequest) -> Result<Consumed, Refusal> {
        let partitions = partitions_of(&self.topic(topic)?);
        let said = self.formats_of(topic).unwrap_or((Format::String, Format::String));
        let key_format = request.key_format.as_deref().map_or(Ok(said.0), named)?;
        let value_format = request.value_format.as_deref().map_or(Ok(said.1), named)?;
        let limit = request.limit.unwrap_or(RECORDS_MAX).clamp(1, RECORDS_MAX);
        let wait = Duration::from_millis(request.wait_ms.unwrap_or(0)).min(WAIT_MAX);
        let mut positions = self.positions(request.from.as_deref().unwrap_or("earliest"), &partitions)?;
        let mut reader = self.broker.consumer(&ConsumerOptions {
            group: None,
            client_id: format!("{}-consume", self.config.node),
            isolation: Isolation::ReadCommitted,
            queue_bytes_max: QUEUE_BYTES_MAX,
            headers: true,
        })?;
        let started: Vec<_> = positions.iter().map(|(p, offset)| (p.clone(), *offset)).collect();
        reader.assign(&started)?;
        let ends = self
            .broker
            .admin()?
            .offsets(&partitions, OffsetAt::End(Isolation::ReadCommitted))?;
        let ends: BTreeMap<_, _> = partitions.iter().cloned().zip(ends).collect();
        let behind = |positions: &BTreeMap<TopicPartition, i64>| {
            positions
                .iter()
                .any(|(p, offset)| ends.get(p).is_some_and(|end| offset < end))
        };
        let clock = Instant::now();
        let (mut records, mut fetched): (Vec<Record>, Vec<Fetched>) = (Vec::new(), Vec::new());
        while records.len() < limit {
            let time_left = if behind(&positions) { READ_TIMEOUT } else { wait };
            if (!behind(&positions) && !records.is_empty()) || clock.elapsed() >= time_left {
                break;
            }
            reader.poll(Duration::from_millis(20), limit - records.len(), &mut fetched)?;
            for batch in fetched.drain(..) {
                for row in 0..batch.records.len() {
                    records.push(record_of(&batch, row, key_format, value_format));
                }
                positions.insert(batch.partition, batch.next);
            }
            for (partition, position) in &mut positions {
                *position = reader.position(partition)?.unwrap_or(0).max(*position);
            }
        }
        let end = !behind(&positions);
        let next = positions
            .iter()
            .map(|(p, offset)| format!("{}:{offset}", p.partition))
            .collect::<Vec<_>>()
            .join(",");
        Ok(Consumed { records, next, end })
    }

    fn positions(&self, from: &str, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>, Refusal> {
        let at = match from {
            "earliest" => Some(OffsetAt::Earliest),
            "latest" => Some(OffsetAt::End(Isolation::ReadCommitted)),
            _ => None,
        };
        if let Some(at) = at {
            let offsets = self.broker.admin()?.offsets(partitions, at)?;
            return Ok(partitions.iter().cloned().zip(offsets).collect());
        }
        let wrong = || {
            let message = format!("`{from}` is none of `earliest`, `latest`, `PARTITION:OFFSET,…`");
            Refusal::invalid("invalid-position", message)
        };
        let mut positions = BTreeMap::new();
        for part in from.split(',') {
            let (partition, offset) = part.split_once(':').ok_or_else(wrong)?;
            let number: i32 = partition.trim().parse().map_err(|_| wrong())?;
            let partition = partitions.iter().find(|p| p.partition == number).ok_or_else(wrong)?;
            positions.insert(partition.clone(), offset.trim().parse().map_err(|_| wrong())?);
        }
        Ok(positions)
    }
}

fn named(format: &str) -> Result<Format, Refusal> {
    text::format_named(format).ok_or_else(|| {
        let message = format!("format `{format}` is none of `bytes`, `string`, `i64`, `f64`, `json`");
        Refusal::invalid("invalid-format", message)
    })
}

fn partitions_of(topic: &TopicDescription) -> Vec<TopicPartition> {
    let name: std::sync::Arc<str> = topic.name.as_str().into();
    (0..topic.partitions)
        .map(|partition| TopicPartition::new(name.clone(), partition))
        .collect()
}

fn record_of(batch: &Fetched, row: usize, key: Format, value: Format) -> Record {
    let headers = batch
        .records
        .headers()
        .map(|headers| headers.row(row))
        .unwrap_or_default();
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    Record {
        key: text::decode(key, batch.records.key(row)),
        value: text::decode(value, batch.records.value(row)),
        timestamp: batch.records.timestamps().get(row).copied(),
        partition: Some(batch.partition.partition),
        offset: batch.offsets.get(row).copied(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_ref().map(text)))
            .collect(),
    }
}
