//! When the node is killed: drawn from the seed.

use super::{Guarantee, Plan};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::time::Duration;
use worker::crash::CrashPoint;

/// One kill, before it happens.
#[derive(Clone, Debug)]
pub struct Kill {
    pub moment: Moment,
    /// Remove the node's local state before it is started again.
    pub lose_state: bool,
}

#[derive(Clone, Debug)]
pub enum Moment {
    /// The node kills itself when its threads have taken this step so many times.
    Step { step: CrashPoint, count: u64 },
    /// From outside, so long after the first of the waiting records were counted.
    Working { after: Duration },
    /// From outside, so long after a node with waiting records has answered first: it joins, restores, or works.
    Starting { after: Duration },
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { step, count } => write!(f, "at `{}` number {count}", step.as_str()),
            Self::Working { after } => write!(f, "{} ms after its first commit", after.as_millis()),
            Self::Starting { after } => write!(f, "{} ms after a start", after.as_millis()),
        }
    }
}

/// The steps of a commit under exactly-once, between which a kill from outside seldom falls.
const COMMIT: [CrashPoint; 7] = [
    CrashPoint::OutputsSent,
    CrashPoint::CommitBegin,
    CrashPoint::ChangelogsSent,
    CrashPoint::Delivered,
    CrashPoint::OffsetsSent,
    CrashPoint::Committed,
    CrashPoint::Applied,
];
/// And under at-least-once.
const FLUSH: [CrashPoint; 5] = [
    CrashPoint::OutputsSent,
    CrashPoint::ChangelogsSent,
    CrashPoint::Delivered,
    CrashPoint::BeforePositions,
    CrashPoint::CommitDone,
];
/// Commits before a kill at a step. Two there are always: of the source's tasks, and of those that count.
const COUNT_MAX: u64 = 2;
/// And where each kill has as many records to itself.
const COUNT_MAX_OF_MANY: u64 = 6;
const MANY: usize = 50_000;
/// Some runs and commits.
const AFTER_MS_MAX: u64 = 50;
const AFTER_MS_MAX_OF_MANY: u64 = 800;

/// The first is from outside, since the pipeline is applied to the node that it hits.
pub(super) fn plan(plan: &Plan, random: &mut ChaCha8Rng) -> Vec<Kill> {
    let mut kinds = vec![Kind::BeforeCommit, Kind::Step, Kind::Starting];
    while kinds.len() + 1 < plan.kills {
        kinds.push(match random.random_range(0..4) {
            0 => Kind::Step,
            1 => Kind::Starting,
            _ => Kind::Working,
        });
    }
    kinds.truncate(plan.kills.saturating_sub(1));
    kinds.shuffle(random);
    kinds.insert(0, Kind::Working);
    let mut losing: Vec<bool> = (0..plan.kills).map(|number| number < plan.losses).collect();
    losing.shuffle(random);
    let kill = |(kind, lose_state)| Kill {
        moment: moment(kind, plan, random),
        lose_state,
    };
    kinds.into_iter().zip(losing).map(kill).collect()
}

enum Kind {
    /// Between sending offsets and the commit.
    BeforeCommit,
    Step,
    Starting,
    Working,
}

fn moment(kind: Kind, plan: &Plan, random: &mut ChaCha8Rng) -> Moment {
    let many = plan.records / (plan.kills + 1) >= MANY;
    let (count_max, after_max) = if many {
        (COUNT_MAX_OF_MANY, AFTER_MS_MAX_OF_MANY)
    } else {
        (COUNT_MAX, AFTER_MS_MAX)
    };
    let count = random.random_range(1..=count_max);
    let after = Duration::from_millis(random.random_range(0..=after_max));
    let steps: &[CrashPoint] = match plan.guarantee {
        Guarantee::ExactlyOnce => &COMMIT,
        Guarantee::AtLeastOnce => &FLUSH,
    };
    let step = steps[random.random_range(0..steps.len())];
    match (kind, plan.guarantee) {
        (Kind::BeforeCommit, Guarantee::ExactlyOnce) => Moment::Step {
            step: CrashPoint::OffsetsSent,
            count,
        },
        (Kind::BeforeCommit, Guarantee::AtLeastOnce) => Moment::Step {
            step: CrashPoint::BeforePositions,
            count,
        },
        (Kind::Step, _) => Moment::Step { step, count },
        (Kind::Starting, _) => Moment::Starting { after },
        (Kind::Working, _) => Moment::Working { after },
    }
}
