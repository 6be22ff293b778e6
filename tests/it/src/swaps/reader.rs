//! A read-committed reader that takes in the stamped records as they come, and says what is wrong with them.

use crate::tail::{Tail, Takes};
use broker::Broker;
use record::Fetched;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Wrong records that are told; one fault makes many.
const WRONGS_MAX: usize = 20;

/// What a partition has shown.
#[derive(Clone, Debug)]
struct Partition {
    last_at: Instant,
    /// The longest time without a new record, since [`Reader::measure`].
    pause: Duration,
    version: String,
    /// Versions in the order of offsets, each with its first offset.
    versions: Vec<(String, i64)>,
}

#[derive(Debug, Default)]
struct Seen {
    partitions: BTreeMap<i32, Partition>,
    /// How often each number came, by number.
    times: Vec<u8>,
    records: u64,
    by_version: BTreeMap<String, u64>,
    counts: HashMap<String, u64>,
    /// First and last offset of each version in each partition.
    spans: BTreeMap<(String, i32), (i64, i64)>,
    wrongs: Vec<String>,
}

/// See the module's page.
pub struct Reader(Tail<Seen>);

impl Seen {
    fn wrong(&mut self, text: String) {
        if self.wrongs.len() < WRONGS_MAX {
            self.wrongs.push(text);
        }
    }

    fn record(&mut self, partition: i32, offset: i64, key: &str, version: &str, count: u64, said: &str) {
        self.records += 1;
        *self.by_version.entry(version.to_owned()).or_default() += 1;
        let span = self
            .spans
            .entry((version.to_owned(), partition))
            .or_insert((offset, offset));
        span.1 = offset;
        let now = Instant::now();
        let here = self.partitions.entry(partition).or_insert_with(|| Partition {
            last_at: now,
            pause: Duration::ZERO,
            version: String::new(),
            versions: Vec::new(),
        });
        if here.version != version {
            here.version = version.to_owned();
            here.versions.push((version.to_owned(), offset));
        }
        let last = self.counts.entry(key.to_owned()).or_insert(0);
        let expected = *last + 1;
        *last = count;
        if count != expected {
            self.wrong(format!(
                "`{key}` was counted {count} after {} at {partition}-{offset}",
                expected - 1
            ));
        }
        let Ok(number) = said.parse::<usize>() else {
            self.wrong(format!("`{said}` at {partition}-{offset} is no number"));
            return;
        };
        if self.times.len() <= number {
            self.times.resize(number + 1, 0);
        }
        self.times[number] = self.times[number].saturating_add(1);
    }
}

impl Takes for Seen {
    fn take(&mut self, fetched: &Fetched, at: Instant) {
        let number = fetched.partition.partition;
        for (row, offset) in fetched.offsets.iter().enumerate() {
            let key = String::from_utf8_lossy(fetched.records.key(row).unwrap_or_default()).into_owned();
            let value = String::from_utf8_lossy(fetched.records.value(row).unwrap_or_default()).into_owned();
            let words: Vec<&str> = value.splitn(3, ' ').collect();
            let [version, count, said] = words[..] else {
                self.wrong(format!("`{value}` at {number}-{offset} is no stamped record"));
                continue;
            };
            self.record(number, *offset, &key, version, count.parse().unwrap_or(0), said);
        }
        let partition = self.partitions.entry(number).or_insert_with(|| Partition {
            last_at: at,
            pause: Duration::ZERO,
            version: String::new(),
            versions: Vec::new(),
        });
        partition.pause = partition.pause.max(at - partition.last_at);
        partition.last_at = at;
    }
}

impl Reader {
    /// Reads all partitions of `topic` from their beginnings.
    pub fn start(broker: &dyn Broker, topic: &str, partitions: i32) -> Self {
        Self(Tail::start(broker, topic, partitions, Seen::default()))
    }

    pub fn records(&self) -> u64 {
        self.0.seen().records
    }

    /// Records that this version made.
    pub fn of_version(&self, version: &str) -> u64 {
        self.0.seen().by_version.get(version).copied().unwrap_or(0)
    }

    /// Pauses count from now on.
    pub fn measure(&self) {
        let now = Instant::now();
        for partition in self.0.seen().partitions.values_mut() {
            partition.pause = Duration::ZERO;
            partition.last_at = now;
        }
    }

    /// The longest pause of any partition since [`Reader::measure`], one that goes on included.
    pub fn longest_pause(&self) -> Duration {
        let seen = self.0.seen();
        let pauses = seen.partitions.values().map(|p| p.pause.max(p.last_at.elapsed()));
        pauses.max().unwrap_or_default()
    }

    /// Per partition: the versions in the order of their records, each once for each stretch.
    pub fn stretches(&self) -> BTreeMap<i32, Vec<String>> {
        let seen = self.0.seen();
        let names = |p: &Partition| p.versions.iter().map(|(version, _)| version.clone()).collect();
        seen.partitions.iter().map(|(number, p)| (*number, names(p))).collect()
    }

    /// First and last offset of a version, by partition.
    pub fn spans(&self, version: &str) -> BTreeMap<i32, (i64, i64)> {
        let seen = self.0.seen();
        let of = seen.spans.iter().filter(|((v, _), _)| v == version);
        of.map(|((_, partition), span)| (*partition, *span)).collect()
    }

    /// What is wrong with records `0..end`, of which each must have come once. Empty when nothing is.
    pub fn wrongs(&self, end: u64) -> Vec<String> {
        let seen = self.0.seen();
        let mut wrongs = seen.wrongs.clone();
        let missing: Vec<u64> = (0..end)
            .filter(|n| seen.times.get(*n as usize).is_none_or(|t| *t == 0))
            .collect();
        let twice: Vec<usize> = seen
            .times
            .iter()
            .enumerate()
            .filter(|(_, t)| **t > 1)
            .map(|(n, _)| n)
            .collect();
        for (what, count, first) in [
            ("missing", missing.len(), missing.first().copied()),
            ("there twice", twice.len(), twice.first().map(|n| *n as u64)),
        ] {
            if count > 0 {
                wrongs.push(format!("{count} records are {what}, the first is number {first:?}"));
            }
        }
        wrongs
    }
}
