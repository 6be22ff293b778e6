//! `fire SEED [RECORDS] [embedded|kafka] [exactly-once|at-least-once]`: the whole form; `tests/fire.sh` builds and runs it.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

use it::fire::{Guarantee, Plan, run};
use it::node::Broker;
use it::place;
use it::verdict::verdict;
use std::process::ExitCode;

const USAGE: &str = "usage: fire SEED [RECORDS] [embedded|kafka] [exactly-once|at-least-once]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((plan, broker)) = understood(&words) else {
        eprintln!("{USAGE}\nkafka: WASMILL_KAFKA=host:port names the broker");
        return ExitCode::from(2);
    };
    println!(
        "seed {}, {} records, {} keys, {} kills ({} with the local state removed), {:?}, {}",
        plan.seed,
        plan.records,
        plan.keys,
        plan.kills,
        plan.losses,
        plan.guarantee,
        broker.name()
    );
    let dir = tempfile::tempdir().unwrap();
    let report = run(&plan, &broker, dir.path(), &mut |line| println!("{line}"));
    let wrongs = report.wrongs(plan.guarantee);
    println!(
        "{} updates of {} keys read, {} expected; {} counted in the store; {:.1} s from the first start to the last page",
        report.updates.records,
        report.updates.last.len(),
        plan.records,
        report.counts.iter().map(|(_, n)| n).sum::<u64>(),
        report.took.as_secs_f64()
    );
    println!(
        "a kill between sending offsets and the commit: {}",
        report.fell_before_commit()
    );
    let good = match plan.guarantee {
        Guarantee::ExactlyOnce => "nothing missing, nothing twice",
        Guarantee::AtLeastOnce => "nothing missing",
    };
    verdict(&wrongs, good, "node and data", dir)
}

fn understood(words: &[String]) -> Option<(Plan, Broker)> {
    let mut words = words.iter();
    let seed = words.next()?.parse().ok()?;
    let records = words.next().map_or(Some(1_000_000), |word| word.parse().ok())?;
    let broker = match words.next().map(String::as_str) {
        None | Some("embedded") => Broker::Embedded,
        Some("kafka") => Broker::Kafka(place::kafka()?),
        Some(_) => return None,
    };
    let guarantee = match words.next().map(String::as_str) {
        None | Some("exactly-once") => Guarantee::ExactlyOnce,
        Some("at-least-once") => Guarantee::AtLeastOnce,
        Some(_) => return None,
    };
    let plan = Plan {
        seed,
        records,
        keys: 1_000,
        kills: 10,
        losses: 3,
        guarantee,
        commit_interval: "100ms",
    };
    Some((plan, broker))
}
