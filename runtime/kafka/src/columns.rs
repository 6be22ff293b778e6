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
    offsets: Vec<i64>,
    records: BatchBuilder,
    /// Rows, bytes of keys, bytes of values of the last batch: what to make room for in the next one.
    last: [usize; 3],
}

impl Columns {
    /// The assignment changes.
    pub(crate) fn forget(&mut self) {
        self.slots.clear();
        self.by_token.clear();
    }

    /// Copies the records of `taken` behind those gathered before. Returns the errors among them.
    pub(crate) fn gather(&mut self, taken: &Taken<'_>, headers: bool) -> Vec<(TopicPartition, Cause)> {
        let mut errors = Vec::new();
        let mut last = ((0, -1), usize::MAX);
        for message in taken.messages() {
            if let Some(cause) = message.error() {
                errors.push((TopicPartition::new(message.topic(), message.partition()), cause));
                continue;
            }
            // Messages of a partition come in runs.
            let token = (message.topic_token(), message.partition());
            if last != (token, last.1) || last.1 == usize::MAX {
                last = (token, self.slot_of(token, &message));
            }
            let Some(slot) = self.slots.get_mut(last.1) else {
                continue;
            };
            if slot.offsets.is_empty() {
                let [rows, key_bytes, value_bytes] = slot.last;
                slot.offsets.reserve(rows);
                slot.records = BatchBuilder::with_capacity(rows, key_bytes, value_bytes);
            }
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
            offsets: Vec::new(),
            records: BatchBuilder::default(),
            last: [0; 3],
        });
        self.by_token.insert(token, slot);
        slot
    }

    /// Hands out what was gathered.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Fetched> {
        self.slots.iter_mut().filter_map(|slot| {
            let offsets = std::mem::take(&mut slot.offsets);
            let next = offsets.last()? + 1;
            let records = slot.records.finish();
            slot.last = [
                records.len(),
                records.keys().values().len(),
                records.values().values().len(),
            ];
            Some(Fetched {
                partition: slot.partition.clone(),
                offsets,
                records,
                next,
            })
        })
    }
}
