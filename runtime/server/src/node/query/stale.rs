//! Answers of standbys, where the node that runs a task gives none and the caller allows what is behind.

use super::route::{Holder, Part};
use super::{Asked, NOT_READY, route};
use crate::api::{QueryAnswer, QueryRequest, Stale};
use crate::node::peers::Unanswered;
use crate::refusal::{Fault, Refusal};
use std::collections::BTreeMap;
use task::TaskId;
use worker::TaskSnapshot;
use worker::standby::StandbySnapshot;

impl Asked<'_> {
    /// Partition by partition: from its owner where that has refused for another one's sake, else from a copy.
    pub(super) fn instead(
        &self,
        part: &Part,
        request: &QueryRequest,
        unanswered: Unanswered,
    ) -> Result<QueryAnswer, Refusal> {
        let (refusal, answers) = match unanswered {
            Unanswered::Refused(refusal) if refusal.code != NOT_READY => return Err(refusal),
            Unanswered::Refused(refusal) => (refusal, part.partitions.len() > 1),
            Unanswered::Gone(refusal) => (refusal, false),
        };
        let Some(shared) = self.shared() else {
            return Err(refusal);
        };
        let single = |partition: &i32| {
            let holder = match answers {
                true => part.holder.clone(),
                false => Holder::Copies(route::copies(
                    &self.node.config.node,
                    self.entry,
                    self.task(*partition),
                    &shared,
                )),
            };
            Part {
                holder,
                partitions: vec![*partition],
            }
        };
        let singles: Vec<Part> = part.partitions.iter().map(single).collect();
        let nobody = |part: &Part| matches!(&part.holder, Holder::Copies(copies) if copies.is_empty());
        if singles.iter().any(nobody) {
            return Err(refusal);
        }
        self.gather(&singles, request)
    }

    fn task(&self, partition: i32) -> TaskId {
        TaskId {
            sub_topology: self.place.sub_topology,
            partition,
        }
    }

    /// The first copy that answers.
    pub(super) fn copy(
        &self,
        copies: &[Holder],
        partitions: &[i32],
        request: &QueryRequest,
    ) -> Result<QueryAnswer, Refusal> {
        let nobody = || {
            Refusal::new(
                Fault::Unavailable,
                NOT_READY,
                "no standby answers\nhint: `wasmill status`",
            )
        };
        let mut last = nobody();
        for copy in copies {
            let answer = match copy {
                Holder::There(peer) => {
                    let answer = self.ask(peer, partitions, request, true);
                    answer.map_err(Unanswered::into_refusal)
                }
                _ => self.stale_here(partitions, request, nobody()),
            };
            match answer {
                Err(refusal) if refusal.code == NOT_READY => last = refusal,
                answer => return answer,
            }
        }
        Err(last)
    }

    /// From standbys of this node; `refusal` where one is missing.
    pub(super) fn stale_here(
        &self,
        partitions: &[i32],
        request: &QueryRequest,
        refusal: Refusal,
    ) -> Result<QueryAnswer, Refusal> {
        let Some(shared) = self.shared() else {
            return Err(refusal);
        };
        let wanted =
            |task: TaskId| task.sub_topology == self.place.sub_topology && partitions.contains(&task.partition);
        let standbys = shared.shelf.snapshots(wanted);
        let standbys = standbys.map_err(|error| Refusal::ours(format!("failed to read a standby: {error}")))?;
        if standbys.len() < partitions.len() {
            return Err(refusal);
        }
        let stale: Vec<Stale> = standbys.iter().map(|standby| self.stale(standby)).collect();
        let lags: BTreeMap<i32, i64> = standbys.iter().map(|s| (s.task.partition, s.lag)).collect();
        let tasks: Vec<TaskSnapshot> = standbys.into_iter().map(as_task).collect();
        let mut answer = self.read(&tasks, request)?;
        for entry in &mut answer.entries {
            entry.lag = lags.get(&entry.partition).copied();
        }
        answer.stale = stale;
        Ok(answer)
    }

    fn stale(&self, standby: &StandbySnapshot) -> Stale {
        let positions = standby.positions.iter();
        Stale {
            task: standby.task.to_string(),
            node: self.node.config.node.clone(),
            lag: standby.lag,
            positions: positions
                .map(|(changelog, next)| (changelog.to_string(), *next))
                .collect(),
        }
    }
}

/// Its positions are of changelogs, so it says none of the input.
fn as_task(standby: StandbySnapshot) -> TaskSnapshot {
    TaskSnapshot {
        task: standby.task,
        task_epoch: 0,
        stores: standby.stores,
        positions: Vec::new(),
    }
}
