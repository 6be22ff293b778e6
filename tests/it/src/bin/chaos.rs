//! `chaos SEED [EVENTS] [exactly-once|at-least-once]`: a cluster of three nodes; `tests/chaos.sh` builds and runs it.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

use it::chaos::{Guarantee, Plan, run};
use it::place;
use it::verdict::verdict;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "usage: chaos SEED [EVENTS] [exactly-once|at-least-once]";
const CONNECT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (Some(plan), Some(address)) = (understood(&words), place::kafka()) else {
        eprintln!("{USAGE}\nWASMILL_KAFKA=host:port names the broker");
        return ExitCode::from(2);
    };
    println!(
        "seed {}, {} events, {} records/s, {} keys, {:?}",
        plan.seed, plan.events, plan.rate, plan.keys, plan.guarantee
    );
    // Small requests to brokers that are slow to answer keep the client's threads spinning.
    let settings = BTreeMap::from([("linger.ms".to_owned(), "50".to_owned())]);
    let broker: Arc<dyn broker::Broker> = Arc::new(kafka::Kafka::connect(&address, settings, CONNECT).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let wrongs = run(&plan, &broker, &address, dir.path(), &mut |line| println!("{line}"));
    let good = match plan.guarantee {
        Guarantee::ExactlyOnce => "nothing missing, nothing twice",
        Guarantee::AtLeastOnce => "nothing missing",
    };
    verdict(&wrongs, good, "nodes and data", dir)
}

fn understood(words: &[String]) -> Option<Plan> {
    let mut words = words.iter();
    let seed = words.next()?.parse().ok()?;
    let events = words.next().map_or(Some(10), |word| word.parse().ok())?;
    let guarantee = match words.next().map(String::as_str) {
        None | Some("exactly-once") => Guarantee::ExactlyOnce,
        Some("at-least-once") => Guarantee::AtLeastOnce,
        Some(_) => return None,
    };
    let rate = std::env::var("CHAOS_RATE")
        .map_or(Ok(10_000), |text| text.parse())
        .ok()?;
    Some(Plan {
        seed,
        events,
        rate,
        keys: 1_000,
        guarantee,
        brokers: std::env::var_os("WASMILL_KAFKA_DIR").map(PathBuf::from),
    })
}
