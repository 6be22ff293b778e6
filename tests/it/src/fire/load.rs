//! The records: which key comes when is drawn from the seed, and how often each came is what must be counted.

use super::Plan;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

pub(super) struct Load {
    /// Number of the key of each record.
    keys: Vec<u32>,
    /// Every key that came, with how often.
    pub expected: Vec<(String, u64)>,
}

fn name(key: usize) -> String {
    format!("k{key:04}")
}

impl Load {
    pub fn new(plan: &Plan, random: &mut ChaCha8Rng) -> Self {
        // The smaller of two draws: low keys are frequent, as in real data.
        let mut draw = || random.random_range(0..plan.keys).min(random.random_range(0..plan.keys)) as u32;
        let keys: Vec<u32> = (0..plan.records).map(|_| draw()).collect();
        let mut counts = vec![0; plan.keys];
        for key in &keys {
            counts[*key as usize] += 1;
        }
        let came = counts.into_iter().enumerate().filter(|(_, n)| *n > 0);
        Self {
            keys,
            expected: came.map(|(key, n)| (name(key), n)).collect(),
        }
    }

    /// One record a line: the key that spreads it over the source, a tab, the value that it is grouped by. Of
    /// `slices` parts of all records, part `number`.
    pub fn write(&self, path: &Path, number: usize, slices: usize) {
        let mut file = BufWriter::new(File::create(path).unwrap());
        let bound = |slice: usize| self.keys.len() * slice / slices;
        for record in bound(number)..bound(number + 1) {
            writeln!(file, "s{}\t{}", record % 977, name(self.keys[record] as usize)).unwrap();
        }
        file.flush().unwrap();
    }
}
