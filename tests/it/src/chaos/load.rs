//! Records at a steady pace: record n is to be counted under `k` and n modulo the number of keys.

use broker::{Broker, Partitioning, Producer, ProducerOptions};
use record::BatchBuilder;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Records come in bursts this far apart.
const TICK: Duration = Duration::from_millis(10);
/// Until the last of them is delivered.
const FLUSH: Duration = Duration::from_secs(60);
/// Keys that spread records over the source, and say nothing of the count.
const SPREAD: u64 = 977;

pub(super) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
    began: Instant,
}

impl Load {
    pub fn start(broker: &dyn Broker, topic: &str, count: i32, keys: u64, rate: u64) -> Self {
        let mut producer = broker
            .producer(&ProducerOptions {
                client_id: "load".into(),
                transactional_id: None,
                transaction_timeout: Duration::from_secs(10),
                delivery_timeout: FLUSH,
                upserts_only: false,
            })
            .unwrap();
        producer.init().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic, began) = (stop.clone(), topic.to_owned(), Instant::now());
        let thread = std::thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
                send(&mut *producer, &topic, count, keys, sent..due);
                sent = due.max(sent);
                std::thread::sleep(TICK);
            }
            producer.flush(FLUSH).unwrap();
            let failures = producer.take_failures();
            assert!(failures.is_empty(), "records of the load were not delivered");
            sent
        });
        Self { stop, thread, began }
    }

    /// Stops, and waits until everything is delivered. Gives how many there were, and for how long it ran.
    pub fn end(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let ran = self.began.elapsed();
        (self.thread.join().unwrap(), ran)
    }
}

fn send(producer: &mut dyn Producer, topic: &str, count: i32, keys: u64, numbers: std::ops::Range<u64>) {
    if numbers.is_empty() {
        return;
    }
    let mut rows = BatchBuilder::default();
    for number in numbers {
        let (key, value) = (format!("s{}", number % SPREAD), format!("k{}", number % keys));
        rows.push(
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            1_700_000_000_000 + number as i64,
        );
    }
    let to = Partitioning::ByKey { count };
    producer.send(topic, to, &rows.finish(), 0).unwrap();
    producer.poll();
}
