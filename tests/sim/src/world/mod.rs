//! A broker in memory with virtual time. It models Kafka where Kafka surprises: transaction markers that reach
//! partitions late and one by one, control records that take offsets, offsets that wait for their marker, answers that
//! get lost after success, transaction timeouts, producer epochs, generations and static members.
//!
//! Only [`World::advance`] moves time. A call never blocks: where Kafka's client would wait, the world lets the thing
//! waited for happen first.

mod admin;
mod consumer;
mod groups;
mod log;
mod member;
mod producer;
mod transactions;

use broker::{
    Admin, Broker, Consumer, ConsumerOptions, Error, ErrorKind, Fencing, Member, MemberOptions, Producer,
    ProducerOptions,
};
use groups::Group;
use log::Topic;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use transactions::Coordinator;

pub use log::Row;

/// How unkind the world is. Chances are per call, between 0 and 1.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A marker reaches its partition at most this long after the end of its transaction; 0: all at once, atomically.
    pub marker_delay_ms_max: i64,
    /// A commit succeeds or is never received, and its answer is lost.
    pub lost_commit: f64,
    /// A call that may simply be repeated fails.
    pub unavailable: f64,
    /// A send of offsets makes the transaction abort-only.
    pub refused_offsets: f64,
    /// A fetch brings nothing although there is something.
    pub empty_fetch: f64,
    /// A record fails for no reason of its own (delivery timeout).
    pub lost_delivery: f64,
    /// A member hears of a rebalance at most this late.
    pub rebalance_ms_max: i64,
    /// A member does not hear of a rebalance before its session is long over.
    pub lost_rebalance: f64,
    /// A rebalance is followed by another one, which may give the token to another member.
    pub doubled_rebalance: f64,
    /// Fencing another id takes at most this many polls.
    pub fence_polls_max: u32,
    /// Control records take offsets.
    pub control_records: bool,
}

impl Faults {
    pub fn kafka() -> Self {
        Self {
            marker_delay_ms_max: 400,
            lost_commit: 0.02,
            unavailable: 0.01,
            refused_offsets: 0.01,
            empty_fetch: 0.2,
            lost_delivery: 0.001,
            rebalance_ms_max: 300,
            lost_rebalance: 0.0,
            doubled_rebalance: 0.0,
            fence_polls_max: 3,
            control_records: true,
        }
    }

    /// Kafka on a good day: what is left when the faults end.
    pub fn kind() -> Self {
        Self {
            lost_commit: 0.0,
            unavailable: 0.0,
            refused_offsets: 0.0,
            lost_delivery: 0.0,
            lost_rebalance: 0.0,
            doubled_rebalance: 0.0,
            empty_fetch: 0.1,
            ..Self::kafka()
        }
    }

    /// The embedded log: one process, one atomic write a transaction, nothing lost on the way.
    pub fn embedded() -> Self {
        Self {
            marker_delay_ms_max: 0,
            rebalance_ms_max: 0,
            fence_polls_max: 0,
            empty_fetch: 0.0,
            control_records: false,
            ..Self::kind()
        }
    }
}

/// What happened in a world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub rebalances: u64,
    /// Members that did not hear of one in time.
    pub lost_rebalances: u64,
    pub doubled_rebalances: u64,
    pub committed: u64,
    pub aborted: u64,
    /// Commits whose answer was lost.
    pub unknown: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.rebalances += other.rebalances;
        self.lost_rebalances += other.lost_rebalances;
        self.doubled_rebalances += other.doubled_rebalances;
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.unknown += other.unknown;
    }
}

/// The broker. Cloning gives another connection to the same one.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

pub(crate) struct State {
    pub now: i64,
    pub rng: ChaCha8Rng,
    pub faults: Faults,
    pub topics: BTreeMap<String, Topic>,
    pub groups: BTreeMap<String, Group>,
    pub ids: BTreeMap<String, Coordinator>,
    pub next_id: i64,
    /// Values that no topic but the dead letters takes.
    pub poisoned: BTreeSet<Vec<u8>>,
    pub dead_letters: Option<String>,
    /// The last epochs that were raised, for [`World::describe`].
    pub raised: VecDeque<String>,
    pub tally: Tally,
}

/// Lines of a description that tell of raised epochs.
const RAISED_MAX: usize = 12;

impl State {
    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.rng.random_bool(p)
    }

    pub fn raised(&mut self, id: &str, why: &str) {
        let line = format!("  epoch of {id} raised at {} by {why}", self.now);
        self.raised.push_back(line);
        if self.raised.len() > RAISED_MAX {
            self.raised.pop_front();
        }
    }

    pub fn number(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    /// Now and then a call fails that may be repeated.
    pub fn reached(&mut self, doing: &str) -> Result<(), Error> {
        if self.chance(self.faults.unavailable) {
            return Err(Error::new(
                ErrorKind::Unavailable,
                doing,
                "the simulated broker did not answer",
            ));
        }
        Ok(())
    }

    pub fn delay(&mut self, ms_max: i64) -> i64 {
        if ms_max <= 0 {
            0
        } else {
            self.rng.random_range(0..=ms_max)
        }
    }
}

impl World {
    /// A world that behaves like Kafka and is as unkind as [`Faults::kafka`].
    pub fn kafka(seed: u64) -> Self {
        Self::new(seed, Faults::kafka())
    }

    /// A world that behaves like the embedded log.
    pub fn embedded(seed: u64) -> Self {
        Self::new(seed, Faults::embedded())
    }

    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 1_000_000,
            rng: ChaCha8Rng::seed_from_u64(seed),
            faults,
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_id: 0,
            poisoned: BTreeSet::new(),
            dead_letters: None,
            raised: VecDeque::new(),
            tally: Tally::default(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Virtual milliseconds.
    pub fn now(&self) -> i64 {
        self.lock().now
    }

    /// Lets time pass: markers arrive, sessions end, transactions time out.
    pub fn advance(&self, ms: i64) {
        let mut state = self.lock();
        state.now += ms;
        state.deliver_markers();
        state.expire_transactions();
        state.expire_members();
    }

    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// No topic but `dead_letters` will take a record with this value.
    pub fn poison(&self, value: &[u8], dead_letters: &str) {
        let mut state = self.lock();
        state.poisoned.insert(value.to_vec());
        state.dead_letters = Some(dead_letters.to_string());
    }

    /// Writes one record without a transaction, as some other program would.
    pub fn append(&self, topic: &str, partition: i32, key: &[u8], value: &[u8]) {
        self.append_at(topic, partition, Some(key.to_vec()), Some(value.to_vec()), self.now());
    }

    /// The same with a time of its own.
    pub fn append_at(&self, topic: &str, partition: i32, key: Option<Vec<u8>>, value: Option<Vec<u8>>, timestamp: i64) {
        let mut state = self.lock();
        let record = log::Record {
            key,
            value,
            timestamp,
            headers: Vec::new(),
        };
        let log = state
            .topics
            .get_mut(topic)
            .and_then(|t| t.partitions.get_mut(partition as usize));
        log.expect("the topic is there").append(record, None);
    }

    /// A rebalance for no reason that a member knows of.
    pub fn rebalance(&self, group: &str) {
        self.lock().rebalance(group);
    }

    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// Compacts every compacted topic as far as it is decided.
    pub fn compact(&self) {
        let mut state = self.lock();
        for topic in state.topics.values_mut() {
            topic.compact();
        }
    }

    /// Committed rows of a partition as they are in the log, whatever consumers can see of them now.
    pub fn rows(&self, topic: &str, partition: i32) -> Vec<Row> {
        let state = self.lock();
        state
            .topics
            .get(topic)
            .and_then(|t| t.partitions.get(partition as usize))
            .map_or_else(Vec::new, log::Log::rows)
    }

    pub fn partitions(&self, topic: &str) -> i32 {
        self.lock().topics.get(topic).map_or(0, |t| t.partitions.len() as i32)
    }

    /// The settled committed offset of a group, `None` without one.
    pub fn committed(&self, group: &str, partition: &TopicPartition) -> Option<i64> {
        self.lock().groups.get(group)?.offsets.get(partition).map(|o| o.offset)
    }

    /// How often a transactional id was fenced by others.
    pub fn fencings(&self, id: &str) -> u32 {
        self.lock().ids.get(id).map_or(0, |c| c.fencings)
    }

    /// Whether a transaction is open or waits for its markers.
    pub fn unsettled(&self) -> bool {
        self.lock().ids.values().any(Coordinator::busy)
    }

    /// The last lines of the world's view, for a failing test.
    pub fn describe(&self) -> String {
        use std::fmt::Write;
        let state = self.lock();
        let mut text = format!("at {} ms\n", state.now);
        for (name, topic) in &state.topics {
            for (i, log) in topic.partitions.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "  {name}-{i}: {} rows, end {}, stable {}",
                    log.rows().len(),
                    log.end(),
                    log.stable()
                );
            }
        }
        for line in &state.raised {
            let _ = writeln!(text, "{line}");
        }
        for (name, group) in &state.groups {
            for (partition, offset) in &group.offsets {
                let _ = writeln!(text, "  {name} at {partition}: {} `{}`", offset.offset, offset.metadata);
            }
        }
        text
    }
}

impl Broker for World {
    fn admin(&self) -> Result<Box<dyn Admin>, Error> {
        Ok(Box::new(admin::WorldAdmin(self.clone())))
    }

    fn member(&self, options: &MemberOptions) -> Result<Box<dyn Member>, Error> {
        Ok(Box::new(member::WorldMember::new(self.clone(), options)))
    }

    fn consumer(&self, options: &ConsumerOptions) -> Result<Box<dyn Consumer>, Error> {
        Ok(Box::new(consumer::WorldConsumer::new(self.clone(), options)))
    }

    fn producer(&self, options: &ProducerOptions) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(producer::WorldProducer::new(self.clone(), options)))
    }

    fn fence(&self, transactional_id: &str) -> Box<dyn Fencing> {
        Box::new(transactions::WorldFencing::new(self.clone(), transactional_id))
    }
}
