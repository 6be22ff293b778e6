//! `day [MINUTES]`: two nodes and a guest under a steady load; `tests/day.sh` builds and runs it.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

use it::day::{Plan, SETTLE, run};
use it::place;
use it::verdict::verdict;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let minutes = std::env::args().nth(1).map_or(Ok(20), |word| word.parse());
    let rate = std::env::var("DAY_RATE").map_or(Ok(5_000), |text| text.parse());
    let (Ok(minutes), Ok(rate), Some(address)) = (minutes, rate, place::kafka()) else {
        eprintln!("usage: day [MINUTES]\nDAY_RATE: records a second; WASMILL_KAFKA=host:port names the broker");
        return ExitCode::from(2);
    };
    if minutes <= 2 * SETTLE {
        eprintln!("{minutes} minutes are too few: the first {SETTLE} do not count, and the rest is halved");
        return ExitCode::from(2);
    }
    let settings = BTreeMap::from([("linger.ms".to_owned(), "50".to_owned())]);
    let broker: Arc<dyn broker::Broker> = Arc::new(kafka::Kafka::connect(&address, settings, CONNECT).unwrap());
    let dir = tempfile::tempdir().unwrap();
    println!("{minutes} minutes, {rate} records/s");
    let wrongs = run(&Plan { minutes, rate }, &broker, &address, dir.path(), &mut |line| {
        println!("{line}")
    });
    let good = "nothing missing, nothing twice, nothing grows";
    verdict(&wrongs, good, "nodes and data", dir)
}
