//! What a run sends to topics, and what the task keeps of it until the commit.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_buffer::ScalarBuffer;
use record::{Batch, Headers, TopicPartition};

use crate::options::{Staged, TaskId};
use crate::plan::{OutputTopic, Plan};
use crate::rows::{MergeError, Rows, append, merge};

/// Where the source rows of a run were read.
#[derive(Clone, Debug, Default)]
pub struct RunOrigin {
    /// Number of the source of each row.
    pub queue_of: Vec<u32>,
    pub offsets: Vec<i64>,
}

impl RunOrigin {
    pub fn get(&self, root: u32, sources: &[TopicPartition]) -> Option<(TopicPartition, i64)> {
        let source = sources.get(*self.queue_of.get(root as usize)? as usize)?;
        Some((source.clone(), *self.offsets.get(root as usize)?))
    }
}

/// What a dead letter keeps of a reason and of a back-trace: a guest may hand over megabytes, and a letter that is much
/// larger than its record would be refused by the broker that took the record.
const CAUSE_BYTES_MAX: usize = 4 << 10;

/// Where and why a record failed.
#[derive(Clone, Debug)]
pub struct Cause<'a> {
    pub pipeline: &'a str,
    pub task: TaskId,
    /// Milliseconds of wall time; the timestamp of the letter is that of the record.
    pub at: i64,
    pub stage: &'a str,
    pub reason: &'a str,
    /// Of a trap; empty otherwise.
    pub backtrace: &'a str,
    pub module: &'a str,
    pub step: &'a str,
    pub origin: Option<(TopicPartition, i64)>,
}

/// Row `row` of `records` as a dead letter: as it was, with the cause in headers after its own. `stage` is the first of
/// them, so that a reader can tell them from those of a record that was a dead letter before.
pub fn dead_letter(records: &Batch, row: usize, cause: &Cause<'_>) -> Batch {
    let mut headers: Vec<(String, Option<Vec<u8>>)> =
        records.headers().map(|h| h.row(row).to_vec()).unwrap_or_default();
    let mut add = |name: &str, value: &str| {
        headers.push((format!("wasmill.error.{name}"), Some(value.as_bytes().to_vec())));
    };
    add("stage", cause.stage);
    add("reason", cut(cause.reason));
    add("module", cause.module);
    add("step", cause.step);
    add("pipeline", cause.pipeline);
    add("task", &cause.task.to_string());
    add("at", &cause.at.to_string());
    if !cause.backtrace.is_empty() {
        add("backtrace", cut(cause.backtrace));
    }
    if let Some((partition, offset)) = &cause.origin {
        add("topic", &partition.topic);
        add("partition", &partition.partition.to_string());
        add("offset", &offset.to_string());
    }
    let one = records.slice(row, 1);
    // The columns are those of a row, so the lengths agree.
    Batch::new(
        one.keys().clone(),
        one.values().clone(),
        one.timestamp_buffer().clone(),
        Some(Headers::from_rows(vec![headers])),
    )
    .unwrap_or(one)
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(CAUSE_BYTES_MAX)).unwrap_or(text)
}

/// Rows of a run for each output topic, in parts that are to be brought into order.
#[derive(Debug)]
pub struct Collected {
    parts: Vec<Vec<Rows>>,
}

impl Collected {
    pub fn new(plan: &Plan) -> Self {
        Self {
            parts: vec![Vec::new(); plan.outputs.len()],
        }
    }

    pub fn push(&mut self, topic: usize, rows: Rows) {
        if let Some(parts) = self.parts.get_mut(topic) {
            parts.push(rows);
        }
    }

    /// The rows of each topic. `in_order`: the parts follow each other already.
    pub fn finish(self, in_order: bool) -> Result<Vec<(usize, Rows)>, MergeError> {
        let mut finished = Vec::new();
        for (topic, parts) in self.parts.into_iter().enumerate() {
            let rows = if in_order {
                append(parts).map_err(MergeError::Batch)?
            } else {
                merge(parts)?
            };
            finished.extend(rows.map(|r| (topic, r)));
        }
        Ok(finished)
    }
}

#[derive(Debug)]
struct TagOrigin {
    tag: u64,
    run: Option<Arc<RunOrigin>>,
    roots: Option<ScalarBuffer<u32>>,
}

/// Staged rows until the worker takes them, and the origins of their tags until the commit.
#[derive(Debug, Default)]
pub struct Stage {
    staged: Vec<Staged>,
    origins: VecDeque<TagOrigin>,
    next_tag: u64,
}

impl Stage {
    /// Returns the number of rows.
    pub fn add(&mut self, topics: &[OutputTopic], rows: Vec<(usize, Rows)>, run: Option<&Arc<RunOrigin>>) -> u64 {
        let mut count = 0;
        for (topic, rows) in rows {
            let Some(output) = topics.get(topic) else { continue };
            count += rows.len() as u64;
            let tag = self.next_tag;
            self.next_tag += 1;
            self.origins.push_back(TagOrigin {
                tag,
                run: run.cloned(),
                roots: rows.roots,
            });
            self.staged.push(Staged {
                topic: Arc::clone(&output.topic),
                to: output.to,
                batch: rows.batch,
                tag,
            });
        }
        count
    }

    pub fn take(&mut self) -> Vec<Staged> {
        std::mem::take(&mut self.staged)
    }

    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// Forgets all of it: committed or aborted.
    pub fn clear(&mut self) {
        self.staged.clear();
        self.origins.clear();
    }

    pub fn origin_of(&self, tag: u64, row: u32, sources: &[TopicPartition]) -> Option<(TopicPartition, i64)> {
        let first = self.origins.front()?.tag;
        let found = self.origins.get(usize::try_from(tag.checked_sub(first)?).ok()?)?;
        let root = match &found.roots {
            Some(roots) => *roots.get(row as usize)?,
            None => row,
        };
        found.run.as_ref()?.get(root, sources)
    }
}
