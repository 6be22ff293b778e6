//! What must be true of a world at its end.

use crate::case::Case;
use crate::disk;
use crate::drawn::Drawn;
use crate::node::{Node, Settings};
use crate::pipeline::{DEAD, Expected, OUTPUT, PARTITIONS, PIPELINE};
use crate::swap;
use crate::world::Row;
use record::TopicPartition;
use state::memory::Memory;
use std::collections::BTreeMap;
use topology::{Emit, Guarantee};
use worker::TaskState;
use worker::control::PipelineRecord;

/// Every source was processed and committed to its end, nothing is open, every task runs.
pub fn at_rest(settings: &Settings, nodes: &mut [Node]) -> bool {
    let world = &settings.world;
    // A leader may be fencing threads that stood still and live again: what it does is not over.
    if world.unsettled() || nodes.iter().any(|n| n.process.as_ref().is_none_or(|p| !p.settled)) {
        return false;
    }
    let topics = settings.topology.sub_topologies.iter().flat_map(|s| &s.topics);
    let mut sources = topics.flat_map(|t| (0..PARTITIONS).map(move |p| TopicPartition::new(t.as_str(), p)));
    let done = sources.all(|p| {
        let last = world.rows(&p.topic, p.partition).last().map_or(-1, |r| r.offset);
        world.committed(PIPELINE, &p).is_some_and(|at| at > last)
    });
    done && settings.tasks.iter().all(|task| holder(nodes, *task).is_some()) && copies_at_rest(settings, nodes)
}

/// As many copies as there can be, with all that there is.
fn copies_at_rest(settings: &Settings, nodes: &[Node]) -> bool {
    let Some(standbys) = settings.standbys else { return true };
    // Its own lag is of the ends that it has heard of.
    let whole = |(changelog, at): &(TopicPartition, i64)| {
        let rows = settings.world.rows(&changelog.topic, changelog.partition);
        rows.last().is_none_or(|last| last.offset < *at)
    };
    let copies = nodes.iter().flat_map(|n| &n.process).map(|process| {
        let copies = process.shelf.snapshots(|_| true).unwrap();
        copies.iter().filter(|copy| copy.positions.iter().all(whole)).count()
    });
    copies.sum::<usize>() == settings.stateful().len() * standbys.min(nodes.len() - 1)
}

/// The node that runs a task.
fn holder(nodes: &mut [Node], task: task::TaskId) -> Option<usize> {
    nodes.iter_mut().position(|node| {
        node.process.as_mut().is_some_and(|p| {
            p.threads.iter_mut().any(|t| {
                t.worker
                    .status()
                    .tasks
                    .iter()
                    .any(|s| s.task == task && s.state == TaskState::Running)
            })
        })
    })
}

pub fn statuses(nodes: &mut [Node]) -> String {
    let mut text = String::new();
    for node in nodes {
        for thread in node.process.iter_mut().flat_map(|p| &mut p.threads) {
            let status = thread.worker.status();
            text.push_str(&format!("\n  {}: {:?} {:?}", thread.id, status.phase, status.trouble));
            for task in status.tasks {
                text.push_str(&format!("\n    {} e{}: {:?}", task.task, task.task_epoch, task.state));
                text.push_str(&format!(" {:?}", task.swap));
            }
        }
    }
    text
}

pub fn all(
    settings: &Settings,
    nodes: &mut [Node],
    expected: &Expected,
    case: Case,
    record: &PipelineRecord,
    drawn: Option<&Drawn>,
) -> Result<(), String> {
    versions(settings, nodes, record)?;
    if let Some(drawn) = drawn {
        drawn.check(&settings.world)?;
        return stores(settings, nodes);
    }
    if case.guarantee == Guarantee::ExactlyOnce {
        swap::check(settings, record)?;
    }
    outputs(settings, expected, case)?;
    dead_letters(settings, expected, case)?;
    stores(settings, nodes)
}

/// Exactly one version runs everywhere, and it is the one that the record names.
fn versions(settings: &Settings, nodes: &[Node], record: &PipelineRecord) -> Result<(), String> {
    for thread in nodes.iter().flat_map(|n| &n.process).flat_map(|p| &p.threads) {
        // A task that waits for its start has none yet.
        let runs = |task: &worker::TaskStatus| task.state == TaskState::Running;
        for task in thread.worker.status().tasks.into_iter().filter(runs) {
            if task.versions != record.versions {
                return Err(format!(
                    "task {} runs {:?} and the record says {:?}",
                    task.task, task.versions, record.versions
                ));
            }
            let metrics = thread.worker.task_metrics().find(|(id, _)| *id == task.task);
            if metrics.is_none() && settings.tasks.contains(&task.task) {
                return Err(format!("task {} is not open", task.task));
            }
        }
    }
    Ok(())
}

fn by_key(settings: &Settings, topic: &str) -> BTreeMap<Vec<u8>, Vec<i64>> {
    let mut counts: BTreeMap<Vec<u8>, Vec<i64>> = BTreeMap::new();
    for Row { key, value, .. } in (0..PARTITIONS).flat_map(|p| settings.world.rows(topic, p)) {
        let count = value.and_then(|v| v.try_into().ok()).map_or(-1, i64::from_be_bytes);
        counts.entry(key.unwrap_or_default()).or_default().push(count);
    }
    counts
}

/// How often each word went to the dead letters beyond what must: a version that traps sends rows there, and under
/// at-least-once taking it back leaves them there. They are not lost.
fn set_aside(settings: &Settings, expected: &Expected) -> BTreeMap<Vec<u8>, i64> {
    let mut words: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for row in (0..PARTITIONS).flat_map(|p| settings.world.rows(DEAD, p)) {
        let dead = (row.key.unwrap_or_default(), row.value.unwrap_or_default());
        if !expected.dead.contains_key(&dead) {
            for word in dead.1.split(|byte| *byte == b' ') {
                *words.entry(word.to_vec()).or_default() += 1;
            }
        }
    }
    words
}

fn outputs(settings: &Settings, expected: &Expected, case: Case) -> Result<(), String> {
    let found = by_key(settings, OUTPUT);
    let set_aside = set_aside(settings, expected);
    let exactly_once = case.guarantee == Guarantee::ExactlyOnce;
    for (word, n) in &expected.words {
        let counts = found.get(word).cloned().unwrap_or_default();
        let good = match (exactly_once, case.emit) {
            (true, Emit::EveryUpdate) => counts.iter().copied().eq(1..=*n),
            (true, Emit::OnCommit) => counts.is_sorted_by(|a, b| a < b) && counts.last() == Some(n),
            (false, _) => counts.last().unwrap_or(&0) + set_aside.get(word).unwrap_or(&0) >= *n,
        };
        if !good {
            let word = String::from_utf8_lossy(word);
            return Err(format!(
                "`{word}` should be counted to {n}, but the output says {counts:?}"
            ));
        }
    }
    match found.keys().find(|word| !expected.words.contains_key(*word)) {
        Some(word) if exactly_once => Err(format!("`{}` should not come out", String::from_utf8_lossy(word))),
        _ => Ok(()),
    }
}

fn dead_letters(settings: &Settings, expected: &Expected, case: Case) -> Result<(), String> {
    let mut found: BTreeMap<(Vec<u8>, Vec<u8>), usize> = BTreeMap::new();
    for row in (0..PARTITIONS).flat_map(|p| settings.world.rows(DEAD, p)) {
        *found
            .entry((row.key.unwrap_or_default(), row.value.unwrap_or_default()))
            .or_default() += 1;
    }
    let good = match case.guarantee {
        Guarantee::ExactlyOnce => found == expected.dead,
        Guarantee::AtLeastOnce => expected
            .dead
            .iter()
            .all(|(row, n)| found.get(row).is_some_and(|f| f >= n)),
    };
    if good {
        Ok(())
    } else {
        Err(format!("dead letters {found:?} instead of {:?}", expected.dead))
    }
}

/// Live rows of every store equal what its changelog alone gives.
fn stores(settings: &Settings, nodes: &mut [Node]) -> Result<(), String> {
    for task in &settings.tasks {
        let memory = nodes
            .iter_mut()
            .find_map(|node| (node.process.is_some() && holds(node, *task)).then_some(node))
            .and_then(|n| n.disk.memory(*task));
        let memory = memory.ok_or_else(|| format!("nobody has task {task}"))?;
        let scratch = Memory::default();
        let topology = &settings.topology;
        let code = crate::swap::Code::FIRST;
        let processors = disk::processors(topology, *task, code, &settings.dice, 0.0);
        let backend = Box::new(scratch.clone());
        let mut replica = disk::make(topology, &settings.world, *task, processors, backend)?;
        for (store, changelog) in replica.changelogs().to_vec().iter().enumerate() {
            let (rows, next) = disk::rows(&settings.world, &changelog.topic, changelog.partition);
            let restored = replica.restore(store, &rows, next);
            restored
                .map_err(|e| e.to_string())
                .and_then(|()| replica.flush_state().map_err(|e| e.to_string()))?;
            let others = nodes.iter().filter(|node| copies(node, *task));
            let copies = others.filter_map(|node| Some((node.name.as_str(), node.disk.memory(*task)?)));
            for (place, memory) in copies.chain([("its owner", memory.clone())]) {
                if memory.entries(store) != scratch.entries(store) {
                    return Err(format!(
                        "store {store} of task {task} at {place} differs from its changelog {changelog}:\n  {:?}\n  {:?}",
                        memory.entries(store),
                        scratch.entries(store)
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Whether a copy of the task lies there; what it has read is in its backend after this.
fn copies(node: &Node, task: task::TaskId) -> bool {
    let shelf = node.process.as_ref().map(|process| &process.shelf);
    shelf.is_some_and(|shelf| !shelf.snapshots(|id| id == task).unwrap().is_empty())
}

/// Whether the task runs there; what it has committed is in its backend after this.
fn holds(node: &mut Node, task: task::TaskId) -> bool {
    let threads = node.process.iter_mut().flat_map(|p| &mut p.threads);
    threads
        .filter_map(|t| t.worker.snapshots().ok())
        .flatten()
        .any(|s| s.task == task)
}
