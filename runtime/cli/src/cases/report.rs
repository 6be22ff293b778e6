//! What a person and a script see of the cases.

use super::compare::{Difference, Marked};
use super::outcome::Row;
use super::play::Play;
use crate::show;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct CaseReport {
    pub name: String,
    pub passed: bool,
    pub inputs: usize,
    /// Ways in which it was played.
    pub runs: usize,
    pub ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The first way of playing that failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The way: `whole`, `one by one`, `cut 2`, `restarted after every record`.
    pub run: String,
    /// Its batches and the seed that repeats it, where they matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What is wrong, in one line; why the pipeline stopped, if it did.
    pub message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Shown>,
}

/// Lines of one topic or store: `  ` both, `- ` expected, `+ ` got.
#[derive(Debug, Serialize)]
pub struct Shown {
    pub of: String,
    pub lines: Vec<String>,
}

impl Failure {
    pub fn stopped(play: &Play, message: String) -> Self {
        Self {
            run: play.name.clone(),
            detail: play.detail.clone(),
            message,
            differences: Vec::new(),
        }
    }

    pub fn of_whole(play: &Play, differences: Vec<Difference>) -> Option<Self> {
        let message = "not as expected (- expected, + got)".to_owned();
        Self::different(play, message, differences)
    }

    /// The whole was as expected, and this run gave something else.
    pub fn of_play(play: &Play, differences: Vec<Difference>) -> Option<Self> {
        let message = format!("as expected when whole, but not when {0} (- whole, + {0})", play.name);
        Self::different(play, message, differences)
    }

    fn different(play: &Play, message: String, differences: Vec<Difference>) -> Option<Self> {
        if differences.is_empty() {
            return None;
        }
        let differences = differences.into_iter().map(|difference| Shown {
            of: difference.group.to_string(),
            lines: difference.lines.iter().map(marked).collect(),
        });
        let differences = differences.collect();
        Some(Self {
            run: play.name.clone(),
            detail: play.detail.clone(),
            message,
            differences,
        })
    }
}

fn marked(line: &Marked) -> String {
    match line {
        Marked::Same(row) => format!("  {}", written(row)),
        Marked::Missing(row) => format!("- {}", written(row)),
        Marked::Extra(row) => format!("+ {}", written(row)),
        Marked::Skipped(count) => format!("  … {count} more"),
    }
}

/// As one would write it into expected.jsonl.
fn written(row: &Row) -> String {
    let field = |(name, value): (&String, &serde_json::Value)| format!("\"{name}\": {value}");
    format!("{{{}}}", row.iter().map(field).collect::<Vec<_>>().join(", "))
}

impl CaseReport {
    pub fn text(&self) -> Vec<String> {
        let mark = if self.passed { "ok    " } else { "FAILED" };
        let (inputs, runs) = (counted(self.inputs, "input"), counted(self.runs, "run"));
        let mut lines = vec![format!(
            "{mark} {}  {inputs}, {runs}, {}",
            self.name,
            show::duration(self.ms)
        )];
        let Some(failure) = &self.failure else { return lines };
        let mut said = failure.message.lines();
        lines.push(format!("  {}: {}", failure.run, said.next().unwrap_or_default()));
        lines.extend(said.map(|line| format!("  {line}")));
        lines.extend(failure.detail.iter().map(|detail| format!("  {detail}")));
        for shown in &failure.differences {
            lines.push(format!("  {}", shown.of));
            lines.extend(shown.lines.iter().map(|line| format!("    {line}")));
        }
        lines
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[derive(Debug, Serialize)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    pub cases: Vec<CaseReport>,
}

impl Summary {
    pub fn new(cases: Vec<CaseReport>) -> Self {
        let passed = cases.iter().filter(|case| case.passed).count();
        Self {
            passed,
            failed: cases.len() - passed,
            cases,
        }
    }

    pub fn text(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}
