//! A read-committed reader of a whole topic, in a thread of its own, while records come.

use broker::{Broker, ConsumerOptions, ErrorKind, Isolation};
use record::{Fetched, TopicPartition};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Before a topic that has no beginning yet is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// What is made of the records.
pub trait Takes: Send + 'static {
    /// Records of one partition, in the order of their offsets, read at `at`.
    fn take(&mut self, fetched: &Fetched, at: Instant);
}

/// Ends with its owner.
pub struct Tail<T> {
    seen: Arc<Mutex<T>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<T> Drop for Tail<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl<T: Takes> Tail<T> {
    /// Reads all partitions of `topic` from their beginnings.
    pub fn start(broker: &dyn Broker, topic: &str, partitions: i32, seen: T) -> Self {
        let mut consumer = broker
            .consumer(&ConsumerOptions {
                group: None,
                client_id: "reader".into(),
                isolation: Isolation::ReadCommitted,
                queue_bytes_max: 32 << 20,
                headers: false,
            })
            .unwrap();
        let mut from: Vec<_> = (0..partitions).map(|p| (TopicPartition::new(topic, p), 0)).collect();
        consumer.assign(&from).unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(seen)), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut fetched: Vec<Fetched> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = consumer.poll(Duration::from_millis(20), 10_000, &mut fetched) {
                    // A topic that was just made has no beginning for a moment; anything else says so again.
                    assert!(error.kind == ErrorKind::OffsetOutOfRange, "{error}");
                    std::thread::sleep(AGAIN);
                    while let Err(error) = consumer.assign(&from) {
                        // A broker may be away.
                        assert!(error.kind == ErrorKind::Unavailable, "{error}");
                        std::thread::sleep(AGAIN);
                    }
                }
                let at = Instant::now();
                let mut seen = shared.lock().unwrap();
                for batch in fetched.drain(..) {
                    seen.take(&batch, at);
                    if let Some((_, next)) = from.iter_mut().find(|(p, _)| *p == batch.partition) {
                        *next = batch.next;
                    }
                }
            }
        });
        Self {
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// What was made of them so far.
    pub fn seen(&self) -> MutexGuard<'_, T> {
        let reads = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        assert!(reads, "the reader has ended");
        self.seen.lock().unwrap()
    }
}
