//! Reading: partitions assigned by hand, records taken in batches and copied once, into columns.

use crate::columns::Columns;
use crate::ffi::{Cause, Client, Inbox, Kind, PartitionList};
use crate::settings::Base;
use crate::{CONNECT_WAIT_MAX, creation, errors};
use broker::{ConsumerOptions, Error, ErrorKind};
use rdkafka_sys::types::RDKafkaErrorCode as Code;
use record::{Fetched, TopicPartition};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Most records of one call into librdkafka: few enough that they are still in the processor's cache when they are
/// copied and freed, many enough that the cost of the call is nothing beside theirs.
const TAKE_MAX: usize = 1_000;
/// librdkafka's word for "the end" where a time is expected.
const END: i64 = -1;
/// Between two looks for the leader of a topic that was made a moment ago.
const NEW_TOPIC_PAUSE: Duration = Duration::from_millis(50);
/// How long a request that only wakes the fetcher may take; its answer is of no interest.
const KICK_WAIT_MAX: Duration = Duration::from_millis(200);
/// How often, a millisecond apart, we look whether a partition that moves to another offset has left the old one.
const SETTLE_STEPS_MAX: usize = 500;

pub(crate) struct Consumer {
    inbox: Inbox,
    name: String,
    headers: bool,
    assigned: HashMap<TopicPartition, Position>,
    columns: Columns,
    /// An error that was found behind records: told by the next poll.
    failure: Option<Error>,
}

struct Position {
    /// The next offset: where it was assigned, later last returned + 1.
    next: i64,
    /// The end as the leader told when it was assigned.
    end: Option<i64>,
}

impl Consumer {
    pub(crate) fn new(base: &Base, options: &ConsumerOptions) -> Result<Self, Error> {
        let doing = || format!("make the consumer `{}`", options.client_id);
        let client = Client::new(Kind::Consumer, &base.consumer(options)).map_err(|e| creation(doing(), &e))?;
        let inbox = Inbox::new(client).map_err(|e| creation(doing(), &e))?;
        inbox.client().connect(CONNECT_WAIT_MAX).map_err(|cause| {
            let kind = errors::kind_of(cause.code);
            errors::with_last(kind, doing(), &cause, &inbox.client().last_error())
        })?;
        Ok(Self {
            inbox,
            name: options.client_id.clone(),
            headers: options.headers,
            assigned: HashMap::new(),
            columns: Columns::default(),
            failure: None,
        })
    }

    /// As [`Consumer::ask_leaders`], patient with topics that were made a moment ago: for some time not every broker
    /// knows of them, and a partition has no leader.
    fn find_leaders(&self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let deadline = Instant::now() + CONNECT_WAIT_MAX;
        loop {
            match self.ask_leaders(partitions, CONNECT_WAIT_MAX) {
                Err(error)
                    if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::NotFound)
                        && Instant::now() < deadline =>
                {
                    std::thread::sleep(NEW_TOPIC_PAUSE);
                }
                answer => return answer,
            }
        }
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} of the consumer `{}`", self.name)
    }

    /// Asks the leaders of `partitions` for their ends: connects to them, wakes their fetchers, and shows whether they
    /// are there.
    fn ask_leaders(&self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let doing = || self.doing("look up partitions");
        let mut list = PartitionList::of(partitions.iter().map(|p| (&*p.topic, p.partition, END)))
            .map_err(|e| errors::plain(doing(), &e))?;
        self.inbox
            .client()
            .offsets_for_times(&mut list, wait)
            .map_err(|cause| {
                let kind = errors::kind_of(cause.code);
                errors::with_last(kind, doing(), &cause, &self.inbox.client().last_error())
            })?;
        list.entries()
            .into_iter()
            .map(|entry| match entry.error {
                Some(cause) => Err(errors::plain(
                    self.doing(&format!("look up `{}-{}`", entry.topic, entry.partition)),
                    &cause,
                )),
                None => Ok((TopicPartition::new(entry.topic, entry.partition), entry.offset)),
            })
            .collect()
    }

    fn kick(&self, partitions: &[TopicPartition]) {
        if let Err(error) = self.ask_leaders(partitions, KICK_WAIT_MAX) {
            tracing::debug!(%error, "a fetcher was not woken");
        }
    }

    /// The error in a message, unless librdkafka gets over it by itself or the partition is not ours any more.
    fn failure(&self, partition: &TopicPartition, cause: &Cause) -> Option<Error> {
        if !partition.topic.is_empty() && !self.assigned.contains_key(partition) {
            return None;
        }
        let kind = errors::kind_of(cause.code);
        if cause.code == Code::PartitionEOF || kind == ErrorKind::Unavailable {
            tracing::debug!(consumer = self.name, %partition, %cause, "fetching is retried");
            return None;
        }
        Some(errors::plain(self.doing(&format!("read `{partition}`")), cause))
    }

    /// Waits until librdkafka has forgotten where it was in `partitions`: it answers the old position until then.
    fn settle(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            let mut steps = 0;
            while let Ok(Some(_)) = self.inbox.position(&partition.topic, partition.partition) {
                if steps == SETTLE_STEPS_MAX {
                    let doing = self.doing(&format!("move in `{partition}`"));
                    return Err(Error::new(ErrorKind::Unavailable, doing, "the old position stays"));
                }
                steps += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

impl broker::Consumer for Consumer {
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<(), Error> {
        if partitions.is_empty() {
            return Ok(());
        }
        let names: Vec<TopicPartition> = partitions.iter().map(|(p, _)| p.clone()).collect();
        let ends: HashMap<_, _> = self.find_leaders(&names)?.into_iter().collect();
        let moved: Vec<_> = names
            .iter()
            .filter(|p| self.assigned.contains_key(*p))
            .cloned()
            .collect();
        self.unassign(&moved)?;
        self.settle(&names)?;
        let doing = || self.doing("assign partitions");
        let list = PartitionList::of(partitions.iter().map(|(p, offset)| (&*p.topic, p.partition, *offset)))
            .map_err(|e| errors::plain(doing(), &e))?;
        self.inbox.assign(&list).map_err(|e| errors::plain(doing(), &e))?;
        for (partition, offset) in partitions {
            let position = Position {
                next: *offset,
                end: ends.get(partition).copied(),
            };
            self.assigned.insert(partition.clone(), position);
        }
        self.kick(&names);
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let gone: Vec<_> = partitions.iter().filter(|p| self.assigned.contains_key(*p)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let doing = || self.doing("unassign partitions");
        let list = PartitionList::of(gone.iter().map(|p| (&*p.topic, p.partition, END)))
            .map_err(|e| errors::plain(doing(), &e))?;
        self.inbox.unassign(&list).map_err(|e| errors::plain(doing(), &e))?;
        for partition in partitions {
            self.assigned.remove(partition);
        }
        self.columns.forget();
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let doing = || self.doing("pause partitions");
        let mut list = PartitionList::of(partitions.iter().map(|p| (&*p.topic, p.partition, END)))
            .map_err(|e| errors::plain(doing(), &e))?;
        self.inbox.pause(&mut list).map_err(|e| errors::plain(doing(), &e))
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        if partitions.is_empty() {
            return Ok(());
        }
        let doing = || self.doing("resume partitions");
        let mut list = PartitionList::of(partitions.iter().map(|p| (&*p.topic, p.partition, END)))
            .map_err(|e| errors::plain(doing(), &e))?;
        self.inbox.resume(&mut list).map_err(|e| errors::plain(doing(), &e))?;
        // Resuming does not wake librdkafka's fetcher, which may sleep for up to a second; any request does.
        self.kick(partitions);
        Ok(())
    }

    fn poll(&mut self, wait: Duration, records_max: usize, into: &mut Vec<Fetched>) -> Result<(), Error> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let (mut errors, mut wait, mut left) = (Vec::new(), wait, records_max);
        while left > 0 {
            let asked = left.min(TAKE_MAX);
            let taken = self.inbox.take(wait, asked);
            errors.extend(self.columns.gather(&taken, self.headers));
            (wait, left) = (Duration::ZERO, left - taken.len().min(left));
            if taken.len() < asked {
                break;
            }
        }
        let before = into.len();
        for fetched in self.columns.drain() {
            // A record of a partition that is assigned no more is dropped.
            if let Some(position) = self.assigned.get_mut(&fetched.partition) {
                position.next = fetched.next;
                into.push(fetched);
            }
        }
        let failure = errors
            .iter()
            .find_map(|(partition, cause)| self.failure(partition, cause));
        match failure {
            Some(failure) if into.len() == before => Err(failure),
            failure => {
                self.failure = failure;
                Ok(())
            }
        }
    }

    fn position(&mut self, partition: &TopicPartition) -> Result<Option<i64>, Error> {
        let Some(position) = self.assigned.get(partition) else {
            return Ok(None);
        };
        let told = self
            .inbox
            .position(&partition.topic, partition.partition)
            .map_err(|e| errors::plain(self.doing(&format!("ask for the position in `{partition}`")), &e))?;
        Ok(Some(told.map_or(position.next, |told| told.max(position.next))))
    }

    fn end_hint(&mut self, partition: &TopicPartition) -> Option<i64> {
        let assigned = self.assigned.get(partition)?;
        let fetched = self.inbox.end_hint(&partition.topic, partition.partition);
        fetched.max(assigned.end)
    }
}
