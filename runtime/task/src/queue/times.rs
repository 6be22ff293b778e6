//! The times of a queue's rows, where they are not the records' own.
//!
//! A row gets its time once, in the order of its partition, before its first turn.

use operators::Extractor;
use topology::InvalidTime;

use super::{Chunk, Queue, Unfit};

/// Where the times of a queue's rows come from.
#[derive(Clone, Debug)]
pub struct RowTimes {
    /// The source node.
    pub node: usize,
    pub extractor: Extractor,
    pub invalid: InvalidTime,
}

/// The largest time of a queue's rows; -1 where there was none yet.
#[derive(Clone, Copy, Debug)]
pub struct Latest {
    /// Of those that have their time.
    found: i64,
    passed: i64,
    committed: i64,
}

impl Latest {
    pub fn new(committed: i64) -> Self {
        Self {
            found: committed,
            passed: committed,
            committed,
        }
    }

    pub fn committed(&mut self) {
        self.committed = self.passed;
    }

    pub fn aborted(&mut self) {
        *self = Self::new(self.committed);
    }
}

impl Queue {
    /// Gives rows their times that have none yet.
    pub fn set_times(&mut self, wall_time: i64) -> Result<(), record::Error> {
        let Some(times) = &self.times else { return Ok(()) };
        for chunk in self.chunks.iter_mut().filter(|chunk| !chunk.timed) {
            let records = &chunk.fetched.records;
            let mut found = Vec::with_capacity(records.len());
            for (row, own) in records.timestamps().iter().enumerate() {
                let time = match times.extractor.time(records, row, wall_time) {
                    Ok(time) => time,
                    Err(_) if times.invalid == InvalidTime::PartitionTime && self.latest.found >= 0 => {
                        self.latest.found
                    }
                    Err(reason) => {
                        chunk.invalid.insert(row, (*own, reason));
                        -1
                    }
                };
                self.latest.found = self.latest.found.max(time);
                found.push(time);
            }
            chunk.fetched.records = records.with_timestamps(found.into())?;
            chunk.timed = true;
        }
        Ok(())
    }

    /// The next `rows` rows of a chunk are taken.
    pub(super) fn passed(&mut self, rows: usize) {
        if self.remembers()
            && let Some(chunk) = self.chunks.front()
        {
            let times = chunk.fetched.records.timestamps();
            let taken = times.get(chunk.taken..chunk.taken + rows).unwrap_or_default();
            self.latest.passed = taken.iter().copied().fold(self.latest.passed, i64::max);
        }
    }

    /// Whether the largest time is needed again after a restart.
    fn remembers(&self) -> bool {
        let invalid = self.times.as_ref().map(|times| times.invalid);
        invalid == Some(InvalidTime::PartitionTime)
    }

    /// The largest time of the rows that passed, where it is to be written at a commit.
    pub fn latest_changed(&self) -> Option<i64> {
        (self.remembers() && self.latest.passed != self.latest.committed).then_some(self.latest.passed)
    }

    /// The time that the record at the head has itself, where that is not its row's.
    pub fn own_time(&self) -> Option<i64> {
        let chunk = self.chunks.iter().find(|chunk| chunk.left() > 0)?;
        chunk.invalid.get(&chunk.taken).map(|(own, _)| *own)
    }

    /// The source node, and what becomes of a row that has no time.
    pub fn when_invalid(&self) -> Option<(usize, InvalidTime)> {
        self.times.as_ref().map(|times| (times.node, times.invalid))
    }
}

/// Why a row without a time is left out.
pub(super) fn without_time(chunk: &Chunk, row: usize) -> Unfit {
    match chunk.invalid.get(&row) {
        Some((_, reason)) => Unfit::InvalidTime(reason.clone()),
        None => Unfit::NegativeTimestamp,
    }
}
