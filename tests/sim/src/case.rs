//! What a world is like, by its seed.

use crate::disk::Broken;
use crate::swap::Manner;
use topology::{Emit, Guarantee};
use worker::crash::CrashPoint;
use worker::mutant::Mutant;

/// What makes a run. Everything else follows from the seed.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub seed: u64,
    pub guarantee: Guarantee,
    pub emit: Emit,
    pub nodes: usize,
    pub threads: u32,
    /// The world behaves like the embedded log.
    pub embedded: bool,
    /// Threads stall on their own, again and again, and are taken off their node's list.
    pub stalls: bool,
    /// The pipeline's epoch is raised in the end, with nodes cut off that still run the old one.
    pub redeployed: bool,
    /// So many copies of each task with state are kept on other nodes, and tasks move to warm ones.
    pub standbys: Option<usize>,
    /// So many swaps are begun.
    pub swaps: u32,
    /// All of this kind, and a quiet world.
    pub only: Option<Manner>,
    /// Rebalances are lost, doubled, and come for no reason.
    pub rebalances: bool,
    /// Native operators with state in the place of words that are counted.
    pub drawn: bool,
    pub mutant: Option<Mutant>,
    pub broken: Option<Broken>,
}

impl Case {
    /// Kinds of worlds take turns.
    pub fn of(seed: u64) -> Self {
        let at_least_once = seed % 8 == 7;
        let swaps = CrashPoint::ALL[(seed / 4) as usize % CrashPoint::ALL.len()] >= CrashPoint::SwapPrepared;
        Self {
            seed,
            guarantee: if at_least_once {
                Guarantee::AtLeastOnce
            } else {
                Guarantee::ExactlyOnce
            },
            emit: if seed % 3 == 2 {
                Emit::OnCommit
            } else {
                Emit::EveryUpdate
            },
            nodes: 1 + (seed / 2 % 2) as usize,
            threads: 1 + (seed % 2) as u32,
            embedded: seed % 16 == 5,
            stalls: !at_least_once && seed % 5 == 3,
            redeployed: !at_least_once && seed % 7 == 2,
            standbys: (seed % 4 >= 2 && !seed.is_multiple_of(3)).then_some((seed / 12 % 2) as usize),
            swaps: if swaps || seed % 3 == 1 { 3 } else { 0 },
            only: None,
            rebalances: seed % 6 == 4,
            drawn: false,
            mutant: None,
            broken: None,
        }
    }

    /// The same troubles over a pipeline of native operators with state. It has no module, so nothing is swapped.
    pub fn drawn(seed: u64) -> Self {
        Self {
            swaps: 0,
            rebalances: seed % 3 == 1,
            drawn: true,
            ..Self::of(seed)
        }
    }

    /// The step at which nodes crash most.
    pub fn favourite(&self) -> CrashPoint {
        let points = if self.drawn {
            CrashPoint::SwapPrepared as usize
        } else {
            CrashPoint::ALL.len()
        };
        CrashPoint::ALL[(self.seed / 4) as usize % points]
    }
}
