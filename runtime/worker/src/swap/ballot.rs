//! How the stream threads of a node agree that a version has passed its probation: a barrier, not an atomic commit
//! (design §11.4). One [`Ballot`] per pipeline and node, shared by its threads.
//!
//! A thread that is ready to switch enrols; when all threads of the node have enrolled or have nothing to switch, or the
//! first has waited [`GATHER_MS_MAX`], those that enrolled form a round and hold their first transactions open. None of
//! a round commits before all of it have passed; one failure ends it for all. A thread that cannot go on for reasons of
//! its own withdraws, and the others decide without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// How long a thread that is ready waits for the others of its node; they process under `from` meanwhile.
pub const GATHER_MS_MAX: i64 = 3_000;

/// Which round of a swap on this node.
pub type Round = u64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    Passed,
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Open,
    Passed,
    /// Why, and which thread said so.
    Failed {
        thread: String,
        reason: String,
    },
}

#[derive(Debug)]
struct Running {
    members: BTreeMap<String, Option<Vote>>,
}

#[derive(Debug, Default)]
struct Inner {
    swap: Uuid,
    threads: BTreeSet<String>,
    /// Threads with nothing to switch.
    aside: BTreeSet<String>,
    waiting: BTreeSet<String>,
    since_ms: Option<i64>,
    rounds: BTreeMap<Round, Running>,
    next: Round,
    /// A probation failed on this node: whoever tries it later fails too.
    failed: Option<Verdict>,
}

/// Clones are the same ballot. See the module's page.
#[derive(Clone, Debug, Default)]
pub struct Ballot(Arc<Mutex<Inner>>);

impl Ballot {
    /// `threads`: ids of all stream threads that the node runs for the pipeline.
    pub fn new(threads: impl IntoIterator<Item = String>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            threads: threads.into_iter().collect(),
            ..Inner::default()
        })))
    }

    fn of(&self, swap: Uuid) -> MutexGuard<'_, Inner> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.swap != swap {
            let threads = std::mem::take(&mut inner.threads);
            let next = inner.next;
            *inner = Inner {
                swap,
                threads,
                next,
                ..Inner::default()
            };
        }
        inner
    }

    /// `thread` has nothing to switch now.
    pub fn stand_aside(&self, swap: Uuid, thread: &str) {
        let mut inner = self.of(swap);
        inner.waiting.remove(thread);
        inner.aside.insert(thread.to_owned());
        inner.leave_rounds(thread);
    }

    /// `thread` is ready to switch. Gives the round once it may.
    pub fn enrol(&self, swap: Uuid, thread: &str, now_ms: i64) -> Option<Round> {
        let mut inner = self.of(swap);
        let begun = inner
            .rounds
            .iter()
            .find(|(_, r)| r.members.get(thread).is_some_and(Option::is_none));
        if let Some((round, _)) = begun {
            return Some(*round);
        }
        inner.aside.remove(thread);
        inner.waiting.insert(thread.to_owned());
        let since_ms = *inner.since_ms.get_or_insert(now_ms);
        let all = inner
            .threads
            .iter()
            .all(|t| inner.waiting.contains(t) || inner.aside.contains(t));
        if !all && now_ms - since_ms < GATHER_MS_MAX {
            return None;
        }
        inner.since_ms = None;
        let round = inner.next;
        inner.next += 1;
        let members = std::mem::take(&mut inner.waiting);
        let members = members.into_iter().map(|t| (t, None)).collect();
        inner.rounds.insert(round, Running { members });
        Some(round)
    }

    pub fn vote(&self, swap: Uuid, round: Round, thread: &str, vote: Vote) {
        let mut inner = self.of(swap);
        if let Vote::Failed(reason) = &vote {
            inner.failed.get_or_insert(Verdict::Failed {
                thread: thread.to_owned(),
                reason: reason.clone(),
            });
        }
        let member = inner.rounds.get_mut(&round).and_then(|r| r.members.get_mut(thread));
        if let Some(member) = member {
            *member = Some(vote);
        }
    }

    /// The transaction that `thread` voted on is void, and it tries again: the others wait for it.
    pub fn revoke(&self, thread: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for running in inner.rounds.values_mut() {
            if let Some(member) = running.members.get_mut(thread) {
                *member = None;
            }
        }
    }

    pub fn verdict(&self, swap: Uuid, round: Round) -> Verdict {
        let inner = self.of(swap);
        if let Some(failed) = &inner.failed {
            return failed.clone();
        }
        match inner.rounds.get(&round) {
            Some(running) if running.members.values().all(|v| *v == Some(Vote::Passed)) => Verdict::Passed,
            _ => Verdict::Open,
        }
    }

    /// `thread` cannot go on for reasons of its own (a lost producer, a task that moves, its end): the others decide
    /// without it. A failure that it voted stays.
    pub fn withdraw(&self, thread: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.waiting.remove(thread);
        inner.aside.remove(thread);
        if inner.waiting.is_empty() {
            inner.since_ms = None;
        }
        inner.leave_rounds(thread);
    }
}

impl Inner {
    fn leave_rounds(&mut self, thread: &str) {
        for running in self.rounds.values_mut() {
            running.members.remove(thread);
        }
        self.rounds.retain(|_, r| !r.members.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWAP: Uuid = Uuid::from_u128(1);

    fn two() -> Ballot {
        Ballot::new(["a".to_owned(), "b".to_owned()])
    }

    #[test]
    fn nobody_passes_before_all_have() {
        let ballot = two();
        assert_eq!(ballot.enrol(SWAP, "a", 0), None);
        let round = ballot.enrol(SWAP, "b", 1);
        assert_eq!((round, ballot.enrol(SWAP, "a", 2)), (Some(0), Some(0)));
        ballot.vote(SWAP, 0, "a", Vote::Passed);
        assert_eq!(ballot.verdict(SWAP, 0), Verdict::Open);
        ballot.vote(SWAP, 0, "b", Vote::Passed);
        assert_eq!(ballot.verdict(SWAP, 0), Verdict::Passed);
    }

    #[test]
    fn one_failure_ends_it_for_all_even_when_its_thread_goes() {
        let ballot = two();
        ballot.enrol(SWAP, "a", 0);
        ballot.enrol(SWAP, "b", 0);
        ballot.vote(SWAP, 0, "a", Vote::Failed("trap".into()));
        ballot.withdraw("a");
        ballot.vote(SWAP, 0, "b", Vote::Passed);
        let failed = Verdict::Failed {
            thread: "a".into(),
            reason: "trap".into(),
        };
        assert_eq!(ballot.verdict(SWAP, 0), failed);
        assert_eq!(ballot.verdict(SWAP, 1), failed);
    }

    #[test]
    fn a_transaction_that_begins_again_is_waited_for() {
        let ballot = two();
        ballot.enrol(SWAP, "a", 0);
        ballot.enrol(SWAP, "b", 0);
        ballot.vote(SWAP, 0, "a", Vote::Passed);
        ballot.revoke("a");
        ballot.vote(SWAP, 0, "b", Vote::Passed);
        assert_eq!(
            (ballot.verdict(SWAP, 0), ballot.enrol(SWAP, "a", 9)),
            (Verdict::Open, Some(0))
        );
        ballot.vote(SWAP, 0, "a", Vote::Passed);
        assert_eq!(ballot.verdict(SWAP, 0), Verdict::Passed);
    }

    #[test]
    fn who_withdraws_or_has_nothing_to_do_is_not_waited_for() {
        let ballot = two();
        ballot.stand_aside(SWAP, "b");
        assert_eq!(ballot.enrol(SWAP, "a", 0), Some(0));
        ballot.withdraw("a");
        assert_eq!(ballot.enrol(SWAP, "b", 0), None);
        assert_eq!(ballot.enrol(SWAP, "a", 0), Some(1));
        ballot.vote(SWAP, 1, "a", Vote::Passed);
        ballot.withdraw("b");
        assert_eq!(ballot.verdict(SWAP, 1), Verdict::Passed);
    }

    #[test]
    fn a_thread_that_never_comes_is_waited_for_with_a_bound() {
        let ballot = two();
        assert_eq!(ballot.enrol(SWAP, "a", 5), None);
        assert_eq!(ballot.enrol(SWAP, "a", 4 + GATHER_MS_MAX), None);
        assert_eq!(ballot.enrol(SWAP, "a", 5 + GATHER_MS_MAX), Some(0));
    }
}
