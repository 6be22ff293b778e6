//! Records out, and transactions.

use super::client::Callbacks;
use super::{Cause, Client, PartitionList, c_string, check, check_code, millis, text};
use broker::GroupMetadata;
use rdkafka_sys as sys;
use rdkafka_sys::types::RDKafkaErrorCode;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::time::Duration;

/// A topic of one producer, looked up once. Must not be used with another client.
pub struct TopicHandle {
    rkt: NonNull<sys::rd_kafka_topic_t>,
}

// SAFETY: topic handles are reference counted and locked by librdkafka.
unsafe impl Send for TopicHandle {}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once. The owner drops it before the client.
        unsafe { sys::rd_kafka_topic_destroy(self.rkt.as_ptr()) };
    }
}

/// One record on its way out.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Milliseconds since 1970; librdkafka takes 0 for "now".
    pub timestamp: i64,
    pub headers: &'a [(String, Option<Vec<u8>>)],
    /// Comes back in the delivery report.
    pub ticket: u64,
}

impl Client {
    /// `slot` comes back in the delivery reports of this topic.
    pub fn topic(&self, name: &str, slot: usize) -> Result<TopicHandle, Cause> {
        let name = c_string(name)?;
        // SAFETY: the configuration passes to librdkafka with `rd_kafka_topic_new`, also when that fails. The opaque is
        // a number and never followed.
        let rkt = unsafe {
            let conf = sys::rd_kafka_default_topic_conf_dup(self.as_ptr());
            sys::rd_kafka_topic_conf_set_opaque(conf, slot as *mut c_void);
            sys::rd_kafka_topic_new(self.as_ptr(), name.as_ptr(), conf)
        };
        // SAFETY: no preconditions.
        let rkt = NonNull::new(rkt).ok_or_else(|| Cause::from_code(unsafe { sys::rd_kafka_last_error() }))?;
        Ok(TopicHandle { rkt })
    }

    /// Queues a copy of one record; never waits.
    pub fn produce(&self, topic: &TopicHandle, record: Outgoing<'_>) -> Result<(), RDKafkaErrorCode> {
        use sys::rd_kafka_vtype_t as tag;
        let bytes = |b: Option<&[u8]>| b.map_or((std::ptr::null(), 0), |b| (b.as_ptr(), b.len()));
        let ((key, key_len), (value, value_len)) = (bytes(record.key), bytes(record.value));
        let headers = if record.headers.is_empty() {
            std::ptr::null_mut()
        } else {
            headers_of(record.headers)
        };
        // SAFETY: client and topic are live; every tag is followed by arguments of the types that it stands for, and
        // the list ends with END. Key and value are copied before the call returns. The headers pass to librdkafka
        // when the call succeeds and stay ours when it fails.
        let code = unsafe {
            let code = sys::rd_kafka_producev(
                self.as_ptr(),
                tag::RD_KAFKA_VTYPE_RKT as c_int,
                topic.rkt.as_ptr(),
                tag::RD_KAFKA_VTYPE_PARTITION as c_int,
                record.partition,
                tag::RD_KAFKA_VTYPE_MSGFLAGS as c_int,
                sys::RD_KAFKA_MSG_F_COPY,
                tag::RD_KAFKA_VTYPE_KEY as c_int,
                key,
                key_len,
                tag::RD_KAFKA_VTYPE_VALUE as c_int,
                value,
                value_len,
                tag::RD_KAFKA_VTYPE_TIMESTAMP as c_int,
                record.timestamp,
                tag::RD_KAFKA_VTYPE_OPAQUE as c_int,
                record.ticket as *mut c_void,
                if headers.is_null() {
                    tag::RD_KAFKA_VTYPE_END as c_int
                } else {
                    tag::RD_KAFKA_VTYPE_HEADERS as c_int
                },
                headers,
                tag::RD_KAFKA_VTYPE_END as c_int,
            );
            if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null() {
                sys::rd_kafka_headers_destroy(headers);
            }
            code
        };
        match code {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(code.into()),
        }
    }

    /// The error that ended this client, if one did.
    pub fn fatal_error(&self) -> Option<Cause> {
        let mut words = [0; 512];
        // SAFETY: the client is live and the buffer as long as stated.
        let code = unsafe { sys::rd_kafka_fatal_error(self.as_ptr(), words.as_mut_ptr(), words.len()) };
        let mut cause = check_code(code).err()?;
        // SAFETY: librdkafka has written a C string.
        cause.text = unsafe { text(words.as_ptr()) };
        cause.fatal = true;
        Some(cause)
    }

    pub fn flush(&self, wait: Duration) -> Result<(), Cause> {
        // SAFETY: the client is live; delivery callbacks run inside the call, on this thread.
        check_code(unsafe { sys::rd_kafka_flush(self.as_ptr(), millis(wait)) })
    }

    pub fn init_transactions(&self, wait: Duration) -> Result<(), Cause> {
        // SAFETY: the client is live.
        unsafe { check(sys::rd_kafka_init_transactions(self.as_ptr(), millis(wait))) }
    }

    pub fn begin_transaction(&self) -> Result<(), Cause> {
        // SAFETY: the client is live.
        unsafe { check(sys::rd_kafka_begin_transaction(self.as_ptr())) }
    }

    pub fn commit_transaction(&self, wait: Duration) -> Result<(), Cause> {
        // SAFETY: as for `flush`.
        unsafe { check(sys::rd_kafka_commit_transaction(self.as_ptr(), millis(wait))) }
    }

    pub fn abort_transaction(&self, wait: Duration) -> Result<(), Cause> {
        // SAFETY: as for `flush`.
        unsafe { check(sys::rd_kafka_abort_transaction(self.as_ptr(), millis(wait))) }
    }

    pub fn send_offsets(
        &self,
        group: &str,
        offsets: &PartitionList,
        member: Option<&GroupMetadata>,
        wait: Duration,
    ) -> Result<(), Cause> {
        let group = c_string(group)?;
        let member_id = c_string(member.map_or("", |m| m.member_id.as_str()))?;
        // SAFETY: client, list and strings are live for the call; the metadata is ours and freed here.
        unsafe {
            let metadata = match member {
                None => sys::rd_kafka_consumer_group_metadata_new(group.as_ptr()),
                Some(member) => sys::rd_kafka_consumer_group_metadata_new_with_genid(
                    group.as_ptr(),
                    member.generation,
                    member_id.as_ptr(),
                    std::ptr::null(),
                ),
            };
            let error =
                sys::rd_kafka_send_offsets_to_transaction(self.as_ptr(), offsets.as_ptr(), metadata, millis(wait));
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            check(error)
        }
    }
}

/// Never null: librdkafka's allocator ends the process when there is no memory.
fn headers_of(headers: &[(String, Option<Vec<u8>>)]) -> *mut sys::rd_kafka_headers_t {
    // SAFETY: names and values are copied by the call, each of the stated size; a null value is a null header value.
    unsafe {
        let list = sys::rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            let (bytes, size) = value.as_ref().map_or((std::ptr::null(), 0), |v| (v.as_ptr(), v.len()));
            sys::rd_kafka_header_add(
                list,
                name.as_ptr().cast(),
                isize::try_from(name.len()).unwrap_or(0),
                bytes.cast(),
                isize::try_from(size).unwrap_or(0),
            );
        }
        list
    }
}

/// A delivery report, called by librdkafka inside calls on the owning thread.
pub(super) unsafe extern "C" fn on_delivery(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: the message is live for the call; the opaque is the callbacks that the client was made with.
    unsafe {
        let (Some(message), Some(callbacks)) = (message.as_ref(), opaque.cast::<Callbacks>().as_ref()) else {
            return;
        };
        // Held elsewhere only by code that makes no calls of the client.
        let Ok(mut reports) = callbacks.reports.try_borrow_mut() else {
            return;
        };
        let ticket = message._private as u64;
        let slot = sys::rd_kafka_topic_opaque(message.rkt) as usize;
        if message.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            reports.delivered(slot, message.partition, message.offset, ticket);
        } else {
            let mut cause = Cause::from_code(message.err);
            let more = text(sys::rd_kafka_message_produce_errstr(message));
            if !more.is_empty() {
                cause.text = more;
            }
            reports.failed(slot, message.partition, cause, ticket);
        }
    }
}
