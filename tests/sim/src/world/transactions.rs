//! The transaction coordinator: epochs, open transactions, markers on their way, timeouts, fencing.

use super::{State, World};
use broker::{CommittedOffset, Error, ErrorKind, Fencing};
use record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};

/// Where a marker goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Partition(TopicPartition),
    /// The offsets partition of a group.
    Group(String),
}

/// What the broker knows of one transactional id.
#[derive(Clone, Debug, Default)]
pub struct Coordinator {
    pub producer: i64,
    pub epoch: i32,
    /// Targets of the open transaction; empty when none is open.
    pub open: BTreeSet<Target>,
    pub opened_at: i64,
    pub timeout_ms: i64,
    /// Decided, but not everywhere known: commit or abort, and when each marker arrives.
    pub markers: BTreeMap<Target, i64>,
    pub committing: bool,
    /// How often somebody else raised the epoch on purpose.
    pub fencings: u32,
}

impl Coordinator {
    pub fn busy(&self) -> bool {
        !self.open.is_empty() || !self.markers.is_empty()
    }
}

impl State {
    fn arrive(&mut self, id: &str, target: &Target) {
        let Some(coordinator) = self.ids.get(id) else { return };
        let (producer, commit) = (coordinator.producer, coordinator.committing);
        let control = self.faults.control_records;
        match target {
            Target::Partition(p) => {
                let log = self
                    .topics
                    .get_mut(&*p.topic)
                    .and_then(|t| t.partitions.get_mut(p.partition as usize));
                if let Some(log) = log {
                    log.settle(producer, commit, control);
                }
            }
            Target::Group(group) => {
                if let Some(group) = self.groups.get_mut(group) {
                    group.settle(producer, commit);
                }
            }
        }
    }

    pub fn deliver_markers(&mut self) {
        let now = self.now;
        let due: Vec<(String, Target)> = self
            .ids
            .iter()
            .flat_map(|(id, c)| {
                c.markers
                    .iter()
                    .filter(|(_, at)| **at <= now)
                    .map(|(t, _)| (id.clone(), t.clone()))
            })
            .collect();
        for (id, target) in due {
            self.arrive(&id, &target);
            if let Some(c) = self.ids.get_mut(&id) {
                c.markers.remove(&target);
            }
        }
    }

    /// The client waits for the end of its last transaction: all markers arrive now.
    pub fn finish_markers(&mut self, id: &str) {
        let targets: Vec<Target> = self
            .ids
            .get_mut(id)
            .map(|c| std::mem::take(&mut c.markers).into_keys().collect())
            .unwrap_or_default();
        for target in targets {
            self.arrive(id, &target);
        }
    }

    /// Decides the open transaction of `id`; its markers go out.
    pub fn end_transaction(&mut self, id: &str, commit: bool) {
        let targets = self
            .ids
            .get_mut(id)
            .map(|c| std::mem::take(&mut c.open))
            .unwrap_or_default();
        match commit {
            _ if targets.is_empty() => {}
            true => self.tally.committed += 1,
            false => self.tally.aborted += 1,
        }
        let now = self.now;
        let delays: Vec<i64> = targets
            .iter()
            .map(|_| self.delay(self.faults.marker_delay_ms_max))
            .collect();
        if let Some(c) = self.ids.get_mut(id) {
            c.committing = commit;
            c.markers = targets.into_iter().zip(delays).map(|(t, d)| (t, now + d)).collect();
        }
        self.deliver_markers();
    }

    /// `InitProducerId`: settles what is open and raises the epoch.
    pub fn init_producer(&mut self, id: &str, timeout_ms: Option<i64>) -> (i64, i32) {
        if !self.ids.contains_key(id) {
            let producer = self.number();
            self.ids.insert(
                id.to_string(),
                Coordinator {
                    producer,
                    epoch: -1,
                    ..Coordinator::default()
                },
            );
        }
        self.finish_markers(id);
        if self.ids.get(id).is_some_and(|c| !c.open.is_empty()) {
            self.end_transaction(id, false);
            self.finish_markers(id);
        }
        self.raised(id, if timeout_ms.is_some() { "its init" } else { "a fencing" });
        let c = self.ids.entry(id.to_string()).or_default();
        c.epoch += 1;
        match timeout_ms {
            Some(timeout_ms) => c.timeout_ms = timeout_ms,
            None => c.fencings += 1,
        }
        (c.producer, c.epoch)
    }

    pub fn expire_transactions(&mut self) {
        let now = self.now;
        let late = |c: &Coordinator| !c.open.is_empty() && c.timeout_ms > 0 && now - c.opened_at > c.timeout_ms;
        let ids: Vec<String> = self
            .ids
            .iter()
            .filter(|(_, c)| late(c))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.end_transaction(&id, false);
            self.raised(&id, "its transaction timeout");
            if let Some(c) = self.ids.get_mut(&id) {
                c.epoch += 1;
            }
        }
    }

    pub fn check_epoch(&self, id: &str, epoch: i32, doing: &str) -> Result<(), Error> {
        let current = self.ids.get(id).map_or(-1, |c| c.epoch);
        if current == epoch {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Fenced,
            doing,
            format!("`{id}` has epoch {current}, this producer {epoch}"),
        ))
    }

    /// Adds a target to the transaction of `id`, opening it if need be.
    pub fn join_transaction(&mut self, id: &str, target: Target) {
        self.finish_markers(id);
        let now = self.now;
        if let Some(c) = self.ids.get_mut(id) {
            if c.open.is_empty() {
                c.opened_at = now;
            }
            c.open.insert(target);
        }
    }

    pub fn offsets_in_transaction(&mut self, id: &str, group: &str, offsets: &[CommittedOffset]) {
        self.join_transaction(id, Target::Group(group.to_string()));
        let producer = self.ids.get(id).map_or(0, |c| c.producer);
        let pending = &mut self.groups.entry(group.to_string()).or_default().pending;
        let mine = pending.entry(producer).or_default();
        for offset in offsets {
            mine.insert(offset.partition.clone(), offset.clone());
        }
    }
}

/// Raises another id's epoch, some polls later.
pub struct WorldFencing {
    world: World,
    id: String,
    polls: Option<u32>,
    result: Option<Result<(), Error>>,
}

impl WorldFencing {
    pub fn new(world: World, id: &str) -> Self {
        Self {
            world,
            id: id.to_string(),
            polls: None,
            result: None,
        }
    }
}

impl Fencing for WorldFencing {
    fn poll(&mut self) -> Option<Result<(), Error>> {
        if self.result.is_none() {
            let mut guard = self.world.lock();
            let state = &mut *guard;
            let polls = match self.polls {
                Some(polls) => polls,
                None => state.delay(i64::from(state.faults.fence_polls_max)) as u32,
            };
            if polls > 0 {
                self.polls = Some(polls - 1);
                return None;
            }
            let reached = state.reached(&format!("fence `{}`", self.id));
            if reached.is_ok() {
                state.init_producer(&self.id, None);
            }
            self.result = Some(reached);
        }
        self.result.clone()
    }
}
