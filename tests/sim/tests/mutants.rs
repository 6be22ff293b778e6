//! Each rule of the design that is left out must be noticed by some world, within a bound.
//!
//! `SuspectsForgotten` is not here: it takes a thread that comes back between the leader's fencing and its publish, and
//! two more deaths, which these worlds have not met in 1,500 seeds. The random walks of `worker::plan` catch it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use sim::run::{BOUNCE, Case, run};
use topology::Guarantee;
use worker::mutant::Mutant;

/// Worlds that a mutant may survive at most.
const SEEDS_MAX: u64 = 3_000;

/// The first exactly-once world that notices. A panic counts: a wrong assumption of the engine is a defect shown.
fn caught_by(mutant: Mutant) -> Option<(u64, String)> {
    (0..SEEDS_MAX).find_map(|seed| {
        let mut case = Case {
            mutant: Some(mutant),
            guarantee: Guarantee::ExactlyOnce,
            ..Case::of(seed)
        };
        if mutant == Mutant::TwoTaskTables {
            case = Case {
                redeployed: true,
                nodes: 2,
                ..case
            };
        }
        let error = match std::panic::catch_unwind(|| run(case)) {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => error.lines().next().unwrap_or_default().to_owned(),
            Err(_) => "panicked".into(),
        };
        // Only wrong output or no rest shows a rule of safety; a bounce that others notice shows `FenceAtBounce`.
        let by_bounce = error.contains(BOUNCE);
        (by_bounce == (mutant == Mutant::FenceAtBounce)).then_some((seed, error))
    })
}

fn must_be_caught(mutant: Mutant) {
    let Some((seed, error)) = caught_by(mutant) else {
        panic!("{mutant:?} survived {SEEDS_MAX} worlds");
    };
    eprintln!("{mutant:?}: caught by seed {seed}: {error}");
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident,)*) => {
        $(#[test]
        fn $name() {
            must_be_caught(Mutant::$mutant);
        })*
    };
}

mutants! {
    no_read_after_init: NoReadAfterInit,
    two_task_tables: TwoTaskTables,
    no_release: NoRelease,
    no_fence: NoFence,
    or_for_and: OrForAnd,
    fence_at_bounce: FenceAtBounce,
    keep_tasks_when_fenced: KeepTasksWhenFenced,
    restore_to_stable_offset: RestoreToStableOffset,
    rewind_after_unknown: RewindAfterUnknown,
    store_end_offset: StoreEndOffset,
    apply_before_commit: ApplyBeforeCommit,
}
