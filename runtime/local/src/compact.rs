//! Compaction: of a key's records only the last stays, at its offset.
//!
//! A pass over a partition first reads what came since the last pass and notes the last offset of every key in it, then
//! goes through all chunks from the start, leaves out what is older, and merges small chunks. A tombstone stays
//! `delete.retention.ms` after the first pass that met it, so that readers on their way learn of it. A pass may take
//! many calls; every chunk is replaced in one write, so it may also be cut off anywhere.

use crate::Shared;
use crate::book::{Limits, Partition, cleaned_key};
use crate::chunk::{Chunk, ChunkBuilder};
use crate::maintain::{Kept, Maintained};
use crate::storage::Entry;
use broker::{Cleanup, Error};
use hashbrown::HashMap;
use record::TopicPartition;
use rocksdb::WriteBatch;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// What one call reads: some tens of milliseconds.
const STEP_BYTES_MAX: usize = 32 << 20;
/// Keys that a pass may hold in memory; a pass over more of them ends early and another one follows.
const KEY_BYTES_MAX: usize = 64 << 20;
/// What a key costs beside its bytes.
const KEY_COST: usize = 48;
/// So many new chunks are worth a pass however small they are: readers pay for each.
const CHUNKS_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Compaction {
    pass: Option<Pass>,
    /// The partition of the last pass: the next one begins behind it.
    last: Option<(u32, u32)>,
}

struct Pass {
    at: TopicPartition,
    shared: Arc<Partition>,
    limits: Limits,
    /// Where the partition started when the pass did.
    start: i64,
    /// Next offset to note, until this is `upto`.
    noted: i64,
    upto: i64,
    latest: HashMap<Box<[u8]>, i64>,
    key_bytes: usize,
    /// Next offset to clean, once all is noted.
    next: i64,
    out: Output,
}

/// The chunk that is being written, and the chunks that it replaces.
#[derive(Default)]
struct Output {
    builder: ChunkBuilder,
    members: Vec<i64>,
    end: i64,
    changed: bool,
    tombstones_until: i64,
}

impl Shared {
    /// One step.
    pub(crate) fn compact(&self, partitions: &[Kept], now_ms: i64, done: &mut Maintained) -> Result<(), Error> {
        let mut compaction = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        if compaction.pass.is_none() {
            compaction.pass = self.choose(partitions, compaction.last, now_ms)?;
        }
        let Some(mut pass) = compaction.pass.take() else {
            return Ok(());
        };
        compaction.last = Some(pass.shared.place);
        let mut left = STEP_BYTES_MAX;
        while left > 0 {
            let step = if pass.noted < pass.upto {
                pass.note(self)?
            } else {
                pass.clean(self, now_ms, done)?
            };
            match step {
                ControlFlow::Continue(bytes) => left = left.saturating_sub(bytes),
                ControlFlow::Break(()) => {
                    done.more = true;
                    return Ok(());
                }
            }
        }
        done.more = true;
        compaction.pass = Some(pass);
        Ok(())
    }

    /// The next partition that is worth a pass.
    fn choose(&self, partitions: &[Kept], last: Option<(u32, u32)>, now_ms: i64) -> Result<Option<Pass>, Error> {
        let mut compacted: Vec<&Kept> = partitions.iter().filter(|k| k.cleanup != Cleanup::Delete).collect();
        compacted.sort_by_key(|k| (last.is_some_and(|last| k.shared.place <= last), k.shared.place));
        for kept in compacted {
            let (start, upto) = (
                kept.shared.start.load(Ordering::Acquire),
                kept.shared.stable.load(Ordering::Acquire),
            );
            let (mut total, mut dirty, mut chunks, mut expired) = (0u64, 0u64, 0, false);
            self.storage.entries(kept.shared.place, start, |entry| {
                if entry.end() > upto {
                    return false;
                }
                total += u64::from(entry.bytes);
                if entry.base >= kept.cleaned {
                    dirty += u64::from(entry.bytes);
                    chunks += 1;
                }
                expired |= (1..=now_ms).contains(&entry.tombstones_until);
                true
            })?;
            let enough = dirty >= kept.limits.segment_bytes || chunks >= CHUNKS_MAX;
            let worth = dirty > 0 && enough && dirty as f64 >= kept.limits.dirty_ratio * total as f64;
            if worth || expired {
                return Ok(Some(Pass {
                    at: kept.at.clone(),
                    shared: Arc::clone(&kept.shared),
                    limits: kept.limits,
                    start,
                    noted: kept.cleaned.max(start),
                    upto,
                    latest: HashMap::new(),
                    key_bytes: 0,
                    next: start,
                    out: Output::default(),
                }));
            }
        }
        Ok(None)
    }
}

impl Pass {
    /// Notes the keys of one chunk; `Break` where the pass has lost its partition.
    fn note(&mut self, log: &Shared) -> Result<ControlFlow<(), usize>, Error> {
        let read = |stored: &[u8]| Chunk::read(stored, false).map(|c| (c.span, (stored.len(), c)));
        let Some((base, (bytes, chunk))) = log.storage.chunk(self.shared.place, self.noted, self.upto, read)? else {
            self.noted = self.upto;
            return Ok(ControlFlow::Continue(1));
        };
        for row in 0..chunk.batch.len() {
            let Some(key) = chunk.batch.key(row) else { continue };
            let offset = base + i64::from(chunk.delta(row));
            if self.latest.insert(key.into(), offset).is_none() {
                self.key_bytes += key.len() + KEY_COST;
            }
        }
        self.noted = base + i64::from(chunk.span);
        if self.key_bytes > KEY_BYTES_MAX {
            self.upto = self.noted;
        }
        Ok(ControlFlow::Continue(bytes))
    }

    /// Cleans one chunk; `Break` at the end of the pass, or where it has lost its partition.
    fn clean(&mut self, log: &Shared, now_ms: i64, done: &mut Maintained) -> Result<ControlFlow<(), usize>, Error> {
        if self.next >= self.upto {
            if self.put(log)? {
                self.finish(log)?;
            }
            return Ok(ControlFlow::Break(()));
        }
        let place = self.shared.place;
        let read = |stored: &[u8]| Chunk::read(stored, true).map(|c| (c.span, (stored.len(), c)));
        let mut entry = None;
        log.storage.entries(place, self.next, |e| {
            entry = Some(e);
            false
        })?;
        let found = log.storage.chunk(place, self.next, self.upto, read)?;
        let (Some(entry), Some((base, (bytes, chunk)))) = (entry, found) else {
            self.next = self.upto;
            return Ok(ControlFlow::Continue(1));
        };
        if entry.base != base {
            return Ok(ControlFlow::Break(()));
        }
        let far = self
            .out
            .members
            .first()
            .is_some_and(|first| entry.end() - first > i64::from(u32::MAX));
        // A hole in the offsets belongs to no chunk, so a chunk never reaches across one.
        let apart = !self.out.members.is_empty() && self.out.end != base;
        let large = self.out.builder.bytes() + chunk.batch.bytes() > crate::chunk::CHUNK_BYTES_MAX
            || self.out.builder.rows() + chunk.batch.len() > crate::chunk::CHUNK_ROWS_MAX;
        if (far || apart || large) && !self.put(log)? {
            return Ok(ControlFlow::Break(()));
        }
        let removed = self.add(&entry, &chunk, now_ms);
        done.records_compacted += removed;
        self.next = entry.end();
        Ok(ControlFlow::Continue(bytes))
    }

    /// Adds what stays of a chunk to the output; how many records do not.
    fn add(&mut self, entry: &Entry, chunk: &Chunk, now_ms: i64) -> u64 {
        let first = *self.out.members.first().unwrap_or(&entry.base);
        let expired = (1..=now_ms).contains(&entry.tombstones_until);
        let (mut removed, mut tombstones) = (0, false);
        for row in 0..chunk.batch.len() {
            let offset = entry.base + i64::from(chunk.delta(row));
            let latest = chunk
                .batch
                .key(row)
                .and_then(|key| self.latest.get(key))
                .is_none_or(|l| *l <= offset);
            let tombstone = chunk.batch.value(row).is_none();
            if offset < self.start || !latest || (tombstone && expired) {
                removed += 1;
            } else {
                tombstones |= tombstone;
                self.out.builder.push_at((offset - first) as u32, &chunk.batch, row);
            }
        }
        if tombstones {
            let until = match entry.tombstones_until {
                0 => now_ms.saturating_add(self.limits.delete_retention_ms).max(1),
                until => until,
            };
            self.out.changed |= until != entry.tombstones_until;
            self.out.tombstones_until = self.out.tombstones_until.max(until);
        }
        self.out.changed |= removed > 0 || !self.out.members.is_empty();
        self.out.members.push(entry.base);
        self.out.end = entry.end();
        removed
    }

    /// Replaces the chunks behind the output by it. `false`: records were deleted meanwhile, the pass is void.
    fn put(&mut self, log: &Shared) -> Result<bool, Error> {
        let out = std::mem::take(&mut self.out);
        let Some((base, others)) = out.members.split_first() else {
            return Ok(true);
        };
        if !out.changed {
            return Ok(true);
        }
        let mut builder = out.builder;
        let sealed = builder.seal(Some((out.end - base) as u32));
        let doing = format!("compact {}", self.at);
        let mut book = log.book();
        // Below the start chunks may be deleted by now, and must not come back.
        let moved = self.shared.start.load(Ordering::Acquire) != self.start;
        if moved || self.shared.gone.load(Ordering::Acquire) {
            return Ok(false);
        }
        let mut batch = WriteBatch::default();
        for other in others {
            log.storage.delete_chunk(&mut batch, self.shared.place, *other)?;
        }
        let until = if sealed.tombstones { out.tombstones_until } else { 0 };
        log.storage.put_chunk(
            &mut batch,
            self.shared.place,
            &sealed,
            &Entry::of(*base, &sealed, until),
        )?;
        log.write(&mut book, batch, &doing)?;
        Ok(true)
    }

    fn finish(&self, log: &Shared) -> Result<(), Error> {
        let doing = format!("compact {}", self.at);
        let mut book = log.book();
        let mut batch = WriteBatch::default();
        batch.put_cf(
            log.storage.book()?,
            cleaned_key(self.shared.place),
            self.upto.to_le_bytes(),
        );
        if book.partition_mut(&self.at, &self.shared).is_none() {
            return Ok(());
        }
        log.write(&mut book, batch, &doing)?;
        if let Some(partition) = book.partition_mut(&self.at, &self.shared) {
            partition.cleaned = self.upto;
        }
        Ok(())
    }
}
