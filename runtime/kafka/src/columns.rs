//! From a queue's messages to columns, one batch a partition.

use crate::ffi::{Cause, Message, Taken};
use record::{BatchBuilder, Fetched, TopicPartition};
use std::collections::HashMap;

/// What one poll gathers, by partition. Buffers stay from poll to poll.
#[derive(Default)]
pub(crate) struct Columns {
    slots: Vec<Slot>,
    /// By the token and number that messages carry; tokens mean the same only while the assignment stays.
    by_token: HashMap<(usize, i32), usize>,
}

struct Slot {
    partition: TopicPartition,
    rows: usize,
    key_bytes: usize,
    value_bytes: usize,
    offsets: Vec<i64>,
    records: BatchBuilder,
}

impl Columns {
    /// The assignment changes.
    pub(crate) fn forget(&mut self) {
        self.slots.clear();
        self.by_token.clear();
    }

    /// Copies the records of `taken`, once: a first pass says how much goes where, so that each column is allocated in
    /// one piece. Returns the errors among them.
    pub(crate) fn gather(&mut self, taken: &Taken<'_>, headers: bool) -> Vec<(TopicPartition, Cause)> {
        let mut errors = Vec::new();
        let mut of_message = Vec::with_capacity(taken.len());
        let mut last = ((0, -1), usize::MAX);
        for message in taken.messages() {
            if let Some(cause) = message.error() {
                errors.push((TopicPartition::new(message.topic(), message.partition()), cause));
                of_message.push(usize::MAX);
                continue;
            }
            // Messages of a partition come in runs.
            let token = (message.topic_token(), message.partition());
            if last != (token, last.1) || last.1 == usize::MAX {
                last = (token, self.slot_of(token, &message));
            }
            of_message.push(last.1);
            if let Some(slot) = self.slots.get_mut(last.1) {
                slot.rows += 1;
                slot.key_bytes += message.key().map_or(0, <[u8]>::len);
                slot.value_bytes += message.value().map_or(0, <[u8]>::len);
            }
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.rows > 0) {
            slot.offsets = Vec::with_capacity(slot.rows);
            slot.records = BatchBuilder::with_capacity(slot.rows, slot.key_bytes, slot.value_bytes);
            (slot.rows, slot.key_bytes, slot.value_bytes) = (0, 0, 0);
        }
        for (message, slot) in taken.messages().zip(of_message) {
            let Some(slot) = self.slots.get_mut(slot) else { continue };
            slot.offsets.push(message.offset());
            if headers {
                slot.records
                    .push_with_headers(message.key(), message.value(), message.timestamp(), message.headers());
            } else {
                slot.records.push(message.key(), message.value(), message.timestamp());
            }
        }
        errors
    }

    fn slot_of(&mut self, token: (usize, i32), message: &Message<'_>) -> usize {
        if let Some(slot) = self.by_token.get(&token) {
            return *slot;
        }
        let slot = self.slots.len();
        self.slots.push(Slot {
            partition: TopicPartition::new(message.topic(), message.partition()),
            rows: 0,
            key_bytes: 0,
            value_bytes: 0,
            offsets: Vec::new(),
            records: BatchBuilder::default(),
        });
        self.by_token.insert(token, slot);
        slot
    }

    /// Hands out what was gathered.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Fetched> {
        self.slots.iter_mut().filter_map(|slot| {
            let offsets = std::mem::take(&mut slot.offsets);
            let next = offsets.last()? + 1;
            Some(Fetched {
                partition: slot.partition.clone(),
                offsets,
                records: slot.records.finish(),
                next,
            })
        })
    }
}
