//! Membership: a subscribed consumer that is given no data, only the token.

use crate::ffi::{commit_as_member, group_clients, group_metadata, monotonic_micros};
use crate::producer::offset_list;
use crate::settings::Base;
use crate::{Context, client_config, errors};
use broker::{CommittedOffset, Error, ErrorKind, GroupMetadata, Member, MemberOptions, Membership};
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A commit is answered in a millisecond, or not before a rebalance is over.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(5);
const LIST_WAIT_MAX: Duration = Duration::from_secs(2);
/// Leaving: polls until the token is given back, a broker's answer each.
const LEAVE_POLLS_MAX: usize = 200;
const LEAVE_POLL_WAIT: Duration = Duration::from_millis(10);
/// Callbacks served by one poll; more than ever wait together.
const CALLBACKS_MAX: usize = 64;

/// What the callbacks have seen; they run inside the consumer's own calls.
#[derive(Default)]
struct Seen {
    leads_as: Option<String>,
    confirmed: Confirmed,
    failure: Option<KafkaError>,
    /// The group no longer holds anything of ours.
    empty: bool,
}

/// When the coordinator last answered this member while it was in its group: the statistics count the coordinator's
/// answers, and in a joined member these are answers to heartbeats.
///
/// An answer that arrives between two statistics counts from the earlier one, and only once a third shows that the
/// member is still joined (it was no refusal). So this is at most late, by two intervals of a twenty-fourth of the
/// session each.
#[derive(Default)]
struct Confirmed {
    /// (time in µs, answers so far), of the last two statistics.
    last: Option<(i64, u64)>,
    before: Option<(i64, u64)>,
    at: Option<i64>,
}

impl Confirmed {
    fn saw(&mut self, time: i64, answers: u64, joined: bool) {
        if joined
            && let (Some((before_time, before_answers)), Some((_, last_answers))) = (self.before, self.last)
            && last_answers > before_answers
        {
            self.at = Some(before_time);
        }
        self.before = if joined { self.last } else { None };
        self.last = joined.then_some((time, answers));
    }

    /// A call that the broker answers only to a member succeeded; it was sent at `time`.
    fn answered(&mut self, time: i64) {
        self.at = self.at.max(Some(time));
    }
}

#[derive(Default)]
struct MemberContext {
    plain: Context,
    seen: Mutex<Seen>,
}

impl MemberContext {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.plain.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.plain.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let joined = statistics
            .cgrp
            .as_ref()
            .is_some_and(|group| group.state == "up" && group.join_state == "steady");
        let answers = statistics
            .brokers
            .values()
            .filter(|b| b.name.contains("GroupCoordinator"))
            .map(|b| b.rx)
            .sum();
        self.seen().confirmed.saw(statistics.ts, answers, joined);
    }
}

impl ConsumerContext for MemberContext {
    /// Answers every rebalance with the empty list: the token is a sign, never read.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, given: &mut TopicPartitionList) {
        let nothing = TopicPartitionList::new();
        let (_, member_id) = group_metadata(consumer.client());
        let has_token = given.count() > 0;
        let mut seen = self.seen();
        let answered = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if has_token {
                seen.leads_as = Some(member_id);
            }
            seen.empty = false;
            consumer.incremental_assign(&nothing)
        } else {
            if has_token || consumer.assignment_lost() {
                seen.leads_as = None;
            }
            seen.empty = true;
            consumer.incremental_unassign(&nothing)
        };
        if let Err(error) = answered {
            seen.failure = Some(error);
        }
    }
}

pub(crate) struct KafkaMember {
    consumer: Arc<BaseConsumer<MemberContext>>,
    options: MemberOptions,
    since: i64,
}

impl KafkaMember {
    pub(crate) fn new(base: &Base, options: &MemberOptions) -> Result<Self, Error> {
        let doing = || format!("join the group `{}` as `{}`", options.group, options.node);
        let consumer: BaseConsumer<MemberContext> = client_config(base.member(options))
            .create_with_context(MemberContext::default())
            .map_err(|e| errors::of_crate(doing(), &e, ""))?;
        consumer
            .subscribe(&[&options.token_topic])
            .map_err(|e| errors::of_crate(doing(), &e, &consumer.context().plain.last_error()))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            options: options.clone(),
            since: monotonic_micros(),
        })
    }

    fn doing(&self, what: &str) -> String {
        format!(
            "{what} of `{}` in the group `{}`",
            self.options.node, self.options.group
        )
    }

    fn failed(&self, what: &str, error: &KafkaError) -> Error {
        errors::of_crate(self.doing(what), error, &self.consumer.context().plain.last_error())
    }

    /// Whether an error means that this member must be made anew.
    fn check(&self, error: &KafkaError) -> Result<(), Error> {
        let failure = self.failed("keep the membership", error);
        match failure.kind {
            // Taken over by another process under this node's name, or not permitted.
            ErrorKind::Fenced | ErrorKind::Refused | ErrorKind::Configuration | ErrorKind::Fatal => Err(failure),
            _ => {
                tracing::debug!(%error, node = self.options.node, "membership is retried");
                Ok(())
            }
        }
    }
}

impl Member for KafkaMember {
    fn poll(&mut self) -> Result<Membership, Error> {
        for _ in 0..CALLBACKS_MAX {
            match self.consumer.poll(Duration::ZERO) {
                None => break,
                Some(Ok(_)) => {}
                Some(Err(error)) => match error.rdkafka_error_code() {
                    // The member comes back by itself: it was not polled for long.
                    Some(rdkafka::types::RDKafkaErrorCode::PollExceeded) => {
                        self.consumer.context().seen().leads_as = None
                    }
                    _ => self.check(&error)?,
                },
            }
        }
        if let Some((code, text)) = self.consumer.client().fatal_error() {
            let kind = match errors::kind_of(code) {
                ErrorKind::Fenced => ErrorKind::Fenced,
                _ => ErrorKind::Fatal,
            };
            return Err(Error::new(kind, self.doing("keep the membership"), text));
        }
        let (generation, member_id) = group_metadata(self.consumer.client());
        let mut seen = self.consumer.context().seen();
        if let Some(error) = seen.failure.take() {
            drop(seen);
            self.check(&error)?;
            seen = self.consumer.context().seen();
        }
        // A member that has to join again leads nothing, even before its callback says so.
        let leads_as = seen.leads_as.clone().filter(|led| generation >= 0 && *led == member_id);
        let confirmed = seen.confirmed.at.unwrap_or(self.since);
        let ago = u64::try_from(monotonic_micros() - confirmed).unwrap_or(0);
        Ok(Membership {
            member_id,
            leads_as,
            confirmed_ago: Duration::from_micros(ago),
        })
    }

    fn live(&mut self) -> Result<Vec<String>, Error> {
        let mut nodes = group_clients(self.consumer.client(), &self.options.group, LIST_WAIT_MAX)
            .map_err(|cause| errors::plain(self.doing("list the members"), &cause))?;
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }

    fn metadata(&self) -> GroupMetadata {
        let (generation, member_id) = group_metadata(self.consumer.client());
        GroupMetadata {
            group: self.options.group.clone(),
            generation,
            member_id,
        }
    }

    fn commit(&mut self, offsets: &[CommittedOffset]) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let sent = monotonic_micros();
        let committed = offset_list(offsets)
            .and_then(|list| commit_as_member(self.consumer.client(), &list, COMMIT_WAIT_MAX))
            .map_err(|cause| errors::plain(self.doing("commit positions"), &cause))?;
        if let Some((partition, cause)) = committed.iter().find_map(|e| Some((e, e.error.as_ref()?))) {
            let what = format!("commit the position in `{}-{}`", partition.topic, partition.partition);
            return Err(errors::plain(self.doing(&what), cause));
        }
        self.consumer.context().seen().confirmed.answered(sent);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        self.consumer.unsubscribe();
        // The leave request goes out once the callback has given the token back.
        for _ in 0..LEAVE_POLLS_MAX {
            let _ = self.consumer.poll(LEAVE_POLL_WAIT);
            if group_metadata(self.consumer.client()).1.is_empty() {
                break;
            }
        }
        self.consumer.context().seen().leads_as = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_not_confirmed_by_what_it_finds_on_return() {
        let mut c = Confirmed::default();
        c.saw(100, 1, true);
        c.saw(200, 2, true);
        assert_eq!(c.at, None, "the second answer may still be a refusal");
        c.saw(300, 3, true);
        assert_eq!(c.at, Some(100));
        // stopped from 300 to 9000; an old answer is read on return, the next one is the refusal
        c.saw(9000, 4, true);
        assert_eq!(c.at, Some(200));
        c.saw(9100, 5, true);
        assert_eq!(c.at, Some(300));
        c.saw(9200, 6, false);
        c.saw(9300, 7, true);
        c.saw(9400, 8, true);
        assert_eq!(c.at, Some(300));
    }
}
