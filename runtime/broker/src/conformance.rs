//! What every broker must do, as cases that a broker's own crate runs against itself.
//!
//! The list [`CASES`] is the contract behind the traits of this crate. A case asserts nothing by panicking: it returns
//! what was wrong, and the test of the broker's crate prints and asserts. The cases hold for a real Kafka that others
//! use too, so they take nothing for granted that Kafka does not promise: offsets may have gaps, a commit may become
//! visible later than it is answered, topics may appear late. Whatever has to wait polls, [`STEPS_MAX`] times at most.
//!
//! Left to each broker's own tests: what survives a crash, and when compaction and retention run.

mod groups;
mod reading;
mod records;
mod refusals;
mod topics;
mod transactions;

use crate::{
    Admin, Broker, Cleanup, CommittedOffset, Consumer, ConsumerOptions, CreateOutcome, Disposition, Error, Isolation,
    NewTopic, OffsetAt, Partitioning, Producer, ProducerOptions, TopicDescription,
};
use record::{Batch, BatchBuilder, Fetched, TopicPartition};
use std::collections::BTreeMap;
use std::time::Duration;

/// One step of a wait.
pub const STEP: Duration = Duration::from_millis(50);
/// Steps after which a wait has failed: 15 s, five times Kafka's first rebalance delay.
pub const STEPS_MAX: usize = 300;
/// Kafka's default lower bound of a session.
const SESSION: Duration = Duration::from_secs(6);
/// 2023-11-14: old enough for no broker to take it for the future.
const T0: i64 = 1_700_000_000_000;

/// One requirement: its broker, under names of its own.
pub type Case = fn(&World<'_>) -> Result<(), String>;

/// Every case by name, cheap ones first.
pub const CASES: &[(&str, Case)] = &[
    ("topic-create-describe-delete", topics::create_describe_delete),
    ("topic-create-existing", topics::create_existing),
    ("topic-new-id-after-delete", topics::new_id_after_delete),
    ("cluster-id-stays", topics::cluster_id_stays),
    ("produce-fetch-in-order", records::produce_fetch_in_order),
    ("headers-on-request", records::headers_on_request),
    ("partitioned-by-key", records::partitioned_by_key),
    ("partitioned-by-own-key-of-windows", records::partitioned_by_own_key),
    ("delivered-is-last-own-offset", records::delivered_is_last_own_offset),
    ("compacted-keeps-last-values", records::compacted_keeps_last_values),
    ("open-transaction-invisible", transactions::open_transaction_invisible),
    ("abort-leaves-nothing", transactions::abort_leaves_nothing),
    ("offsets-commit-with-records", transactions::offsets_commit_with_records),
    ("offsets-abort-with-records", transactions::offsets_abort_with_records),
    (
        "init-settles-open-transaction",
        transactions::init_settles_open_transaction,
    ),
    ("init-fences-older-producer", transactions::init_fences_older_producer),
    ("fence-fences-owner", transactions::fence_fences_owner),
    (
        "assign-moves-and-unassign-stops",
        reading::assign_moves_and_unassign_stops,
    ),
    ("poll-is-bounded", reading::poll_is_bounded),
    ("pause-and-resume", reading::pause_and_resume),
    (
        "position-passes-control-records",
        reading::position_passes_control_records,
    ),
    ("offset-out-of-range", reading::offset_out_of_range),
    ("offsets-by-time", reading::offsets_by_time),
    ("delete-records", reading::delete_records),
    ("null-key-to-compacted-topic", refusals::null_key_to_compacted_topic),
    ("record-too-large", refusals::record_too_large),
    ("commit-for-empty-group", groups::commit_for_empty_group),
    ("member-leads-and-hands-over", groups::member_leads_and_hands_over),
    ("member-commits", groups::member_commits),
    ("member-metadata-in-transaction", groups::member_metadata_in_transaction),
];

/// Runs every case; the names of topics, groups and transactional ids start with `prefix`, which must be new to the
/// broker. `pause` lets time pass: a sleep, or a step of virtual time.
pub fn run(broker: &dyn Broker, prefix: &str, pause: &dyn Fn(Duration)) -> Vec<(&'static str, Result<(), String>)> {
    CASES
        .iter()
        .map(|(name, case)| (*name, run_case(broker, prefix, pause, name, *case)))
        .collect()
}

/// Runs one case of [`CASES`] and deletes its topics.
///
/// # Errors
/// What the broker did wrong, for people.
pub fn run_case(
    broker: &dyn Broker,
    prefix: &str,
    pause: &dyn Fn(Duration),
    name: &str,
    case: Case,
) -> Result<(), String> {
    let world = World {
        broker,
        pause,
        prefix: format!("{prefix}-{name}"),
    };
    let outcome = case(&world);
    let cleaned = world.delete_topics();
    outcome.and(cleaned)
}

/// What a case works with.
pub struct World<'a> {
    pub broker: &'a dyn Broker,
    pub pause: &'a dyn Fn(Duration),
    /// Starts every name of this case.
    pub prefix: String,
}

/// A record as cases compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

impl Row {
    fn text(&self) -> String {
        self.value
            .as_ref()
            .map_or_else(|| "(null)".to_owned(), |v| String::from_utf8_lossy(v).into_owned())
    }
}

impl World<'_> {
    fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }

    fn admin(&self) -> Result<Box<dyn Admin>, String> {
        self.broker.admin().map_err(text)
    }

    /// Creates a topic and waits until the broker describes it.
    fn topic(&self, what: &str, partitions: i32, cleanup: Cleanup) -> Result<String, String> {
        let name = self.name(what);
        let outcome = self
            .admin()?
            .create(&[new_topic(&name, partitions, cleanup)])
            .map_err(text)?;
        if outcome != [CreateOutcome::Created] {
            return Err(format!("creating `{name}` answered {outcome:?}"));
        }
        self.described(&name)?;
        Ok(name)
    }

    fn described(&self, name: &str) -> Result<TopicDescription, String> {
        let mut admin = self.admin()?;
        self.until("the topic is described", || {
            Ok(admin.describe(&[name.to_owned()])?.into_iter().next().flatten())
        })
    }

    fn delete_topics(&self) -> Result<(), String> {
        let mut admin = self.admin()?;
        let own = format!("{}-", self.prefix);
        let names: Vec<String> = admin
            .topics()
            .map_err(text)?
            .into_iter()
            .map(|t| t.name)
            .filter(|n| n.starts_with(&own))
            .collect();
        if names.is_empty() {
            Ok(())
        } else {
            admin.delete(&names).map_err(text)
        }
    }

    /// Calls `ask` until it answers; an error that may be retried counts as no answer.
    fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Result<Option<T>, Error>) -> Result<T, String> {
        let mut last = None;
        for _ in 0..STEPS_MAX {
            match ask() {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(e) if e.disposition() == Disposition::Retry => last = Some(e),
                Err(e) => return Err(format!("waiting until {what}: {e}")),
            }
            (self.pause)(STEP);
        }
        Err(format!("not within {STEPS_MAX} steps: {what} (last error: {last:?})"))
    }

    /// An initialised producer; `id` makes it transactional.
    fn producer(&self, id: Option<&str>) -> Result<Box<dyn Producer>, String> {
        let mut producer = self
            .broker
            .producer(&ProducerOptions {
                client_id: self.name("producer"),
                transactional_id: id.map(str::to_owned),
                transaction_timeout: Duration::from_secs(60),
                delivery_timeout: Duration::from_secs(30),
                upserts_only: false,
            })
            .map_err(text)?;
        self.until("the producer is initialised", || producer.init().map(Some))?;
        Ok(producer)
    }

    fn consumer(&self, isolation: Isolation, headers: bool) -> Result<Box<dyn Consumer>, String> {
        self.broker
            .consumer(&ConsumerOptions {
                group: None,
                client_id: self.name("consumer"),
                isolation,
                queue_bytes_max: 16 << 20,
                headers,
            })
            .map_err(text)
    }

    /// Commits, again where the broker says that this is how to go on.
    fn commit(&self, producer: &mut dyn Producer) -> Result<(), String> {
        self.until("the transaction is committed", || producer.commit().map(Some))
    }

    /// One committed transaction with these values (no keys) for one partition.
    fn write(&self, producer: &mut dyn Producer, to: &TopicPartition, values: &[&str]) -> Result<(), String> {
        producer.begin().map_err(text)?;
        self.send(producer, to, values)?;
        self.commit(producer)
    }

    /// Queues values with the keys `k`, so that compacted topics take them too.
    fn send(&self, producer: &mut dyn Producer, to: &TopicPartition, values: &[&str]) -> Result<(), String> {
        let rows: Vec<_> = values.iter().map(|v| (Some("k"), Some(*v), T0)).collect();
        producer
            .send(&to.topic, Partitioning::Fixed(to.partition), &batch(&rows), 0)
            .map_err(text)
    }

    /// Reads committed records from the start of a partition until one has the value `last`.
    fn read_until(&self, from: &TopicPartition, last: &str) -> Result<Vec<Row>, String> {
        let start = self.offset(from, OffsetAt::Earliest)?;
        let mut consumer = self.consumer(Isolation::ReadCommitted, false)?;
        consumer.assign(&[(from.clone(), start)]).map_err(text)?;
        let mut rows: Vec<Row> = Vec::new();
        self.until(&format!("`{last}` was read from {from}"), || {
            rows.extend(poll_rows(&mut *consumer, usize::MAX)?);
            Ok(rows
                .iter()
                .any(|r| r.value.as_deref() == Some(last.as_bytes()))
                .then_some(()))
        })?;
        Ok(rows)
    }

    /// As [`Self::read_until`], the values only.
    fn values_until(&self, from: &TopicPartition, last: &str) -> Result<Vec<String>, String> {
        Ok(self.read_until(from, last)?.iter().map(Row::text).collect())
    }

    fn offset(&self, partition: &TopicPartition, at: OffsetAt) -> Result<i64, String> {
        let mut admin = self.admin()?;
        self.until("an offset is known", || {
            Ok(admin.offsets(std::slice::from_ref(partition), at)?.first().copied())
        })
    }

    /// The committed offset once it is stable.
    fn committed(&self, group: &str, partition: &TopicPartition) -> Result<Option<CommittedOffset>, String> {
        let mut admin = self.admin()?;
        self.until("committed offsets are stable", || {
            Ok(admin
                .committed(group, std::slice::from_ref(partition))?
                .into_iter()
                .next())
        })
    }
}

fn text(e: Error) -> String {
    format!("{:?}: {e}", e.kind)
}

fn new_topic(name: &str, partitions: i32, cleanup: Cleanup) -> NewTopic {
    // The timestamps of the cases are old: without this a broker may delete their records at once.
    let settings = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    NewTopic {
        name: name.to_owned(),
        partitions,
        cleanup,
        settings,
    }
}

fn batch(rows: &[(Option<&str>, Option<&str>, i64)]) -> Batch {
    let mut builder = BatchBuilder::default();
    for (key, value, timestamp) in rows {
        builder.push(key.map(str::as_bytes), value.map(str::as_bytes), *timestamp);
    }
    builder.finish()
}

fn poll_rows(consumer: &mut dyn Consumer, records_max: usize) -> Result<Vec<Row>, Error> {
    let mut fetched = Vec::new();
    consumer.poll(STEP, records_max, &mut fetched)?;
    Ok(fetched.iter().flat_map(rows_of).collect())
}

fn rows_of(fetched: &Fetched) -> Vec<Row> {
    let batch = &fetched.records;
    let columns = fetched.offsets.iter().zip(batch.timestamps());
    columns
        .enumerate()
        .map(|(i, (offset, timestamp))| Row {
            offset: *offset,
            key: batch.key(i).map(<[u8]>::to_vec),
            value: batch.value(i).map(<[u8]>::to_vec),
            timestamp: *timestamp,
        })
        .collect()
}

/// `Err` naming both sides where they differ.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, expected {expected:?}"))
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
