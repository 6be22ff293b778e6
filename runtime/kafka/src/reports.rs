//! What delivery reports add up to: the last own offset of each partition, and the records that failed.
//!
//! A ticket names a record: its `send` (a counter) in the upper half, its row in the lower one.

use crate::ffi::Cause;
use rdkafka_sys::types::RDKafkaErrorCode;
use std::collections::VecDeque;

/// Failures kept between two calls of `take_failures`. More say nothing new, and a fatal error fails every queued record.
const FAILURES_MAX: usize = 1_000;

/// No offset yet.
const NONE: i64 = -1;

pub struct Failure {
    pub tag: u64,
    pub row: u32,
    pub cause: Cause,
}

struct Send {
    tag: u64,
    /// Records queued and not yet reported.
    open: u32,
    /// Whether all rows were handed over.
    closed: bool,
}

/// Reports since the last [`Reports::begin`].
#[derive(Default)]
pub struct Reports {
    sends: VecDeque<Send>,
    /// Number of the first entry of `sends`.
    first: u32,
    /// By topic slot and partition.
    last: Vec<Vec<i64>>,
    failures: Vec<Failure>,
    /// How many failed, and the first: stays when the failures are taken, for the transaction stays spoiled.
    failed: u64,
    first_failure: Option<Cause>,
    /// A record was delivered and the broker did not say where.
    offset_unknown: bool,
    /// Topic slot and partition of a record that was handed to a broker and is missing in its sequence now.
    gap: Option<(usize, i32)>,
}

impl Reports {
    /// Forgets offsets and failures of the transaction before.
    pub fn begin(&mut self) {
        self.forget_offsets();
        self.failures.clear();
        self.failed = 0;
        self.first_failure = None;
        self.offset_unknown = false;
    }

    /// Starts a `send`; the ticket of its row 0.
    pub fn open_send(&mut self, tag: u64) -> u64 {
        let number = self.first.wrapping_add(self.sends.len() as u32);
        self.sends.push_back(Send {
            tag,
            open: 0,
            closed: false,
        });
        u64::from(number) << 32
    }

    /// `queued` records of the send that was opened last were queued; their reports may have come already.
    pub fn close_send(&mut self, queued: u32) {
        if let Some(send) = self.sends.back_mut() {
            send.open = send.open.wrapping_add(queued);
            send.closed = true;
        }
        self.drop_finished();
    }

    /// A record that could not even be queued.
    pub fn refused(&mut self, cause: Cause, ticket: u64) {
        self.note(cause, ticket);
    }

    pub fn delivered(&mut self, slot: usize, partition: i32, offset: i64, ticket: u64) {
        self.reported(ticket);
        let Ok(partition) = usize::try_from(partition) else {
            return;
        };
        if offset < 0 {
            self.offset_unknown = true;
            return;
        }
        if self.last.len() <= slot {
            self.last.resize_with(slot + 1, Vec::new);
        }
        let Some(partitions) = self.last.get_mut(slot) else {
            return;
        };
        if partitions.len() <= partition {
            partitions.resize(partition + 1, NONE);
        }
        if let Some(last) = partitions.get_mut(partition) {
            *last = (*last).max(offset);
        }
    }

    pub fn failed(&mut self, slot: usize, partition: i32, cause: Cause, ticket: u64) {
        // Purged by an abort, or a neighbour in the batch of the record at fault: no fault of its own.
        let innocent = matches!(
            cause.code,
            RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight | RDKafkaErrorCode::InvalidDifferentRecord
        );
        if !innocent {
            self.gap = Some((slot, partition));
            self.note(cause, ticket);
        }
        self.reported(ticket);
    }

    fn note(&mut self, cause: Cause, ticket: u64) {
        self.failed += 1;
        if self.first_failure.is_none() {
            self.first_failure = Some(cause.clone());
        }
        if self.failures.len() < FAILURES_MAX
            && let Some(send) = self.sends.get(self.index(ticket))
        {
            self.failures.push(Failure {
                tag: send.tag,
                row: ticket as u32,
                cause,
            });
        }
    }

    fn index(&self, ticket: u64) -> usize {
        ((ticket >> 32) as u32).wrapping_sub(self.first) as usize
    }

    fn reported(&mut self, ticket: u64) {
        let index = self.index(ticket);
        if let Some(send) = self.sends.get_mut(index) {
            send.open = send.open.wrapping_sub(1);
        }
        if index == 0 {
            self.drop_finished();
        }
    }

    fn drop_finished(&mut self) {
        while self.sends.front().is_some_and(|send| send.closed && send.open == 0) {
            self.sends.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    pub fn forget_offsets(&mut self) {
        self.last.iter_mut().for_each(|partitions| partitions.fill(NONE));
    }

    /// Where a sequence has a gap, told once.
    pub fn take_gap(&mut self) -> Option<(usize, i32)> {
        self.gap.take()
    }

    pub fn offset_unknown(&self) -> bool {
        self.offset_unknown
    }

    /// How many records failed since `begin`, and why the first did.
    pub fn first_failure(&self) -> Option<(u64, &Cause)> {
        self.first_failure.as_ref().map(|cause| (self.failed, cause))
    }

    pub fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// (slot, partition, last offset) of every partition that got a record.
    pub fn last(&self) -> impl Iterator<Item = (usize, i32, i64)> {
        self.last.iter().enumerate().flat_map(|(slot, partitions)| {
            partitions
                .iter()
                .enumerate()
                .filter(|(_, offset)| **offset != NONE)
                .map(move |(partition, offset)| (slot, partition as i32, *offset))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn cause(code: RDKafkaErrorCode) -> Cause {
        Cause::new(code, "x")
    }

    #[test]
    fn a_failure_finds_its_send_though_earlier_ones_are_gone() {
        let mut reports = Reports::default();
        let a = reports.open_send(70);
        reports.close_send(2);
        let b = reports.open_send(71);
        reports.delivered(0, 1, 5, a);
        // a report that comes while rows are still being queued
        reports.delivered(0, 1, 7, b);
        reports.delivered(0, 1, 6, a + 1);
        reports.close_send(3);
        reports.failed(0, 1, cause(RDKafkaErrorCode::InvalidTimestamp), b + 2);
        reports.failed(0, 1, cause(RDKafkaErrorCode::InvalidDifferentRecord), b + 1);
        let failures = reports.take_failures();
        assert_eq!((failures.len(), failures[0].tag, failures[0].row), (1, 71, 2));
        assert_eq!(
            reports.first_failure().unwrap().0,
            1,
            "taking the failures does not mend the transaction"
        );
        assert_eq!(reports.last().collect::<Vec<_>>(), [(0, 1, 7)]);
        assert!(reports.sends.is_empty());
    }

    #[test]
    fn the_next_transaction_starts_empty() {
        let mut reports = Reports::default();
        let a = reports.open_send(1);
        reports.close_send(1);
        reports.delivered(2, 0, -1, a);
        assert!(reports.offset_unknown());
        reports.begin();
        assert!(!reports.offset_unknown() && reports.last().next().is_none());
    }
}
