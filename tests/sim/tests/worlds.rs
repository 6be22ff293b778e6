//! A thousand worlds (`WASMILL_SIM_SEEDS=n` for more, `WASMILL_SIM_FIRST=n` for others, `WASMILL_SIM_SEED=n` for one).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::indexing_slicing)]

use sim::node::Hits;
use sim::run::{Case, run};
use worker::crash::CrashPoint;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

#[test]
fn every_world_gives_what_a_world_without_faults_gives() {
    let seeds = match number("WASMILL_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("WASMILL_SIM_FIRST").unwrap_or(0);
            first..first + number("WASMILL_SIM_SEEDS").unwrap_or(1_000)
        }
    };
    let (began, count) = (std::time::Instant::now(), seeds.end - seeds.start);
    let (mut hits, mut failures) = (Hits::default(), Vec::new());
    let (mut crashes, mut freezes) = (0, 0);
    for seed in seeds {
        match std::panic::catch_unwind(|| run(Case::of(seed))) {
            Ok(Ok(figures)) => {
                for i in 0..CrashPoint::ALL.len() {
                    hits.passed[i] += figures.hits.passed[i];
                    hits.crashed[i] += figures.hits.crashed[i];
                }
                crashes += figures.crashes;
                freezes += figures.freezes;
            }
            Ok(Err(error)) => failures.push((seed, error)),
            Err(_) => failures.push((seed, "panicked".into())),
        }
    }
    eprintln!(
        "{count} worlds, {crashes} kills, {freezes} freezes, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    for point in CrashPoint::ALL {
        let (passed, crashed) = (hits.passed[point as usize], hits.crashed[point as usize]);
        eprintln!("{:>18} {passed:>8} passed {crashed:>6} crashes", point.as_str());
    }
    for (seed, error) in &failures {
        eprintln!("{seed}: {}", error.lines().next().unwrap_or_default());
    }
    if let Some((seed, error)) = failures.first() {
        let all: Vec<u64> = failures.iter().map(|(seed, _)| *seed).collect();
        panic!(
            "{error}\n{} of {count} worlds failed: {all:?}\nagain: WASMILL_SIM_SEED={seed} cargo test -p sim --test worlds -- --nocapture",
            all.len()
        );
    }
    if count >= 1_000 {
        let never: Vec<&str> = CrashPoint::ALL
            .iter()
            .filter(|p| hits.crashed[**p as usize] == 0)
            .map(|p| p.as_str())
            .collect();
        assert!(never.is_empty(), "no world crashed at {never:?}");
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in [3, 6, 7] {
        let digest = |case| match run(case) {
            Ok(f) => format!("{} {} {:?}", f.virtual_ms, f.rows_out, f.hits.passed),
            Err(e) => e,
        };
        assert_eq!(digest(Case::of(seed)), digest(Case::of(seed)), "seed {seed}");
    }
}
