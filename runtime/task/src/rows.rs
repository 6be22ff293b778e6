//! Rows on their way through the nodes: their batch, the source row each goes back to, and their path.
//!
//! A path is what a depth-first walk of the records one by one would order rows by (design §4 rule 1): the source row,
//! then at every node on the way the row's ordinal among the outputs of its cause and the position of the child it goes
//! to. Paths are kept only where branches meet again.

use std::sync::Arc;

use arrow_buffer::ScalarBuffer;
use record::Batch;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    ends: Vec<u32>,
    steps: Vec<u32>,
}

impl Paths {
    /// Where rows begin: the source row and the position of the child.
    pub fn of_rows(rows: impl Iterator<Item = [u32; 2]>) -> Self {
        let steps: Vec<u32> = rows.flatten().collect();
        Self {
            ends: (1..=steps.len() as u32 / 2).map(|n| 2 * n).collect(),
            steps,
        }
    }

    pub fn get(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).and_then(|r| self.ends.get(r)).copied().unwrap_or(0);
        let end = self.ends.get(row).copied().unwrap_or(start);
        self.steps.get(start as usize..end as usize).unwrap_or_default()
    }

    fn push(&mut self, path: &[u32], more: impl IntoIterator<Item = u32>) {
        self.steps.extend_from_slice(path);
        self.steps.extend(more);
        self.ends.push(self.steps.len() as u32);
    }

    fn pick(&self, rows: impl Iterator<Item = usize>) -> Self {
        let mut picked = Self::default();
        for row in rows {
            picked.push(self.get(row), []);
        }
        picked
    }
}

#[derive(Clone, Debug)]
pub struct Rows {
    pub batch: Batch,
    /// Input port of each row; empty: all port 0.
    pub ports: Vec<u8>,
    /// Source row of each row, never decreasing; `None`: row i goes back to source row i.
    pub roots: Option<ScalarBuffer<u32>>,
    pub paths: Option<Arc<Paths>>,
}

/// Which rows of a node's output come from which of its input.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    /// Input row of each row, never decreasing. `None`: row i comes from input row i.
    pub causes: Option<Vec<u32>>,
    /// Number of each row among all rows that its cause has, on all ports. `None`: 0.
    pub ordinals: Option<Vec<u32>>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    pub fn root(&self, row: usize) -> u32 {
        match &self.roots {
            Some(roots) => roots.get(row).copied().unwrap_or_default(),
            None => row as u32,
        }
    }

    /// Whether the node that row `made` came from directly had worked on its cause when row `row` came. What comes of a
    /// row comes after it.
    pub fn is_past(&self, made: usize, row: usize) -> bool {
        let Some(paths) = &self.paths else {
            return made < row;
        };
        let made = paths.get(made);
        // Without the step from that node to this one it is the cause's path.
        made.get(..made.len().saturating_sub(2)).unwrap_or_default() <= paths.get(row)
    }

    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            batch: self.batch.slice(offset, length),
            ports: self
                .ports
                .get(offset..offset + length)
                .map(<[u8]>::to_vec)
                .unwrap_or_default(),
            roots: Some(match &self.roots {
                Some(roots) => roots.slice(offset, length),
                None => (offset as u32..(offset + length) as u32).collect(),
            }),
            paths: self.paths.as_ref().map(|p| Arc::new(p.pick(offset..offset + length))),
        }
    }

    /// What a node made of these rows, on its way to the child at `position`. `paths`: whether it is needed there.
    pub fn derive(&self, batch: Batch, lineage: &Lineage, position: u32, paths: bool) -> Self {
        let cause = |row: usize| match &lineage.causes {
            Some(causes) => causes.get(row).copied().unwrap_or_default() as usize,
            None => row,
        };
        let roots = match (&self.roots, &lineage.causes) {
            (roots, None) => roots.clone(),
            (None, Some(causes)) => Some(causes.iter().copied().collect()),
            (Some(_), Some(causes)) => Some(causes.iter().map(|c| self.root(*c as usize)).collect()),
        };
        let known = self.paths.as_ref().filter(|_| paths);
        let paths = known.map(|paths| {
            let mut derived = Paths::default();
            for row in 0..batch.len() {
                let ordinal = lineage.ordinals.as_ref().and_then(|o| o.get(row)).copied().unwrap_or(0);
                derived.push(paths.get(cause(row)), [ordinal, position]);
            }
            Arc::new(derived)
        });
        Self {
            batch,
            ports: Vec::new(),
            roots,
            paths,
        }
    }

    /// Sets one input port for all rows.
    pub fn with_port(mut self, port: u8) -> Self {
        self.ports = if port == 0 { Vec::new() } else { vec![port; self.len()] };
        self
    }
}

/// Why rows could not be merged.
#[derive(Debug)]
pub enum MergeError {
    /// Some of them come without paths.
    Paths,
    Batch(record::Error),
}

/// All rows in the order of their paths. Each part is in that order already.
pub fn merge(mut parts: Vec<Rows>) -> Result<Option<Rows>, MergeError> {
    parts.retain(|p| p.len() > 0);
    if parts.len() <= 1 {
        return Ok(parts.pop());
    }
    let paths: Option<Vec<&Arc<Paths>>> = parts.iter().map(|p| p.paths.as_ref()).collect();
    let paths = paths.ok_or(MergeError::Paths)?;
    let mut order: Vec<(u32, u32)> = Vec::with_capacity(parts.iter().map(Rows::len).sum());
    for (part, rows) in parts.iter().enumerate() {
        order.extend((0..rows.len() as u32).map(|row| (part as u32, row)));
    }
    let path = |(part, row): &(u32, u32)| paths.get(*part as usize).map_or(&[][..], |p| p.get(*row as usize));
    order.sort_by(|a, b| path(a).cmp(path(b)));
    gather(&parts, &order).map(Some).map_err(MergeError::Batch)
}

/// All rows of parts that follow each other.
pub fn append(mut parts: Vec<Rows>) -> Result<Option<Rows>, record::Error> {
    parts.retain(|p| p.len() > 0);
    if parts.len() <= 1 {
        return Ok(parts.pop());
    }
    let mut order: Vec<(u32, u32)> = Vec::new();
    for (part, rows) in parts.iter().enumerate() {
        order.extend((0..rows.len() as u32).map(|row| (part as u32, row)));
    }
    let batches: Vec<&Batch> = parts.iter().map(|p| &p.batch).collect();
    Ok(Some(columns(&parts, &order, Batch::concat(&batches)?)))
}

fn gather(parts: &[Rows], order: &[(u32, u32)]) -> Result<Rows, record::Error> {
    let batches: Vec<&Batch> = parts.iter().map(|p| &p.batch).collect();
    let starts: Vec<u32> = parts
        .iter()
        .scan(0, |at, p| {
            let start = *at;
            *at += p.len() as u32;
            Some(start)
        })
        .collect();
    let rows: Vec<u32> = order
        .iter()
        .map(|(part, row)| starts.get(*part as usize).copied().unwrap_or_default() + row)
        .collect();
    Ok(columns(parts, order, Batch::concat(&batches)?.take(&rows)?))
}

fn columns(parts: &[Rows], order: &[(u32, u32)], batch: Batch) -> Rows {
    let part = |i: u32| parts.get(i as usize);
    let ports = if parts.iter().all(|p| p.ports.is_empty()) {
        Vec::new()
    } else {
        let port = |(p, r): &(u32, u32)| part(*p).and_then(|p| p.ports.get(*r as usize)).copied().unwrap_or(0);
        order.iter().map(port).collect()
    };
    let roots = order
        .iter()
        .map(|(p, r)| part(*p).map_or(0, |p| p.root(*r as usize)))
        .collect();
    let with_paths = parts.iter().all(|p| p.paths.is_some());
    let paths = with_paths.then(|| {
        let mut merged = Paths::default();
        for (p, r) in order {
            merged.push(
                part(*p)
                    .and_then(|p| p.paths.as_ref())
                    .map_or(&[][..], |p| p.get(*r as usize)),
                [],
            );
        }
        Arc::new(merged)
    });
    Rows {
        batch,
        ports,
        roots: Some(roots),
        paths,
    }
}
