//! What was measured, one JSON line a run, appended when the run has ended: so an interrupted set goes on where it
//! stopped.

use crate::process::load_average;
use crate::programs::{Guarantee, Job, System};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// What kind of measurement a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Throughput,
    Restore,
    Crash,
    Latency,
    Embedded,
    Curve,
}

/// The setting of a measurement; rounds repeat it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cell {
    pub what: What,
    pub job: Job,
    pub guarantee: Guarantee,
    pub threads: usize,
    pub records: u64,
    pub keys: u64,
    /// What else makes it different, e.g. `linger 0`.
    #[serde(default)]
    pub variant: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    #[serde(flatten)]
    pub cell: Cell,
    pub system: System,
    pub round: u32,
    /// Seconds since 1970.
    pub at: u64,
    /// Load average of the last minute when it began.
    pub load: f64,
    /// By name, with the unit in the name.
    pub figures: BTreeMap<String, f64>,
}

impl Row {
    pub fn new(cell: &Cell, system: System, round: u32) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            cell: cell.clone(),
            system,
            round,
            at: now.map_or(0, |t| t.as_secs()),
            load: load_average(),
            figures: BTreeMap::new(),
        }
    }

    pub fn set(&mut self, name: &str, value: f64) {
        if value.is_finite() {
            self.figures.insert(name.to_owned(), value);
        }
    }
}

pub struct Results {
    path: PathBuf,
    pub rows: Vec<Row>,
}

impl Results {
    pub fn open(path: PathBuf) -> Result<Self> {
        let text = if path.exists() {
            std::fs::read_to_string(&path)?
        } else {
            String::new()
        };
        let rows = text
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("{}: `{line}`", path.display())))
            .collect::<Result<_>>()?;
        Ok(Self { path, rows })
    }

    pub fn has(&self, cell: &Cell, system: System, round: u32) -> bool {
        self.rows
            .iter()
            .any(|row| row.cell == *cell && row.system == system && row.round == round)
    }

    pub fn add(&mut self, row: Row) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        writeln!(file, "{}", serde_json::to_string(&row)?)?;
        self.rows.push(row);
        Ok(())
    }

    /// The cells in the order in which they stand in the table.
    pub fn cells(&self, what: What) -> Vec<Cell> {
        let mut cells: Vec<Cell> = self
            .rows
            .iter()
            .map(|r| r.cell.clone())
            .filter(|c| c.what == what)
            .collect();
        cells.sort();
        cells.dedup();
        cells
    }

    /// The programs that have rows in a cell.
    pub fn systems(&self, cell: &Cell) -> Vec<System> {
        let mut systems: Vec<System> = self.rows.iter().filter(|r| r.cell == *cell).map(|r| r.system).collect();
        systems.sort();
        systems.dedup();
        systems
    }

    /// All rounds of one figure.
    pub fn all(&self, cell: &Cell, system: System, figure: &str) -> Vec<f64> {
        self.rows
            .iter()
            .filter(|row| row.cell == *cell && row.system == system)
            .filter_map(|row| row.figures.get(figure).copied())
            .collect()
    }

    pub fn median(&self, cell: &Cell, system: System, figure: &str) -> Option<f64> {
        median(self.all(cell, system, figure))
    }
}

pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values.get(middle).copied()
    } else {
        Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0)
    }
}

#[test]
fn the_median_of_an_even_number_lies_between() {
    assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    assert_eq!(median(Vec::new()), None);
}
