//! Measures Wasmill, Kafka Streams and librdkafka's floor with the same work on one broker, alternating, from outside.
//!
//! `run.sh` builds everything, starts a broker and calls this. The programs measure nothing themselves: what they did
//! is read from the broker, what it took from `/proc`, and every output is checked before its figures count.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing)]

mod bars;
mod embedded;
mod latency;
mod machine;
mod process;
mod programs;
mod report;
mod restart;
mod rows;
mod sides;
mod throughput;
mod topic;

use anyhow::{Context, Result, ensure};
use broker::Broker;
use clap::Parser;
use kafka::Kafka;
use programs::{App, Guarantee, Job, Programs, System};
use rows::{Cell, Results, Row, What};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use topic::Keys;

/// Kafka Streams' best settings for this work, as far as we found them; `--jvm` replaces them.
const JVM: [&str; 3] = ["-Xms1g", "-Xmx1g", "-XX:+UseG1GC"];

/// Runs what is asked for and not yet in the results, then writes the report.
#[derive(Debug, Parser)]
#[command(name = "run.sh", max_term_width = 100)]
struct Options {
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        Part::Throughput, Part::Restore, Part::Crash, Part::Latency, Part::Embedded,
    ])]
    parts: Vec<Part>,
    /// Gathered updates are measured exactly-once only, unless they are the only job; windows and joins always
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Job::Pass, Job::Count, Job::CountOnCommit])]
    jobs: Vec<Job>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Guarantee::ExactlyOnce, Guarantee::AtLeastOnce])]
    guarantees: Vec<Guarantee>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [System::Wasmill, System::Streams, System::Floor])]
    systems: Vec<System>,
    /// Stream threads
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    threads: Vec<usize>,
    /// Alternating rounds of the throughput jobs; the table shows medians
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Alternating rounds of everything else
    #[arg(long, default_value_t = 1)]
    other_rounds: u32,
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// One JSON line a run; what is in it already is not run again
    #[arg(long)]
    results: PathBuf,
    /// Where the table goes
    #[arg(long)]
    report: Option<PathBuf>,
    #[arg(long)]
    wasmill: PathBuf,
    #[arg(long)]
    floor: PathBuf,
    #[arg(long)]
    module: PathBuf,
    #[arg(long)]
    burn: PathBuf,
    /// Of Kafka Streams and its jobs; without it there is no Kafka Streams in the table
    #[arg(long)]
    streams_classpath: Option<String>,
    /// Words for the JVM, instead of 1 GiB of heap and G1
    #[arg(long, value_delimiter = ' ', allow_hyphen_values = true)]
    jvm: Vec<String>,
    /// A setting of Kafka Streams; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    streams: Vec<String>,
    /// A setting of librdkafka in the node's `[kafka]`; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    node: Vec<String>,
    #[arg(long)]
    brokers: String,
    /// For the broker's CPU seconds
    #[arg(long)]
    broker_pid: Option<u32>,
    /// Sample the program under measurement with `perf` into this file (profile.sh)
    #[arg(long)]
    perf: Option<PathBuf>,
    /// State and logs of the programs; emptied run by run
    #[arg(long)]
    work: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Records/s, CPU, memory, start-up of the jobs
    Throughput,
    /// The state removed: from the changelog, 100,000 and 1,000,000 keys
    Restore,
    /// Killed in the middle, to the next committed output
    Crash,
    /// At 5,000 records/s
    Latency,
    /// Wasmill alone on its own log, and a module that computes with one thread and two
    Embedded,
    /// Wasmill alone: count with a fifth of the records to twice of them, and of keys to ten times
    Curve,
}

/// What every measurement needs.
pub struct Bench {
    kafka: Kafka,
    broker_pid: Option<u32>,
    programs: Programs,
    work: PathBuf,
    perf: Option<PathBuf>,
    /// Makes the names of this run's topics and groups its own.
    stamp: String,
}

impl Bench {
    fn new(options: &Options) -> Result<Self> {
        let jvm = match options.jvm.as_slice() {
            [] => JVM.map(str::to_owned).to_vec(),
            words => words.to_vec(),
        };
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        Ok(Self {
            kafka: Kafka::new(&options.brokers, BTreeMap::new())?,
            broker_pid: options.broker_pid,
            programs: Programs {
                wasmill: options.wasmill.clone(),
                floor: options.floor.clone(),
                module: options.module.clone(),
                burn: options.burn.clone(),
                streams_classpath: options.streams_classpath.clone(),
                jvm,
                streams_settings: options.streams.clone(),
                node_settings: options.node.clone(),
                brokers: options.brokers.clone(),
            },
            work: options.work.clone(),
            perf: options.perf.clone(),
            stamp: format!("b{}", since.as_millis() % 100_000_000),
        })
    }

    /// A program for one run, under a name that no other run has.
    pub fn app(&self, cell: &Cell, system: System, input: &str) -> App {
        static COUNTER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("{}-{number}-{}", self.stamp, system.name());
        // A port that is free now; taken again at once.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        App {
            system,
            job: cell.job,
            guarantee: cell.guarantee,
            threads: cell.threads,
            output: format!("{name}-out"),
            dir: self.work.join(&name),
            name,
            input: input.to_owned(),
            right: String::new(),
            port: port.map_or(7700, |a| a.port()),
            embedded: false,
            static_member: false,
            settings: Vec::new(),
        }
    }

    /// Topics of `name`: its own, internal ones, and those of a node's cluster.
    fn remove_topics(&self, name: &str) -> Result<()> {
        let mut admin = self.kafka.admin()?;
        let own = |topic: &String| topic.starts_with(&format!("{name}-")) || topic.contains(&format!("-{name}-"));
        let topics: Vec<String> = admin.topics()?.into_iter().map(|t| t.name).filter(own).collect();
        admin.delete(&topics)?;
        Ok(())
    }

    /// Everything that a run has left, here and on the broker.
    pub fn remove(&self, app: &App) -> Result<()> {
        self.remove_topics(&app.name)?;
        let mut admin = self.kafka.admin()?;
        // A static member stays in its group until its session ends; the name is not used again.
        _ = admin.delete_group(&app.name);
        app.remove()
    }
}

/// Inputs that this call has filled.
#[derive(Default)]
struct Inputs(BTreeMap<(u64, Keys, &'static str), String>);

impl Inputs {
    /// The input of a throughput job; of a join both, else an empty name for the right one.
    fn sides(&mut self, bench: &Bench, cell: &Cell) -> Result<(String, String)> {
        let keys = Keys::Random(cell.keys);
        Ok(match cell.job {
            Job::StreamTable => {
                let right = self.get(bench, cell.keys, Keys::Table(cell.keys))?;
                (self.get(bench, cell.records, keys)?, right)
            }
            Job::StreamStream => {
                let left = self.get(bench, cell.records / 2, keys)?;
                (left, self.of(bench, cell.records / 2, keys, "right")?)
            }
            _ => (self.get(bench, cell.records, keys)?, String::new()),
        })
    }

    /// As `of`, where there is one topic of the kind.
    fn get(&mut self, bench: &Bench, records: u64, keys: Keys) -> Result<String> {
        self.of(bench, records, keys, "")
    }

    /// A topic with these records; one for each `side`.
    fn of(&mut self, bench: &Bench, records: u64, keys: Keys, side: &'static str) -> Result<String> {
        if let Some(topic) = self.0.get(&(records, keys, side)) {
            return Ok(topic.clone());
        }
        let (topic, since) = (format!("{}-in-{}", bench.stamp, self.0.len()), Instant::now());
        topic::create(&bench.kafka, &[&topic])?;
        topic::fill(&bench.kafka, &topic, keys, records)?;
        // What the broker has only handed to the kernel would be written during the first run, which starts slower then.
        let synced = std::process::Command::new("sync").status().context("sync")?;
        ensure!(synced.success(), "`sync` ended with {synced}");
        if matches!(keys, Keys::InTurn(_)) {
            restart::probe(bench, &topic)?;
        }
        eprintln!(
            "filled {topic} with {records} records in {:.1} s",
            since.elapsed().as_secs_f64()
        );
        self.0.insert((records, keys, side), topic.clone());
        Ok(topic)
    }
}

fn cells(options: &Options) -> Vec<Cell> {
    let cell = |what, job, guarantee| Cell {
        what,
        job,
        guarantee,
        threads: 1,
        records: options.records,
        keys: options.keys,
        variant: String::new(),
    };
    let mut cells = Vec::new();
    for part in &options.parts {
        match part {
            Part::Throughput => {
                for threads in &options.threads {
                    for job in &options.jobs {
                        let wanted = options.guarantees.iter().filter(|guarantee| {
                            let gathered = *job == Job::CountOnCommit && options.jobs.len() > 1;
                            !(gathered || job.is_exactly_once()) || **guarantee == Guarantee::ExactlyOnce
                        });
                        cells.extend(wanted.map(|guarantee| Cell {
                            threads: *threads,
                            ..cell(What::Throughput, *job, *guarantee)
                        }));
                    }
                }
            }
            // In the same proportion to the records asked for as 1 million is to 5.
            Part::Restore => cells.extend([50, 5].map(|share| Cell {
                records: options.records / share,
                keys: options.records / share,
                ..cell(What::Restore, Job::Count, Guarantee::ExactlyOnce)
            })),
            Part::Embedded => {
                let jobs = [
                    (Job::Pass, 1),
                    (Job::Count, 1),
                    (Job::CountOnCommit, 1),
                    (Job::Burn, 1),
                    (Job::Burn, 2),
                ];
                cells.extend(jobs.map(|(job, threads)| Cell {
                    threads,
                    // A record of `burn` costs ten times as much.
                    records: options.records / if job == Job::Burn { 10 } else { 1 },
                    ..cell(What::Embedded, job, Guarantee::ExactlyOnce)
                }));
            }
            Part::Curve => {
                let (records, keys) = (options.records, options.keys);
                let sizes = [
                    (records / 5, keys),
                    (records, keys),
                    (records * 2, keys),
                    (records, keys / 10),
                    (records, keys * 10),
                ];
                cells.extend(sizes.map(|(records, keys)| Cell {
                    records,
                    keys,
                    ..cell(What::Curve, Job::Count, Guarantee::ExactlyOnce)
                }));
            }
            Part::Crash => cells.push(cell(What::Crash, Job::Count, Guarantee::ExactlyOnce)),
            Part::Latency => {
                let of = |guarantee| cell(What::Latency, Job::Pass, guarantee);
                cells.extend(options.guarantees.iter().copied().map(of));
                cells.push(Cell {
                    variant: latency::LINGER_0.to_owned(),
                    ..of(Guarantee::AtLeastOnce)
                });
            }
        }
    }
    cells
}

/// Whether a program has a place in a cell.
fn takes_part(bench: &Bench, cell: &Cell, system: System) -> bool {
    match system {
        System::Wasmill => cell.variant.is_empty(),
        System::Streams => {
            bench.programs.streams_classpath.is_some() && !matches!(cell.what, What::Embedded | What::Curve)
        }
        System::Floor => cell.what == What::Throughput && !cell.job.is_exactly_once(),
    }
}

fn measure(bench: &Bench, inputs: &mut Inputs, cell: &Cell, system: System, round: u32) -> Result<Row> {
    match cell.what {
        What::Throughput | What::Curve => {
            let (input, right) = inputs.sides(bench, cell)?;
            throughput::run(bench, cell, system, round, (&input, &right))
        }
        What::Restore => {
            let input = inputs.get(bench, cell.records, Keys::InTurn(cell.keys))?;
            restart::restore(bench, cell, system, round, &input)
        }
        What::Crash => {
            let input = inputs.get(bench, cell.records, Keys::Random(cell.keys))?;
            restart::crash(bench, cell, system, round, &input)
        }
        What::Latency => latency::run(bench, cell, system, round),
        What::Embedded => embedded::run(bench, cell, round),
    }
}

/// Seconds that a run takes where nothing else runs; start, stop and the check of the output included.
fn estimate(cell: &Cell, system: System) -> f64 {
    let million = cell.records as f64 / 1e6;
    let work = match (cell.job, system) {
        (Job::Pass, System::Streams) => 2.0,
        (_, System::Streams) => 7.5,
        (Job::Pass, _) | (_, System::Floor) => 1.0,
        _ => 2.5,
    };
    match cell.what {
        What::Throughput | What::Curve => 5.0 + million * (work + 0.5),
        What::Embedded => 4.0 + million * if cell.job == Job::Burn { 8.0 } else { 3.0 },
        What::Restore => 15.0 + million * 2.0 * work,
        What::Crash => 8.0 + million * work / 2.0,
        What::Latency => 36.0,
    }
}

fn main() -> std::process::ExitCode {
    match run(&Options::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Records of a run that only warms up.
const WARM_UP_RECORDS: u64 = 500_000;

/// Every program once, uncounted: a broker compiles its own paths as they become busy, which cost whoever came first
/// three times its share of the broker's CPU. Nothing where the runs themselves are no longer than this.
fn warm_up(bench: &Bench, inputs: &mut Inputs, options: &Options, wanted: &[(Cell, System, u32)]) -> Result<()> {
    let on_kafka = |(cell, _, _): &&(Cell, System, u32)| cell.what != What::Embedded && cell.records > WARM_UP_RECORDS;
    let mut systems: Vec<System> = wanted.iter().filter(on_kafka).map(|(_, system, _)| *system).collect();
    systems.sort_unstable();
    systems.dedup();
    for (job, system) in [Job::Pass, Job::Count]
        .into_iter()
        .flat_map(|job| systems.iter().map(move |s| (job, *s)))
    {
        let cell = Cell {
            what: What::Throughput,
            job,
            guarantee: Guarantee::ExactlyOnce,
            threads: 1,
            records: WARM_UP_RECORDS,
            keys: options.keys,
            variant: String::new(),
        };
        if takes_part(bench, &cell, system) {
            let input = inputs.get(bench, cell.records, Keys::Random(cell.keys))?;
            throughput::run(bench, &cell, system, 0, (&input, ""))?;
        }
    }
    Ok(())
}

fn run(options: &Options) -> Result<()> {
    let bench = Bench::new(options)?;
    let mut results = Results::open(options.results.clone())?;
    let mut inputs = Inputs::default();
    let mut wanted = Vec::new();
    for cell in cells(options) {
        let rounds = match cell.what {
            What::Throughput => options.rounds,
            _ => options.other_rounds,
        };
        for round in 1..=rounds {
            let there = options
                .systems
                .iter()
                .copied()
                .filter(|s| takes_part(&bench, &cell, *s));
            wanted.extend(there.map(|system| (cell.clone(), system, round)));
        }
    }
    wanted.retain(|(cell, system, round)| !results.has(cell, *system, *round));
    warm_up(&bench, &mut inputs, options, &wanted)?;
    let (count, since) = (wanted.len(), Instant::now());
    let minutes = wanted
        .iter()
        .map(|(cell, system, _)| estimate(cell, *system))
        .sum::<f64>()
        / 60.0;
    eprintln!("{count} runs, about {minutes:.0} minutes on a quiet machine");
    let mut failures = Vec::new();
    for (index, (cell, system, round)) in wanted.into_iter().enumerate() {
        let told = match measure(&bench, &mut inputs, &cell, system, round) {
            Ok(row) => {
                let told = report::line(&row);
                results.add(row)?;
                told
            }
            // One that fails does not take the others with it; `--resume` tries it again.
            Err(error) => {
                let run = report::line(&Row::new(&cell, system, round));
                failures.push(format!("{run} {error:#}"));
                format!("FAILED {run} {error:#}")
            }
        };
        eprintln!(
            "{:>3}/{count} {:>5.0} s  {told}",
            index + 1,
            since.elapsed().as_secs_f64()
        );
    }
    let text = report::text(&results, &bench.programs);
    println!("{text}");
    if let Some(path) = &options.report {
        std::fs::write(path, report::page(&results, &bench.programs, &text))?;
    }
    ensure!(
        failures.is_empty(),
        "{} runs failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}
