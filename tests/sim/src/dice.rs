//! Randomness from a seed, shared by everything in one process of a world.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::{Arc, Mutex};

/// Clones share one stream of numbers, so what they draw depends on who draws first, and on the seed only.
#[derive(Clone)]
pub struct Dice(Arc<Mutex<ChaCha8Rng>>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))))
    }

    pub fn chance(&self, p: f64) -> bool {
        p > 0.0 && self.0.lock().unwrap().random_bool(p)
    }

    pub fn below(&self, n: usize) -> usize {
        self.0.lock().unwrap().random_range(0..n.max(1))
    }

    pub fn between(&self, low: i64, high: i64) -> i64 {
        self.0.lock().unwrap().random_range(low..=high)
    }
}

impl worker::Random for Dice {
    fn next_u64(&mut self) -> u64 {
        self.0.lock().unwrap().next_u64()
    }
}
