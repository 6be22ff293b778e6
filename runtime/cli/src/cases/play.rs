//! Plays a case: whole, record by record, in random cuts, and with restarts everywhere.

use super::compare::{self, Difference};
use super::lines::{self, Expected, Step};
use super::outcome::{Group, Outcome};
use super::project::Project;
use super::read;
use super::report::{CaseReport, Failure};
use super::world::World;
use anyhow::Result;
use driver::{Driver, Piped, RestoreFrom};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;
use topology::Emit;

/// Random ways to cut the input. More find little more, and modules in slow languages pay for each.
const RANDOM_CUTS: usize = 5;

/// The wall clock of a case before its first `advance`.
const WALL_TIME: i64 = 0;

/// How one run goes: what is piped at once, and what comes in between.
#[derive(Clone, Debug, PartialEq)]
pub struct Play {
    pub name: String,
    /// To be said when it fails, where it cannot be told from the name.
    pub detail: Option<String>,
    actions: Vec<Action>,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Pipe(Vec<Piped>),
    Commit,
    Restart,
    Advance(i64),
}

/// The case in folder `path`.
///
/// # Errors
/// Files that cannot be read; a case that fails is no error.
pub fn case(project: &Project, name: &str, path: &Path, seed: u64) -> Result<CaseReport> {
    let (input, expected) = (path.join("input.jsonl"), path.join("expected.jsonl"));
    let steps = lines::input(project, &read(&input)?, &input.display().to_string())?;
    let expected = lines::expected(project, &read(&expected)?, &expected.display().to_string())?;
    project.set_world(World::read(path, seed)?);
    let mut report = all_ways(project, name, &steps, &expected, seed);
    if let (Some(failure), Some(hint)) = (&mut report.failure, project.world().hint()) {
        failure.detail = Some(
            failure
                .detail
                .iter()
                .cloned()
                .chain([hint])
                .collect::<Vec<_>>()
                .join("\n"),
        );
    }
    Ok(report)
}

/// What comes of it when all is piped at once.
///
/// # Errors
/// Why it could not be played; a pipeline that stops is an outcome.
pub fn whole(project: &Project, steps: &[Step]) -> Result<Outcome, String> {
    let (actions, _) = actions(steps, &mut || false);
    let play = Play {
        name: "whole".into(),
        detail: None,
        actions,
    };
    one_way(project, &play, 0).map(|(outcome, _)| outcome)
}

pub fn all_ways(project: &Project, name: &str, steps: &[Step], expected: &Expected, seed: u64) -> CaseReport {
    let started = Instant::now();
    let plays = plays(project, steps, seed);
    let mut report = CaseReport {
        name: name.to_owned(),
        passed: true,
        inputs: steps.iter().filter(|step| matches!(step, Step::Record(_))).count(),
        runs: 0,
        ms: 0,
        failure: None,
    };
    let mut first: Option<Outcome> = None;
    for (number, play) in plays.iter().enumerate() {
        report.runs += 1;
        report.failure = match one_way(project, play, number) {
            Err(message) => Some(Failure::stopped(play, message)),
            Ok((_, Some(why))) if !expected.contains_key(&Group::Stops) => {
                Some(Failure::stopped(play, format!("the pipeline stopped: {why}")))
            }
            Ok((outcome, _)) => match &first {
                None => {
                    let differences = with_expected(project, expected, &outcome);
                    first = Some(outcome);
                    Failure::of_whole(play, differences)
                }
                Some(whole) => Failure::of_play(play, compare::runs(whole, &outcome)),
            },
        };
        if report.failure.is_some() {
            report.passed = false;
            break;
        }
    }
    report.ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    report
}

fn with_expected(project: &Project, expected: &Expected, outcome: &Outcome) -> Vec<Difference> {
    compare::with_expected(expected, outcome, |group| match group {
        Group::Topic(topic) => project.topic(topic).is_some_and(|topic| topic.is_output),
        Group::DeadLetters | Group::Stops => true,
        Group::Store(_) => false,
    })
}

/// What came of it, and why the pipeline stopped, if it did. `number` decides which restarts are from the changelogs, so
/// that all are once.
fn one_way(project: &Project, play: &Play, number: usize) -> Result<(Outcome, Option<String>), String> {
    let driver = Driver::new(project.topology.clone(), project.new_processor(), WALL_TIME);
    let mut driver = driver.map_err(|error| error.to_string())?;
    let mut restarts = number;
    let world = project.world();
    world.begin(WALL_TIME);
    for action in play.actions.iter().chain([&Action::Commit]) {
        let done = match action {
            Action::Pipe(records) => driver.pipe(records.clone()),
            Action::Commit => driver.commit(),
            Action::Advance(ms) => {
                world.advance(*ms);
                driver.advance_wall(*ms)
            }
            Action::Restart => {
                restarts += 1;
                driver.restart(if restarts.is_multiple_of(2) {
                    RestoreFrom::Stores
                } else {
                    RestoreFrom::Changelogs
                })
            }
        };
        match done {
            Ok(()) => {}
            Err(error @ driver::Error::Task { .. }) => {
                let why = error.to_string();
                return Ok((Outcome::of(project, &driver, Some(&why)), Some(why)));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    if let Some((records, until)) = driver.waiting() {
        let ms = until - driver.wall_time();
        return Err(format!(
            "{records} records still wait at the end, for a retry in {ms} ms\nhint: end the input with {{\"advance\": {ms}}}"
        ));
    }
    Ok((Outcome::of(project, &driver, None), None))
}

/// Ways that are told apart by their cuts; the whole comes first.
fn plays(project: &Project, steps: &[Step], seed: u64) -> Vec<Play> {
    let mut seen = BTreeSet::new();
    let mut plays = Vec::new();
    let mut add = |name: String, detail: Option<String>, cut: &mut dyn FnMut() -> bool| {
        let (actions, sizes) = actions(steps, cut);
        if seen.insert(sizes.clone()) {
            let detail = detail.map(|seed| format!("batches of {sizes:?}; {seed}"));
            plays.push(Play { name, detail, actions });
        }
    };
    add("whole".into(), None, &mut || false);
    add("one by one".into(), None, &mut || true);
    for number in 1..=RANDOM_CUTS {
        let mut random = Random(seed.wrapping_mul(31).wrapping_add(number as u64));
        add(
            format!("cut {number}"),
            Some(format!("repeat with --seed {seed}")),
            &mut || random.next().is_multiple_of(3),
        );
    }
    let on_commit = project.topology.stores.iter().any(|store| store.emit == Emit::OnCommit);
    if !on_commit {
        let detail = "a processor that keeps something outside of its stores loses it at a restart";
        let (actions, _) = actions(steps, &mut || true);
        let restarted = |action: Action| {
            let again = matches!(action, Action::Pipe(_)).then_some(Action::Restart);
            std::iter::once(action).chain(again)
        };
        let actions: Vec<Action> = actions.into_iter().flat_map(restarted).collect();
        if actions.contains(&Action::Restart) {
            let name = "restarted after every record".to_owned();
            plays.push(Play {
                name,
                detail: Some(detail.into()),
                actions,
            });
        }
    }
    plays
}

/// Records up to the next line of another kind are piped together unless `cut`, asked between two, says otherwise.
/// Also the sizes of what is piped, with a 0 for each line of another kind.
fn actions(steps: &[Step], cut: &mut dyn FnMut() -> bool) -> (Vec<Action>, Vec<usize>) {
    let mut actions = Vec::new();
    for step in steps {
        let action = match step {
            Step::Commit => Action::Commit,
            Step::Restart => Action::Restart,
            Step::Advance(ms) => Action::Advance(*ms),
            Step::Record(piped) => match actions.last_mut() {
                Some(Action::Pipe(records)) if !cut() => {
                    records.push(piped.clone());
                    continue;
                }
                _ => Action::Pipe(vec![piped.clone()]),
            },
        };
        actions.push(action);
    }
    let sizes = actions.iter().map(|action| match action {
        Action::Pipe(records) => records.len(),
        _ => 0,
    });
    let sizes = sizes.collect();
    (actions, sizes)
}

/// Small and the same everywhere: a seed that is printed today repeats a failure tomorrow. (splitmix64)
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
