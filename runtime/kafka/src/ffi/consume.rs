//! Records in batches: taken from the consumer's queue in one call, read in place, freed together.

use super::{Cause, Client, PartitionList, c_string, check, check_code, millis, text};
use rdkafka_sys as sys;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

/// The queue of a consumer that assigns its own partitions.
pub struct Inbox {
    // Declared before the client: the queue must be released first.
    queue: Queue,
    client: Client,
    buffer: Vec<*mut sys::rd_kafka_message_t>,
}

struct Queue(NonNull<sys::rd_kafka_queue_t>);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: our reference to the queue, given back once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

// SAFETY: the buffer holds no pointer between calls (`Taken` empties it); queue and client may change threads.
unsafe impl Send for Inbox {}

impl Inbox {
    /// `client` must be a consumer.
    pub fn new(client: Client) -> Result<Self, Cause> {
        // SAFETY: the client is live. Its main queue is joined to the consumer queue, so that one poll serves both.
        let queue = unsafe {
            check_code(sys::rd_kafka_poll_set_consumer(client.as_ptr()))?;
            sys::rd_kafka_queue_get_consumer(client.as_ptr())
        };
        let queue = NonNull::new(queue).ok_or_else(|| {
            Cause::new(
                rdkafka_sys::types::RDKafkaErrorCode::UnknownGroup,
                "the client is no consumer with a group",
            )
        })?;
        Ok(Self {
            queue: Queue(queue),
            client,
            buffer: Vec::new(),
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits at most `wait` for a first message, then takes what is there, at most `count_max`.
    pub fn take(&mut self, wait: Duration, count_max: usize) -> Taken<'_> {
        self.buffer.clear();
        if count_max == 0 {
            return Taken {
                buffer: &mut self.buffer,
            };
        }
        self.buffer.resize(count_max, std::ptr::null_mut());
        let mut count = 0;
        // The batch call waits until the whole batch is there: so nothing, then one record with the wait, then the rest.
        for (wait, most) in [(0, count_max), (millis(wait), 1), (0, count_max - 1)] {
            // SAFETY: `count + most <= count_max` entries of the buffer are free to write to; queue and client are live.
            let taken = unsafe {
                sys::rd_kafka_consume_batch_queue(
                    self.queue.0.as_ptr(),
                    wait,
                    self.buffer.as_mut_ptr().add(count),
                    most,
                )
            };
            count += usize::try_from(taken).unwrap_or(0);
            let first_try = most == count_max && wait == 0;
            if (first_try && count > 0) || (!first_try && count == 0) {
                break;
            }
        }
        self.buffer.truncate(count);
        Taken {
            buffer: &mut self.buffer,
        }
    }

    pub fn assign(&self, list: &PartitionList) -> Result<(), Cause> {
        // SAFETY: client and list are live; librdkafka copies the list.
        unsafe { check(sys::rd_kafka_incremental_assign(self.client.as_ptr(), list.as_ptr())) }
    }

    pub fn unassign(&self, list: &PartitionList) -> Result<(), Cause> {
        // SAFETY: as above.
        unsafe { check(sys::rd_kafka_incremental_unassign(self.client.as_ptr(), list.as_ptr())) }
    }

    pub fn pause(&self, list: &mut PartitionList) -> Result<(), Cause> {
        // SAFETY: as above; errors are written into the list, which is exclusively ours.
        check_code(unsafe { sys::rd_kafka_pause_partitions(self.client.as_ptr(), list.as_ptr()) })
    }

    pub fn resume(&self, list: &mut PartitionList) -> Result<(), Cause> {
        // SAFETY: as above.
        check_code(unsafe { sys::rd_kafka_resume_partitions(self.client.as_ptr(), list.as_ptr()) })
    }

    /// librdkafka's position: last returned record + 1, with control records that were passed; `None` before any.
    pub fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, Cause> {
        let list = PartitionList::of([(topic, partition, -1)])?;
        // SAFETY: client and list are live; offsets are written into the list, which is exclusively ours.
        check_code(unsafe { sys::rd_kafka_position(self.client.as_ptr(), list.as_ptr()) })?;
        Ok(list.entries().first().map(|e| e.offset).filter(|offset| *offset >= 0))
    }

    /// The end that the last fetch has told; `None` before one.
    pub fn end_hint(&self, topic: &str, partition: i32) -> Option<i64> {
        let topic = c_string(topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is live, both places are valid for the call.
        let code = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.client.as_ptr(),
                topic.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
            )
        };
        check_code(code).ok()?;
        (high >= 0).then_some(high)
    }
}

/// Messages that were taken; freed when this is dropped.
pub struct Taken<'a> {
    buffer: &'a mut Vec<*mut sys::rd_kafka_message_t>,
}

impl Taken<'_> {
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.buffer.iter().filter_map(|message| {
            NonNull::new(*message).map(|message| Message {
                message,
                borrowed: PhantomData,
            })
        })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for message in self.buffer.drain(..) {
            if !message.is_null() {
                // SAFETY: ours since the batch call, and no `Message` outlives this value.
                unsafe { sys::rd_kafka_message_destroy(message) };
            }
        }
    }
}

/// A record in librdkafka's fetch buffer, or an error of a partition.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    message: NonNull<sys::rd_kafka_message_t>,
    borrowed: PhantomData<&'a ()>,
}

impl<'a> Message<'a> {
    fn raw(&self) -> &'a sys::rd_kafka_message_t {
        // SAFETY: live while `Taken` is borrowed, which `'a` is; nobody writes to it.
        unsafe { self.message.as_ref() }
    }

    /// The same for all messages of a topic while it is assigned.
    pub fn topic_token(&self) -> usize {
        self.raw().rkt as usize
    }

    /// Empty when the message belongs to no topic.
    pub fn topic(&self) -> String {
        let rkt = self.raw().rkt;
        if rkt.is_null() {
            return String::new();
        }
        // SAFETY: the message holds a reference to its topic.
        unsafe { text(sys::rd_kafka_topic_name(rkt)) }
    }

    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    pub fn error(&self) -> Option<Cause> {
        let mut cause = check_code(self.raw().err).err()?;
        if let Some(text) = self.value() {
            cause.text = String::from_utf8_lossy(text).into_owned();
        }
        Some(cause)
    }

    pub fn key(&self) -> Option<&'a [u8]> {
        let raw = self.raw();
        // SAFETY: not null means `key_len` bytes that live as long as the message.
        (!raw.key.is_null()).then(|| unsafe { std::slice::from_raw_parts(raw.key.cast::<u8>(), raw.key_len) })
    }

    pub fn value(&self) -> Option<&'a [u8]> {
        let raw = self.raw();
        // SAFETY: as for the key.
        (!raw.payload.is_null()).then(|| unsafe { std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.len) })
    }

    /// Milliseconds since 1970, -1 when the record has none.
    pub fn timestamp(&self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a live message and a valid place to write to.
        unsafe { sys::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) }
    }

    pub fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let mut headers = std::ptr::null_mut();
        let mut all = Vec::new();
        // SAFETY: the headers belong to the live message; names and values are copied at once, each of the stated size.
        unsafe {
            if check_code(sys::rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers)).is_err() {
                return all;
            }
            for index in 0.. {
                let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
                let code = sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size);
                if check_code(code).is_err() {
                    break;
                }
                let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size).to_vec());
                all.push((text(name), value));
            }
        }
        all
    }
}
