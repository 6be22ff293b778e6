//! `swaps [ACT…]`: hot swaps on a real broker, with figures; `tests/swap.sh` builds and runs it.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

use it::place;
use it::swaps::acts::{self, Given};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

type Act = fn(&mut Given<'_>, &Path) -> Vec<String>;

const ACTS: [(&str, Act); 5] = [
    ("load", acts::under_load),
    ("back", acts::taken_back),
    ("migrate", acts::migrated),
    ("kill", acts::killed),
    ("try", acts::tried),
];
const CONNECT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let unknown = words.iter().find(|word| ACTS.iter().all(|(name, _)| name != word));
    if let Some(word) = unknown {
        let names: Vec<&str> = ACTS.iter().map(|(name, _)| *name).collect();
        eprintln!("`{word}` is no act; there are: {}", names.join(", "));
        return ExitCode::from(2);
    }
    let Some(address) = place::kafka() else {
        return ExitCode::from(2);
    };
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let broker = Arc::new(kafka::Kafka::connect(&address, BTreeMap::new(), CONNECT).unwrap());
    let mut wrongs = Vec::new();
    for (name, act) in ACTS
        .iter()
        .filter(|(name, _)| words.is_empty() || words.iter().any(|word| word == name))
    {
        println!("== {name}");
        let mut dir = tempfile::tempdir().unwrap();
        let mut given = Given {
            broker: broker.clone(),
            address: &address,
            rate: number("SWAP_RATE", acts::RATE),
            seed: number("SWAP_SEED", 1),
            say: &mut |line| println!("   {line}"),
        };
        let found = act(&mut given, dir.path());
        if !found.is_empty() {
            dir.disable_cleanup(true);
            println!("   WRONG; node and data are kept in {}", dir.path().display());
        }
        for wrong in &found {
            println!("   {wrong}");
        }
        wrongs.extend(found);
    }
    if wrongs.is_empty() {
        println!("all as it must be");
        ExitCode::SUCCESS
    } else {
        println!("{} findings", wrongs.len());
        ExitCode::FAILURE
    }
}
