//! Records of a pipeline's placement topic (`<pipeline>-placement`, one partition, compacted) and what follows from
//! them.
//!
//! Keys are `p:<task>`, `b:<task>`, `s:<task>`, `r:<task>`, `v:<task>` and `h:<node>`, values compact JSON. The leader's
//! coordinator writes `p:` and `b:`, each node's coordinator `h:`, stream threads `s:`, `r:` and `v:` (design §9, §11). [`View`] is what a reader knows after
//! reading up to some offset; [`View::start`] decides by it whether a thread may start a task.

use crate::control::Run;
use crate::swap::Report;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use task::TaskId;

/// Name of the placement topic of a pipeline.
pub fn topic(pipeline: &str) -> String {
    format!("{pipeline}-placement")
}

/// Name of the one-partition topic whose owner leads.
pub fn token_topic(pipeline: &str) -> String {
    format!("{pipeline}-token")
}

/// Id of a stream thread, and its transactional id.
pub fn thread_id(pipeline: &str, node: &str, thread: u32) -> String {
    format!("{pipeline}-{node}-{thread}")
}

/// Transactional id of whoever leads.
pub fn leader_id(pipeline: &str) -> String {
    format!("{pipeline}-leader")
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Placement(TaskId),
    Standbys(TaskId),
    Started(TaskId),
    Released(TaskId),
    Version(TaskId),
    Node(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placement(task) => write!(f, "p:{task}"),
            Self::Standbys(task) => write!(f, "b:{task}"),
            Self::Started(task) => write!(f, "s:{task}"),
            Self::Released(task) => write!(f, "r:{task}"),
            Self::Version(task) => write!(f, "v:{task}"),
            Self::Node(node) => write!(f, "h:{node}"),
        }
    }
}

impl Key {
    /// `None` for a key that this version does not know: such a record is skipped.
    pub fn decode(key: &[u8]) -> Option<Self> {
        let (kind, name) = std::str::from_utf8(key).ok()?.split_once(':')?;
        match kind {
            "p" => Some(Self::Placement(name.parse().ok()?)),
            "b" => Some(Self::Standbys(name.parse().ok()?)),
            "s" => Some(Self::Started(name.parse().ok()?)),
            "r" => Some(Self::Released(name.parse().ok()?)),
            "v" => Some(Self::Version(name.parse().ok()?)),
            "h" => Some(Self::Node(name.to_owned())),
            _ => None,
        }
    }
}

/// `p:<task>`: who runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    #[serde(flatten)]
    pub run: Run,
    /// Raised with every placement of this task within the run; the first is 1.
    pub task_epoch: u64,
    /// Thread id.
    pub owner: String,
    /// The thread that must release for this task epoch before `owner` starts; `None` when nobody alive held it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Transactional ids that `owner` fences before it starts. `owner` itself may be among them and is skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<String>,
}

/// `b:<task>`: who keeps a copy of its state. Nothing depends on it but how soon the task runs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standbys {
    #[serde(flatten)]
    pub run: Run,
    /// Nodes that follow the changelogs of its stores.
    pub nodes: Vec<String>,
}

/// `s:<task>`: the owner of this task epoch fenced whom it had to, and processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    #[serde(flatten)]
    pub run: Run,
    pub task_epoch: u64,
    pub owner: String,
}

/// `r:<task>`: `thread` holds nothing of the task any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    #[serde(flatten)]
    pub run: Run,
    /// The task epoch of the placement that this answers: the one that names `thread` as previous owner. At a drain,
    /// where no such placement comes, the epoch under which the thread ran the task.
    pub task_epoch: u64,
    pub thread: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    Ready,
    Leaving,
}

/// `h:<node>`: what a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    #[serde(flatten)]
    pub run: Run,
    pub state: NodeState,
    /// Ids of threads that advance. An owner or previous owner that no node lists is dead.
    pub threads: Vec<String>,
    /// Where its REST interface answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// Whether it follows changelogs where the placement says so: a task moves to it for balance only when it is warm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
    /// Standbys here that lack little of their task's state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warm: Vec<String>,
}

/// One record of the topic. `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Placement(TaskId, Option<Placement>),
    Standbys(TaskId, Option<Standbys>),
    Started(TaskId, Option<Started>),
    Released(TaskId, Option<Released>),
    Version(TaskId, Option<Report>),
    Node(String, Option<Node>),
}

impl Record {
    pub fn key(&self) -> Key {
        match self {
            Self::Placement(task, _) => Key::Placement(*task),
            Self::Standbys(task, _) => Key::Standbys(*task),
            Self::Started(task, _) => Key::Started(*task),
            Self::Released(task, _) => Key::Released(*task),
            Self::Version(task, _) => Key::Version(*task),
            Self::Node(node, _) => Key::Node(node.clone()),
        }
    }

    /// Key and value as they stand on the topic.
    ///
    /// # Errors
    /// None that these types can cause; serde's are passed on.
    pub fn encode(&self) -> Result<(Vec<u8>, Option<Vec<u8>>), serde_json::Error> {
        fn json<T: Serialize>(value: Option<&T>) -> Result<Option<Vec<u8>>, serde_json::Error> {
            value.map(serde_json::to_vec).transpose()
        }
        let value = match self {
            Self::Placement(_, v) => json(v.as_ref()),
            Self::Standbys(_, v) => json(v.as_ref()),
            Self::Started(_, v) => json(v.as_ref()),
            Self::Released(_, v) => json(v.as_ref()),
            Self::Version(_, v) => json(v.as_ref()),
            Self::Node(_, v) => json(v.as_ref()),
        }?;
        Ok((self.key().to_string().into_bytes(), value))
    }

    /// `Ok(None)`: a key of another kind.
    ///
    /// # Errors
    /// When the key is known and the value is not what belongs to it.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, serde_json::Error> {
        fn json<T: DeserializeOwned>(value: Option<&[u8]>) -> Result<Option<T>, serde_json::Error> {
            value.map(serde_json::from_slice).transpose()
        }
        Ok(match Key::decode(key) {
            None => None,
            Some(Key::Placement(task)) => Some(Self::Placement(task, json(value)?)),
            Some(Key::Standbys(task)) => Some(Self::Standbys(task, json(value)?)),
            Some(Key::Started(task)) => Some(Self::Started(task, json(value)?)),
            Some(Key::Released(task)) => Some(Self::Released(task, json(value)?)),
            Some(Key::Version(task)) => Some(Self::Version(task, json(value)?)),
            Some(Key::Node(node)) => Some(Self::Node(node, json(value)?)),
        })
    }
}

/// What the topic said of one task, up to the offset that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskRecords {
    pub placement: Option<Placement>,
    /// Offset of `placement` on the topic: a fencing counts for it only when it began after this was read.
    pub placement_offset: i64,
    pub standbys: Option<Standbys>,
    pub started: Option<Started>,
    pub released: Option<Released>,
    /// What the task said of a swap last.
    pub version: Option<Report>,
}

/// The topic as read so far: the last value of every key.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub tasks: BTreeMap<TaskId, TaskRecords>,
    pub nodes: BTreeMap<String, Node>,
}

/// Whether the owner named by a placement may start the task now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// `s:` carries this task epoch already: it ran here before, under the same placement. Nothing is fenced again.
    Again,
    /// The previous owner has not released yet.
    Wait,
    /// Nobody has to be waited for; these ids must have been fenced after the placement was read.
    Fence(Vec<String>),
}

impl View {
    /// Takes one record of the topic, in the order of offsets.
    ///
    /// # Errors
    /// As [`Record::decode`]; the record is then left out.
    pub fn apply(&mut self, offset: i64, key: &[u8], value: Option<&[u8]>) -> Result<(), serde_json::Error> {
        match Record::decode(key, value)? {
            None => {}
            Some(Record::Placement(task, placement)) => {
                let task = self.tasks.entry(task).or_default();
                task.placement = placement;
                task.placement_offset = offset;
            }
            Some(Record::Standbys(task, standbys)) => self.tasks.entry(task).or_default().standbys = standbys,
            Some(Record::Started(task, started)) => self.tasks.entry(task).or_default().started = started,
            Some(Record::Released(task, released)) => self.tasks.entry(task).or_default().released = released,
            Some(Record::Version(task, report)) => self.tasks.entry(task).or_default().version = report,
            Some(Record::Node(node, Some(record))) => {
                self.nodes.insert(node, record);
            }
            Some(Record::Node(node, None)) => {
                self.nodes.remove(&node);
            }
        }
        Ok(())
    }

    /// The placement of `task` in `run`, if there is one.
    pub fn placement(&self, run: Run, task: TaskId) -> Option<&Placement> {
        self.tasks.get(&task)?.placement.as_ref().filter(|p| p.run == run)
    }

    /// Nodes that are to follow the changelogs of `task` in `run`.
    pub fn standbys(&self, run: Run, task: TaskId) -> &[String] {
        let records = self.tasks.get(&task).and_then(|records| records.standbys.as_ref());
        records.filter(|s| s.run == run).map_or(&[], |s| &s.nodes)
    }

    /// The node that lists `thread`.
    pub fn node_of(&self, thread: &str) -> Option<&str> {
        let mut nodes = self.nodes.iter();
        let lists = |(_, node): &(&String, &Node)| node.threads.iter().any(|t| t == thread);
        nodes.find(lists).map(|(name, _)| name.as_str())
    }

    /// Tasks that `node` is to keep a copy of in `run`: not those that one of its threads runs.
    pub fn followed(&self, run: Run, node: &str) -> BTreeSet<TaskId> {
        let copies = |task: &&TaskId| {
            let owner = self.placement(run, **task).map(|p| p.owner.as_str());
            self.standbys(run, **task).iter().any(|name| name == node)
                && owner.and_then(|owner| self.node_of(owner)) != Some(node)
        };
        self.tasks.keys().filter(copies).copied().collect()
    }

    /// Tasks that `thread` owns in `run`.
    pub fn owned<'a>(&'a self, run: Run, thread: &'a str) -> impl Iterator<Item = (TaskId, &'a Placement)> + 'a {
        self.tasks.iter().filter_map(move |(id, records)| {
            records
                .placement
                .as_ref()
                .filter(|p| p.run == run && p.owner == thread)
                .map(|p| (*id, p))
        })
    }

    /// Tasks of `run` whose placement waits for a release by `thread`.
    pub fn owed<'a>(&'a self, run: Run, thread: &'a str) -> impl Iterator<Item = (TaskId, &'a Placement)> + 'a {
        self.tasks.iter().filter_map(move |(id, records)| {
            let placement = records
                .placement
                .as_ref()
                .filter(|p| p.run == run && p.owner != thread)?;
            let previous = placement.previous.as_deref() == Some(thread);
            (previous && !records.released_for(placement) && !records.started_for(placement))
                .then_some((*id, placement))
        })
    }

    /// Rule 2 of design §9, for the owner of the task's placement in `run`; `None` when there is no placement.
    pub fn start(&self, run: Run, task: TaskId) -> Option<Start> {
        let records = self.tasks.get(&task)?;
        let placement = records.placement.as_ref().filter(|p| p.run == run)?;
        if records.started_for(placement) {
            return Some(Start::Again);
        }
        let waits = placement.previous.as_ref().is_some_and(|p| *p != placement.owner);
        if waits && !records.released_for(placement) {
            return Some(Start::Wait);
        }
        let fence = placement
            .suspects
            .iter()
            .filter(|s| **s != placement.owner)
            .cloned()
            .collect();
        Some(Start::Fence(fence))
    }
}

impl TaskRecords {
    /// Whether `s:` confirms `placement`.
    pub fn started_for(&self, placement: &Placement) -> bool {
        self.started.as_ref().is_some_and(|s| {
            s.run == placement.run && s.task_epoch == placement.task_epoch && s.owner == placement.owner
        })
    }

    /// Whether `r:` answers `placement`.
    pub fn released_for(&self, placement: &Placement) -> bool {
        self.released.as_ref().is_some_and(|r| {
            r.run == placement.run
                && r.task_epoch == placement.task_epoch
                && Some(&r.thread) == placement.previous.as_ref()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use uuid::Uuid;

    const TASK: TaskId = TaskId {
        sub_topology: 0,
        partition: 3,
    };

    fn run() -> Run {
        Run {
            incarnation: Uuid::from_u128(7),
            epoch: 2,
        }
    }

    fn placement(previous: Option<&str>, suspects: &[&str]) -> Placement {
        Placement {
            run: run(),
            task_epoch: 5,
            owner: "b".into(),
            previous: previous.map(Into::into),
            suspects: suspects.iter().map(|s| (*s).into()).collect(),
        }
    }

    fn view(records: &[Record]) -> View {
        let mut view = View::default();
        for (offset, record) in records.iter().enumerate() {
            let (key, value) = record.encode().unwrap();
            view.apply(offset as i64, &key, value.as_deref()).unwrap();
        }
        view
    }

    #[test]
    fn the_text_on_the_topic_is_stable() {
        let (key, value) = Record::Placement(TASK, Some(placement(Some("a"), &["a"])))
            .encode()
            .unwrap();
        assert_eq!(key, b"p:0_3");
        assert_eq!(
            String::from_utf8(value.unwrap()).unwrap(),
            r#"{"incarnation":"00000000-0000-0000-0000-000000000007","epoch":2,"task_epoch":5,"owner":"b","previous":"a","suspects":["a"]}"#
        );
        assert_eq!(Record::decode(b"x:0_3", Some(b"{}")).unwrap(), None);
        assert!(Record::decode(b"p:0_3", Some(b"{}")).is_err());
    }

    #[test]
    fn a_start_needs_the_release_and_the_fencing() {
        let p = Record::Placement(TASK, Some(placement(Some("a"), &["c", "b"])));
        let released = |epoch, thread: &str| {
            Record::Released(
                TASK,
                Some(Released {
                    run: run(),
                    task_epoch: epoch,
                    thread: thread.into(),
                }),
            )
        };
        let fence = Some(Start::Fence(vec!["c".into()]));
        assert_eq!(view(std::slice::from_ref(&p)).start(run(), TASK), Some(Start::Wait));
        assert_eq!(
            view(&[released(4, "a"), p.clone()]).start(run(), TASK),
            Some(Start::Wait)
        );
        assert_eq!(
            view(&[released(5, "c"), p.clone()]).start(run(), TASK),
            Some(Start::Wait)
        );
        assert_eq!(view(&[p.clone(), released(5, "a")]).start(run(), TASK), fence);
        assert_eq!(
            view(&[Record::Placement(TASK, Some(placement(None, &["c", "b"])))]).start(run(), TASK),
            fence
        );
        let other = Run { epoch: 3, ..run() };
        assert_eq!(view(&[p]).start(other, TASK), None);
    }

    #[test]
    fn a_bounce_starts_without_fencing_again() {
        let started = |owner: &str, task_epoch| {
            Record::Started(
                TASK,
                Some(Started {
                    run: run(),
                    task_epoch,
                    owner: owner.into(),
                }),
            )
        };
        let p = Record::Placement(TASK, Some(placement(Some("a"), &["c"])));
        assert_eq!(
            view(&[p.clone(), started("b", 5)]).start(run(), TASK),
            Some(Start::Again)
        );
        assert_eq!(
            view(&[p.clone(), started("b", 4)]).start(run(), TASK),
            Some(Start::Wait)
        );
        assert_eq!(view(&[p, started("a", 5)]).start(run(), TASK), Some(Start::Wait));
    }

    #[test]
    fn a_release_is_owed_until_it_was_written() {
        let p = Record::Placement(TASK, Some(placement(Some("a"), &[])));
        let r = Record::Released(
            TASK,
            Some(Released {
                run: run(),
                task_epoch: 5,
                thread: "a".into(),
            }),
        );
        assert_eq!(view(std::slice::from_ref(&p)).owed(run(), "a").count(), 1);
        assert_eq!(view(std::slice::from_ref(&p)).owed(run(), "b").count(), 0);
        assert_eq!(view(&[p, r]).owed(run(), "a").count(), 0);
    }
}
