//! Worlds by the thousand. `WASMILL_SIM_SEEDS=n` for more of each kind, `WASMILL_SIM_SEED=n` for one; `tests/worlds.sh`
//! is the long form.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::indexing_slicing)]

use sim::case::Case;
use sim::drawn::Drawn;
use sim::node::Hits;
use sim::run::{Figures, run};
use sim::world::Tally;
use std::collections::BTreeMap;
use std::ops::Range;
use topology::Guarantee;
use worker::crash::CrashPoint;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

/// From `WASMILL_SIM_FIRST` on, if that is set.
fn seeds(count: u64) -> Range<u64> {
    match number("WASMILL_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("WASMILL_SIM_FIRST").unwrap_or(0);
            first..first + number("WASMILL_SIM_SEEDS").unwrap_or(count)
        }
    }
}

#[derive(Default)]
struct Sum {
    worlds: u64,
    hits: Hits,
    crashes: u32,
    freezes: u32,
    swaps: usize,
    rows: usize,
    tally: Tally,
    failures: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, figures: &Figures) {
        for i in 0..CrashPoint::ALL.len() {
            self.hits.passed[i] += figures.hits.passed[i];
            self.hits.crashed[i] += figures.hits.crashed[i];
        }
        self.crashes += figures.crashes;
        self.freezes += figures.freezes;
        self.swaps += figures.swaps;
        self.rows += figures.rows;
        self.tally.add(&figures.tally);
    }

    fn print(&self, seconds: f64) {
        let Tally {
            rebalances,
            lost_rebalances,
            doubled_rebalances,
            committed,
            aborted,
            unknown,
        } = self.tally;
        let at_steps: u64 = self.hits.crashed.iter().sum();
        let per_second = self.worlds as f64 / seconds;
        eprintln!("{} worlds in {seconds:.1} s, {per_second:.1} a second", self.worlds);
        eprintln!(
            "{at_steps} kills at steps, {} between, {} freezes",
            self.crashes, self.freezes
        );
        eprintln!("{rebalances} rebalances: {lost_rebalances} lost by a member, {doubled_rebalances} doubled");
        eprintln!("{committed} commits, {aborted} aborted, {unknown} with their answer lost");
        eprintln!("{} swaps, {} rows", self.swaps, self.rows);
        for point in CrashPoint::ALL {
            let (passed, crashed) = (self.hits.passed[point as usize], self.hits.crashed[point as usize]);
            eprintln!("{:>18} {passed:>8} passed {crashed:>6} crashes", point.as_str());
        }
    }
}

/// Runs all of them, then complains about those that failed; `kind` is the name of the test.
fn play(kind: &str, seeds: Range<u64>, case: fn(u64) -> Case) -> Sum {
    let began = std::time::Instant::now();
    let mut sum = Sum::default();
    for seed in seeds {
        sum.worlds += 1;
        match std::panic::catch_unwind(|| run(case(seed))) {
            Ok(Ok(figures)) => sum.add(&figures),
            Ok(Err(error)) => sum.failures.push((seed, error)),
            Err(_) => sum.failures.push((seed, "panicked".into())),
        }
    }
    sum.print(began.elapsed().as_secs_f64());
    for (seed, error) in &sum.failures {
        eprintln!("failed: {seed}: {}", error.lines().next().unwrap_or_default());
    }
    if let Some((seed, error)) = sum.failures.first() {
        let all: Vec<u64> = sum.failures.iter().map(|(seed, _)| *seed).collect();
        panic!(
            "{error}\n{} of {} worlds failed: {all:?}\nagain: WASMILL_SIM_SEED={seed} cargo test --workspace --test worlds {kind} -- --nocapture",
            all.len(),
            sum.worlds
        );
    }
    sum
}

/// Steps at which nobody was killed, of the first `points`.
fn never(sum: &Sum, points: usize) -> Vec<&'static str> {
    let points = CrashPoint::ALL.into_iter().take(points);
    let never = points.filter(|p| sum.hits.crashed[*p as usize] == 0);
    never.map(CrashPoint::as_str).collect()
}

#[test]
fn every_world_gives_what_a_world_without_faults_gives() {
    let kind = "every_world_gives_what_a_world_without_faults_gives";
    let sum = play(kind, seeds(1_000), Case::of);
    if sum.worlds >= 1_000 {
        let never = never(&sum, CrashPoint::ALL.len());
        assert!(never.is_empty(), "no world crashed at {never:?}");
        let Tally {
            lost_rebalances,
            doubled_rebalances,
            aborted,
            ..
        } = sum.tally;
        assert!(lost_rebalances > 0 && doubled_rebalances > 0 && aborted > 0 && sum.swaps > 0);
    }
}

#[test]
fn operators_with_state_give_what_they_give_undisturbed() {
    let kind = "operators_with_state_give_what_they_give_undisturbed";
    let sum = play(kind, seeds(300), Case::drawn);
    // Fewer do not meet every step.
    if sum.worlds >= 1_000 {
        let never = never(&sum, CrashPoint::SwapPrepared as usize);
        assert!(never.is_empty(), "no world crashed at {never:?}");
    }
}

/// Else agreement would mean nothing.
#[test]
fn every_operator_with_state_gives_something() {
    let drawn = (0..100).map(|seed| Drawn::new(seed, Guarantee::ExactlyOnce));
    let mut rows: BTreeMap<String, bool> = BTreeMap::new();
    for expected in drawn.flat_map(|drawn| drawn.expected()) {
        *rows.entry(expected.topic.clone()).or_default() |= !expected.is_empty();
    }
    let silent: Vec<&String> = rows.iter().filter(|(_, any)| !**any).map(|(topic, _)| topic).collect();
    assert!(silent.is_empty(), "nothing ever comes out of {silent:?}");
    assert!(rows.len() >= 34, "only {} outputs: {rows:?}", rows.len());
}

#[test]
fn a_seed_repeats_itself() {
    for case in [Case::of(3), Case::of(6), Case::of(7), Case::drawn(4), Case::drawn(9)] {
        let digest = |case| match run(case) {
            Ok(f) => format!("{} {} {:?}", f.virtual_ms, f.rows, f.hits.passed),
            Err(e) => e,
        };
        assert_eq!(digest(case), digest(case), "{case:?}");
    }
}
