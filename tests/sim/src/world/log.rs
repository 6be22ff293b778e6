//! Partitions: records, control records, open transactions and the last stable offset.

use broker::Cleanup;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Committed,
    Open(i64),
    Aborted,
}

/// A committed record, for assertions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    /// `None`: a control record, or a record that compaction took.
    pub record: Option<Record>,
    pub status: Status,
}

/// One partition. The offset of an entry is its index.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub entries: Vec<Entry>,
    /// Everything below was deleted.
    pub start: i64,
    /// Producer id of each open transaction and its first offset here.
    pub open: BTreeMap<i64, i64>,
}

impl Log {
    pub fn end(&self) -> i64 {
        self.entries.len() as i64
    }

    /// The last stable offset: what a read-committed consumer sees ends here.
    pub fn stable(&self) -> i64 {
        self.open.values().min().copied().unwrap_or_else(|| self.end())
    }

    pub fn append(&mut self, record: Record, producer: Option<i64>) -> i64 {
        let offset = self.end();
        let status = producer.map_or(Status::Committed, Status::Open);
        if let Some(id) = producer {
            self.open.entry(id).or_insert(offset);
        }
        self.entries.push(Entry {
            record: Some(record),
            status,
        });
        offset
    }

    /// A marker arrives.
    pub fn settle(&mut self, producer: i64, commit: bool, control_record: bool) {
        let Some(first) = self.open.remove(&producer) else {
            return;
        };
        let status = if commit { Status::Committed } else { Status::Aborted };
        for entry in self.entries.iter_mut().skip(first as usize) {
            if entry.status == Status::Open(producer) {
                entry.status = status;
            }
        }
        if control_record {
            self.entries.push(Entry {
                record: None,
                status: Status::Committed,
            });
        }
    }

    pub fn rows(&self) -> Vec<Row> {
        let start = self.start as usize;
        let settled = |(i, e): (usize, &Entry)| {
            let record = e.record.as_ref()?;
            (e.status == Status::Committed && i >= start).then(|| Row {
                offset: i as i64,
                key: record.key.clone(),
                value: record.value.clone(),
                timestamp: record.timestamp,
                headers: record.headers.clone(),
            })
        };
        self.entries.iter().enumerate().filter_map(settled).collect()
    }

    fn compact(&mut self) {
        let stable = self.stable() as usize;
        let mut last = BTreeMap::new();
        for (i, entry) in self.entries.iter().take(stable).enumerate() {
            if let (Some(record), Status::Committed) = (&entry.record, entry.status) {
                last.insert(record.key.clone(), i);
            }
        }
        for (i, entry) in self.entries.iter_mut().take(stable).enumerate() {
            let superseded = entry
                .record
                .as_ref()
                .is_some_and(|r| last.get(&r.key).is_some_and(|newest| i < *newest));
            if superseded || entry.status == Status::Aborted {
                entry.record = None;
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub id: i64,
    pub cleanup: Cleanup,
    pub partitions: Vec<Log>,
}

impl Topic {
    pub fn compact(&mut self) {
        if self.cleanup != Cleanup::Delete {
            self.partitions.iter_mut().for_each(Log::compact);
        }
    }
}
