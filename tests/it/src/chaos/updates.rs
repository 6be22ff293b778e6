//! A read-committed reader of all updates, while they come.

use crate::fire::Guarantee;
use broker::{Broker, ConsumerOptions, ErrorKind, Isolation};
use record::{Fetched, TopicPartition};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Wrong updates that are told; one fault makes many.
const JUMPS_MAX: usize = 20;
/// Before a topic that has no beginning yet is asked again.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Seen {
    records: u64,
    /// The last update of every key.
    last: HashMap<Vec<u8>, u64>,
    /// Updates that did not follow the one before by one.
    jumps: Vec<String>,
    /// When each partition showed something last, and the longest time that it did not since [`Reader::measure`].
    pauses: BTreeMap<i32, (Instant, Duration)>,
}

impl Seen {
    fn take(&mut self, fetched: &Fetched, at: Instant) {
        let partition = fetched.partition.partition;
        for (row, offset) in fetched.offsets.iter().enumerate() {
            let key = fetched.records.key(row).unwrap_or_default();
            let value = fetched.records.value(row).unwrap_or_default();
            let count = u64::from_be_bytes(value.try_into().unwrap_or_default());
            let last = self.last.entry(key.to_vec()).or_insert(0);
            if count != *last + 1 && self.jumps.len() < JUMPS_MAX {
                let key = String::from_utf8_lossy(key);
                self.jumps
                    .push(format!("`{key}`: {count} after {last} at {partition}-{offset}"));
            }
            *last = count;
            self.records += 1;
        }
        if !fetched.offsets.is_empty() {
            let (last, pause) = self.pauses.entry(partition).or_insert((at, Duration::ZERO));
            *pause = (*pause).max(at - *last);
            *last = at;
        }
    }
}

pub(super) struct Reader {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Reader {
    pub fn start(broker: &dyn Broker, topic: &str, partitions: i32) -> Self {
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
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut fetched: Vec<Fetched> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = consumer.poll(Duration::from_millis(20), 10_000, &mut fetched) {
                    // A topic that was just made has no beginning for a moment; anything else says so again.
                    assert!(error.kind == ErrorKind::OffsetOutOfRange, "{error}");
                    std::thread::sleep(AGAIN);
                    consumer.assign(&from).unwrap();
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

    pub fn records(&self) -> u64 {
        self.seen.lock().unwrap().records
    }

    /// The last updates of all keys together: the number of records that are counted.
    pub fn keys_counted(&self) -> u64 {
        self.seen.lock().unwrap().last.values().sum()
    }

    /// Pauses count from now on.
    pub fn measure(&self) {
        let now = Instant::now();
        for pause in self.seen.lock().unwrap().pauses.values_mut() {
            *pause = (now, Duration::ZERO);
        }
    }

    /// The longest pause of any partition since [`Reader::measure`], one that goes on included.
    pub fn longest_pause(&self) -> Duration {
        let seen = self.seen.lock().unwrap();
        let pauses = seen.pauses.values().map(|(last, pause)| (*pause).max(last.elapsed()));
        pauses.max().unwrap_or_default()
    }

    /// What is wrong with the counts of records 0 to `sent`.
    pub fn wrongs(&self, sent: u64, keys: u64, guarantee: Guarantee) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let exactly = guarantee == Guarantee::ExactlyOnce;
        let mut wrongs = if exactly { seen.jumps.clone() } else { Vec::new() };
        for key in 0..keys.min(sent) {
            let expected = (sent - key).div_ceil(keys);
            let last = seen.last.get(format!("k{key}").as_bytes()).copied().unwrap_or(0);
            if last < expected || (exactly && last > expected) {
                wrongs.push(format!("`k{key}`: {expected} records, last update {last}"));
            }
        }
        wrongs
    }
}
