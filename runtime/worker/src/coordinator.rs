//! A node's part in a pipeline besides running tasks: membership, its own `h:` record, and leading when it has the
//! token (design §9).
//!
//! One [`Coordinator`] per pipeline and node, advanced by [`Coordinator::poll`] from one thread: flag, metadata and
//! publish stay together that way. Who gets which task is decided in [`crate::plan`]; what the dead left behind is
//! fenced here before anything is read and planned (`leader`). It reads no clock.

mod leader;
mod reader;

use crate::control::Run;
use crate::mutant::Mutant;
use crate::placement::{self, Node, NodeState, Record, View};
use broker::{
    Broker, CommittedOffset, ConsumerOptions, Error, Isolation, Member, MemberOptions, Membership, Partitioning,
    Producer, ProducerOptions,
};
use leader::Leader;
use reader::Reader;
use record::{BatchBuilder, TopicPartition};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use task::TaskId;

/// What a coordinator is told. Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Options {
    pub pipeline: String,
    /// Static member id: one process at a time.
    pub node: String,
    pub run: Run,
    /// Every task of the pipeline in this run, in order.
    pub tasks: Vec<TaskId>,
    /// Those of them that have stores, and how many standbys each is to have.
    pub stateful: BTreeSet<TaskId>,
    pub standbys: usize,
    /// Whether this node keeps standbys where the placement says so, see [`Coordinator::set_warm`].
    pub follows: bool,
    pub address: Option<String>,
    pub rack: Option<String>,
    pub session_timeout: Duration,
    /// A thread that has not advanced for this long is taken off the list: the leader places its tasks elsewhere.
    pub stalled_ms: i64,
    /// A node that could not publish its own record for this long stops polling its membership, so that others take
    /// its tasks.
    pub unpublished_ms_max: i64,
    /// How often the leader asks who lives.
    pub live_every_ms: i64,
    /// How long one of this coordinator's records may wait for its delivery.
    pub delivery_timeout: Duration,
    /// Only for tests.
    pub mutant: Option<Mutant>,
}

impl Options {
    /// The defaults of a node: session 6 s; a thread counts as stalled after 30 s, longer than any bounded call of it.
    pub fn new(pipeline: &str, node: &str, run: Run, tasks: Vec<TaskId>) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            node: node.to_owned(),
            run,
            tasks,
            stateful: BTreeSet::new(),
            standbys: 0,
            follows: false,
            address: None,
            rack: None,
            session_timeout: Duration::from_secs(6),
            stalled_ms: 30_000,
            unpublished_ms_max: 15_000,
            live_every_ms: 200,
            delivery_timeout: Duration::from_secs(10),
            mutant: None,
        }
    }
}

/// What the node says of one of its stream threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// [`placement::thread_id`].
    pub id: String,
    /// When its state machine last came back from a poll, in the clock of [`Coordinator::poll`].
    pub advanced_at: i64,
}

/// What is true after a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub membership: Membership,
    pub leads: bool,
    /// The node's own record stands on the topic as it should.
    pub published: bool,
    /// Nothing is on its way: a member that has said what it is, and, as the leader, has read all that it is to know.
    pub settled: bool,
    /// After [`Coordinator::leave`]: no placement names a thread of this node any more, or nobody is there to take
    /// over; the node may close its threads and call [`Coordinator::finish`].
    pub left: bool,
}

/// See the module's page.
pub struct Coordinator {
    broker: Arc<dyn Broker>,
    options: Options,
    member: Box<dyn Member>,
    reader: Reader,
    writer: Option<Box<dyn Producer>>,
    state: NodeState,
    warm: Vec<String>,
    /// Offset of the own record written last; nothing is written before it was read back.
    written: i64,
    /// Since when the own record is not what it should be.
    unpublished_since: Option<i64>,
    leader: Option<Leader>,
    membership: Membership,
}

impl Coordinator {
    /// Connects. The topics must be there.
    ///
    /// # Errors
    /// What the broker says.
    pub fn new(broker: Arc<dyn Broker>, options: Options) -> Result<Self, Error> {
        let member = broker.member(&MemberOptions {
            group: options.pipeline.clone(),
            node: options.node.clone(),
            token_topic: placement::token_topic(&options.pipeline),
            session_timeout: options.session_timeout,
        })?;
        let consumer = broker.consumer(&ConsumerOptions {
            group: None,
            client_id: format!("{}-placement", options.node),
            isolation: Isolation::ReadCommitted,
            queue_bytes_max: 1 << 20,
            headers: false,
        })?;
        let topic = TopicPartition::new(placement::topic(&options.pipeline), 0);
        Ok(Self {
            reader: Reader::new(topic, consumer),
            broker,
            options,
            member,
            writer: None,
            state: NodeState::Ready,
            warm: Vec::new(),
            written: -1,
            unpublished_since: None,
            leader: None,
            membership: Membership {
                member_id: String::new(),
                leads_as: None,
                confirmed_ago: Duration::ZERO,
            },
        })
    }

    /// One step. `now` is in milliseconds and never goes back.
    ///
    /// # Errors
    /// Only what ends this membership for good; everything else is tried again at the next poll.
    pub fn poll(&mut self, now: i64, threads: &[Thread]) -> Result<Status, Error> {
        let cut_off = self
            .unpublished_since
            .is_some_and(|since| now - since > self.options.unpublished_ms_max);
        if !cut_off {
            match self.member.poll() {
                Ok(membership) => self.membership = membership,
                Err(error) if error.disposition() == broker::Disposition::Retry => {}
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = self.reader.advance(self.broker.as_ref()) {
            tracing::warn!(pipeline = %self.options.pipeline, %error, "the placement topic could not be read");
        }
        let published = self.publish_own(now, threads);
        if cut_off {
            self.leader = None;
        } else {
            self.lead(now);
        }
        Ok(Status {
            membership: self.membership.clone(),
            leads: self.leader.is_some(),
            published,
            settled: published && self.leader.as_ref().is_none_or(|l| l.is_settled(&self.reader)),
            left: self.state == NodeState::Leaving && published && self.free(threads),
        })
    }

    /// What the placement topic says, as far as it was read.
    pub fn view(&self) -> &View {
        &self.reader.view
    }

    /// The offset below which all of it was read.
    pub fn position(&self) -> i64 {
        self.reader.position()
    }

    /// Says that this node goes: its tasks are placed elsewhere, one release after the other.
    pub fn leave(&mut self) {
        self.state = NodeState::Leaving;
    }

    /// Says which standbys of this node lack little. The record is written anew when that changes.
    pub fn set_warm(&mut self, warm: &BTreeSet<TaskId>) {
        if warm.len() != self.warm.len() || !warm.iter().zip(&self.warm).all(|(id, known)| id.to_string() == *known) {
            self.warm = warm.iter().map(TaskId::to_string).collect();
        }
    }

    /// Leaves the group at once.
    ///
    /// # Errors
    /// What the broker says; the session then ends by itself.
    pub fn finish(mut self) -> Result<(), Error> {
        self.member.leave()
    }

    /// Commits positions as a member: for threads of an at-least-once pipeline, which are no members.
    ///
    /// # Errors
    /// What the broker says; [`broker::Disposition::Retry`] during a rebalance.
    pub fn commit(&mut self, offsets: &[CommittedOffset]) -> Result<(), Error> {
        self.member.commit(offsets)
    }

    fn desired(&self, now: i64, threads: &[Thread]) -> Node {
        let advancing = threads
            .iter()
            .filter(|t| now - t.advanced_at <= self.options.stalled_ms);
        Node {
            run: self.options.run,
            state: self.state,
            threads: advancing.map(|t| t.id.clone()).collect(),
            address: self.options.address.clone(),
            rack: self.options.rack.clone(),
            follows: self.options.follows,
            warm: self.warm.clone(),
        }
    }

    /// Writes the own `h:` record when the topic does not say what is true. Whether it does.
    fn publish_own(&mut self, now: i64, threads: &[Thread]) -> bool {
        let desired = self.desired(now, threads);
        let stands = self.reader.view.nodes.get(&self.options.node) == Some(&desired);
        if stands {
            self.unpublished_since = None;
            return true;
        }
        // A node that is no member, yet or any more, is nobody and has no membership to give up: it may ask for one.
        if self.membership.member_id.is_empty() {
            self.unpublished_since = None;
            return false;
        }
        self.unpublished_since.get_or_insert(now);
        // What was written is read back before more is written.
        if self.reader.position() <= self.written {
            return false;
        }
        if let Err(error) = self.write_own(desired) {
            tracing::warn!(pipeline = %self.options.pipeline, %error, "the node could not publish itself");
            self.writer = None;
        }
        false
    }

    fn write_own(&mut self, node: Node) -> Result<(), Error> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.broker.producer(&ProducerOptions {
                client_id: format!("{}-node", self.options.node),
                transactional_id: None,
                transaction_timeout: Duration::ZERO,
                delivery_timeout: self.options.delivery_timeout,
                upserts_only: true,
            })?),
        };
        let batch = encode(&[Record::Node(self.options.node.clone(), Some(node))])?;
        writer.send(&self.reader.topic.topic, Partitioning::Fixed(0), &batch, 0)?;
        writer.flush(self.options.delivery_timeout)?;
        if let Some(failure) = writer.take_failures().into_iter().next() {
            return Err(failure.error);
        }
        for (partition, offset) in writer.take_delivered() {
            if partition == self.reader.topic {
                self.written = offset;
            }
        }
        Ok(())
    }

    /// Whether nothing of this node is placed or owed any more, or nobody else could take it.
    fn free(&self, threads: &[Thread]) -> bool {
        let mine = |id: &String| threads.iter().any(|t| t.id == *id);
        let view = &self.reader.view;
        let held = view.tasks.values().any(|records| {
            records.placement.as_ref().is_some_and(|p| {
                let owed = !records.released_for(p) && !records.started_for(p);
                p.run == self.options.run && (mine(&p.owner) || (owed && p.previous.as_ref().is_some_and(mine)))
            })
        });
        let others = view.nodes.iter().any(|(name, node)| {
            *name != self.options.node && node.run == self.options.run && node.state == NodeState::Ready
        });
        !held || !others
    }

    fn lead(&mut self, now: i64) {
        let pinned = match &self.membership.leads_as {
            Some(id) if *id == self.membership.member_id => id.clone(),
            _ => {
                self.leader = None;
                return;
            }
        };
        if self.leader.as_ref().is_some_and(|l| l.pinned != pinned) {
            self.leader = None;
        }
        let leader = self.leader.get_or_insert_with(|| Leader::new(pinned));
        let step = leader.advance(
            now,
            &self.options,
            self.broker.as_ref(),
            self.member.as_mut(),
            &self.reader,
        );
        if let Err(error) = step {
            tracing::info!(pipeline = %self.options.pipeline, %error, "leading starts anew");
            // The next poll takes a new producer, which settles whatever this one left open.
            self.leader = None;
        }
    }
}

/// Records of the placement topic as a batch.
fn encode(records: &[Record]) -> Result<record::Batch, Error> {
    let mut batch = BatchBuilder::default();
    for record in records {
        let encoded = record.encode();
        let (key, value) =
            encoded.map_err(|e| Error::new(broker::ErrorKind::Corrupt, format!("encode `{}`", record.key()), e))?;
        batch.push(Some(&key), value.as_deref(), 0);
    }
    Ok(batch.finish())
}
