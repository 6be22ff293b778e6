//! Topics, offsets and groups, seen and changed from outside.

use crate::Context;
use crate::errors;
use crate::ffi::{self, Cause, Entry, ListedTopic, PartitionList};
use crate::producer::offset_list;
use broker::{
    Cleanup, CommittedOffset, CreateOutcome, Error, ErrorKind, Isolation, NewTopic, OffsetAt, TopicDescription,
};
use rdkafka::admin::{self, AdminClient, AdminOptions, ResourceSpecifier, TopicReplication};
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use rdkafka_sys::types::RDKafkaErrorCode as Code;
use record::TopicPartition;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// How long an administrative request may take.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);
/// librdkafka asks again by itself for offsets of an open transaction; we would rather say so.
const COMMITTED_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long one look for the leaders of new partitions takes: librdkafka looks once and then waits for its time to end.
const LEADERS_WAIT: Duration = Duration::from_millis(500);
/// How long a question to leaders is asked again; whoever asks waits for it, and may have other work.
const LEADERS_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks for the leaders of new partitions.
const LEADER_PAUSE: Duration = Duration::from_millis(20);
/// Topics of one describe request, so that a cluster with very many is asked in pieces.
const DESCRIBE_MAX: usize = 500;
const EARLIEST: i64 = -2;
const END: i64 = -1;

pub(crate) struct Admin {
    client: Arc<AdminClient<Context>>,
    positions: Arc<BaseConsumer<Context>>,
}

impl Admin {
    pub(crate) fn new(client: Arc<AdminClient<Context>>, positions: Arc<BaseConsumer<Context>>) -> Self {
        Self { client, positions }
    }

    fn of_crate(&self, doing: impl Into<String>, error: &KafkaError) -> Error {
        errors::of_crate(doing, error, &self.last_error())
    }

    /// The client, without what has piled up in it: rust-rdkafka's administration does not read its log lines.
    fn inner(&self) -> &Client<Context> {
        let client = self.client.inner();
        if let Some(error) = ffi::drain_main(client) {
            client.context().remember(&error);
        }
        client
    }

    fn last_error(&self) -> String {
        self.inner().context().last_error()
    }

    fn of_code(&self, doing: impl Into<String>, code: Code) -> Error {
        Error::new(errors::kind_of(code), doing, code)
    }

    fn of_cause(&self, doing: impl Into<String>, cause: &Cause) -> Error {
        let kind = errors::kind_of(cause.code);
        errors::with_last(kind, doing, cause, &self.last_error())
    }

    /// Looks up `names` and the clean-up policies of those that exist and are `wanted`.
    fn look_up(
        &self,
        names: &[String],
        wanted: fn(&ListedTopic) -> bool,
    ) -> Result<Vec<Option<TopicDescription>>, Error> {
        let mut found = Vec::with_capacity(names.len());
        for names in names.chunks(DESCRIBE_MAX) {
            let listed = ffi::describe_topics(self.inner(), names, REQUEST_WAIT_MAX)
                .map_err(|e| self.of_cause("describe topics", &e))?;
            let mut by_name: HashMap<String, ListedTopic> = HashMap::new();
            for topic in listed {
                match &topic.error {
                    None if !wanted(&topic) => {}
                    None => drop(by_name.insert(topic.name.clone(), topic)),
                    Some(cause) if errors::kind_of(cause.code) == ErrorKind::NotFound => {}
                    Some(cause) => return Err(self.of_cause(format!("describe the topic `{}`", topic.name), cause)),
                }
            }
            let there: Vec<&str> = by_name.keys().map(String::as_str).collect();
            let cleanups = self.cleanups(&there)?;
            found.extend(names.iter().map(|name| {
                let topic = by_name.get(name)?;
                // Deleted between the two requests.
                let cleanup = *cleanups.get(name)?;
                let (id, partitions) = (topic.id.clone(), topic.partitions);
                Some(TopicDescription {
                    name: name.clone(),
                    id,
                    partitions,
                    cleanup,
                })
            }));
        }
        Ok(found)
    }

    fn cleanups(&self, names: &[&str]) -> Result<HashMap<String, Cleanup>, Error> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let doing = "describe the settings of topics";
        let wanted: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let answers = wait(self.client.describe_configs(&wanted, &options())).map_err(|e| self.of_crate(doing, &e))?;
        let mut cleanups = HashMap::new();
        for answer in answers {
            let resource = match answer {
                Ok(resource) => resource,
                Err(code) if errors::kind_of(code) == ErrorKind::NotFound => continue,
                Err(code) => return Err(self.of_code(doing, code)),
            };
            let admin::OwnedResourceSpecifier::Topic(name) = &resource.specifier else {
                continue;
            };
            let policy = resource
                .get("cleanup.policy")
                .and_then(|entry| entry.value.as_deref())
                .unwrap_or("delete");
            let words: Vec<&str> = policy.split(',').map(str::trim).collect();
            let cleanup = match (words.contains(&"compact"), words.contains(&"delete")) {
                (true, true) => Cleanup::CompactDelete,
                (true, false) => Cleanup::Compact,
                _ => Cleanup::Delete,
            };
            cleanups.insert(name.clone(), cleanup);
        }
        Ok(cleanups)
    }

    /// The answers in the order of `partitions`.
    fn in_order(&self, doing: &str, partitions: &[TopicPartition], entries: Vec<Entry>) -> Result<Vec<Entry>, Error> {
        let mut by_partition: HashMap<(String, i32), Entry> = entries
            .into_iter()
            .map(|e| ((e.topic.clone(), e.partition), e))
            .collect();
        let mut ordered = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let Some(entry) = by_partition
                .get(&(partition.topic.to_string(), partition.partition))
                .cloned()
            else {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    doing,
                    format!("no answer for `{partition}`"),
                ));
            };
            if let Some(cause) = &entry.error {
                return Err(self.of_cause(format!("{doing}: `{partition}`"), cause));
            }
            ordered.push(entry);
        }
        by_partition.clear();
        Ok(ordered)
    }

    /// Until every partition has a leader that answers: a topic is created before that.
    fn wait_for_leaders(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        if partitions.is_empty() {
            return Ok(());
        }
        // The client remembers for half a minute that a topic was not there when it asked; asking for everything makes
        // it forget. Whether that worked shows in the next call.
        drop(self.inner().fetch_metadata(None, LEADERS_WAIT));
        let passing = [ErrorKind::Unavailable, ErrorKind::NotFound];
        self.asked_again(REQUEST_WAIT_MAX, &passing, || {
            self.list_within(partitions, END, false, LEADERS_WAIT)
        })
        .map(drop)
    }

    fn list(&self, partitions: &[TopicPartition], wanted: i64, committed_only: bool) -> Result<Vec<i64>, Error> {
        // Leaders of partitions that were just made move once more, and a client hears of it when it asks.
        self.asked_again(LEADERS_PATIENCE, &[ErrorKind::Unavailable], || {
            self.list_within(partitions, wanted, committed_only, REQUEST_WAIT_MAX)
        })
    }

    /// Asks leaders again for as long as `patience` while they fail in one of these ways.
    fn asked_again<T>(
        &self,
        patience: Duration,
        passing: &[ErrorKind],
        ask: impl Fn() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + patience;
        loop {
            match ask() {
                Err(error) if passing.contains(&error.kind) && Instant::now() < deadline => {
                    std::thread::sleep(LEADER_PAUSE);
                    drop(self.inner().fetch_metadata(None, LEADERS_WAIT));
                }
                answer => return answer,
            }
        }
    }

    fn list_within(
        &self,
        partitions: &[TopicPartition],
        wanted: i64,
        committed_only: bool,
        wait: Duration,
    ) -> Result<Vec<i64>, Error> {
        let doing = "look up offsets";
        let list = PartitionList::of(partitions.iter().map(|p| (&*p.topic, p.partition, wanted)))
            .map_err(|e| self.of_cause(doing, &e))?;
        let entries = ffi::list_offsets(self.inner(), &list, committed_only, wait).map_err(|e| match e.code {
            // "No leaders found": of partitions that were just made.
            Code::NoEnt => Error::new(ErrorKind::Unavailable, doing, &e),
            _ => self.of_cause(doing, &e),
        })?;
        Ok(self
            .in_order(doing, partitions, entries)?
            .into_iter()
            .map(|e| e.offset)
            .collect())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_WAIT_MAX))
        .operation_timeout(Some(REQUEST_WAIT_MAX))
}

impl broker::Admin for Admin {
    fn cluster_id(&mut self) -> Result<String, Error> {
        self.inner()
            .fetch_cluster_id(REQUEST_WAIT_MAX)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "ask for the cluster's id", "no answer"))
    }

    fn topics(&mut self) -> Result<Vec<TopicDescription>, Error> {
        let metadata = self
            .inner()
            .fetch_metadata(None, REQUEST_WAIT_MAX)
            .map_err(|e| self.of_crate("list topics", &e))?;
        let names: Vec<String> = metadata.topics().iter().map(|t| t.name().to_owned()).collect();
        Ok(self
            .look_up(&names, |topic| !topic.internal)?
            .into_iter()
            .flatten()
            .collect())
    }

    fn describe(&mut self, topics: &[String]) -> Result<Vec<Option<TopicDescription>>, Error> {
        self.look_up(topics, |_| true)
    }

    fn create(&mut self, topics: &[NewTopic]) -> Result<Vec<CreateOutcome>, Error> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let wanted: Vec<_> = topics
            .iter()
            .map(|topic| {
                // -1: the cluster's own default.
                let mut new = admin::NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1))
                    .set("cleanup.policy", topic.cleanup.as_policy());
                for (name, value) in &topic.settings {
                    new = new.set(name, value);
                }
                new
            })
            .collect();
        let answers =
            wait(self.client.create_topics(&wanted, &options())).map_err(|e| self.of_crate("create topics", &e))?;
        let mut outcomes = Vec::with_capacity(topics.len());
        for (topic, answer) in topics.iter().zip(answers) {
            let doing = format!("create the topic `{}`", topic.name);
            outcomes.push(match answer {
                Ok(_) => CreateOutcome::Created,
                Err((_, Code::TopicAlreadyExists)) => {
                    let found = self
                        .look_up(std::slice::from_ref(&topic.name), |_| true)?
                        .pop()
                        .flatten();
                    // Created or deleted just now, and not every broker has heard of it.
                    let later = || Error::new(ErrorKind::Unavailable, doing, "it exists and cannot be described yet");
                    CreateOutcome::Exists(found.ok_or_else(later)?)
                }
                Err((_, code)) => return Err(self.of_code(doing, code)),
            });
        }
        let new = topics
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == CreateOutcome::Created);
        let partitions: Vec<TopicPartition> = new
            .flat_map(|(topic, _)| (0..topic.partitions).map(|p| TopicPartition::new(topic.name.as_str(), p)))
            .collect();
        self.wait_for_leaders(&partitions)?;
        Ok(outcomes)
    }

    fn delete(&mut self, topics: &[String]) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let answers =
            wait(self.client.delete_topics(&names, &options())).map_err(|e| self.of_crate("delete topics", &e))?;
        for answer in answers {
            if let Err((name, code)) = answer
                && errors::kind_of(code) != ErrorKind::NotFound
            {
                return Err(self.of_code(format!("delete the topic `{name}`"), code));
            }
        }
        Ok(())
    }

    fn delete_records(&mut self, before: &[(TopicPartition, i64)]) -> Result<(), Error> {
        if before.is_empty() {
            return Ok(());
        }
        let doing = "delete records";
        let mut list = TopicPartitionList::with_capacity(before.len());
        for (partition, offset) in before {
            list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*offset))
                .map_err(|e| self.of_crate(doing, &e))?;
        }
        let answer = wait(self.client.delete_records(&list, &options())).map_err(|e| self.of_crate(doing, &e))?;
        for element in answer.elements() {
            if let Err(error) = element.error() {
                let doing = format!("{doing} of `{}-{}`", element.topic(), element.partition());
                return Err(self.of_crate(doing, &error));
            }
        }
        Ok(())
    }

    fn offsets(&mut self, partitions: &[TopicPartition], at: OffsetAt) -> Result<Vec<i64>, Error> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        match at {
            OffsetAt::Earliest => self.list(partitions, EARLIEST, false),
            OffsetAt::End(isolation) => self.list(partitions, END, isolation == Isolation::ReadCommitted),
            OffsetAt::Time(time) => {
                let found = self.list(partitions, time.max(0), false)?;
                if found.iter().all(|offset| *offset >= 0) {
                    return Ok(found);
                }
                let ends = self.list(partitions, END, false)?;
                Ok(found
                    .into_iter()
                    .zip(ends)
                    .map(|(found, end)| if found >= 0 { found } else { end })
                    .collect())
            }
        }
    }

    fn committed(&mut self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, Error> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let doing = format!("read the positions of the group `{group}`");
        let list = PartitionList::of(partitions.iter().map(|p| (&*p.topic, p.partition, 0)))
            .map_err(|e| self.of_cause(doing.clone(), &e))?;
        // It has nothing to fetch: what it hears is about its connection, and kept for texts.
        _ = self.positions.poll(Duration::ZERO);
        let entries = match ffi::group_offsets(self.positions.client(), group, &list, COMMITTED_WAIT_MAX) {
            Ok(entries) => entries,
            Err(cause) if errors::kind_of(cause.code) == ErrorKind::NotFound => {
                return Ok(vec![None; partitions.len()]);
            }
            Err(cause) => return Err(self.of_cause(doing, &cause)),
        };
        let entries = self.in_order(&doing, partitions, entries)?;
        Ok(partitions
            .iter()
            .zip(entries)
            .map(|(partition, e)| {
                (e.offset >= 0).then(|| CommittedOffset {
                    partition: partition.clone(),
                    offset: e.offset,
                    metadata: e.metadata,
                })
            })
            .collect())
    }

    fn commit(&mut self, group: &str, offsets: &[CommittedOffset]) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let doing = format!("commit positions of the group `{group}`");
        let entries = offset_list(offsets)
            .and_then(|list| ffi::alter_group_offsets(self.inner(), group, &list, REQUEST_WAIT_MAX))
            .map_err(|cause| refused_by_members(self.of_cause(doing.clone(), &cause), cause.code))?;
        let partitions: Vec<_> = offsets.iter().map(|o| o.partition.clone()).collect();
        match entries.iter().find_map(|e| e.error.as_ref()) {
            Some(cause) => Err(refused_by_members(self.of_cause(doing, cause), cause.code)),
            None => self.in_order(&doing, &partitions, entries).map(drop),
        }
    }

    fn delete_group(&mut self, group: &str) -> Result<(), Error> {
        let doing = format!("delete the group `{group}`");
        let answers = wait(self.client.delete_groups(&[group], &options())).map_err(|e| self.of_crate(&doing, &e))?;
        for answer in answers {
            if let Err((_, code)) = answer
                && errors::kind_of(code) != ErrorKind::NotFound
            {
                return Err(self.of_code(doing, code));
            }
        }
        Ok(())
    }
}

/// A group with members takes positions from them only, and says so as if we were an expelled one.
fn refused_by_members(error: Error, code: Code) -> Error {
    if matches!(
        code,
        Code::UnknownMemberId | Code::NonEmptyGroup | Code::IllegalGeneration
    ) {
        return Error::new(ErrorKind::Refused, error.doing, "the group has members");
    }
    error
}

/// Waits for one of rust-rdkafka's answers, which its own thread brings. The requests have timeouts.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}
