//! Topics of one partition, in memory.

use std::sync::Arc;

use record::{Batch, BatchBuilder, Fetched, TopicPartition};

/// One record as it stands in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970 UTC.
    pub timestamp: i64,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piped {
    pub topic: Arc<str>,
    pub record: Record,
}

/// Offsets are positions in it: there are no gaps.
#[derive(Clone, Debug, Default)]
pub struct Log {
    records: Vec<Record>,
}

impl Log {
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    pub fn append(&mut self, batch: &Batch) {
        for (row, timestamp) in batch.timestamps().iter().enumerate() {
            self.records.push(Record {
                key: batch.key(row).map(<[u8]>::to_vec),
                value: batch.value(row).map(<[u8]>::to_vec),
                timestamp: *timestamp,
                headers: batch
                    .headers()
                    .map(|headers| headers.row(row).to_vec())
                    .unwrap_or_default(),
            });
        }
    }

    pub fn end(&self) -> i64 {
        i64::try_from(self.records.len()).unwrap_or(i64::MAX)
    }

    /// What lies at `from` and behind it; `None` when there is nothing.
    pub fn fetch(&self, partition: &TopicPartition, from: i64) -> Option<Fetched> {
        let records = self.records.get(usize::try_from(from).ok()?..)?;
        if records.is_empty() {
            return None;
        }
        let next = self.end();
        Some(Fetched {
            partition: partition.clone(),
            offsets: (from..next).collect(),
            records: columns(records),
            next,
        })
    }
}

pub fn columns(records: &[Record]) -> Batch {
    let mut rows = BatchBuilder::default();
    for record in records {
        rows.push_with_headers(
            record.key.as_deref(),
            record.value.as_deref(),
            record.timestamp,
            record.headers.clone(),
        );
    }
    rows.finish()
}
