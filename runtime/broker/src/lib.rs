//! What the engine needs of a log, and no more: topics, membership, reading, transactional writing.
//!
//! Two brokers implement it, `kafka` and `local`, and a third one in the simulation; all pass [`conformance`].
//! The words are Kafka's. Nothing here is async: a call that waits has a bound, and a stream thread may wait in
//! [`Producer::commit`] and [`Consumer::poll`] only.

pub mod conformance;
mod error;
mod topics;

pub use error::{Disposition, Error, ErrorKind};
pub use topics::{Cleanup, CreateOutcome, NewTopic, TopicDescription};

use record::{Batch, Fetched, TopicPartition};
use std::time::Duration;

/// A connection to a log. Cheap to share; everything that holds state is made by it.
pub trait Broker: Send + Sync + 'static {
    fn admin(&self) -> Result<Box<dyn Admin>, Error>;

    /// Joins `options.group`: liveness and leadership only, never data (design §9).
    fn member(&self, options: &MemberOptions) -> Result<Box<dyn Member>, Error>;

    fn consumer(&self, options: &ConsumerOptions) -> Result<Box<dyn Consumer>, Error>;

    /// A producer that has not called [`Producer::init`] yet.
    fn producer(&self, options: &ProducerOptions) -> Result<Box<dyn Producer>, Error>;

    /// Starts fencing `transactional_id`: its producer epoch is raised, which ends its open transaction and makes every
    /// later call of its owner fail with [`ErrorKind::Fenced`]. Never done to one's own id. Does not block.
    fn fence(&self, transactional_id: &str) -> Box<dyn Fencing>;
}

/// A fencing under way.
pub trait Fencing: Send {
    /// `None` while it runs; afterwards always the same answer.
    fn poll(&mut self) -> Option<Result<(), Error>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// For committed offsets; a consumer never joins the group.
    pub group: Option<String>,
    pub client_id: String,
    pub isolation: Isolation,
    /// Upper bound for fetched bytes that wait in the client, all partitions together.
    pub queue_bytes_max: usize,
    /// Whether [`Batch::headers`] are filled: they cost an allocation each.
    pub headers: bool,
}

#[derive(Clone, Debug)]
pub struct MemberOptions {
    pub group: String,
    /// Static member id and client id: the node.
    pub node: String,
    /// The one-partition topic whose owner leads.
    pub token_topic: String,
    pub session_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct ProducerOptions {
    pub client_id: String,
    /// `None`: idempotent, without transactions.
    pub transactional_id: Option<String>,
    pub transaction_timeout: Duration,
    /// How long a record may wait for its delivery before it counts as failed.
    pub delivery_timeout: Duration,
    /// Without transactions only: each record replaces the older ones with its key, so a retry may write it twice, though
    /// never out of order. Such a producer can write at once; librdkafka lets an idempotent one wait for half a second.
    pub upserts_only: bool,
}

/// A position with what is stored beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// At most 4,096 bytes on a default broker.
    pub metadata: String,
}

/// Where [`Admin::offsets`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    Earliest,
    /// The end as the partition's leader answers it now.
    End(Isolation),
    /// The first record at or after this time in milliseconds, else the end.
    Time(i64),
}

/// Administrative calls. Each waits at most some seconds.
pub trait Admin: Send {
    /// Names this cluster for good: stamped into data directories.
    fn cluster_id(&mut self) -> Result<String, Error>;

    /// Every topic that is not internal to the broker.
    fn topics(&mut self) -> Result<Vec<TopicDescription>, Error>;

    /// One answer a name, `None` where there is no such topic.
    fn describe(&mut self, topics: &[String]) -> Result<Vec<Option<TopicDescription>>, Error>;

    /// One answer a topic. A topic that is there already is left as it is.
    fn create(&mut self, topics: &[NewTopic]) -> Result<Vec<CreateOutcome>, Error>;

    /// Deleting what is not there is no error.
    fn delete(&mut self, topics: &[String]) -> Result<(), Error>;

    /// Deletes the records below each offset.
    fn delete_records(&mut self, before: &[(TopicPartition, i64)]) -> Result<(), Error>;

    fn offsets(&mut self, partitions: &[TopicPartition], at: OffsetAt) -> Result<Vec<i64>, Error>;

    /// Stable committed offsets of a group, `None` where there is none. [`ErrorKind::Unstable`] while a transaction with
    /// offsets of one of them is open: ask again.
    fn committed(&mut self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, Error>;

    /// Commits for a group that has no members.
    fn commit(&mut self, group: &str, offsets: &[CommittedOffset]) -> Result<(), Error>;

    /// Removes a group that has no members, with its offsets. Removing what is not there is no error.
    fn delete_group(&mut self, group: &str) -> Result<(), Error>;
}

/// What a member may show to the broker when it commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
}

/// A node's membership in a pipeline's group. Polled from one thread, the one that also publishes placements.
pub trait Member: Send {
    /// Serves callbacks. Returns what is true now.
    fn poll(&mut self) -> Result<Membership, Error>;

    /// Client ids (= nodes) of the members that the group knows now.
    fn live(&mut self) -> Result<Vec<String>, Error>;

    /// Fresh metadata for a placement publish.
    fn metadata(&self) -> GroupMetadata;

    /// A plain commit as a member: how positions are committed at-least-once.
    fn commit(&mut self, offsets: &[CommittedOffset]) -> Result<(), Error>;

    /// Leaves the group at once. (Dropping a member instead keeps its static id until the session ends.)
    fn leave(&mut self) -> Result<(), Error>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Empty before the join.
    pub member_id: String,
    /// The member id that the token was given to; `None` while another member leads.
    pub leads_as: Option<String>,
    /// How long ago the broker last confirmed this membership, as far as the client knows.
    pub confirmed_ago: Duration,
}

/// Reads partitions that it is told to, from where it is told. Never part of a rebalance.
pub trait Consumer: Send {
    /// Adds partitions, each at its next offset. A partition that is there already moves to that offset.
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<(), Error>;

    /// No record of these is returned afterwards.
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Waits at most `wait` for a first record, then takes what is there, at most `records_max` records; one
    /// [`Fetched`] a partition, appended to `into`. An offset that is not in the log is [`ErrorKind::OffsetOutOfRange`].
    fn poll(&mut self, wait: Duration, records_max: usize, into: &mut Vec<Fetched>) -> Result<(), Error>;

    /// The next offset to be returned; control records count once all before them was returned. `None`: not assigned.
    fn position(&mut self, partition: &TopicPartition) -> Result<Option<i64>, Error>;

    /// The end of the partition as far as the client has heard (no request); `None` when it has not heard yet.
    fn end_hint(&mut self, partition: &TopicPartition) -> Option<i64>;
}

/// Which partition each record of a batch goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// By [`record::partition_of`] over `count`; null keys are spread.
    ByKey {
        count: i32,
    },
    /// As `ByKey`, by the key without the window's bytes at its end: all windows of a key go to one partition, as with
    /// Kafka Streams' `WindowedStreamPartitioner`.
    ByWindowedKey {
        count: i32,
        window_bytes: usize,
    },
    Fixed(i32),
}

impl Partitioning {
    /// How many partitions the records are spread over; 1 where it is fixed.
    pub fn count(self) -> i32 {
        match self {
            Self::ByKey { count } | Self::ByWindowedKey { count, .. } => count,
            Self::Fixed(_) => 1,
        }
    }

    /// The partition of a record; `None`: any of them, for it has no key.
    pub fn partition(self, key: Option<&[u8]>) -> Option<i32> {
        match self {
            Self::Fixed(partition) => Some(partition),
            Self::ByKey { count } => key.map(|key| record::partition_of(Some(key), count)),
            Self::ByWindowedKey { count, window_bytes } => key.map(|key| {
                // A key that is too short is none with a window.
                let own = key.len().checked_sub(window_bytes).and_then(|end| key.get(..end));
                record::partition_of(Some(own.unwrap_or(key)), count)
            }),
        }
    }
}

/// A record that the broker did not take.
#[derive(Clone, Debug)]
pub struct DeliveryFailure {
    /// `tag` of its [`Producer::send`], and the row in that batch.
    pub tag: u64,
    pub row: u32,
    pub error: Error,
}

/// Writes records, with or without transactions. After [`ErrorKind::Fenced`], [`ErrorKind::UnknownOutcome`] or any
/// fatal error it must be dropped.
pub trait Producer: Send {
    /// Once, before anything else: fences older producers of the same id and settles their transactions.
    /// Nothing to do without a transactional id.
    fn init(&mut self) -> Result<(), Error>;

    fn begin(&mut self) -> Result<(), Error>;

    /// Queues the rows of `batch`; waits (with a bound) while the queue is full. `tag` comes back in failures.
    /// Rows of one partition keep their order.
    fn send(&mut self, topic: &str, to: Partitioning, batch: &Batch, tag: u64) -> Result<(), Error>;

    /// Positions of `group` in this transaction, never empty. `metadata: None` sends none of a member, which is safe
    /// only under the placement rules (design §9).
    fn send_offsets(
        &mut self,
        group: &str,
        offsets: &[CommittedOffset],
        metadata: Option<&GroupMetadata>,
    ) -> Result<(), Error>;

    /// Waits until all queued records are delivered or failed.
    fn flush(&mut self, wait: Duration) -> Result<(), Error>;

    /// Flushes and commits. `Ok` = committed. An error's [`Error::disposition`] says what to do;
    /// [`Disposition::UnknownOutcome`] means it may or may not have been committed.
    fn commit(&mut self) -> Result<(), Error>;

    /// Ends the transaction without effect; queued records are purged.
    fn abort(&mut self) -> Result<(), Error>;

    /// Offset of the last own delivered record of a partition since [`Producer::begin`] (without transactions: since
    /// the last call of this). Complete after `flush` or `commit`.
    fn take_delivered(&mut self) -> Vec<(TopicPartition, i64)>;

    /// Failures since the last call.
    fn take_failures(&mut self) -> Vec<DeliveryFailure>;

    /// Serves callbacks without waiting.
    fn poll(&mut self);

    /// Sends what was gathered for larger requests now, and may wait a moment for the answers. Failures are told as
    /// ever. For a caller who has nothing else to do; a broker that gathers nothing has nothing to do here.
    fn hasten(&mut self) {}
}
