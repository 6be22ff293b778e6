//! What the project asks of itself, beside what was measured.

use crate::programs::{Guarantee, Job, System};
use crate::report::short;
use crate::rows::{Cell, Results, What};

pub struct Bar {
    pub what: String,
    pub asked: String,
    pub measured: String,
    /// Measured over asked, made so that up to 1 is met.
    pub over: f64,
}

impl Bar {
    pub fn verdict(&self) -> String {
        if self.over <= 1.0 {
            "met".to_owned()
        } else {
            format!("MISSED by {:.0} %", (self.over - 1.0) * 100.0)
        }
    }
}

/// `of` at most `share` of `to`.
fn at_most(bars: &mut Vec<Bar>, what: String, unit: &str, of: Option<f64>, share: f64, to: Option<f64>, whose: &str) {
    let (Some(of), Some(to)) = (of, to) else {
        return;
    };
    bars.push(Bar {
        what,
        asked: format!("at most {} {whose} = {} {unit}", fraction(share), short(to * share)),
        measured: format!("{} {unit} ({:.2}x)", short(of), of / to),
        over: of / (to * share),
    });
}

fn at_least(bars: &mut Vec<Bar>, what: String, unit: &str, of: Option<f64>, times: f64, to: Option<f64>, whose: &str) {
    let (Some(of), Some(to)) = (of, to) else {
        return;
    };
    bars.push(Bar {
        what,
        asked: format!("at least {times}x {whose} = {} {unit}", short(to * times)),
        measured: format!("{} {unit} ({:.2}x)", short(of), of / to),
        over: to * times / of,
    });
}

fn fraction(share: f64) -> String {
    if share < 1.0 {
        format!("1/{:.0} of", 1.0 / share)
    } else {
        format!("{share}x")
    }
}

pub fn all(results: &Results) -> Vec<Bar> {
    let mut bars = Vec::new();
    for cell in results.cells(What::Throughput) {
        throughput(results, &cell, &mut bars);
    }
    for cell in results.cells(What::Restore) {
        let of = |system| results.median(&cell, system, "restore-s");
        let what = format!("restore of {} keys", short(cell.keys as f64));
        at_most(
            &mut bars,
            what,
            "s",
            of(System::Wasmill),
            1.0,
            of(System::Streams),
            "Streams'",
        );
    }
    for cell in results.cells(What::Crash) {
        let of = results.median(&cell, System::Wasmill, "restart-to-output-s");
        under(&mut bars, "kill to next committed output".to_owned(), "s", of, 1.5);
    }
    latency(results, &mut bars);
    threads(results, &mut bars);
    bars
}

/// At-least-once has figures of its own; exactly-once is compared.
fn latency(results: &Results, bars: &mut Vec<Bar>) {
    for cell in results.cells(What::Latency).iter().filter(|c| c.variant.is_empty()) {
        let of = |system, figure| results.median(cell, system, figure);
        let name = |figure: &str| format!("latency {}: {figure}", cell.guarantee.name());
        match cell.guarantee {
            Guarantee::AtLeastOnce => {
                under(bars, name("p50"), "ms", of(System::Wasmill, "p50-ms"), 10.0);
                under(bars, name("p99"), "ms", of(System::Wasmill, "p99-ms"), 50.0);
            }
            Guarantee::ExactlyOnce => {
                let (ours, theirs) = (of(System::Wasmill, "p99-ms"), of(System::Streams, "p99-ms"));
                at_most(bars, name("p99"), "ms", ours, 1.0, theirs, "Streams'");
            }
        }
    }
}

/// Two threads against one, where the module is what costs.
fn threads(results: &Results, bars: &mut Vec<Bar>) {
    let cells = results.cells(What::Embedded);
    let speed = |threads| {
        let cell = cells.iter().find(|c| c.job == Job::Burn && c.threads == threads)?;
        results.median(cell, System::Wasmill, "records-per-second")
    };
    let what = "two threads on the embedded log".to_owned();
    at_least(bars, what, "records/s", speed(2), 1.7, speed(1), "one thread");
}

fn under(bars: &mut Vec<Bar>, what: String, unit: &str, of: Option<f64>, limit: f64) {
    let Some(of) = of else {
        return;
    };
    bars.push(Bar {
        what,
        asked: format!("under {limit} {unit}"),
        measured: format!("{} {unit}", short(of)),
        over: of / limit,
    });
}

fn throughput(results: &Results, cell: &Cell, bars: &mut Vec<Bar>) {
    // The bars are of one thread.
    if cell.threads != 1 {
        return;
    }
    let of = |system, figure| results.median(cell, system, figure);
    let (ours, theirs) = (|f| of(System::Wasmill, f), |f| of(System::Streams, f));
    let name = |what: &str| format!("{} {}: {what}", cell.job.name(), cell.guarantee.name());
    let (cpu, speed) = ("cpu-s-per-million", "records-per-second");
    let (share, times) = match cell.job {
        Job::Pass => (1.0 / 3.0, 2.0),
        Job::Count => (1.0 / 5.0, 4.0),
        Job::CountOnCommit => (1.0 / 6.0, 0.0),
        Job::Window | Job::StreamTable | Job::StreamStream => (1.0 / 4.0, 1.5),
        Job::Burn => return,
    };
    at_most(bars, name("CPU"), "s/M", ours(cpu), share, theirs(cpu), "Streams'");
    if cell.job == Job::Pass {
        let warm = "warm-cpu-s-per-million";
        at_most(
            bars,
            name("CPU, warm"),
            "s/M",
            ours(warm),
            0.5,
            theirs(warm),
            "Streams'",
        );
        at_most(
            bars,
            name("CPU"),
            "s/M",
            ours(cpu),
            1.5,
            of(System::Floor, cpu),
            "the floor's",
        );
    }
    if times > 0.0 {
        at_least(
            bars,
            name("speed"),
            "records/s",
            ours(speed),
            times,
            theirs(speed),
            "Streams'",
        );
    }
    at_most(
        bars,
        name("peak memory"),
        "MiB",
        ours("peak-mib"),
        0.2,
        theirs("peak-mib"),
        "Streams'",
    );
    if cell.job == Job::Pass && cell.guarantee == Guarantee::ExactlyOnce {
        at_most(
            bars,
            name("start"),
            "s",
            ours("start-s"),
            1.0 / 3.0,
            theirs("start-s"),
            "Streams'",
        );
    }
}
