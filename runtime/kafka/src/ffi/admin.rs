//! Administrative requests that rust-rdkafka does not have: topic ids, members of one group, offsets of many partitions
//! in one request a leader, stable committed offsets with metadata.

use super::list::{entries, entry};
use super::{Cause, Entry, PartitionList, c_string, check, check_code, look, millis, text};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka_sys as sys;
use std::time::Duration;

/// Answers arrive a little after the request's own timeout.
const GRACE: Duration = Duration::from_secs(1);

struct Event(*mut sys::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours since it was polled; freed once.
        unsafe { sys::rd_kafka_event_destroy(self.0) };
    }
}

/// Sends one request and waits for its answer.
///
/// # Safety
/// `submit` must hand options and queue to exactly one admin call of `client`.
unsafe fn ask<C: ClientContext>(
    client: &Client<C>,
    operation: sys::rd_kafka_admin_op_t,
    wait: Duration,
    submit: impl FnOnce(*mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t) -> Result<(), Cause>,
) -> Result<Event, Cause> {
    let mut words = [0; 256];
    // SAFETY: the client is live; options and queue are ours, and freed after their last use.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
        let queue = sys::rd_kafka_queue_new(client.native_ptr());
        let code =
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(wait), words.as_mut_ptr(), words.len());
        let answer = check_code(code).and_then(|()| submit(options, queue)).and_then(|()| {
            let event = sys::rd_kafka_queue_poll(queue, millis(wait + GRACE));
            if event.is_null() {
                return Err(Cause::timeout());
            }
            let event = Event(event);
            check_code(sys::rd_kafka_event_error(event.0)).map_err(|mut cause| {
                let more = text(sys::rd_kafka_event_error_string(event.0));
                if !more.is_empty() {
                    cause.text = more;
                }
                cause
            })?;
            Ok(event)
        });
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        answer
    }
}

/// A topic as its brokers list it.
pub struct ListedTopic {
    pub name: String,
    pub id: String,
    pub partitions: i32,
    pub internal: bool,
    pub error: Option<Cause>,
}

pub fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
    wait: Duration,
) -> Result<Vec<ListedTopic>, Cause> {
    let owned = names.iter().map(|n| c_string(n)).collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<_> = owned.iter().map(|n| n.as_ptr()).collect();
    // SAFETY: the names outlive the call, which copies them; the collection is freed after it. What the event points to
    // is read while the event lives.
    unsafe {
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let answer = ask(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            wait,
            |options, queue| {
                sys::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue);
                Ok(())
            },
        );
        sys::rd_kafka_TopicCollection_destroy(topics);
        let event = answer?;
        let mut count = 0;
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        let listed = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        Ok((0..count).map(|i| listed_topic(*listed.add(i))).collect())
    }
}

/// # Safety
/// `topic` points to a live description.
unsafe fn listed_topic(topic: *const sys::rd_kafka_TopicDescription_t) -> ListedTopic {
    // SAFETY: live by the contract; strings are copied.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let failed = !error.is_null() && sys::rd_kafka_error_code(error) as i32 != 0;
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        ListedTopic {
            name: text(sys::rd_kafka_TopicDescription_name(topic)),
            id: if id.is_null() {
                String::new()
            } else {
                text(sys::rd_kafka_Uuid_base64str(id))
            },
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            internal: sys::rd_kafka_TopicDescription_is_internal(topic) != 0,
            error: failed.then(|| look(error)),
        }
    }
}

/// `client.id` of every member of a group, as the group's coordinator lists them. (The request that rust-rdkafka has
/// asks all brokers for all groups, and fails while one of them is away.)
pub fn group_clients<C: ClientContext>(client: &Client<C>, group: &str, wait: Duration) -> Result<Vec<String>, Cause> {
    let name = c_string(group)?;
    // SAFETY: the name outlives the call, which copies it. What the event points to is read while the event lives.
    unsafe {
        let event = ask(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
            wait,
            |options, queue| {
                let mut names = [name.as_ptr()];
                sys::rd_kafka_DescribeConsumerGroups(client.native_ptr(), names.as_mut_ptr(), 1, options, queue);
                Ok(())
            },
        )?;
        let mut count = 0;
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.0);
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        let mut clients = Vec::new();
        for i in 0..count {
            let described = *groups.add(i);
            let error = sys::rd_kafka_ConsumerGroupDescription_error(described);
            if !error.is_null() && sys::rd_kafka_error_code(error) as i32 != 0 {
                return Err(look(error));
            }
            for member in 0..sys::rd_kafka_ConsumerGroupDescription_member_count(described) {
                let member = sys::rd_kafka_ConsumerGroupDescription_member(described, member);
                clients.push(text(sys::rd_kafka_MemberDescription_client_id(member)));
            }
        }
        Ok(clients)
    }
}

/// Offsets by the specification in each entry's offset: -2 earliest, -1 end, else a time in milliseconds.
pub fn list_offsets<C: ClientContext>(
    client: &Client<C>,
    wanted: &PartitionList,
    committed_only: bool,
    wait: Duration,
) -> Result<Vec<Entry>, Cause> {
    let level = if committed_only {
        sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
    } else {
        sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
    };
    // SAFETY: the list outlives the call, which copies it; answers are read while the event lives.
    unsafe {
        let event = ask(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
            wait,
            |options, queue| {
                check(sys::rd_kafka_AdminOptions_set_isolation_level(options, level))?;
                sys::rd_kafka_ListOffsets(client.native_ptr(), wanted.as_ptr(), options, queue);
                Ok(())
            },
        )?;
        let mut count = 0;
        let result = sys::rd_kafka_event_ListOffsets_result(event.0);
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        Ok((0..count)
            .map(|i| entry(sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(i))))
            .collect())
    }
}

/// Stable committed offsets of a group.
pub fn group_offsets<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    wanted: &PartitionList,
    wait: Duration,
) -> Result<Vec<Entry>, Cause> {
    let group = c_string(group)?;
    // SAFETY: group and list outlive the call, which copies them; the request is freed after it.
    unsafe {
        let mut request = sys::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), wanted.as_ptr());
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        let answer = ask(client, operation, wait, |options, queue| {
            check(sys::rd_kafka_AdminOptions_set_require_stable_offsets(options, 1))?;
            sys::rd_kafka_ListConsumerGroupOffsets(client.native_ptr(), &raw mut request, 1, options, queue);
            Ok(())
        });
        sys::rd_kafka_ListConsumerGroupOffsets_destroy(request);
        let event = answer?;
        let mut count = 0;
        let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event.0);
        group_result(
            sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count),
            count,
        )
    }
}

/// Commits for a group without members.
pub fn alter_group_offsets<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    offsets: &PartitionList,
    wait: Duration,
) -> Result<Vec<Entry>, Cause> {
    let group = c_string(group)?;
    // SAFETY: as in `group_offsets`.
    unsafe {
        let mut request = sys::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), offsets.as_ptr());
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS;
        let answer = ask(client, operation, wait, |options, queue| {
            sys::rd_kafka_AlterConsumerGroupOffsets(client.native_ptr(), &raw mut request, 1, options, queue);
            Ok(())
        });
        sys::rd_kafka_AlterConsumerGroupOffsets_destroy(request);
        let event = answer?;
        let mut count = 0;
        let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(event.0);
        group_result(
            sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count),
            count,
        )
    }
}

/// # Safety
/// `groups` points to `count` live results.
unsafe fn group_result(groups: *mut *const sys::rd_kafka_group_result_t, count: usize) -> Result<Vec<Entry>, Cause> {
    if count == 0 || groups.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: at least one live result by the contract; everything is copied.
    unsafe {
        let group = *groups;
        let error = sys::rd_kafka_group_result_error(group);
        if !error.is_null() {
            return Err(look(error));
        }
        Ok(entries(sys::rd_kafka_group_result_partitions(group)))
    }
}
