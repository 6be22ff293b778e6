//! Faults that the simulation must catch, each a rule of the design left out (design §9, §10).
//!
//! Only with the feature `mutants`; without it [`on`] is the constant `false` and the branches vanish.

/// One rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Rule 1: tasks are started by what was read before the init.
    NoReadAfterInit,
    /// Rule 1: placements of any incarnation and epoch count.
    TwoTaskTables,
    /// Rule 2: the release is not waited for.
    NoRelease,
    /// Rule 2: suspects are not fenced.
    NoFence,
    /// Rule 2: "or" for "and".
    OrForAnd,
    /// Rule 2: suspects are fenced again although `s:` carries the epoch.
    FenceAtBounce,
    /// Rule 4: tasks survive a fatal producer error.
    KeepTasksWhenFenced,
    /// Placement: a new one names only the latest dead as suspects.
    SuspectsForgotten,
    RestoreToStableOffset,
    /// An unknown commit is taken for a failed one.
    RewindAfterUnknown,
    /// The stored changelog offset is the broker's end offset.
    StoreEndOffset,
    ApplyBeforeCommit,
    /// At-least-once: stores of times are sent with the other stores.
    TimesWithStates,
    /// Swap: a thread commits when its own probation has passed.
    CommitBeforeAllVoted,
    /// Swap: the marker goes with a later transaction than the switch.
    MarkerAfterwards,
    /// Swap: a task starts with what ran before the swap, whatever record and marker say.
    RecordNotCompared,
    /// Swap: a failed probation is committed with what it did.
    CommitFailedProbation,
    /// Swap: a task goes back to a version that cannot read what was migrated and committed.
    BackAfterMigration,
}

impl Mutant {
    pub const ALL: [Self; 18] = [
        Self::NoReadAfterInit,
        Self::TwoTaskTables,
        Self::NoRelease,
        Self::NoFence,
        Self::OrForAnd,
        Self::FenceAtBounce,
        Self::KeepTasksWhenFenced,
        Self::SuspectsForgotten,
        Self::RestoreToStableOffset,
        Self::RewindAfterUnknown,
        Self::StoreEndOffset,
        Self::ApplyBeforeCommit,
        Self::TimesWithStates,
        Self::CommitBeforeAllVoted,
        Self::MarkerAfterwards,
        Self::RecordNotCompared,
        Self::CommitFailedProbation,
        Self::BackAfterMigration,
    ];
}

#[cfg(feature = "mutants")]
pub(crate) fn on(active: Option<Mutant>, mutant: Mutant) -> bool {
    active == Some(mutant)
}

#[cfg(not(feature = "mutants"))]
pub(crate) fn on(_: Option<Mutant>, _: Mutant) -> bool {
    false
}
