//! `wasmill test`: runs the cases of a pipeline without a node or a broker.
//!
//! A case is a folder with `input.jsonl` and `expected.jsonl`: those under `DIR/cases`, or `DIR` itself. `DIR` may also
//! hold folders with a pipeline each. What modules are granted of the world outside, the case scripts (`world`). Every case is played several times, cut into batches in different ways, and all
//! must give the same.

mod compare;
mod lines;
mod outcome;
mod play;
mod project;
mod record;
mod report;
#[cfg(test)]
mod tests;
mod world;

use crate::args::{Format, Global, TestArgs};
use crate::client::Client;
use crate::failure::{Code, Exit};
use crate::show;
use anyhow::{Context, Result, bail};
use project::Project;
use std::path::{Path, PathBuf};

pub fn run(global: &Global, args: &TestArgs) -> Result<()> {
    if let Some(pipeline) = &args.record {
        return record::run(global, &Client::new(global)?, args, pipeline);
    }
    let dir = &args.dir;
    let projects = projects(dir)?;
    let vars = crate::commands::file::vars(&args.vars)?;
    let mut reports = Vec::new();
    let mut there = 0;
    for folder in projects {
        let cases = cases(&folder)?;
        there += cases.len();
        let name = |case: &Path| case_name(&folder, case);
        let wanted = |case: &&PathBuf| args.only.as_ref().is_none_or(|only| name(case).contains(only.as_str()));
        let chosen: Vec<&PathBuf> = cases.iter().filter(wanted).collect();
        if chosen.is_empty() {
            continue;
        }
        let project = Project::load(&folder, &vars)?;
        for case in chosen {
            let report = play::case(&project, &name(case), case, args.seed)?;
            if global.format == Format::Text {
                report.text().iter().for_each(|line| show::line(line));
            }
            reports.push(report);
        }
    }
    if reports.is_empty() {
        match &args.only {
            Some(only) if there > 0 => bail!("none of the {there} cases has `{only}` in its name"),
            _ => bail!(
                "no cases in `{}`\nhint: a case is a folder `cases/NAME` with input.jsonl and expected.jsonl",
                dir.join("cases").display()
            ),
        }
    }
    let summary = report::Summary::new(reports);
    match global.format {
        Format::Json => show::json(&summary)?,
        Format::Text => show::line(&summary.text()),
    }
    if summary.failed > 0 {
        Err(Exit::silent(Code::CasesFailed))
    } else {
        Ok(())
    }
}

/// Folders with a pipeline file: `dir`, or else those in it.
fn projects(dir: &Path) -> Result<Vec<PathBuf>> {
    if dir.join("pipeline.toml").is_file() {
        return Ok(vec![dir.to_owned()]);
    }
    let found: Vec<PathBuf> = folders(dir)?
        .into_iter()
        .filter(|folder| folder.join("pipeline.toml").is_file())
        .collect();
    if found.is_empty() {
        bail!(
            "there is no pipeline.toml in `{}`, nor in the folders in it",
            dir.display()
        );
    }
    Ok(found)
}

fn cases(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.join("input.jsonl").is_file() {
        found.push(folder.to_owned());
    }
    let cases = folder.join("cases");
    if cases.is_dir() {
        found.extend(folders(&cases)?);
    }
    Ok(found)
}

/// In the order of their names.
pub fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = |e: std::io::Error| anyhow::anyhow!("failed to read `{}`: {e}", dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// `FOLDER/CASE`, or `FOLDER` where the folder is the case.
fn case_name(folder: &Path, case: &Path) -> String {
    let name = |path: &Path| {
        let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        full.file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    if folder == case {
        name(folder)
    } else {
        format!("{}/{}", name(folder), name(case))
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))
}
