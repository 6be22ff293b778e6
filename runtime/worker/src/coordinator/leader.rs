//! Leading: fence the dead, read to the end, plan, publish, read the publish back, and again.

use super::reader::Reader;
use super::{Options, encode};
use crate::placement::{self, Record};
use crate::plan::{self, Facts};
use broker::{
    Broker, CommittedOffset, Disposition, Error, ErrorKind, Fencing, Isolation, Member, OffsetAt, Partitioning,
    Producer, ProducerOptions,
};
use record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A publish is small and commits at once; if not, it shall not block the placement for long.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Leader {
    /// Member id that the token was given to. Publishing under another one is not leading.
    pub pinned: String,
    producer: Option<Box<dyn Producer>>,
    live: BTreeSet<String>,
    live_at: Option<i64>,
    /// Dead ids that were fenced and have not lived since.
    fenced: BTreeSet<String>,
    fencing: BTreeMap<String, Box<dyn Fencing>>,
    /// Nobody is judged dead before the reader's position has reached this: a placement that was read without the
    /// `h:` record behind it would make healthy threads look dead. `None`: to be asked.
    judge_from: Option<i64>,
    /// Nothing is planned before the reader's position has reached this; `None`: to be asked.
    read_to: Option<i64>,
}

impl Leader {
    pub fn new(pinned: String) -> Self {
        Self {
            pinned,
            producer: None,
            live: BTreeSet::new(),
            live_at: None,
            fenced: BTreeSet::new(),
            fencing: BTreeMap::new(),
            judge_from: None,
            read_to: None,
        }
    }

    /// Whether everything was read that is to be known.
    pub fn is_settled(&self, reader: &Reader) -> bool {
        self.read_to.is_some_and(|to| reader.position() >= to)
    }

    /// One step. After an error this leader must be dropped: a new producer settles what it left open.
    pub fn advance(
        &mut self,
        now: i64,
        options: &Options,
        broker: &dyn Broker,
        member: &mut dyn Member,
        reader: &Reader,
    ) -> Result<(), Error> {
        if self.producer.is_none() {
            self.producer = Some(self.take_over(options, broker)?);
        }
        if self.live_at.is_none_or(|at| now - at >= options.live_every_ms) {
            self.live = member.live()?.into_iter().collect();
            self.live_at = Some(now);
        }
        let Some(judge_from) = self.judge_from else {
            self.judge_from = Some(stable_end(broker, reader)?);
            return Ok(());
        };
        // A group that does not know its leader is being rebalanced; nobody is judged by such a list.
        if reader.position() < judge_from
            || !self.live.contains(&options.node)
            || !self.fence_the_dead(options, broker, reader)
        {
            return Ok(());
        }
        let Some(read_to) = self.read_to else {
            // Asked after every fencing has ended: what the dead had committed lies below.
            self.read_to = Some(stable_end(broker, reader)?);
            return Ok(());
        };
        if reader.position() < read_to {
            return Ok(());
        }
        let facts = Facts {
            run: options.run,
            tasks: &options.tasks,
            stateful: &options.stateful,
            standbys: options.standbys,
            view: &reader.view,
            live: &self.live,
            mutant: options.mutant,
        };
        let plan = plan::plan(&facts);
        if plan.is_empty() {
            return Ok(());
        }
        let placed = plan
            .placements
            .into_iter()
            .map(|(task, p)| Record::Placement(task, Some(p)));
        let standbys = plan
            .standbys
            .into_iter()
            .map(|(task, s)| Record::Standbys(task, Some(s)));
        let gone = plan.gone.into_iter().map(|node| Record::Node(node, None));
        let records: Vec<Record> = gone.chain(placed).chain(standbys).collect();
        self.read_to = Some(self.publish(options, member, &reader.topic, &records)?);
        Ok(())
    }

    /// The one id of all leaders: the last leader's producer is fenced, and its open publish ended.
    fn take_over(&self, options: &Options, broker: &dyn Broker) -> Result<Box<dyn Producer>, Error> {
        let mut producer = broker.producer(&ProducerOptions {
            client_id: format!("{}-leader", options.node),
            transactional_id: Some(placement::leader_id(&options.pipeline)),
            transaction_timeout: TRANSACTION_TIMEOUT,
            delivery_timeout: options.delivery_timeout,
            upserts_only: false,
        })?;
        producer.init()?;
        Ok(producer)
    }

    /// Whether all dead ids are fenced. Each is fenced once, until it lives again.
    fn fence_the_dead(&mut self, options: &Options, broker: &dyn Broker, reader: &Reader) -> bool {
        let dead = plan::dead_threads(options.run, &reader.view, &self.live);
        self.fenced.retain(|id| dead.contains(id));
        for id in &dead {
            if !self.fenced.contains(id) && !self.fencing.contains_key(id) {
                self.fencing.insert(id.clone(), broker.fence(id));
                self.read_to = None;
            }
        }
        let mut ended = Vec::new();
        for (id, fencing) in &mut self.fencing {
            if let Some(result) = fencing.poll() {
                ended.push((id.clone(), result.is_ok()));
            }
        }
        for (id, done) in ended {
            self.fencing.remove(&id);
            // One that failed is begun again at the next poll.
            if done {
                self.fenced.insert(id);
            }
        }
        self.fencing.is_empty() && dead.iter().all(|id| self.fenced.contains(id))
    }

    /// Publishes and returns how far must be read to see it.
    fn publish(
        &mut self,
        options: &Options,
        member: &dyn Member,
        topic: &TopicPartition,
        records: &[Record],
    ) -> Result<i64, Error> {
        let metadata = member.metadata();
        let doing = || format!("publish a placement of `{}`", options.pipeline);
        if metadata.member_id != self.pinned {
            return Err(Error::new(
                ErrorKind::AbortTransaction,
                doing(),
                "the token was given to another member",
            ));
        }
        let Some(producer) = &mut self.producer else {
            return Err(Error::new(ErrorKind::Configuration, doing(), "no producer"));
        };
        let token = CommittedOffset {
            partition: TopicPartition::new(placement::token_topic(&options.pipeline), 0),
            offset: 0,
            metadata: String::new(),
        };
        producer.begin()?;
        let sent = producer
            .send(&topic.topic, Partitioning::Fixed(0), &encode(records)?, 0)
            .and_then(|()| producer.send_offsets(&options.pipeline, &[token], Some(&metadata)))
            .and_then(|()| producer.commit());
        if let Err(error) = sent {
            if matches!(error.disposition(), Disposition::Abort | Disposition::Retry) {
                // What cannot be aborted is ended by the next producer's init.
                let _ = producer.abort();
            }
            return Err(error);
        }
        let delivered = producer.take_delivered();
        let last = delivered
            .iter()
            .find(|(partition, _)| partition == topic)
            .map(|(_, offset)| *offset);
        last.map(|offset| offset + 1)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, doing(), "committed without a delivery report"))
    }
}

/// How far the placement can be read now, as its leader says.
fn stable_end(broker: &dyn Broker, reader: &Reader) -> Result<i64, Error> {
    let at = OffsetAt::End(Isolation::ReadCommitted);
    let ends = broker.admin()?.offsets(std::slice::from_ref(&reader.topic), at)?;
    let missing = || {
        Error::new(
            ErrorKind::Corrupt,
            format!("ask for the end of {}", reader.topic),
            "no answer",
        )
    };
    ends.first().copied().ok_or_else(missing)
}
