//! Dead letters sent again, each once.
//!
//! One transaction holds the records of a window and, for each, a mark in the compacted topic `<pipeline>-replays`. All
//! replays of a pipeline use one transactional id: a second one fences the first, then reads all marks before it chooses.
//! So a letter goes back once, whatever crashes between, for readers of committed records; `again` is the way to ask for
//! more. The marks go with the pipeline when it is deleted.

use super::read::{Id, Letter, LettersReader, WINDOW, parse_id};
use super::{Node, REPLAYS, fits};
use crate::api::letters::{LeftOut, ReplayAnswer, ReplayRequest, Replayed};
use crate::refusal::{Fault, Refusal};
use crate::registry::now_ms;
use broker::{
    Broker, Cleanup, ConsumerOptions, Disposition, Isolation, NewTopic, OffsetAt, Partitioning, Producer,
    ProducerOptions,
};
use record::{BatchBuilder, TopicPartition, partition_of};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const MARKS_TIMEOUT: Duration = Duration::from_secs(30);
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Named in the answer; of what is left out beyond them only the number matters.
const LEFT_OUT_MAX: usize = 100;

fn marks_topic(pipeline: &str) -> String {
    format!("{pipeline}-replays")
}

fn mark_key(topic: &str, id: Id) -> String {
    format!("{topic}/{}:{}", id.0, id.1)
}

/// Which letters were replayed, when and whereto.
pub(super) struct Marks {
    by_key: BTreeMap<String, Replayed>,
}

impl Marks {
    pub(super) fn of(&self, topic: &str, id: Id) -> Option<&Replayed> {
        self.by_key.get(&mark_key(topic, id))
    }

    /// As of now, transactions that are being committed included.
    pub(super) fn read(broker: &dyn Broker, pipeline: &str) -> Result<Self, Refusal> {
        let mut by_key = BTreeMap::new();
        let topic = marks_topic(pipeline);
        let mut admin = broker.admin()?;
        if admin
            .describe(std::slice::from_ref(&topic))?
            .iter()
            .all(Option::is_none)
        {
            return Ok(Self { by_key });
        }
        let partition = TopicPartition::new(topic, 0);
        let only = std::slice::from_ref(&partition);
        let first = admin.offsets(only, OffsetAt::Earliest)?.first().copied().unwrap_or(0);
        let ends = admin.offsets(only, OffsetAt::End(Isolation::ReadUncommitted))?;
        let end = ends.first().copied().unwrap_or(0);
        let mut reader = broker.consumer(&ConsumerOptions {
            group: None,
            client_id: format!("{pipeline}-replays"),
            isolation: Isolation::ReadCommitted,
            queue_bytes_max: 1 << 20,
            headers: false,
        })?;
        reader.assign(&[(partition.clone(), first)])?;
        let (deadline, mut fetched) = (Instant::now() + MARKS_TIMEOUT, Vec::new());
        while reader.position(&partition)?.unwrap_or(0) < end {
            if Instant::now() > deadline {
                let message = format!("`{}` was not read to its end in {MARKS_TIMEOUT:?}", partition.topic);
                return Err(Refusal::new(Fault::Unavailable, "unavailable", message));
            }
            reader.poll(Duration::from_millis(50), 1_000, &mut fetched)?;
            for batch in fetched.drain(..) {
                for row in 0..batch.records.len() {
                    let key = String::from_utf8_lossy(batch.records.key(row).unwrap_or_default()).into_owned();
                    let mark = batch
                        .records
                        .value(row)
                        .and_then(|value| serde_json::from_slice(value).ok());
                    by_key.extend(mark.map(|mark| (key, mark)));
                }
            }
        }
        Ok(Self { by_key })
    }
}

/// A record on its way back.
struct Sending<'a> {
    letter: &'a Letter,
    to: TopicPartition,
    replays: u32,
}

struct Replay<'a> {
    node: &'a Node,
    request: &'a ReplayRequest,
    pipeline: &'a str,
    topic: String,
    marks: Marks,
    /// Of topics that records go to.
    partitions: BTreeMap<String, i32>,
    producer: Option<Box<dyn Producer>>,
    answer: ReplayAnswer,
}

impl Node {
    /// Writes the records of dead letters back.
    ///
    /// # Errors
    /// After one, everything up to some window was replayed and marked; the same call again goes on there.
    pub fn replay(&self, pipeline: &str, request: &ReplayRequest) -> Result<ReplayAnswer, Refusal> {
        let topic = self.letters_topic(pipeline, request.choose.step.as_deref())?;
        if let Some(to) = &request.to {
            self.partitions_of_topic(to)?;
        }
        let producer = (!request.dry_run).then(|| self.replayer(pipeline)).transpose()?;
        let mut replay = Replay {
            node: self,
            request,
            pipeline,
            // After the producer's init, so that nobody else replays any more.
            marks: Marks::read(&*self.broker, pipeline)?,
            partitions: BTreeMap::new(),
            producer,
            answer: ReplayAnswer::default(),
            topic,
        };
        replay.run()?;
        Ok(replay.answer)
    }

    fn partitions_of_topic(&self, topic: &str) -> Result<i32, Refusal> {
        let described = self.broker.admin()?.describe(&[topic.to_owned()])?;
        let found = described.into_iter().flatten().next().map(|d| d.partitions);
        found.ok_or_else(|| {
            Refusal::not_found(format!(
                "there is no topic `{topic}`\nhint: `wasmill topics create {topic}`"
            ))
        })
    }

    fn replayer(&self, pipeline: &str) -> Result<Box<dyn Producer>, Refusal> {
        self.broker.admin()?.create(&[NewTopic {
            name: marks_topic(pipeline),
            partitions: 1,
            cleanup: Cleanup::Compact,
            settings: BTreeMap::new(),
        }])?;
        let mut producer = self.broker.producer(&ProducerOptions {
            client_id: format!("{}-replay", self.config.node),
            transactional_id: Some(format!("{pipeline}-replay")),
            transaction_timeout: TRANSACTION_TIMEOUT,
            delivery_timeout: DELIVERY_TIMEOUT,
            upserts_only: false,
        })?;
        producer.init()?;
        Ok(producer)
    }
}

impl Replay<'_> {
    fn run(&mut self) -> Result<(), Refusal> {
        let mut reader = LettersReader::open(&*self.node.broker, self.pipeline, &self.topic)?;
        if !self.request.letters.is_empty() {
            let ids: Result<BTreeSet<Id>, Refusal> = self.request.letters.iter().map(|id| parse_id(id)).collect();
            let letters: Result<Vec<Letter>, Refusal> = ids?.into_iter().map(|id| reader.one(id)).collect();
            return self.send(&letters?);
        }
        let limit = self.request.choose.limit.map_or(u64::MAX, |limit| limit as u64);
        for (partition, first, next) in reader.partitions.clone() {
            let mut from = first;
            while from < next && self.answer.replayed < limit {
                let to = next.min(from + WINDOW);
                let mut letters = reader.window(&partition, from, to)?;
                letters.retain(|letter| fits(letter, &self.request.choose));
                let left = usize::try_from(limit - self.answer.replayed).unwrap_or(usize::MAX);
                if left < letters.len() {
                    letters.retain(|letter| self.is_due(letter));
                    letters.truncate(left);
                }
                self.send(&letters)?;
                from = to;
            }
        }
        Ok(())
    }

    fn is_due(&self, letter: &Letter) -> bool {
        self.request.again || self.marks.of(&self.topic, letter.id).is_none()
    }

    /// All of these that are due, in one transaction.
    fn send(&mut self, letters: &[Letter]) -> Result<(), Refusal> {
        let mut sending = Vec::new();
        for letter in letters {
            if !self.is_due(letter) {
                self.answer.before += 1;
                continue;
            }
            match self.target(letter)? {
                Ok(to) => sending.push(Sending {
                    letter,
                    to,
                    replays: letter.replays().saturating_add(1),
                }),
                Err(reason) if self.answer.left_out.len() < LEFT_OUT_MAX => self.answer.left_out.push(LeftOut {
                    id: format!("{}:{}", letter.id.0, letter.id.1),
                    reason,
                }),
                Err(_) => {}
            }
        }
        if let Some(producer) = &mut self.producer
            && !sending.is_empty()
            && let Err(error) = write(&mut **producer, self.pipeline, &self.topic, &sending)
        {
            let refused = producer.take_failures().into_iter().next().map(|failure| failure.error);
            // Else it stays open until its timeout, and readers of committed records wait behind it.
            drop(producer.abort());
            return Err(unfinished(&refused.unwrap_or(error), &self.answer));
        }
        for sent in &sending {
            self.answer.replayed += 1;
            *self.answer.topics.entry(sent.to.topic.to_string()).or_default() += 1;
            self.answer.replays_max = self.answer.replays_max.max(sent.replays);
        }
        Ok(())
    }

    /// The partition it came from; by its key into another topic. `Err` inside: why there is none.
    fn target(&mut self, letter: &Letter) -> Result<Result<TopicPartition, String>, Refusal> {
        let (topic, partition) = match (&self.request.to, letter.origin()) {
            (Some(to), _) => (to.clone(), None),
            (None, Some(origin)) => (origin.topic, Some(origin.partition)),
            (None, None) => {
                let reason = "it came of no record (a punctuation or a table's flush); name a topic with --to";
                return Ok(Err(reason.to_owned()));
            }
        };
        let count = match self.partitions.get(&topic) {
            Some(count) => *count,
            None => match self.node.partitions_of_topic(&topic) {
                Ok(count) => *self.partitions.entry(topic.clone()).or_insert(count),
                Err(refusal) if refusal.fault == Fault::NotFound => {
                    return Ok(Err(format!("topic `{topic}` is gone; name another with --to")));
                }
                Err(refusal) => return Err(refusal),
            },
        };
        let spread = i32::try_from(letter.id.1 % i64::from(count.max(1))).unwrap_or(0);
        let partition = partition
            .filter(|p| (0..count).contains(p))
            .unwrap_or(match &letter.key {
                Some(key) => partition_of(Some(key), count),
                None => spread,
            });
        Ok(Ok(TopicPartition::new(topic, partition)))
    }
}

fn write(
    producer: &mut dyn Producer,
    pipeline: &str,
    topic: &str,
    sending: &[Sending<'_>],
) -> Result<(), broker::Error> {
    let now = now_ms();
    let mut rows: BTreeMap<&TopicPartition, BatchBuilder> = BTreeMap::new();
    let mut marks = BatchBuilder::default();
    for Sending { letter, to, replays } in sending {
        let mut headers = letter.headers.clone();
        headers.retain(|(name, _)| name != REPLAYS);
        headers.push((REPLAYS.to_owned(), Some(replays.to_string().into_bytes())));
        let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
        rows.entry(to)
            .or_default()
            .push_with_headers(key, value, letter.timestamp, headers);
        let mark = Replayed {
            at: now,
            topic: to.topic.to_string(),
            partition: to.partition,
        };
        // A struct of texts and numbers: writing it as JSON cannot fail.
        let mark = serde_json::to_vec(&mark).unwrap_or_default();
        marks.push(Some(mark_key(topic, letter.id).as_bytes()), Some(&mark), now);
    }
    producer.begin()?;
    for (to, mut rows) in rows {
        producer.send(&to.topic, Partitioning::Fixed(to.partition), &rows.finish(), 0)?;
    }
    producer.send(&marks_topic(pipeline), Partitioning::Fixed(0), &marks.finish(), 1)?;
    producer.commit()
}

fn unfinished(error: &broker::Error, answer: &ReplayAnswer) -> Refusal {
    let done = answer.replayed;
    let hint = match error.disposition() {
        Disposition::Stop => {
            "hint: a record that its topic does not take? choose the others with --reason, --step or by id"
        }
        _ => "hint: the same command again goes on there; none is sent twice",
    };
    let message = format!("failed to {error}; {done} letters were replayed before\n{hint}");
    Refusal {
        message,
        ..Refusal::from(error.clone())
    }
}
