//! Records at a steady pace, numbered.

use broker::{Broker, Partitioning, Producer, ProducerOptions};
use record::BatchBuilder;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Records come in bursts this far apart.
const TICK: Duration = Duration::from_millis(10);
/// Until the last of them is delivered.
const FLUSH: Duration = Duration::from_secs(30);
/// Record 0 is so old, and each of the others one millisecond younger: neither too old for a topic's retention nor, by the
/// last of them, from a future that brokers refuse.
const AGE_MS: i64 = 24 * 3600 * 1000;

/// Key and value of the record of a number.
pub type Content = fn(u64, &Shape) -> (String, String);

/// Where records go.
#[derive(Clone, Debug)]
pub struct Shape {
    pub topic: String,
    pub partitions: i32,
    /// How many keys there are.
    pub keys: u64,
}

pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
    began: Instant,
}

impl Load {
    /// `rate` records a second, from number `first` on, until [`Load::end`].
    pub fn start(broker: &dyn Broker, shape: Shape, content: Content, rate: u64, first: u64) -> Self {
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
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(first)));
        let (stopped, counted) = (stop.clone(), sent.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let due = first + (began.elapsed().as_secs_f64() * rate as f64) as u64;
                let from = counted.load(Ordering::Relaxed);
                send(&mut *producer, &shape, content, from..due, now - AGE_MS);
                counted.store(due.max(from), Ordering::Relaxed);
                std::thread::sleep(TICK);
            }
            producer.flush(FLUSH).unwrap();
            assert!(
                producer.take_failures().is_empty(),
                "records of the load were not delivered"
            );
        });
        Self {
            stop,
            sent,
            thread,
            began: Instant::now(),
        }
    }

    /// The number of the record that comes next.
    pub fn next(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops, and waits until everything is delivered. Gives the number after the last record, and for how long it ran.
    pub fn end(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let ran = self.began.elapsed();
        self.thread.join().unwrap();
        (self.sent.load(Ordering::Relaxed), ran)
    }
}

fn send(producer: &mut dyn Producer, shape: &Shape, content: Content, numbers: std::ops::Range<u64>, time: i64) {
    if numbers.is_empty() {
        return;
    }
    let mut rows = BatchBuilder::default();
    for number in numbers {
        let (key, value) = content(number, shape);
        rows.push(Some(key.as_bytes()), Some(value.as_bytes()), time + number as i64);
    }
    let to = Partitioning::ByKey {
        count: shape.partitions,
    };
    producer.send(&shape.topic, to, &rows.finish(), 0).unwrap();
    producer.poll();
}
