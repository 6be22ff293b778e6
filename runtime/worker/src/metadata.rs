//! What goes with a task's offsets in the same transaction (design §8): one line on its first source partition.
//!
//! `1 INCARNATION EPOCH THREAD/DRAW/COUNTER STREAM_TIME TARGET,TARGET,…`; the first field is the version.

use crate::control::Run;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

const VERSION: &str = "1";

/// Names one transaction: the same for all tasks in it, and no other has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitTag {
    /// Thread id. Holds no space.
    pub thread: String,
    /// Drawn after each init of the thread's id.
    pub draw: u64,
    pub counter: u64,
}

impl fmt::Display for CommitTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:x}/{}", self.thread, self.draw, self.counter)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub run: Run,
    pub tag: CommitTag,
    /// The task's stream time in milliseconds, -1 before the first record.
    pub stream_time: i64,
    /// Per store, in the task's order: last own changelog offset + 1. A restore ends there.
    pub targets: Vec<i64>,
}

/// A text that is no metadata of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no commit metadata that this version reads")]
pub struct Unreadable(pub String);

impl Metadata {
    /// The longest line that a task with `stores` stores can make under a thread id of `thread_bytes` bytes.
    /// A default broker takes 4,096 bytes.
    pub fn bytes_max(stores: usize, thread_bytes: usize) -> usize {
        const NUMBER: usize = 20;
        const UUID: usize = 32;
        const DRAW: usize = 16;
        VERSION.len() + 5 + UUID + NUMBER + thread_bytes + 2 + DRAW + NUMBER + NUMBER + stores * (NUMBER + 1)
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { incarnation, epoch } = self.run;
        write!(
            f,
            "{VERSION} {} {epoch} {} {} ",
            incarnation.simple(),
            self.tag,
            self.stream_time
        )?;
        for (i, target) in self.targets.iter().enumerate() {
            write!(f, "{}{target}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Metadata {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        parse(text).ok_or_else(|| Unreadable(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Metadata> {
    let mut fields = text.split(' ');
    if fields.next()? != VERSION {
        return None;
    }
    let run = Run {
        incarnation: Uuid::parse_str(fields.next()?).ok()?,
        epoch: fields.next()?.parse().ok()?,
    };
    let mut tag = fields.next()?.rsplitn(3, '/');
    let counter = tag.next()?.parse().ok()?;
    let draw = u64::from_str_radix(tag.next()?, 16).ok()?;
    let tag = CommitTag {
        thread: tag.next()?.to_owned(),
        draw,
        counter,
    };
    let stream_time = fields.next()?.parse().ok()?;
    let targets = match fields.next()? {
        "" => Vec::new(),
        list => list.split(',').map(|t| t.parse().ok()).collect::<Option<_>>()?,
    };
    fields.next().is_none().then_some(Metadata {
        run,
        tag,
        stream_time,
        targets,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample(targets: Vec<i64>) -> Metadata {
        Metadata {
            run: Run {
                incarnation: Uuid::from_u128(u128::MAX),
                epoch: u64::MAX,
            },
            tag: CommitTag {
                thread: "app-n/1-0".into(),
                draw: u64::MAX,
                counter: u64::MAX,
            },
            stream_time: i64::MIN,
            targets,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for targets in [vec![], vec![7], vec![i64::MAX, 0, -1]] {
            let m = sample(targets);
            assert_eq!(m.to_string().parse::<Metadata>().unwrap(), m);
        }
        let m = sample(vec![i64::MIN; 100]);
        assert!(m.to_string().len() <= Metadata::bytes_max(100, m.tag.thread.len()));
    }

    #[test]
    fn other_texts_are_refused() {
        let good = sample(vec![1]).to_string();
        for bad in [
            "",
            "hello",
            &good.replacen('1', "2", 1),
            &format!("{good} x"),
            good.rsplit_once(' ').unwrap().0,
        ] {
            assert!(bad.parse::<Metadata>().is_err(), "{bad}");
        }
    }
}
