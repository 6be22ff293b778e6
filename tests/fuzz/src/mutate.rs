//! Mutations for the short form: blind, but the same for the same seed on every machine.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// No mutation grows beyond it: parsers are looked at here, not limits.
const BYTES_MAX: usize = 16 << 10;
/// Changes to one input.
const CHANGES_MAX: usize = 6;
/// Numbers at which lengths and offsets break.
const EDGES: [u64; 10] = [
    0,
    1,
    7,
    0x7f,
    0xff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Makes inputs of a corpus.
pub struct Mutator<'c> {
    corpus: &'c [Vec<u8>],
    dice: ChaCha8Rng,
}

impl<'c> Mutator<'c> {
    pub fn new(corpus: &'c [Vec<u8>], seed: u64) -> Self {
        Self {
            corpus,
            dice: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// One of the corpus with a few changes.
    pub fn mutant(&mut self) -> Vec<u8> {
        let mut bytes = self.pick().to_vec();
        for _ in 0..self.dice.random_range(1..=CHANGES_MAX) {
            self.change(&mut bytes);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn pick(&mut self) -> &'c [u8] {
        match self.corpus.len() {
            0 => &[],
            all => &self.corpus[self.dice.random_range(0..all)],
        }
    }

    fn span(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.dice.random_range(0..=length);
        let to = (from + self.dice.random_range(0..=16)).min(length);
        from..to
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.dice.random_range(0..=bytes.len());
        match self.dice.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.dice.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = self.dice.random(),
            2 => {
                let edge = EDGES[self.dice.random_range(0..EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.dice.random_range(0..4)];
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&edge[..end - at]);
            }
            3 => {
                let gone = self.span(bytes.len());
                bytes.drain(gone);
            }
            4 => {
                let twice = self.span(bytes.len());
                let twice = bytes[twice].to_vec();
                bytes.splice(at..at, twice);
            }
            5 => {
                let other = self.pick();
                let part = self.span(other.len());
                bytes.splice(at..at, other[part].iter().copied());
            }
            _ => bytes.truncate(at.max(bytes.len() / 2)),
        }
    }
}
