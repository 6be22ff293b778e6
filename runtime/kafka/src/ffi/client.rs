//! A client instance with its callbacks.

use super::{Cause, PartitionList, c_string, check_code, millis, text};
use crate::reports::Reports;
use rdkafka_sys as sys;
use rdkafka_sys::types::RDKafkaErrorCode;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Producer,
    Consumer,
}

/// What callbacks write to. `reports` is touched only by the thread that owns the client (librdkafka calls the delivery
/// callback from `poll`, `flush`, `commit` and `abort`); `last_error` by any.
pub(super) struct Callbacks {
    pub(super) reports: RefCell<Reports>,
    last_error: Mutex<String>,
}

/// One librdkafka instance. Used by one thread at a time.
pub struct Client {
    rk: NonNull<sys::rd_kafka_t>,
    callbacks: NonNull<Callbacks>,
}

// SAFETY: librdkafka's instance may be used from any thread. The callbacks' cell is reached through `&self` and from C
// callbacks that run inside calls on `&self`; as `Client` is not `Sync`, all of them are on the thread that holds it.
unsafe impl Send for Client {}

impl Client {
    pub fn new(kind: Kind, settings: &BTreeMap<String, String>) -> Result<Self, Cause> {
        let callbacks = Box::new(Callbacks {
            reports: RefCell::default(),
            last_error: Mutex::default(),
        });
        let callbacks = NonNull::from(Box::leak(callbacks));
        match Self::create(kind, settings, callbacks) {
            Ok(rk) => Ok(Self { rk, callbacks }),
            Err(cause) => {
                // SAFETY: no client was made, so nobody else holds the pointer; it came from `Box::leak` above.
                drop(unsafe { Box::from_raw(callbacks.as_ptr()) });
                Err(cause)
            }
        }
    }

    fn create(
        kind: Kind,
        settings: &BTreeMap<String, String>,
        callbacks: NonNull<Callbacks>,
    ) -> Result<NonNull<sys::rd_kafka_t>, Cause> {
        let mut words: [c_char; 512] = [0; 512];
        // SAFETY: the configuration is ours until `rd_kafka_new` succeeds, and is destroyed on every earlier way out.
        // The opaque pointer outlives the instance: `Drop` frees it after the instance is gone.
        unsafe {
            let conf = sys::rd_kafka_conf_new();
            for (name, value) in settings {
                let set = c_string(name)
                    .and_then(|n| Ok((n, c_string(value)?)))
                    .and_then(|(n, v)| {
                        match sys::rd_kafka_conf_set(conf, n.as_ptr(), v.as_ptr(), words.as_mut_ptr(), words.len()) {
                            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
                            _ => Err(Cause::new(RDKafkaErrorCode::InvalidArgument, text(words.as_ptr()))),
                        }
                    });
                if let Err(cause) = set {
                    sys::rd_kafka_conf_destroy(conf);
                    return Err(cause);
                }
            }
            sys::rd_kafka_conf_set_opaque(conf, callbacks.as_ptr().cast());
            sys::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            let kind = match kind {
                Kind::Producer => {
                    sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(super::produce::on_delivery));
                    sys::rd_kafka_type_t::RD_KAFKA_PRODUCER
                }
                Kind::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            };
            let rk = sys::rd_kafka_new(kind, conf, words.as_mut_ptr(), words.len());
            NonNull::new(rk).ok_or_else(|| {
                sys::rd_kafka_conf_destroy(conf);
                Cause::new(RDKafkaErrorCode::InvalidArgument, text(words.as_ptr()))
            })
        }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_t {
        self.rk.as_ptr()
    }

    /// The delivery reports so far. Not to be held across a call of this client.
    pub fn reports(&self) -> &RefCell<Reports> {
        // SAFETY: the callbacks live until `Drop`, and only shared references to them are ever made.
        unsafe { &self.callbacks.as_ref().reports }
    }

    /// What librdkafka complained about last, for texts.
    pub fn last_error(&self) -> String {
        // SAFETY: as in `reports`.
        let last = unsafe { &self.callbacks.as_ref().last_error };
        last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves callbacks.
    pub fn poll(&self, wait: Duration) {
        // SAFETY: the instance is live.
        unsafe { sys::rd_kafka_poll(self.as_ptr(), millis(wait)) };
    }

    /// Waits for a broker's answer, so that the next request need not wait for a connection.
    pub fn connect(&self, wait: Duration) -> Result<(), Cause> {
        let mut metadata = std::ptr::null();
        // SAFETY: the instance is live; the answer is freed here when there is one.
        unsafe {
            let code = sys::rd_kafka_metadata(self.as_ptr(), 0, std::ptr::null_mut(), &raw mut metadata, millis(wait));
            check_code(code)?;
            sys::rd_kafka_metadata_destroy(metadata);
        }
        Ok(())
    }

    /// Asks the leaders for the offsets of the times in `list` (-1: the end) and puts the answers in their place.
    pub fn offsets_for_times(&self, list: &mut PartitionList, wait: Duration) -> Result<(), Cause> {
        // SAFETY: instance and list are live, the list exclusively ours.
        check_code(unsafe { sys::rd_kafka_offsets_for_times(self.as_ptr(), list.as_ptr(), millis(wait)) })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the instance is destroyed once; afterwards no callback runs any more, so their data can be freed.
        // Closing the consumer would leave a group, and ours has never joined one.
        unsafe {
            sys::rd_kafka_destroy_flags(self.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
            drop(Box::from_raw(self.callbacks.as_ptr()));
        }
    }
}

/// `librdkafka`'s syslog levels that are remembered as the last error: error and worse.
const LEVEL_ERROR: c_int = 3;

unsafe extern "C" fn on_log(rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    // SAFETY: librdkafka passes live C strings, and `rk` is null or live with the opaque that `create` has set.
    let (facility, line, callbacks) = unsafe {
        let opaque = if rk.is_null() {
            std::ptr::null_mut()
        } else {
            sys::rd_kafka_opaque(rk)
        };
        (text(facility), text(line), opaque.cast::<Callbacks>().as_ref())
    };
    if level <= LEVEL_ERROR
        && let Some(callbacks) = callbacks
    {
        *callbacks.last_error.lock().unwrap_or_else(PoisonError::into_inner) = line.clone();
    }
    crate::log_line(level, &facility, &line);
}

unsafe extern "C" fn on_error(_: *mut sys::rd_kafka_t, _code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: a live C string, and the opaque that `create` has set.
    let (reason, callbacks) = unsafe { (text(reason), opaque.cast::<Callbacks>().as_ref()) };
    if let Some(callbacks) = callbacks {
        *callbacks.last_error.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Events of one drain; the rest waits for the next.
const DRAIN_MAX: usize = 1_000;

/// Takes what waits in the main queue of a client that nobody polls: log lines and errors. The last error among them.
pub fn drain_main<C: rdkafka::ClientContext>(client: &rdkafka::client::Client<C>) -> Option<String> {
    let mut last = None;
    // SAFETY: the client is live; the queue and each event are ours and freed here, strings are copied before that.
    unsafe {
        let queue = sys::rd_kafka_queue_get_main(client.native_ptr());
        for _ in 0..DRAIN_MAX {
            let event = sys::rd_kafka_queue_poll(queue, 0);
            if event.is_null() {
                break;
            }
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 0);
                    sys::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level);
                    let line = text(line);
                    crate::log_line(level, &text(facility), &line);
                    if level <= LEVEL_ERROR {
                        last = Some(line);
                    }
                }
                sys::RD_KAFKA_EVENT_ERROR => last = Some(text(sys::rd_kafka_event_error_string(event))),
                _ => {}
            }
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
    }
    last
}

/// Generation and member id that a subscribed consumer would show now; (-1, "") before the join.
pub fn group_metadata<C: rdkafka::ClientContext>(client: &rdkafka::client::Client<C>) -> (i32, String) {
    // SAFETY: the client is live for the call; the metadata is ours and freed here.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(client.native_ptr());
        if metadata.is_null() {
            return (-1, String::new());
        }
        let generation = sys::rd_kafka_consumer_group_metadata_generation_id(metadata);
        let member = text(sys::rd_kafka_consumer_group_metadata_member_id(metadata));
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        (generation, member)
    }
}

/// Commits `offsets` as the group member that `client` is, and waits for the answer at most `wait`.
pub fn commit_as_member<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    offsets: &PartitionList,
    wait: Duration,
) -> Result<Vec<super::Entry>, Cause> {
    // SAFETY: client and list are live; queue and event are ours and freed here. An answer after the wait is over
    // finds its queue disabled, which librdkafka allows.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client.native_ptr());
        let code = sys::rd_kafka_commit_queue(client.native_ptr(), offsets.as_ptr(), queue, None, std::ptr::null_mut());
        let answer = check_code(code).and_then(|()| {
            let event = sys::rd_kafka_queue_poll(queue, millis(wait));
            if event.is_null() {
                return Err(Cause::timeout());
            }
            let answer = check_code(sys::rd_kafka_event_error(event))
                .map(|()| super::list::entries(sys::rd_kafka_event_topic_partition_list(event)));
            sys::rd_kafka_event_destroy(event);
            answer
        });
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}
