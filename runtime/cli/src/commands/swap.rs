//! `swap`, `rollback`, `promote`, `versions`: one version after another, and what ran when.

mod follow;

pub use follow::{follow, standing};

use super::module;
use crate::args::{Change, Global, Named, PromoteArgs, RollbackArgs, SwapArgs, TermArgs, VersionsArgs};
use crate::client::Client;
use crate::failure::{Code, Exit};
use crate::show;
use anyhow::{Context, Result, anyhow};
use server::api::{Asked, Module, Swap, SwapBounds, SwapRequest, SwapTerms, VersionChange, Versions};
use std::collections::BTreeMap;
use std::path::Path;

pub fn swap(global: &Global, client: &Client, args: &SwapArgs) -> Result<()> {
    let mut steps = BTreeMap::new();
    for Change { step, module } in &args.changes {
        let module = match module {
            Named::Registered(name) => name.clone(),
            Named::File(path) => {
                let module: Module = module::add(client, path)?;
                format!("{}@{}", module.name, module.version)
            }
        };
        if steps.insert(step.clone(), module).is_some() {
            return Err(anyhow!("step `{step}` is named twice"));
        }
    }
    // Looked at first: a file that cannot be edited is to stop nothing halfway.
    if let Some(file) = &args.write {
        written(file, &steps)?;
    }
    let request = SwapRequest {
        steps,
        terms: terms(&args.terms, args.canary, args.shadow),
        by: caller(),
    };
    let wanted: Vec<String> = request
        .steps
        .iter()
        .map(|(step, module)| format!("{step}={module}"))
        .collect();
    show::say(&format!(
        "{}: preparing {} beside what runs",
        args.pipeline,
        wanted.join(" ")
    ));
    let begun: Swap = client.post(&format!("/v1/pipelines/{}/swap", args.pipeline), &request)?;
    let ended = follow(client, begun, args.detach, args.terms.watch)?;
    if let Some(file) = args.write.as_ref().filter(|_| ended.phase == "swapped") {
        let modules = ended.steps.iter().map(|step| (step.step.clone(), step.to.clone()));
        let modules: BTreeMap<String, String> = modules.collect();
        let modules = if modules.is_empty() { request.steps } else { modules };
        let text = written(file, &modules)?;
        std::fs::write(file, text).with_context(|| format!("failed to write `{}`", file.display()))?;
        show::say(&format!("{} names it now", file.display()));
    }
    tell(global, &ended)
}

pub fn rollback(global: &Global, client: &Client, args: &RollbackArgs) -> Result<()> {
    let path = format!("/v1/pipelines/{}/rollback", args.pipeline);
    let begun: Swap = client.post(&path, &Asked { by: caller() })?;
    let under_way = begun.phase == "rolling-back" || begun.phase == "rolled-back";
    let ended = follow(client, begun, args.detach, None)?;
    // To go back was what was asked for.
    if under_way && ended.phase == "rolled-back" {
        return show::either(global.format, &ended, |ended| show::line(&result(ended)));
    }
    tell(global, &ended)
}

pub fn promote(global: &Global, client: &Client, args: &PromoteArgs) -> Result<()> {
    let path = format!("/v1/pipelines/{}/promote", args.pipeline);
    let begun: Swap = client.post(&path, &Asked { by: caller() })?;
    let ended = follow(client, begun, args.detach, None)?;
    tell(global, &ended)
}

/// The result on stdout; an exit code of its own where the new version was rolled back.
pub fn tell(global: &Global, ended: &Swap) -> Result<()> {
    show::either(global.format, ended, |ended| show::line(&result(ended)))?;
    if ended.phase == "rolled-back" {
        return Err(Exit::silent(Code::RolledBack));
    }
    Ok(())
}

/// `word-count: words=tokenize@2.0.0`: what runs, or what it is coming to.
fn result(swap: &Swap) -> String {
    let back = matches!(swap.phase.as_str(), "rolled-back" | "rolling-back");
    let step = |step: &server::api::SwapStep| format!("{}={}", step.step, if back { &step.from } else { &step.to });
    let steps: Vec<String> = swap.steps.iter().map(step).collect();
    let state = match swap.phase.as_str() {
        "swapped" if swap.steps.is_empty() => "nothing to swap".to_owned(),
        "swapped" => String::new(),
        "switching" if swap.mode != "all" => format!("  ({})", swap.mode),
        phase => format!("  ({phase})"),
    };
    format!("{}: {}{state}", swap.pipeline, steps.join(" "))
}

pub fn terms(args: &TermArgs, canary: Option<u32>, shadow: bool) -> SwapTerms {
    SwapTerms {
        canary,
        shadow,
        probation_ms: args.probation.and_then(|probation| probation.ms),
        probation_records: args.probation.and_then(|probation| probation.records),
        watch_ms: args.watch,
        bounds: SwapBounds {
            traps: args.traps_max,
            dead_letters: args.dead_letters_max,
            slower: args.slower_max,
            call_us: args.call_max.map(|ms| ms * 1_000),
        },
    }
}

/// `user@host`, for the history.
pub fn caller() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let host = host
        .ok()
        .map(|host| host.trim().to_owned())
        .filter(|host| !host.is_empty());
    [user, host].into_iter().flatten().collect::<Vec<_>>().join("@")
}

/// The file with these modules in its steps.
fn written(file: &Path, modules: &BTreeMap<String, String>) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read `{}`", file.display()))?;
    pipeline::with_modules(&text, modules)
        .map_err(|problems| anyhow!("`{}` cannot be written: {}", file.display(), problems.join("; ")))
}

pub fn versions(global: &Global, client: &Client, args: &VersionsArgs) -> Result<()> {
    let versions: Versions = client.get(&format!("/v1/pipelines/{}/versions", args.pipeline), &[])?;
    show::either(global.format, &versions, print)
}

fn print(versions: &Versions) {
    if versions.running.is_empty() {
        show::line(&format!("{} runs no module", versions.pipeline));
        return;
    }
    let running = versions.running.iter().map(|(step, id)| {
        let digest = id.digest.get(..12).unwrap_or(&id.digest).to_owned();
        vec![step.clone(), id.module.clone(), digest]
    });
    show::table(&["step", "runs", "sha256"], &[], running.collect());
    if let Some(swap) = &versions.swap {
        show::line("");
        for line in follow::standing(swap) {
            show::line(&line);
        }
    }
    if versions.history.is_empty() {
        return;
    }
    show::line("");
    let rows = versions.history.iter().flat_map(|change| {
        change.steps.iter().map(|step| {
            vec![
                show::time(change.at),
                step.step.clone(),
                if step.from.is_empty() {
                    "-".to_owned()
                } else {
                    step.from.clone()
                },
                step.to.clone(),
                change.why.clone(),
                change.by.clone(),
                change.outcome.clone(),
            ]
        })
    });
    show::table(
        &["at", "step", "from", "to", "why", "by", "outcome"],
        &[],
        rows.collect(),
    );
    for change in versions.history.iter().filter(|change| change.reason.is_some()) {
        explain(change);
    }
}

/// Why a version was taken back, and what is left of it.
fn explain(change: &VersionChange) {
    let steps: Vec<&str> = change.steps.iter().map(|step| step.to.as_str()).collect();
    show::line(&format!(
        "\n{} {} was {}:",
        show::time(change.at),
        steps.join(", "),
        change.outcome.replace('-', " ")
    ));
    for line in change.reason.iter().flat_map(|reason| reason.lines()) {
        show::line(&format!("  {line}"));
    }
    for line in follow::left_behind(&change.written) {
        show::line(&format!("  {line}"));
    }
}
