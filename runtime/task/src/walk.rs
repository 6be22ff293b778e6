//! A run through the nodes, as batches or row by row, depth first. Both give the same (design §4).

use std::sync::Arc;

use crate::answer::Out;
use crate::call::{Counts, Floor, Halt, Run};
use crate::metrics::NodeCounts;
use crate::plan::{Child, Order, Plan, Work};
use crate::processor::{Context, Processor};
use crate::rows::{MergeError, Paths, Rows, merge};
use crate::stage::Collected;
use crate::watch::{self, Watching};

/// What a run that has passed sends to each output topic.
pub struct Made {
    pub outputs: Vec<(usize, Rows)>,
    pub counts: Counts,
    pub watching: Watching,
}

impl From<MergeError> for Halt {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::Paths => Self::Paths,
            MergeError::Batch(error) => error.into(),
        }
    }
}

/// Walks `run`. `by_row`: row by row although batches would do, so that the first failure found is the first there is.
/// `all_paths`: keep paths everywhere.
pub fn walk(
    plan: &Plan,
    processors: &mut [Option<Box<dyn Processor>>],
    context: &mut Context,
    run: &Run,
    by_row: bool,
    all_paths: bool,
) -> Result<Made, Halt> {
    let counts = Counts {
        dead_letters: 0,
        nodes: vec![NodeCounts::default(); plan.nodes.len()],
    };
    let mut floor = Floor {
        plan,
        processors,
        context,
        run,
        collected: Collected::new(plan),
        counts,
        watching: watch::begin(plan.watch.as_ref()),
    };
    let in_order = match &plan.order {
        Order::Batches(units) if !by_row => {
            batches(&mut floor, units, all_paths)?;
            false
        }
        _ => {
            depth_first(&mut floor)?;
            true
        }
    };
    let Floor {
        collected,
        counts,
        watching,
        ..
    } = floor;
    Ok(Made {
        outputs: collected.finish(in_order)?,
        counts,
        watching,
    })
}

/// Rows that wait at each node, one entry an edge.
type Inbox = Vec<Vec<Rows>>;

fn batches(floor: &mut Floor<'_>, units: &[Vec<usize>], all_paths: bool) -> Result<(), Halt> {
    let mut inbox: Inbox = vec![Vec::new(); floor.plan.nodes.len()];
    for entry in &floor.run.entries {
        let needed = all_paths || floor.plan.nodes.get(entry.child.node).is_some_and(|n| n.paths);
        let rows = Rows {
            batch: entry.batch.clone(),
            ports: Vec::new(),
            roots: entry.roots.as_ref().map(|r| r.iter().copied().collect()),
            paths: None,
        };
        let paths = needed.then(|| {
            let root = |row: usize| [rows.root(row), entry.position];
            Arc::new(Paths::of_rows((0..rows.len()).map(root)))
        });
        put(&mut inbox, entry.child, Rows { paths, ..rows });
    }
    for unit in units {
        match unit.as_slice() {
            [node] => {
                let waiting = inbox.get_mut(*node).map(std::mem::take).unwrap_or_default();
                if matches!(floor.plan.nodes.get(*node).map(|n| &n.work), Some(Work::Output { .. })) {
                    for rows in waiting {
                        floor.output(*node, rows)?;
                    }
                } else if let Some(rows) = merge(waiting)? {
                    let outs = floor.work(*node, &rows)?;
                    deliver(floor.plan, &mut inbox, *node, &rows, outs, all_paths);
                }
            }
            nodes => stretches(floor, &mut inbox, nodes, all_paths)?,
        }
    }
    Ok(())
}

fn put(inbox: &mut Inbox, child: Child, rows: Rows) {
    if let Some(waiting) = inbox.get_mut(child.node) {
        waiting.push(rows.with_port(child.port));
    }
}

fn deliver(plan: &Plan, inbox: &mut Inbox, node: usize, rows: &Rows, outs: Vec<Out>, all_paths: bool) {
    for out in outs {
        let children = plan.nodes.get(node).and_then(|n| n.ports.get(out.port as usize));
        for (position, child) in (0..).zip(children.into_iter().flatten()) {
            let needed = all_paths || plan.nodes.get(child.node).is_some_and(|n| n.paths);
            put(
                inbox,
                *child,
                rows.derive(out.batch.clone(), &out.lineage, position, needed),
            );
        }
    }
}

/// Nodes that share a store take turns, in the order of the paths of their rows.
fn stretches(floor: &mut Floor<'_>, inbox: &mut Inbox, nodes: &[usize], all_paths: bool) -> Result<(), Halt> {
    let mut waiting = Vec::new();
    for node in nodes {
        let parts = inbox.get_mut(*node).map(std::mem::take).unwrap_or_default();
        if let Some(rows) = merge(parts)? {
            waiting.push((*node, rows));
        }
    }
    if let [(_, rows)] = waiting.as_slice()
        && rows.paths.is_none()
    {
        return turn(floor, inbox, &waiting, 0, 0, rows.len(), all_paths);
    }
    let mut order: Vec<(u32, u32)> = Vec::new();
    for (part, (_, rows)) in (0..).zip(&waiting) {
        order.extend((0..rows.len() as u32).map(|row| (part, row)));
    }
    let path = |(part, row): &(u32, u32)| {
        let paths = waiting.get(*part as usize).and_then(|(_, r)| r.paths.as_ref());
        paths.map_or(&[][..], |p| p.get(*row as usize))
    };
    if waiting.iter().any(|(_, rows)| rows.paths.is_none()) {
        return Err(Halt::Paths);
    }
    order.sort_by(|a, b| path(a).cmp(path(b)));
    for stretch in order.chunk_by(|a, b| a.0 == b.0) {
        if let Some((part, first)) = stretch.first() {
            turn(
                floor,
                inbox,
                &waiting,
                *part as usize,
                *first as usize,
                stretch.len(),
                all_paths,
            )?;
        }
    }
    Ok(())
}

fn turn(
    floor: &mut Floor<'_>,
    inbox: &mut Inbox,
    waiting: &[(usize, Rows)],
    part: usize,
    first: usize,
    length: usize,
    all_paths: bool,
) -> Result<(), Halt> {
    let Some((node, rows)) = waiting.get(part) else {
        return Ok(());
    };
    let rows = rows.slice(first, length);
    let outs = floor.work(*node, &rows)?;
    deliver(floor.plan, inbox, *node, &rows, outs, all_paths);
    Ok(())
}

fn depth_first(floor: &mut Floor<'_>) -> Result<(), Halt> {
    let run: &Run = floor.run;
    let mut next = vec![0_usize; run.entries.len()];
    for root in 0..run.rows as u32 {
        for (entry, next) in run.entries.iter().zip(&mut next) {
            let row = match &entry.roots {
                None => root as usize,
                Some(roots) if roots.get(*next) == Some(&root) => *next,
                Some(_) => continue,
            };
            *next = row + 1;
            let batch = entry.batch.slice(row, 1);
            let rows = Rows {
                batch,
                ports: Vec::new(),
                roots: Some(vec![root].into()),
                paths: None,
            };
            visit(floor, entry.child, rows)?;
        }
    }
    Ok(())
}

/// One row at one node, then everything that comes of it.
fn visit(floor: &mut Floor<'_>, child: Child, rows: Rows) -> Result<(), Halt> {
    let rows = rows.with_port(child.port);
    let plan = floor.plan;
    let Some(node) = plan.nodes.get(child.node) else {
        return Ok(());
    };
    if matches!(node.work, Work::Output { .. }) {
        return floor.output(child.node, rows);
    }
    let outs = floor.work(child.node, &rows)?;
    // The ordinals number the rows of all ports together; without them there is one row.
    let mut order: Vec<(u32, usize, usize)> = Vec::new();
    for (index, out) in outs.iter().enumerate() {
        for row in 0..out.batch.len() {
            let ordinal = out
                .lineage
                .ordinals
                .as_ref()
                .and_then(|o| o.get(row))
                .copied()
                .unwrap_or(0);
            order.push((ordinal, index, row));
        }
    }
    order.sort_unstable();
    for (_, index, row) in order {
        let Some(out) = outs.get(index) else { continue };
        for child in node.ports.get(out.port as usize).into_iter().flatten() {
            let made = Rows {
                batch: out.batch.slice(row, 1),
                ports: Vec::new(),
                roots: rows.roots.clone(),
                paths: None,
            };
            visit(floor, *child, made)?;
        }
    }
    Ok(())
}
