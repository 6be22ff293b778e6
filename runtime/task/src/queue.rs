//! Input partitions of a task: what waits, and which rows come next.
//!
//! Rows are taken in the order of their timestamps across the queues, ties in the order of the queues. Picking takes
//! nothing away: a run that is undone leaves the queues as they were.

mod times;

use std::collections::{BTreeMap, HashMap, VecDeque};

use arrow_array::Array;
use record::{Batch, Fetched, TopicPartition};

use crate::options::Buffered;
use times::without_time;
pub use times::{Latest, RowTimes};

#[derive(Debug)]
struct Chunk {
    fetched: Fetched,
    /// Rows of it that were taken.
    taken: usize,
    /// Whether its rows have their times.
    timed: bool,
    /// Rows without one: the record's own, and why.
    invalid: BTreeMap<usize, (i64, String)>,
}

impl Chunk {
    fn left(&self) -> usize {
        self.fetched.offsets.len().saturating_sub(self.taken)
    }
}

#[derive(Debug)]
pub struct Queue {
    pub partition: TopicPartition,
    chunks: VecDeque<Chunk>,
    buffered: Buffered,
    /// The next offset to read after what was taken.
    pub position: Option<i64>,
    /// `position` at the last commit.
    pub committed: Option<i64>,
    /// Nothing more is known to be on the broker.
    pub caught_up: bool,
    /// Wall time since which it is empty and caught up.
    idle_since: Option<i64>,
    /// `None`: the records' own times are those of the rows.
    times: Option<RowTimes>,
    pub latest: Latest,
}

impl Queue {
    pub fn new(partition: TopicPartition, times: Option<RowTimes>) -> Self {
        Self {
            partition,
            chunks: VecDeque::new(),
            buffered: Buffered::default(),
            position: None,
            committed: None,
            caught_up: false,
            idle_since: None,
            times,
            latest: Latest::new(-1),
        }
    }

    pub fn buffered(&self) -> Buffered {
        self.buffered
    }

    pub fn add(&mut self, fetched: Fetched) {
        if fetched.offsets.is_empty() && self.buffered.records == 0 {
            self.chunks.clear();
            self.position = Some(self.position.unwrap_or(fetched.next).max(fetched.next));
            return;
        }
        self.idle_since = None;
        self.buffered.records += fetched.offsets.len();
        self.buffered.bytes += fetched.records.bytes();
        self.chunks.push_back(Chunk {
            fetched,
            taken: 0,
            timed: false,
            invalid: BTreeMap::new(),
        });
    }

    /// Whether it is empty, and nothing more is known to be on the broker.
    pub fn is_quiet(&self) -> bool {
        self.buffered.records == 0 && self.caught_up
    }

    pub fn clear(&mut self) {
        self.chunks.clear();
        self.buffered = Buffered::default();
        self.idle_since = None;
        self.caught_up = false;
        self.latest.aborted();
    }

    /// Takes the first `rows` rows away.
    pub fn consume(&mut self, mut rows: usize) {
        self.buffered.records = self.buffered.records.saturating_sub(rows);
        while let Some(left) = self.chunks.front().map(Chunk::left) {
            let now = rows.min(left);
            self.passed(now);
            let Some(chunk) = self.chunks.front_mut() else { return };
            let bytes = chunk.fetched.records.slice_bytes(chunk.taken, now);
            self.buffered.bytes = self.buffered.bytes.saturating_sub(bytes);
            chunk.taken += now;
            rows -= now;
            if chunk.left() > 0 {
                let last = chunk.taken.checked_sub(1).and_then(|t| chunk.fetched.offsets.get(t));
                if let Some(last) = last {
                    self.position = Some(last + 1);
                }
                return;
            }
            self.position = Some(chunk.fetched.next);
            self.chunks.pop_front();
        }
    }

    /// The rows and offsets of the first `rows` rows.
    pub fn head(&self, mut rows: usize) -> Result<(Batch, Vec<i64>), record::Error> {
        let mut parts = Vec::new();
        let mut offsets = Vec::with_capacity(rows);
        for chunk in &self.chunks {
            if rows == 0 {
                break;
            }
            let now = rows.min(chunk.left());
            parts.push(chunk.fetched.records.slice(chunk.taken, now));
            offsets.extend_from_slice(
                chunk
                    .fetched
                    .offsets
                    .get(chunk.taken..chunk.taken + now)
                    .unwrap_or_default(),
            );
            rows -= now;
        }
        Ok((Batch::concat(&parts.iter().collect::<Vec<_>>())?, offsets))
    }
}

trait SliceBytes {
    fn slice_bytes(&self, offset: usize, length: usize) -> usize;
}

impl SliceBytes for Batch {
    fn slice_bytes(&self, offset: usize, length: usize) -> usize {
        [self.keys(), self.values()]
            .into_iter()
            .map(|column| {
                let at = |i: usize| column.value_offsets().get(i).copied().unwrap_or_default();
                (at((offset + length).min(column.len())) - at(offset.min(column.len()))) as usize
            })
            .sum()
    }
}

/// What bounds the next run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub rows: usize,
    pub bytes: usize,
    pub stream_time: i64,
    /// The run ends with the first row that brings the stream time here.
    pub stream_due: Option<i64>,
    pub idle_ms: i64,
    pub wall_time: i64,
}

/// Source rows of a run.
#[derive(Clone, Debug)]
pub struct Taken {
    pub batch: Batch,
    /// Source of each row.
    pub queue_of: Vec<u32>,
    pub offsets: Vec<i64>,
    pub stream_times: Vec<i64>,
    /// Rows of each source, for [`Queue::consume`].
    pub counts: Vec<usize>,
}

/// Why a row is left out before anything looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    NegativeTimestamp,
    /// Why it has no time.
    InvalidTime(String),
    /// The broker refused what came of it.
    Rejected(String),
}

#[derive(Debug)]
pub enum Picked {
    Rows(Box<Taken>),
    /// The next row is not to be processed.
    Unfit {
        queue: usize,
        unfit: Unfit,
    },
    /// Nothing before more input, or before this wall time.
    Wait {
        until: Option<i64>,
    },
}

/// Records that the broker refused, by source and offset.
pub type Rejects = HashMap<(usize, i64), String>;

#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    chunk: usize,
    row: usize,
    taken: usize,
}

impl Cursor {
    /// Moves over chunks that are used up.
    fn head<'a>(&mut self, queue: &'a Queue) -> Option<&'a Chunk> {
        loop {
            let chunk = queue.chunks.get(self.chunk)?;
            if self.row.max(chunk.taken) < chunk.fetched.offsets.len() {
                self.row = self.row.max(chunk.taken);
                return Some(chunk);
            }
            self.chunk += 1;
            self.row = 0;
        }
    }
}

struct Picking<'a> {
    queues: &'a mut [Queue],
    rejects: &'a Rejects,
    limits: Limits,
    cursors: Vec<Cursor>,
    queue_of: Vec<u32>,
    stream_times: Vec<i64>,
    stream_time: i64,
    bytes: usize,
}

enum Step {
    More,
    End,
    Unfit(usize, Unfit),
    Wait(Option<i64>),
}

/// The rows of the next run.
pub fn pick(queues: &mut [Queue], rejects: &Rejects, limits: Limits) -> Result<Picked, record::Error> {
    for queue in queues.iter_mut() {
        queue.set_times(limits.wall_time)?;
    }
    let cursors = vec![Cursor::default(); queues.len()];
    let stream_time = limits.stream_time;
    let mut picking = Picking {
        queues,
        rejects,
        limits,
        cursors,
        queue_of: Vec::new(),
        stream_times: Vec::new(),
        stream_time,
        bytes: 0,
    };
    loop {
        match picking.step() {
            Step::More => {}
            _ if !picking.stream_times.is_empty() => {
                return picking.finish().map(|taken| Picked::Rows(Box::new(taken)));
            }
            Step::End => return Ok(Picked::Wait { until: None }),
            Step::Unfit(queue, unfit) => return Ok(Picked::Unfit { queue, unfit }),
            Step::Wait(until) => return Ok(Picked::Wait { until }),
        }
    }
}

impl Picking<'_> {
    /// Takes rows of the queue whose turn it is, until it is another one's.
    fn step(&mut self) -> Step {
        let mut best: Option<(i64, usize)> = None;
        let mut second: Option<(i64, usize)> = None;
        let mut wait = None;
        for (index, (queue, cursor)) in self.queues.iter_mut().zip(&mut self.cursors).enumerate() {
            let Some(chunk) = cursor.head(queue) else {
                if let Some(until) = waits(queue, self.limits) {
                    wait = Some(until);
                }
                continue;
            };
            let head = (
                chunk
                    .fetched
                    .records
                    .timestamps()
                    .get(cursor.row)
                    .copied()
                    .unwrap_or_default(),
                index,
            );
            if best.is_none_or(|b| head < b) {
                second = best;
                best = Some(head);
            } else if second.is_none_or(|s| head < s) {
                second = Some(head);
            }
        }
        match (best, wait) {
            (None, _) => Step::End,
            (Some(_), Some(until)) => Step::Wait(until),
            (Some((_, queue)), None) => self.take(queue, second),
        }
    }

    /// Rows of the head chunk of `queue` that come before `other`.
    fn take(&mut self, index: usize, other: Option<(i64, usize)>) -> Step {
        let (Some(queue), Some(cursor)) = (self.queues.get(index), self.cursors.get_mut(index)) else {
            return Step::End;
        };
        let Some(chunk) = cursor.head(queue) else {
            return Step::End;
        };
        let records = &chunk.fetched.records;
        let start = cursor.row;
        let whole = records.slice_bytes(start, chunk.left());
        let counts_bytes = self.bytes + whole > self.limits.bytes;
        for row in start..chunk.fetched.offsets.len() {
            let timestamp = records.timestamps().get(row).copied().unwrap_or_default();
            if other.is_some_and(|o| (timestamp, index) > o) {
                return Step::More;
            }
            if self.stream_times.len() >= self.limits.rows {
                return Step::End;
            }
            if counts_bytes {
                self.bytes += records.slice_bytes(row, 1);
                if self.bytes > self.limits.bytes && !self.stream_times.is_empty() {
                    return Step::End;
                }
            }
            if timestamp < 0 {
                return Step::Unfit(index, without_time(chunk, row));
            }
            if !self.rejects.is_empty() {
                let offset = chunk.fetched.offsets.get(row).copied().unwrap_or_default();
                if let Some(reason) = self.rejects.get(&(index, offset)) {
                    return Step::Unfit(index, Unfit::Rejected(reason.clone()));
                }
            }
            cursor.row += 1;
            cursor.taken += 1;
            self.stream_time = self.stream_time.max(timestamp);
            self.queue_of.push(index as u32);
            self.stream_times.push(self.stream_time);
            if self.limits.stream_due.is_some_and(|due| self.stream_time >= due) {
                return Step::End;
            }
        }
        if !counts_bytes {
            self.bytes += whole;
        }
        // A run of a good size is not worth the copy that joining it with the next chunk takes.
        let alone = self.queues.len() == 1 && self.stream_times.len() >= self.limits.rows / 4;
        if alone { Step::End } else { Step::More }
    }

    fn finish(self) -> Result<Taken, record::Error> {
        let counts: Vec<usize> = self.cursors.iter().map(|c| c.taken).collect();
        let mut batches = Vec::new();
        let mut offsets = Vec::new();
        let mut starts = Vec::new();
        for (queue, count) in self.queues.iter().zip(&counts) {
            starts.push(offsets.len() as u32);
            if *count > 0 {
                let (batch, of) = queue.head(*count)?;
                batches.push(batch);
                offsets.extend(of);
            }
        }
        let mut batch = Batch::concat(&batches.iter().collect::<Vec<_>>())?;
        if batches.len() > 1 {
            let next = |q: &u32| {
                let place = starts.get_mut(*q as usize)?;
                *place += 1;
                Some(*place - 1)
            };
            let order: Vec<u32> = self.queue_of.iter().filter_map(next).collect();
            batch = batch.take(&order)?;
            offsets = order.iter().filter_map(|r| offsets.get(*r as usize).copied()).collect();
        }
        Ok(Taken {
            batch,
            queue_of: self.queue_of,
            offsets,
            stream_times: self.stream_times,
            counts,
        })
    }
}

/// Whether an empty queue is to be waited for; until when, if that is known.
fn waits(queue: &mut Queue, limits: Limits) -> Option<Option<i64>> {
    if limits.idle_ms < 0 {
        return None;
    }
    if !queue.caught_up {
        return Some(None);
    }
    let until = *queue.idle_since.get_or_insert(limits.wall_time) + limits.idle_ms;
    (limits.wall_time < until).then_some(Some(until))
}
