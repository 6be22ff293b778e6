//! Conditions on a row, ready to be asked: filters, branches, and the topic that a row goes to.

use expressions::{Compiled, Row};
use record::Batch;
use topology::{Expression, Filter, Predicate, Route};

use crate::branch;
use crate::{Applied, Error, Stage};

/// A predicate, its expression compiled once.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Plain(Predicate),
    Expression(Evaluated),
}

impl Condition {
    pub fn new(predicate: &Predicate) -> Self {
        match predicate {
            Predicate::Where(expression) => Self::Expression(Evaluated::new(expression)),
            plain => Self::Plain(plain.clone()),
        }
    }

    /// # Errors
    /// [`Error::Row`] for a row that cannot be looked into.
    pub fn holds(&self, batch: &Batch, row: usize) -> Result<bool, Error> {
        match self {
            Self::Plain(predicate) => {
                branch::holds(predicate, batch, row).map_err(|reason| failed(row, Stage::Deserialization, reason))
            }
            Self::Expression(evaluated) => {
                let compiled = evaluated.get(row)?;
                compiled
                    .holds(&seen(batch, row))
                    .map_err(|error| evaluation(row, error))
            }
        }
    }
}

/// An expression that `pipeline` has compiled before. Were it none all the same, rows say so.
#[derive(Clone, Debug)]
pub(crate) struct Evaluated(Result<Compiled, String>);

impl Evaluated {
    pub fn new(expression: &Expression) -> Self {
        let named = |problem| format!("`{}`: {problem}", expression.text);
        Self(Compiled::new(expression).map_err(named))
    }

    pub fn get(&self, row: usize) -> Result<&Compiled, Error> {
        let refused = |reason: &String| failed(row, Stage::Processing, reason.clone());
        self.0.as_ref().map_err(refused)
    }
}

pub(crate) fn seen(batch: &Batch, row: usize) -> Row<'_> {
    Row {
        key: batch.key(row),
        value: batch.value(row),
        timestamp: batch.timestamps().get(row).copied().unwrap_or_default(),
        headers: batch.headers().map(|headers| headers.row(row)).unwrap_or_default(),
    }
}

pub(crate) fn failed(row: usize, stage: Stage, reason: String) -> Error {
    Error::Row {
        row: row as u32,
        stage,
        reason,
    }
}

pub(crate) fn evaluation(row: usize, error: expressions::Error) -> Error {
    match error {
        expressions::Error::Deserialization(reason) => failed(row, Stage::Deserialization, reason),
        expressions::Error::Evaluation(reason) => failed(row, Stage::Processing, reason),
    }
}

/// Keeps rows.
#[derive(Clone, Debug)]
pub struct Filtering {
    condition: Condition,
    not: bool,
}

impl Filtering {
    pub fn new(filter: &Filter) -> Self {
        Self {
            condition: Condition::new(&filter.condition),
            not: filter.not,
        }
    }

    /// What a filter leaves out is not counted as dropped: leaving it out is its work.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row whose condition fails.
    pub fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        let mut kept: Vec<u32> = Vec::new();
        for row in 0..batch.len() {
            if self.condition.holds(batch, row)? != self.not {
                kept.push(row as u32);
            }
        }
        let all = kept.len() == batch.len();
        Ok(Applied {
            rows: if all { batch.clone() } else { batch.take(&kept)? },
            causes: (!all).then_some(kept),
            dropped: 0,
        })
    }
}

/// Gives rows to topics by name.
#[derive(Clone, Debug)]
pub struct Routing {
    topic: Evaluated,
    topics: Vec<String>,
}

impl Routing {
    pub fn new(route: &Route) -> Self {
        Self {
            topic: Evaluated::new(&route.topic),
            topics: route.topics.clone(),
        }
    }

    /// The port of each row.
    ///
    /// # Errors
    /// [`Error::Row`] for a row whose expression fails or gives another name.
    pub fn ports(&self, batch: &Batch) -> Result<Vec<u32>, Error> {
        (0..batch.len())
            .map(|row| {
                let found = self.topic.get(row)?.json(&seen(batch, row), None);
                let name = found.map_err(|error| evaluation(row, error))?;
                let port = self.topics.iter().position(|topic| name.as_str() == Some(topic));
                port.map(|port| port as u32).ok_or_else(|| {
                    let name: String = name.to_string().chars().take(80).collect();
                    let reason = format!("{name} is none of the sink's topics: {}", self.topics.join(", "));
                    failed(row, Stage::Processing, reason)
                })
            })
            .collect()
    }
}
