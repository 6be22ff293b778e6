//! `races [COUNT]`: two nodes that change one control topic at the same moment, with figures; `tests/races.sh` builds and
//! runs it.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

use it::place;
use it::races::Races;
use std::process::ExitCode;

/// Between two lines that say how far it is.
const SAY_EVERY: u64 = 100;

fn main() -> ExitCode {
    let count = std::env::args().nth(1).map_or(1_000, |n| n.parse::<u64>().unwrap());
    let seed = std::env::var("RACES_SEED").map_or(1, |text| text.parse().unwrap());
    let (Some(address), Some(module)) = (place::kafka(), place::guest("pass")) else {
        return ExitCode::from(2);
    };
    let dir = tempfile::tempdir().unwrap();
    let mut races = Races::begin(dir.path(), &address, &std::fs::read(module).unwrap(), seed);
    for race in 1..=count {
        races.race();
        if race % SAY_EVERY == 0 {
            eprintln!("{}", races.so_far());
        }
    }
    let figures = races.end();
    println!("{figures}");
    ExitCode::from(u8::from(!figures.wrongs.is_empty()))
}
