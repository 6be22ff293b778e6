//! The floor under every figure of `tests/bench`: librdkafka's own calls and nothing of ours.
//!
//! `floor BROKERS GROUP IN OUT pass|count exactly-once|at-least-once THREADS`
//!
//! Reads batches from the consumer's queue and hands each record that the job would write to `rd_kafka_producev`:
//! `pass` leaves out values that begin with an odd byte, `count` writes the key with eight bytes. There is no batch, no
//! sandbox, no store and no changelog. Exactly-once commits a transaction with the positions every 100 ms, at-least-once
//! flushes and commits positions once a second. Runs until it is killed: what it did is read from the broker.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 8;
/// Messages a call: as many as librdkafka usually has ready.
const BATCH: usize = 1_000;
const NONE: sys::rd_kafka_resp_err_t = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

fn client(kind: sys::rd_kafka_type_t, settings: &[(&str, &str)]) -> *mut sys::rd_kafka_t {
    let mut words: [c_char; 512] = [0; 512];
    // SAFETY: the configuration passes to `rd_kafka_new`; every pointer is live for its call.
    unsafe {
        let conf = sys::rd_kafka_conf_new();
        for (name, value) in settings {
            let (name, value) = (CString::new(*name).unwrap(), CString::new(*value).unwrap());
            let set = sys::rd_kafka_conf_set(conf, name.as_ptr(), value.as_ptr(), words.as_mut_ptr(), words.len());
            assert!(
                set == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK,
                "{:?}",
                CStr::from_ptr(words.as_ptr())
            );
        }
        let client = sys::rd_kafka_new(kind, conf, words.as_mut_ptr(), words.len());
        assert!(!client.is_null(), "{:?}", CStr::from_ptr(words.as_ptr()));
        client
    }
}

/// Ends the process with the text of a transactional call's error.
unsafe fn must(error: *mut sys::rd_kafka_error_t) {
    if !error.is_null() {
        // SAFETY: not null, so an error object that is ours.
        panic!("{:?}", unsafe { CStr::from_ptr(sys::rd_kafka_error_string(error)) });
    }
}

struct Copy {
    consumer: *mut sys::rd_kafka_t,
    producer: *mut sys::rd_kafka_t,
    queue: *mut sys::rd_kafka_queue_t,
    out: *mut sys::rd_kafka_topic_t,
    input: CString,
    group: CString,
    pass: bool,
    transactions: bool,
    positions: [i64; PARTITIONS as usize],
}

impl Copy {
    fn new(words: &[String], thread: i32, threads: i32) -> Self {
        let [brokers, group, input, out, job, guarantee, ..] = words else {
            panic!("floor BROKERS GROUP IN OUT pass|count exactly-once|at-least-once THREADS");
        };
        let transactions = guarantee == "exactly-once";
        let consumer = client(
            sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            &[
                ("bootstrap.servers", brokers),
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "earliest"),
                ("fetch.queue.backoff.ms", "10"),
                ("queued.min.messages", "100000"),
                (
                    "isolation.level",
                    if transactions {
                        "read_committed"
                    } else {
                        "read_uncommitted"
                    },
                ),
            ],
        );
        let id = format!("{group}-{thread}");
        let mut settings = vec![
            ("bootstrap.servers", brokers.as_str()),
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("linger.ms", "50"),
            ("batch.num.messages", "10000"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "262144"),
            ("delivery.report.only.error", "true"),
            ("retry.backoff.ms", "5"),
        ];
        if transactions {
            settings.extend([("transactional.id", id.as_str()), ("transaction.timeout.ms", "10000")]);
        }
        let producer = client(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, &settings);
        let (input, out) = (
            CString::new(input.as_str()).unwrap(),
            CString::new(out.as_str()).unwrap(),
        );
        // SAFETY: live clients, strings and lists; the list is freed after librdkafka copied it.
        let (queue, out) = unsafe {
            if transactions {
                must(sys::rd_kafka_init_transactions(producer, 30_000));
                must(sys::rd_kafka_begin_transaction(producer));
            }
            sys::rd_kafka_poll_set_consumer(consumer);
            let list = sys::rd_kafka_topic_partition_list_new(PARTITIONS);
            for partition in (0..PARTITIONS).filter(|p| p % threads == thread) {
                let entry = sys::rd_kafka_topic_partition_list_add(list, input.as_ptr(), partition);
                (*entry).offset = i64::from(sys::RD_KAFKA_OFFSET_BEGINNING);
            }
            assert!(sys::rd_kafka_assign(consumer, list) == NONE);
            sys::rd_kafka_topic_partition_list_destroy(list);
            let topic = sys::rd_kafka_topic_new(producer, out.as_ptr(), ptr::null_mut());
            (sys::rd_kafka_queue_get_consumer(consumer), topic)
        };
        Self {
            consumer,
            producer,
            queue,
            out,
            input,
            group: CString::new(group.as_str()).unwrap(),
            pass: job == "pass",
            transactions,
            positions: [-1; PARTITIONS as usize],
        }
    }

    /// Hands over what the job would write for this record.
    unsafe fn copy(&mut self, message: *mut sys::rd_kafka_message_t) {
        use sys::rd_kafka_vtype_t as tag;
        // SAFETY: the message is live until the caller destroys it; producev copies key and value.
        unsafe {
            let record = &*message;
            assert!(
                record.err == NONE,
                "{:?}",
                CStr::from_ptr(sys::rd_kafka_err2str(record.err))
            );
            if let Some(position) = self.positions.get_mut(record.partition as usize) {
                *position = record.offset + 1;
            }
            let odd = |payload: *const u8| record.len == 0 || *payload % 2 == 1;
            if self.pass && odd(record.payload.cast()) {
                return;
            }
            let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            let time = sys::rd_kafka_message_timestamp(message, &raw mut kind);
            let length = if self.pass { record.len } else { 8.min(record.len) };
            loop {
                let code = sys::rd_kafka_producev(
                    self.producer,
                    tag::RD_KAFKA_VTYPE_RKT as c_int,
                    self.out,
                    tag::RD_KAFKA_VTYPE_PARTITION as c_int,
                    record.partition,
                    tag::RD_KAFKA_VTYPE_MSGFLAGS as c_int,
                    sys::RD_KAFKA_MSG_F_COPY,
                    tag::RD_KAFKA_VTYPE_KEY as c_int,
                    record.key,
                    record.key_len,
                    tag::RD_KAFKA_VTYPE_VALUE as c_int,
                    record.payload,
                    length,
                    tag::RD_KAFKA_VTYPE_TIMESTAMP as c_int,
                    time,
                    tag::RD_KAFKA_VTYPE_END as c_int,
                );
                if code == NONE {
                    break;
                }
                assert!(code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL);
                sys::rd_kafka_poll(self.producer, 5);
            }
        }
    }

    unsafe fn commit(&mut self) {
        // SAFETY: live clients; the list and the metadata are ours and freed here.
        unsafe {
            let list = sys::rd_kafka_topic_partition_list_new(PARTITIONS);
            for (partition, position) in (0..).zip(self.positions).filter(|(_, position)| *position >= 0) {
                let entry = sys::rd_kafka_topic_partition_list_add(list, self.input.as_ptr(), partition);
                (*entry).offset = position;
            }
            if self.transactions {
                let metadata = sys::rd_kafka_consumer_group_metadata_new(self.group.as_ptr());
                must(sys::rd_kafka_send_offsets_to_transaction(
                    self.producer,
                    list,
                    metadata,
                    -1,
                ));
                sys::rd_kafka_consumer_group_metadata_destroy(metadata);
                must(sys::rd_kafka_commit_transaction(self.producer, -1));
                must(sys::rd_kafka_begin_transaction(self.producer));
            } else {
                assert!(sys::rd_kafka_flush(self.producer, 60_000) == NONE);
                assert!(sys::rd_kafka_commit(self.consumer, list, 0) == NONE);
            }
            sys::rd_kafka_topic_partition_list_destroy(list);
        }
    }

    fn run(&mut self) {
        let every = Duration::from_millis(if self.transactions { 100 } else { 1_000 });
        let mut buffer: Vec<*mut sys::rd_kafka_message_t> = vec![ptr::null_mut(); BATCH];
        let (mut last, mut uncommitted) = (Instant::now(), false);
        loop {
            // SAFETY: the buffer has room for BATCH messages; each is destroyed once.
            unsafe {
                let count = sys::rd_kafka_consume_batch_queue(self.queue, 20, buffer.as_mut_ptr(), BATCH);
                for message in buffer.iter().take(usize::try_from(count).unwrap_or(0)) {
                    self.copy(*message);
                    sys::rd_kafka_message_destroy(*message);
                    uncommitted = true;
                }
                sys::rd_kafka_poll(self.producer, 0);
                if uncommitted && last.elapsed() >= every {
                    self.commit();
                    (last, uncommitted) = (Instant::now(), false);
                }
            }
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let threads: i32 = words.get(6).map_or(1, |n| n.parse().expect("THREADS is a number"));
    // A thread that fails ends all: the others' figures would be of a part only.
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |failure| {
        say(failure);
        std::process::exit(1);
    }));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let words = &words;
            scope.spawn(move || Copy::new(words, thread, threads).run());
        }
    });
}
