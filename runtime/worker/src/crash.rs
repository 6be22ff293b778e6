//! The steps of a stream thread, named, so that simulations and kill tests can end it at each of them and say where.

/// A step that was just taken (or, for `Before…`, that comes next).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CrashPoint {
    BeforeInit,
    AfterInit,
    /// Control topic and placement were read to their ends after an init.
    RecordsRead,
    /// The last fencing that a task waited for has ended.
    Fenced,
    /// Committed offsets of a task were read.
    OffsetsRead,
    /// Targets of its stores are known.
    TargetsKnown,
    /// A directory that says nothing about this run was emptied.
    Wiped,
    /// Some rows of a changelog were applied.
    RestoredSome,
    /// All stores have reached their targets; the task is not started.
    Restored,
    /// A run passed; its outputs are staged.
    RanSome,
    /// Outputs of a run are with the producer.
    OutputsSent,
    /// A commit begins.
    CommitBegin,
    TablesFlushed,
    ChangelogsSent,
    /// At-least-once: all but the stores of times was delivered.
    StatesDelivered,
    /// `s:` and `r:` records are with the producer.
    RecordsSent,
    /// Everything sent was delivered.
    Delivered,
    OffsetsSent,
    /// The broker has committed; no store was touched.
    Committed,
    /// One task's stores have the commit.
    Applied,
    /// All have it, and releases are through.
    CommitDone,
    BeforeAbort,
    Aborted,
    /// A commit's answer was lost; the producer is gone.
    UnknownOutcome,
    /// An unknown commit turned out done and was applied.
    SettledDone,
    /// An unknown commit turned out void and was dropped.
    SettledVoid,
    /// At-least-once: stores have the commit, positions have not.
    BeforePositions,
    /// A task was closed for another owner.
    Released,
    /// Stopping: the last commit is done, stores are being closed.
    Stopping,
    /// Processors of another version are ready beside the running ones.
    SwapPrepared,
    /// They took their place; the transaction that says so is open.
    SwapSwitched,
    /// The thread has said that its probation passed.
    SwapVoted,
    /// All threads of the node have; the commit comes next.
    SwapPassed,
    /// The first transaction under the new version is committed and applied.
    SwapCommitted,
    /// A probation failed; the abort comes next.
    SwapFailed,
    /// What ran before the switch runs again, nothing of it was committed.
    SwapUndone,
    /// A bound was broken after the switch was committed; the work since the last commit is dropped.
    SwapBroken,
    /// The old version is back after the new one had committed; the transaction that says so is open.
    SwapBack,
    /// The record names no swap any more.
    SwapEnded,
}

impl CrashPoint {
    pub const ALL: [Self; 39] = [
        Self::BeforeInit,
        Self::AfterInit,
        Self::RecordsRead,
        Self::Fenced,
        Self::OffsetsRead,
        Self::TargetsKnown,
        Self::Wiped,
        Self::RestoredSome,
        Self::Restored,
        Self::RanSome,
        Self::OutputsSent,
        Self::CommitBegin,
        Self::TablesFlushed,
        Self::ChangelogsSent,
        Self::StatesDelivered,
        Self::RecordsSent,
        Self::Delivered,
        Self::OffsetsSent,
        Self::Committed,
        Self::Applied,
        Self::CommitDone,
        Self::BeforeAbort,
        Self::Aborted,
        Self::UnknownOutcome,
        Self::SettledDone,
        Self::SettledVoid,
        Self::BeforePositions,
        Self::Released,
        Self::Stopping,
        Self::SwapPrepared,
        Self::SwapSwitched,
        Self::SwapVoted,
        Self::SwapPassed,
        Self::SwapCommitted,
        Self::SwapFailed,
        Self::SwapUndone,
        Self::SwapBroken,
        Self::SwapBack,
        Self::SwapEnded,
    ];

    /// The point whose `as u8` this is; for a reader of what a killed node wrote down.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeInit => "before-init",
            Self::AfterInit => "after-init",
            Self::RecordsRead => "records-read",
            Self::Fenced => "fenced",
            Self::OffsetsRead => "offsets-read",
            Self::TargetsKnown => "targets-known",
            Self::Wiped => "wiped",
            Self::RestoredSome => "restored-some",
            Self::Restored => "restored",
            Self::RanSome => "ran-some",
            Self::OutputsSent => "outputs-sent",
            Self::CommitBegin => "commit-begin",
            Self::TablesFlushed => "tables-flushed",
            Self::ChangelogsSent => "changelogs-sent",
            Self::StatesDelivered => "states-delivered",
            Self::RecordsSent => "records-sent",
            Self::Delivered => "delivered",
            Self::OffsetsSent => "offsets-sent",
            Self::Committed => "committed",
            Self::Applied => "applied",
            Self::CommitDone => "commit-done",
            Self::BeforeAbort => "before-abort",
            Self::Aborted => "aborted",
            Self::UnknownOutcome => "unknown-outcome",
            Self::SettledDone => "settled-done",
            Self::SettledVoid => "settled-void",
            Self::BeforePositions => "before-positions",
            Self::Released => "released",
            Self::Stopping => "stopping",
            Self::SwapPrepared => "swap-prepared",
            Self::SwapSwitched => "swap-switched",
            Self::SwapVoted => "swap-voted",
            Self::SwapPassed => "swap-passed",
            Self::SwapCommitted => "swap-committed",
            Self::SwapFailed => "swap-failed",
            Self::SwapUndone => "swap-undone",
            Self::SwapBroken => "swap-broken",
            Self::SwapBack => "swap-back",
            Self::SwapEnded => "swap-ended",
        }
    }
}

/// Hears of every step in the thread that takes it. Must be cheap: a commit has about ten, and every run two.
pub trait Steps: Send + Sync {
    /// `true` ends the worker here with [`crate::Error::Crashed`]; it makes no further call to anything.
    fn at(&self, point: CrashPoint) -> bool;
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Steps for Unwatched {
    fn at(&self, _: CrashPoint) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_list() {
        for (number, point) in CrashPoint::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(point as u8), number);
            assert_eq!(CrashPoint::from_u8(point as u8), Some(point));
        }
        let names: std::collections::BTreeSet<_> = CrashPoint::ALL.iter().map(|p| p.as_str()).collect();
        assert_eq!(names.len(), CrashPoint::ALL.len());
        assert_eq!(CrashPoint::from_u8(CrashPoint::ALL.len() as u8), None);
    }
}
