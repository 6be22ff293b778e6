//! What comes next in a swap: observed facts in, the record's next word out. Whoever leads writes it under
//! compare-and-set; a new leader goes on from the record and the reports alone.

use super::report::{Report, ReportState};
use super::terms::{HISTORY_MAX, Outcome, Phase, Ran, SWITCH_MS_MAX, Swap, Versions, Written};
use crate::control::{PipelineRecord, Run};
use crate::placement::View;
use task::TaskId;
use uuid::Uuid;

/// A word of the record that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every task has switched.
    Watch,
    /// Something failed or going back was asked for, and a task has committed what it migrated: the others follow it.
    Forward { reason: String },
    /// A bound was broken, a task cannot switch, or somebody asked for it.
    RollBack { reason: String },
    /// The watch window is over: `to` stays.
    Keep,
    /// Every task runs `from` again. What `to` had written.
    WentBack { offsets: Vec<Written> },
}

/// The report of `task` on this swap, under the task epoch that its placement has now.
pub fn report(view: &View, run: Run, swap: Uuid, task: TaskId) -> Option<&Report> {
    let records = view.tasks.get(&task)?;
    let placement = records.placement.as_ref().filter(|p| p.run == run)?;
    let report = records.version.as_ref()?;
    (report.run == run && report.swap == swap && report.task_epoch == placement.task_epoch).then_some(report)
}

/// What is due for the swap of `record`, if anything. `wall_ms` is the leader's wall clock.
pub fn next(record: &PipelineRecord, view: &View, wall_ms: i64) -> Option<Step> {
    let swap = record.swap.as_ref()?;
    let run = record.run();
    let of = |task: TaskId| report(view, run, swap.id, task);
    next_of_reports(swap, &of, wall_ms).map(|step| match step {
        Step::RollBack { reason } if is_beyond_return(swap, &of) => Step::Forward { reason },
        other => other,
    })
}

/// Whether a task has committed stores that `from` cannot read.
fn is_beyond_return<'a>(swap: &Swap, of: &impl Fn(TaskId) -> Option<&'a Report>) -> bool {
    !swap.migrations.is_empty()
        && swap
            .tasks()
            .any(|task| of(task).is_some_and(|r| r.state == ReportState::Switched && r.migrated))
}

/// A task of the swap of `record` that has committed stores which `from` cannot read: the swap cannot go back any more.
pub fn beyond_return(record: &PipelineRecord, view: &View) -> bool {
    let run = record.run();
    let swap = record.swap.as_ref();
    swap.is_some_and(|swap| is_beyond_return(swap, &|task| report(view, run, swap.id, task)))
}

fn next_of_reports<'a>(swap: &Swap, of: &impl Fn(TaskId) -> Option<&'a Report>, wall_ms: i64) -> Option<Step> {
    if swap.phase != Phase::RollingBack && !swap.forward {
        let failed = swap.tasks().find_map(|task| {
            let report = of(task).filter(|r| r.state == ReportState::Failed)?;
            let reason = report.reason.as_deref().unwrap_or("it gave no reason");
            // A thread that failed for another's task has said so.
            Some(match reason.contains("task ") {
                true => reason.to_owned(),
                false => format!("task {task}: {reason}"),
            })
        });
        if let Some(reason) = failed {
            return Some(Step::RollBack { reason });
        }
    }
    match swap.phase {
        Phase::Switching if swap.shadow => None,
        Phase::Switching => {
            let missing = |task: &TaskId| of(*task).is_none_or(|r| r.state != ReportState::Switched);
            match swap.switching().find(missing) {
                Some(task) if !swap.forward && wall_ms - swap.phase_at > SWITCH_MS_MAX => Some(Step::RollBack {
                    reason: format!("task {task} did not switch within {} s", SWITCH_MS_MAX / 1_000),
                }),
                Some(_) => None,
                // The canaries run `to`; the rest waits for `promote`.
                None if swap.canary.is_some() => None,
                None => Some(Step::Watch),
            }
        }
        Phase::Watching => {
            let watch_ms = i64::try_from(swap.watch_ms).unwrap_or(i64::MAX);
            (wall_ms.saturating_sub(swap.phase_at) >= watch_ms).then_some(Step::Keep)
        }
        Phase::RollingBack if is_beyond_return(swap, of) => Some(Step::Forward {
            reason: swap.reason.clone().unwrap_or_default(),
        }),
        Phase::RollingBack => {
            let reports: Option<Vec<&Report>> = swap
                .tasks()
                .map(|task| of(task).filter(|r| r.state == ReportState::RolledBack))
                .collect();
            reports.map(|reports| Step::WentBack {
                offsets: merged(reports.into_iter().flat_map(|r| &r.offsets)),
            })
        }
    }
}

/// Whether the node of `thread` may switch its tasks: nodes go one after another, by name, so that what one meets spares
/// the next (design §11.4). Tasks of nodes that nobody lists are placed elsewhere soon and are not waited for.
pub fn turn(swap: &Swap, run: Run, view: &View, thread: &str) -> bool {
    let node_of = |id: &str| {
        let listed = view.nodes.iter().filter(|(_, node)| node.run == run);
        listed
            .into_iter()
            .find(|(_, node)| node.threads.iter().any(|t| t == id))
            .map(|(name, _)| name)
    };
    let Some(own) = node_of(thread) else {
        return view.nodes.is_empty();
    };
    swap.switching().all(|task| {
        let owner = view.placement(run, task).and_then(|p| node_of(&p.owner));
        owner.is_none_or(|node| node >= own)
            || report(view, run, swap.id, task).is_some_and(|r| r.state == ReportState::Switched)
    })
}

/// One range a partition.
pub(super) fn merged<'a>(ranges: impl Iterator<Item = &'a Written>) -> Vec<Written> {
    let mut all: std::collections::BTreeMap<(&str, i32), (i64, i64)> = std::collections::BTreeMap::new();
    for range in ranges {
        let both = all
            .entry((&range.topic, range.partition))
            .or_insert((range.first, range.last));
        *both = (both.0.min(range.first), both.1.max(range.last));
    }
    all.into_iter()
        .map(|((topic, partition), (first, last))| Written {
            topic: topic.to_owned(),
            partition,
            first,
            last,
        })
        .collect()
}

impl PipelineRecord {
    /// The record with this step taken; the same where the step does not belong to what it says.
    #[must_use]
    pub fn stepped(&self, step: &Step, wall_ms: i64) -> Self {
        let mut next = self.clone();
        let Some(swap) = &mut next.swap else { return next };
        match (step, swap.phase) {
            (Step::Watch, Phase::Switching) => {
                swap.phase = Phase::Watching;
                swap.phase_at = wall_ms;
            }
            (Step::RollBack { reason }, Phase::Switching | Phase::Watching) if !swap.forward => {
                swap.phase = Phase::RollingBack;
                swap.phase_at = wall_ms;
                swap.reason = Some(reason.clone());
            }
            (Step::Forward { reason }, _) if !swap.forward => {
                swap.phase = Phase::Switching;
                swap.phase_at = wall_ms;
                swap.canary = None;
                swap.forward = true;
                swap.reason = Some(format!(
                    "it cannot go back, since stores that it migrated are committed; what failed: {reason}"
                ));
            }
            (Step::Keep, Phase::Watching) => next.end(true, Vec::new(), wall_ms),
            (Step::WentBack { offsets }, Phase::RollingBack) => next.end(false, offsets.clone(), wall_ms),
            _ => {}
        }
        next
    }

    /// The canaries stay, and the other tasks follow them; after a shadow, all tasks switch. Nothing where neither runs.
    #[must_use]
    pub fn promoted(&self, wall_ms: i64) -> Self {
        let mut next = self.clone();
        if let Some(swap) = next.swap.as_mut().filter(|s| s.phase == Phase::Switching) {
            swap.canary = None;
            swap.shadow = false;
            swap.phase_at = wall_ms;
        }
        next
    }

    fn end(&mut self, kept: bool, offsets: Vec<Written>, wall_ms: i64) {
        let Some(swap) = self.swap.take() else { return };
        let to: Versions = swap.steps.iter().map(|(s, c)| (s.clone(), c.to.clone())).collect();
        if kept {
            for ran in self.history.iter_mut().filter(|r| r.outcome == Outcome::Runs) {
                let replaced = ran.versions.keys().all(|step| to.contains_key(step));
                if replaced {
                    ran.outcome = Outcome::Replaced;
                    ran.until = Some(swap.began_at);
                }
            }
        }
        if kept {
            self.versions = swap.versions(&self.versions);
        }
        self.history.push(Ran {
            swap: Some(swap.id),
            versions: to,
            from: swap.steps.iter().map(|(s, c)| (s.clone(), c.from.clone())).collect(),
            since: swap.began_at,
            until: (!kept).then_some(wall_ms),
            why: swap.why,
            who: swap.who,
            outcome: match (kept, swap.shadow) {
                (true, _) => Outcome::Runs,
                (false, true) => Outcome::Shadowed,
                (false, false) => Outcome::RolledBack,
            },
            reason: swap.reason,
            offsets,
        });
        let gone = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::State;
    use crate::placement::{Node, NodeState, Placement, Record};
    use crate::swap::{Bounds, Change, ModuleVersion, Part, Probation};

    const ID: Uuid = Uuid::from_u128(9);

    fn version(version: &str) -> ModuleVersion {
        ModuleVersion {
            name: "m".into(),
            version: version.into(),
            digest: version.into(),
        }
    }

    /// Two tasks, on nodes `a` and `b`.
    fn record(canary: Option<u32>) -> PipelineRecord {
        let change = Change {
            from: version("1"),
            to: version("2"),
        };
        PipelineRecord {
            incarnation: Uuid::from_u128(1),
            epoch: 1,
            state: State::Running,
            versions: [("s".to_owned(), version("1"))].into(),
            swap: Some(Swap {
                id: ID,
                steps: [("s".to_owned(), change)].into(),
                parts: vec![Part {
                    sub_topology: 0,
                    tasks: 2,
                }],
                phase: Phase::Switching,
                phase_at: 0,
                canary,
                shadow: false,
                probation: Probation::default(),
                watch_ms: 100,
                bounds: Bounds::default(),
                migrations: Vec::new(),
                forward: false,
                reason: None,
                began_at: 0,
                why: "swap".into(),
                who: "me".into(),
            }),
            history: Vec::new(),
            rest: Default::default(),
        }
    }

    fn task(partition: i32) -> TaskId {
        TaskId {
            sub_topology: 0,
            partition,
        }
    }

    fn view(run: Run, reports: &[(i32, u64, ReportState)]) -> View {
        let mut records = Vec::new();
        for (partition, node) in [(0, "a"), (1, "b")] {
            records.push(Record::Placement(
                task(partition),
                Some(Placement {
                    run,
                    task_epoch: 5,
                    owner: format!("p-{node}-0"),
                    previous: None,
                    suspects: Vec::new(),
                }),
            ));
            records.push(Record::Node(
                node.to_owned(),
                Some(Node {
                    run,
                    state: NodeState::Ready,
                    threads: vec![format!("p-{node}-0")],
                    address: None,
                    rack: None,
                    follows: false,
                    warm: Vec::new(),
                }),
            ));
        }
        for (partition, task_epoch, state) in reports {
            let written = |last| Written {
                topic: "out".into(),
                partition: 0,
                first: 3,
                last,
            };
            records.push(Record::Version(
                task(*partition),
                Some(Report {
                    run,
                    task_epoch: *task_epoch,
                    swap: ID,
                    state: *state,
                    migrated: *state == ReportState::Switched,
                    untried: false,
                    reason: Some("too slow".into()),
                    offsets: vec![written(7 + i64::from(*partition))],
                    shadow: None,
                }),
            ));
        }
        let mut view = View::default();
        for (offset, record) in records.iter().enumerate() {
            let (key, value) = record.encode().unwrap();
            view.apply(offset as i64, &key, value.as_deref()).unwrap();
        }
        view
    }

    #[test]
    fn a_swap_goes_on_by_reports_under_the_current_epochs_only() {
        use ReportState::{Failed, RolledBack, Switched};
        let record = record(None);
        let of = |record: &PipelineRecord, reports: &[(i32, u64, ReportState)], at| {
            next(record, &view(record.run(), reports), at)
        };
        assert_eq!(of(&record, &[(0, 5, Switched), (1, 4, Switched)], 10), None);
        assert_eq!(
            of(&record, &[(0, 5, Switched), (1, 5, Switched)], 10),
            Some(Step::Watch)
        );
        let watching = record.stepped(&Step::Watch, 10);
        assert_eq!(of(&watching, &[], 109), None);
        assert_eq!(of(&watching, &[], 110), Some(Step::Keep));
        let reason = "task 0_1: too slow".to_owned();
        let back = of(&watching, &[(1, 5, Failed)], 20);
        assert_eq!(back, Some(Step::RollBack { reason }));
        let back = watching.stepped(&back.unwrap(), 20);
        assert_eq!(of(&back, &[(0, 5, RolledBack), (1, 5, Failed)], 30), None);
        let offsets = vec![Written {
            topic: "out".into(),
            partition: 0,
            first: 3,
            last: 8,
        }];
        let went = of(&back, &[(0, 5, RolledBack), (1, 5, RolledBack)], 30).unwrap();
        assert_eq!(went, Step::WentBack { offsets });
        let ended = back.stepped(&went, 30);
        assert_eq!((ended.swap.is_none(), &ended.versions), (true, &record.versions));
        assert_eq!(ended.history.last().unwrap().outcome, Outcome::RolledBack);
        let kept = watching.stepped(&Step::Keep, 200);
        assert_eq!(kept.versions.get("s"), Some(&version("2")));
        assert_eq!(of(&record, &[], SWITCH_MS_MAX), None);
        assert!(matches!(
            of(&record, &[], SWITCH_MS_MAX + 1),
            Some(Step::RollBack { .. })
        ));
    }

    #[test]
    fn what_was_migrated_and_committed_leads_forward() {
        use ReportState::{Failed, RolledBack, Switched};
        let mut record = record(None);
        let migration = crate::swap::Migration {
            step: "s".into(),
            store: "s-n".into(),
            store_of_module: 0,
            from_schema: 1,
            to_schema: 2,
        };
        record.swap.as_mut().unwrap().migrations.push(migration);
        let of = |record: &PipelineRecord, reports: &[(i32, u64, ReportState)]| {
            next(record, &view(record.run(), reports), 10)
        };
        // Nobody has committed: back, as ever.
        let back = record.stepped(&of(&record, &[(1, 5, Failed)]).unwrap(), 10);
        assert_eq!(back.swap.as_ref().unwrap().phase, Phase::RollingBack);
        // Then the report of one comes that had.
        let forward = of(&back, &[(0, 5, Switched), (1, 5, RolledBack)]).unwrap();
        assert!(matches!(forward, Step::Forward { .. }), "{forward:?}");
        let forward = back.stepped(&forward, 20);
        let swap = forward.swap.clone().unwrap();
        assert_eq!((swap.phase, swap.forward), (Phase::Switching, true));
        // From there on nothing leads back, and both are waited for.
        assert_eq!(of(&forward, &[(0, 5, Switched), (1, 5, Failed)]), None);
        let asked = Step::RollBack {
            reason: "asked for".into(),
        };
        assert_eq!(forward.stepped(&asked, 30), forward);
        assert_eq!(of(&forward, &[(0, 5, Switched), (1, 5, Switched)]), Some(Step::Watch));
        // One that was first to commit, and another one that fails after it: forward at once.
        let at_once = of(&record, &[(0, 5, Switched), (1, 5, Failed)]).unwrap();
        assert!(matches!(at_once, Step::Forward { .. }), "{at_once:?}");
    }

    #[test]
    fn canaries_wait_for_the_word_and_nodes_for_each_other() {
        let record = record(Some(1));
        let run = record.run();
        let switched = view(run, &[(0, 5, ReportState::Switched)]);
        assert_eq!(next(&record, &switched, SWITCH_MS_MAX * 2), None);
        let promoted = record.promoted(7);
        let swap = promoted.swap.clone().unwrap();
        let turn = |view: &View, node: &str| turn(&swap, run, view, &format!("p-{node}-0"));
        let nobody = view(run, &[]);
        assert_eq!((turn(&nobody, "a"), turn(&nobody, "b")), (true, false));
        assert_eq!((turn(&switched, "a"), turn(&switched, "b")), (true, true));
    }

    #[test]
    fn the_record_reads_what_it_wrote() {
        let record = record(Some(3));
        assert_eq!(PipelineRecord::decode(&record.encode().unwrap()).unwrap(), record);
        // One that was written before there were swaps.
        let old = r#"{"incarnation":"00000000-0000-0000-0000-000000000001","epoch":1,"state":"running","file":"x"}"#;
        let old = PipelineRecord::decode(old.as_bytes()).unwrap();
        assert!(old.swap.is_none() && old.versions.is_empty() && old.rest.contains_key("file"));
    }
}
