//! Reading: each assigned partition has its position; chunks are read one at a time and handed out in slices.

use crate::Shared;
use crate::book::Partition;
use crate::chunk::Chunk;
use broker::{Consumer, ConsumerOptions, Error, ErrorKind};
use record::{Batch, Fetched, TopicPartition};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What one partition may give to one poll: enough to amortise it, little enough for the others to have their turn.
const PARTITION_BYTES_MAX: usize = 4 << 20;
/// Longer waits are cut to this, far beyond what a caller can mean.
const WAIT_MAX: Duration = Duration::from_secs(3600);

struct Assigned {
    at: TopicPartition,
    shared: Arc<Partition>,
    position: i64,
    paused: bool,
    /// The chunk under the position with its first offset, while rows of it are left.
    chunk: Option<(i64, Chunk)>,
}

pub(crate) struct LogConsumer {
    log: Arc<Shared>,
    headers: bool,
    bytes_max: usize,
    assigned: Vec<Assigned>,
    /// Which partition is asked first: one further with every poll.
    turn: usize,
}

impl LogConsumer {
    pub fn new(log: Arc<Shared>, options: &ConsumerOptions) -> Self {
        let bytes_max = options.queue_bytes_max;
        Self {
            log,
            headers: options.headers,
            bytes_max,
            assigned: Vec::new(),
            turn: 0,
        }
    }

    fn find(&mut self, partition: &TopicPartition) -> Option<&mut Assigned> {
        self.assigned.iter_mut().find(|a| a.at == *partition)
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<(), Error> {
        for partition in partitions {
            let doing = if paused { "pause" } else { "resume" };
            let missing = || {
                Error::new(
                    ErrorKind::NotFound,
                    format!("{doing} {partition}"),
                    "it is not assigned",
                )
            };
            self.find(partition).ok_or_else(missing)?.paused = paused;
        }
        Ok(())
    }

    /// Takes what is there now.
    fn take(&mut self, records_max: usize, into: &mut Vec<Fetched>) -> Result<(), Error> {
        let (before, count) = (into.len(), self.assigned.len());
        self.turn = self.turn.wrapping_add(1);
        let (mut records_left, mut bytes_left) = (records_max, self.bytes_max.max(1));
        let first = self.turn.checked_rem(count).unwrap_or_default();
        for i in (first..count).chain(0..first) {
            let Some(assigned) = self.assigned.get_mut(i).filter(|a| !a.paused) else {
                continue;
            };
            let bytes_max = bytes_left.min(PARTITION_BYTES_MAX);
            let taken = match assigned.take(&self.log, self.headers, records_left, bytes_max) {
                Ok(taken) => taken,
                Err(e) if into.len() == before => return Err(e),
                // What was taken already must not be lost: the error comes again when this partition has the first turn.
                Err(_) => return Ok(()),
            };
            if let Some(fetched) = taken {
                records_left -= fetched.records.len();
                bytes_left = bytes_left.saturating_sub(fetched.records.bytes());
                into.push(fetched);
            }
            if records_left == 0 || bytes_left == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Assigned {
    fn take(
        &mut self,
        log: &Shared,
        headers: bool,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Fetched>, Error> {
        let (mut offsets, mut parts) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while offsets.len() < records_max && bytes < bytes_max {
            let stable = self.check_range()?;
            if self.position >= stable {
                break;
            }
            let Some((base, chunk)) = self.chunk_here(log, headers, stable)? else {
                // Nothing up to the end: what was here is gone.
                self.position = stable;
                break;
            };
            let first = chunk.row_at((self.position - base).max(0) as u32);
            let rows = (chunk.batch.len() - first).min(records_max - offsets.len());
            let end = base + i64::from(chunk.span);
            if rows > 0 {
                let part = chunk.batch.slice(first, rows);
                bytes += part.bytes();
                offsets.extend((first..first + rows).map(|row| base + i64::from(chunk.delta(row))));
                parts.push(part);
            }
            if first + rows < chunk.batch.len() {
                self.position = offsets.last().map_or(self.position, |last| last + 1);
                self.chunk = Some((base, chunk));
            } else {
                self.position = end.min(stable);
            }
        }
        if offsets.is_empty() {
            return Ok(None);
        }
        let records = Batch::concat(&parts.iter().collect::<Vec<_>>())
            .map_err(|e| Error::new(ErrorKind::Fatal, format!("read {}", self.at), e))?;
        Ok(Some(Fetched {
            partition: self.at.clone(),
            offsets,
            records,
            next: self.position,
        }))
    }

    /// The end for readers, if the position is in the log.
    fn check_range(&self) -> Result<i64, Error> {
        let doing = || format!("read {} at {}", self.at, self.position);
        if self.shared.gone.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::NotFound, doing(), "the topic was deleted"));
        }
        let start = self.shared.start.load(Ordering::Acquire);
        let stable = self.shared.stable.load(Ordering::Acquire);
        if self.position < start || self.position > stable {
            let cause = format!("its records are those from {start} to before {stable}");
            return Err(Error::new(ErrorKind::OffsetOutOfRange, doing(), cause));
        }
        Ok(stable)
    }

    fn chunk_here(&mut self, log: &Shared, headers: bool, stable: i64) -> Result<Option<(i64, Chunk)>, Error> {
        if let Some(kept) = self.chunk.take() {
            return Ok(Some(kept));
        }
        let read = |stored: &[u8]| Chunk::read(stored, headers).map(|c| (c.span, c));
        log.storage.chunk(self.shared.place, self.position, stable, read)
    }
}

impl Consumer for LogConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<(), Error> {
        for (partition, offset) in partitions {
            let doing = format!("assign {partition}");
            let shared = Arc::clone(&self.log.book().partition(partition, &doing)?.shared);
            self.assigned.retain(|a| a.at != *partition);
            let at = partition.clone();
            self.assigned.push(Assigned {
                at,
                shared,
                position: *offset,
                paused: false,
                chunk: None,
            });
        }
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.assigned.retain(|a| !partitions.contains(&a.at));
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.set_paused(partitions, true)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.set_paused(partitions, false)
    }

    fn poll(&mut self, wait: Duration, records_max: usize, into: &mut Vec<Fetched>) -> Result<(), Error> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        let before = into.len();
        loop {
            // Asked before the partitions are: what comes after that ends the wait.
            let seen = self.log.news();
            self.take(records_max, into)?;
            if into.len() > before || records_max == 0 || !self.log.wait(seen, deadline) {
                return Ok(());
            }
        }
    }

    fn position(&mut self, partition: &TopicPartition) -> Result<Option<i64>, Error> {
        Ok(self.find(partition).map(|a| a.position))
    }

    fn end_hint(&mut self, partition: &TopicPartition) -> Option<i64> {
        self.find(partition).map(|a| a.shared.stable.load(Ordering::Acquire))
    }
}
