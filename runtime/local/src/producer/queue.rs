//! Rows on their way: checked, told their partition, packed into chunks.

use crate::book::{Book, Limits, Partition, no_topic};
use crate::chunk::{CHUNK_BYTES_MAX, CHUNK_ROWS_MAX, ChunkBuilder, Sealed, headers_bytes};
use arrow_array::Array;
use broker::{DeliveryFailure, Error, ErrorKind, Partitioning};
use hashbrown::HashMap;
use record::{Batch, TopicPartition};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A chunk that waits for its offsets.
pub(crate) struct Ready {
    pub partition: TopicPartition,
    pub shared: Arc<Partition>,
    pub sealed: Sealed,
}

struct Queue {
    partition: TopicPartition,
    shared: Arc<Partition>,
    builder: ChunkBuilder,
}

struct Target {
    compacts: bool,
    limits: Limits,
    queues: Vec<Queue>,
    /// Where the next batch's null keys go: one partition a batch, then the next.
    spread: usize,
}

/// The queues of one producer.
#[derive(Default)]
pub(crate) struct Queues {
    targets: Vec<Target>,
    by_name: HashMap<String, usize>,
    sealed: Vec<Ready>,
    bytes: usize,
}

impl Queues {
    /// Bytes of the rows that were added since the chunks were last taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The queues of a topic, for [`Self::add`].
    pub fn open(&mut self, book: &Book, topic: &str, doing: &str) -> Result<usize, Error> {
        let known = self.by_name.get(topic).copied();
        let lives = |t: &Target| t.queues.first().is_none_or(|q| !q.shared.gone.load(Ordering::Acquire));
        if let Some(at) = known
            && self.targets.get(at).is_some_and(lives)
        {
            return Ok(at);
        }
        let (name, found) = book.topics.get_key_value(topic).ok_or_else(|| no_topic(topic, doing))?;
        let queues = found.partitions.iter().enumerate().map(|(number, partition)| Queue {
            partition: TopicPartition::new(Arc::clone(name), number as i32),
            shared: Arc::clone(&partition.shared),
            builder: ChunkBuilder::default(),
        });
        let target = Target {
            compacts: found.compacts(),
            limits: found.limits,
            queues: queues.collect(),
            spread: 0,
        };
        self.targets.push(target);
        self.by_name.insert(topic.to_owned(), self.targets.len() - 1);
        Ok(self.targets.len() - 1)
    }

    /// Queues the rows that may be stored; the others become failures.
    pub fn add(
        &mut self,
        target: usize,
        to: Partitioning,
        batch: &Batch,
        tag: u64,
        failures: &mut Vec<DeliveryFailure>,
        doing: &str,
    ) -> Result<(), Error> {
        let Some(target) = self.targets.get_mut(target) else {
            return Ok(());
        };
        let there = target.queues.len() as i32;
        let (first, count) = match to {
            Partitioning::Fixed(partition) => (partition, 1),
            Partitioning::ByKey { .. } | Partitioning::ByWindowedKey { .. } => (0, to.count()),
        };
        if first < 0 || count < 1 || i64::from(first) + i64::from(count) > i64::from(there) {
            let cause = format!("{to:?} of a topic with {there} partitions");
            return Err(Error::new(ErrorKind::NotFound, doing, cause));
        }
        let mut out = Out {
            sealed: &mut self.sealed,
            bytes: 0,
        };
        let mut refuse = |row: usize| match refusal(target.limits, target.compacts, batch, row) {
            None => false,
            Some(cause) => {
                let error = Error::new(ErrorKind::Refused, doing, cause);
                failures.push(DeliveryFailure {
                    tag,
                    row: row as u32,
                    error,
                });
                true
            }
        };
        match to {
            Partitioning::Fixed(partition) => {
                if let Some(queue) = target.queues.get_mut(partition as usize) {
                    out.add_runs(queue, batch, &mut refuse);
                }
            }
            Partitioning::ByKey { count } | Partitioning::ByWindowedKey { count, .. } => {
                let spread = target.spread % count as usize;
                target.spread = spread + 1;
                for row in (0..batch.len()).filter(|row| !refuse(*row)) {
                    let partition = to
                        .partition(batch.key(row))
                        .map_or(spread, |partition| partition as usize);
                    if let Some(queue) = target.queues.get_mut(partition) {
                        out.bytes += row_bytes(batch, row);
                        queue.builder.push(batch, row);
                        out.seal_full(queue);
                    }
                }
            }
        }
        let Out { bytes, .. } = out;
        self.bytes += bytes;
        Ok(())
    }

    /// All chunks, those of a partition in the order of their rows.
    pub fn take_ready(&mut self) -> Vec<Ready> {
        let mut ready = std::mem::take(&mut self.sealed);
        let queues = self
            .targets
            .iter_mut()
            .flat_map(|t| &mut t.queues)
            .filter(|q| q.builder.rows() > 0);
        ready.extend(queues.map(seal));
        self.bytes = 0;
        ready
    }
}

fn seal(queue: &mut Queue) -> Ready {
    Ready {
        partition: queue.partition.clone(),
        shared: Arc::clone(&queue.shared),
        sealed: queue.builder.seal(None),
    }
}

struct Out<'a> {
    sealed: &'a mut Vec<Ready>,
    bytes: usize,
}

impl Out<'_> {
    fn seal_full(&mut self, queue: &mut Queue) {
        if queue.builder.is_full() {
            self.sealed.push(seal(queue));
        }
    }

    /// All good rows of `batch`, column by column, cut where a chunk is full or a row was refused.
    fn add_runs(&mut self, queue: &mut Queue, batch: &Batch, refuse: &mut dyn FnMut(usize) -> bool) {
        let mut run = 0..0;
        let mut run_bytes = 0;
        for row in 0..batch.len() {
            let refused = refuse(row);
            if !refused {
                run.end = row + 1;
                run_bytes += row_bytes(batch, row);
            }
            let full = queue.builder.bytes() + run_bytes >= CHUNK_BYTES_MAX
                || queue.builder.rows() + run.len() >= CHUNK_ROWS_MAX;
            if refused || full {
                self.add_run(queue, batch, run, &mut run_bytes);
                run = row + 1..row + 1;
            }
        }
        self.add_run(queue, batch, run, &mut run_bytes);
    }

    fn add_run(&mut self, queue: &mut Queue, batch: &Batch, run: Range<usize>, run_bytes: &mut usize) {
        if !run.is_empty() {
            queue.builder.extend(batch, run);
            self.bytes += std::mem::take(run_bytes);
            self.seal_full(queue);
        }
    }
}

fn row_bytes(batch: &Batch, row: usize) -> usize {
    let of = |ends: &[i32]| match ends.get(row..row + 2) {
        Some([start, end]) => (end - start) as usize,
        _ => 0,
    };
    let headers = batch.headers().map_or(0, |h| headers_bytes(h.row(row)));
    of(batch.keys().value_offsets()) + of(batch.values().value_offsets()) + headers
}

/// Why a row may not be stored.
fn refusal(limits: Limits, compacts: bool, batch: &Batch, row: usize) -> Option<String> {
    let bytes = row_bytes(batch, row);
    let timestamp = batch.timestamps().get(row).copied().unwrap_or_default();
    if bytes > limits.record_bytes_max {
        Some(format!(
            "a record of {bytes} bytes where the topic takes {} (max.message.bytes)",
            limits.record_bytes_max
        ))
    } else if timestamp < 0 {
        Some(format!("a record with the negative timestamp {timestamp}"))
    } else if compacts && batch.keys().is_null(row) {
        Some("a record without a key, which the compacted topic cannot take".to_owned())
    } else {
        None
    }
}
