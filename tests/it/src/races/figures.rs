//! What came of the races.

use super::Told;
use std::collections::BTreeMap;
use std::fmt;

/// How a refusal is called, by what it says.
const KINDS: [(&str, &str); 8] = [
    ("is registered with other bytes", "registered with other bytes"),
    ("changed by somebody else", "changed by somebody else meanwhile"),
    ("is used by", "the module is used"),
    ("is not registered", "the module is not registered"),
    ("was removed by somebody else", "the module was removed meanwhile"),
    ("unknown module", "the module is unknown"),
    ("by others all the time", "contended"),
    ("no answer", "no answer"),
];

#[derive(Debug, Default)]
pub struct Figures {
    pub races: u64,
    /// Races in which only this node got what it wanted.
    pub wins: [u64; 2],
    /// Races in which both did, one after the other.
    pub in_turn: u64,
    /// By race and refusal.
    pub refusals: BTreeMap<(&'static str, String), u64>,
    pub wrongs: Vec<String>,
    /// Readers that began at the beginning.
    pub looks: u64,
    /// Committed records that the last one read.
    pub records: u64,
    pub seconds: f64,
}

fn kind(refusal: &str) -> String {
    let known = KINDS.iter().find(|(text, _)| refusal.contains(text));
    known.map_or_else(
        || refusal.lines().next().unwrap_or_default().to_owned(),
        |(_, kind)| (*kind).to_owned(),
    )
}

impl Figures {
    /// Notes a race that one must win; who did.
    pub fn one_of(&mut self, race: &'static str, told: &Told) -> Option<usize> {
        let won = self.some_of(race, told);
        if won.len() > 1 {
            self.wrongs.push(format!("{race}: both were told that they had won"));
        }
        won.first().copied()
    }

    /// Notes a race that at least one must win; who did.
    pub fn some_of(&mut self, race: &'static str, told: &Told) -> Vec<usize> {
        let won: Vec<usize> = (0..told.len()).filter(|n| told[*n].is_ok()).collect();
        match won.as_slice() {
            [] => self.wrongs.push(format!("{race}: nobody won: {told:?}")),
            [winner] => self.wins[*winner] += 1,
            _ => self.in_turn += 1,
        }
        for refusal in told.iter().filter_map(|told| told.as_ref().err()) {
            *self.refusals.entry((race, kind(refusal))).or_default() += 1;
        }
        won
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (races, seconds) = (self.races, self.seconds);
        writeln!(
            f,
            "{races} races in {seconds:.1} s, {:.0} ms each",
            seconds * 1e3 / races.max(1) as f64
        )?;
        writeln!(
            f,
            "won by a {}, by b {}, both in turn {}",
            self.wins[0], self.wins[1], self.in_turn
        )?;
        for ((race, kind), count) in &self.refusals {
            writeln!(f, "{count:>6} refused in `{race}`: {kind}")?;
        }
        writeln!(
            f,
            "{} fresh readers, the last one over {} records",
            self.looks, self.records
        )?;
        writeln!(f, "{} things wrong", self.wrongs.len())?;
        for wrong in &self.wrongs {
            writeln!(f, "  {wrong}")?;
        }
        Ok(())
    }
}
