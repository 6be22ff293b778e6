//! `check`, `plan`, `apply`: what is done with a pipeline file.

use super::{confirmed, module, swap};
use crate::args::{ApplyArgs, FileArgs, Format, Global, VarArgs};
use crate::client::Client;
use crate::failure::{Code, Exit};
use crate::show;
use anyhow::{Context, Result, anyhow};
use pipeline::{ModuleRef, Vars};
use server::api::{ApplyRequest, KeptVersions, Module, Plan};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub fn check(global: &Global, args: &FileArgs) -> Result<()> {
    let request = request(args)?;
    let modules = module_paths(&args.file, &request.file, &vars(&args.vars)?);
    let topology = server::check(&request, &modules).map_err(|refusal| crate::failure::Exit {
        code: Code::User,
        message: refusal.message,
    })?;
    match global.format {
        Format::Json => show::json(&topology),
        Format::Text => {
            show::line(&format!("{}: ok", args.file.display()));
            Ok(())
        }
    }
}

pub fn plan(global: &Global, client: &Client, args: &FileArgs) -> Result<()> {
    let plan: Plan = client.post("/v1/plan", &uploaded(client, args)?)?;
    show::either(global.format, &plan, |plan| print(plan, true))?;
    refuse(&plan)?;
    if plan.changes.is_empty() {
        Ok(())
    } else {
        Err(Exit::silent(Code::PlanHasChanges))
    }
}

pub fn apply(global: &Global, client: &Client, args: &ApplyArgs) -> Result<()> {
    let request = ApplyRequest {
        versions: match (args.force, args.keep_versions) {
            (true, _) => KeptVersions::File,
            (false, true) => KeptVersions::Running,
            (false, false) => KeptVersions::Ask,
        },
        terms: swap::terms(&args.terms, None, false),
        ..uploaded(client, &args.file)?
    };
    let plan: Plan = client.post("/v1/plan", &request)?;
    refuse(&plan)?;
    if plan.changes.is_empty() {
        return show::either(global.format, &plan, |plan| {
            show::line(&format!("{}: nothing to change", plan.pipeline));
        });
    }
    if global.format == Format::Text {
        print(&plan, true);
    }
    if !confirmed("apply?", args.yes)? {
        return Ok(());
    }
    let mut done: Plan = client.post("/v1/pipelines", &request)?;
    if let Some(begun) = done.swap.take() {
        let ended = swap::follow(client, begun, false, None)?;
        return swap::tell(global, &ended);
    }
    show::either(global.format, &done, |done| {
        show::say(&format!("{}: applied", done.pipeline))
    })
}

/// Text of a plan: the drawing, then one line a change.
pub fn print(plan: &Plan, drawing: bool) {
    if drawing {
        show::line(plan.drawing.trim_end());
        show::line("");
    }
    for change in &plan.changes {
        show::line(&format!("  + {:16} {}", change.action, change.what));
    }
    if plan.changes.is_empty() && plan.refused.is_empty() {
        show::line(&format!("{}: nothing to change", plan.pipeline));
    }
}

fn refuse(plan: &Plan) -> Result<()> {
    if plan.refused.is_empty() {
        return Ok(());
    }
    let message = format!(
        "`{}` cannot be applied:\n  {}",
        plan.pipeline,
        plan.refused.join("\n  ")
    );
    Err(Exit {
        code: Code::User,
        message,
    }
    .into())
}

fn request(args: &FileArgs) -> Result<ApplyRequest> {
    let file = std::fs::read_to_string(&args.file)
        .with_context(|| format!("failed to read the pipeline file `{}`", args.file.display()))?;
    let file_name = args.file.display().to_string();
    Ok(ApplyRequest {
        file,
        file_name,
        vars: variables(&args.vars)?,
        by: swap::caller(),
        ..ApplyRequest::default()
    })
}

/// The request with every module that the file names by its path registered at the node.
pub fn uploaded(client: &Client, args: &FileArgs) -> Result<ApplyRequest> {
    let mut request = request(args)?;
    for (name, path) in module_paths(&args.file, &request.file, &vars(&args.vars)?) {
        let module: Module = module::add(client, &path)?;
        request.paths.insert(name, module.digest);
    }
    Ok(request)
}

/// Where the modules are that [`uploaded`] will upload.
pub fn modules(args: &FileArgs) -> Result<Vec<PathBuf>> {
    let file = request(args)?.file;
    Ok(module_paths(&args.file, &file, &vars(&args.vars)?)
        .into_values()
        .collect())
}

/// `--vars FILE`, then `--set NAME=VALUE` over it.
pub fn vars(args: &VarArgs) -> Result<Vars> {
    let mut vars = Vars::default();
    if let Some(file) = &args.vars {
        let text = std::fs::read_to_string(file).with_context(|| format!("failed to read `{}`", file.display()))?;
        let read = vars.file(&text, &file.display().to_string());
        read.map_err(|diagnostics| anyhow!("{}", diagnostics.render(false)))?;
    }
    for set in &args.set {
        vars.set(set).map_err(|e| anyhow!("`--set {set}`: {e}"))?;
    }
    Ok(vars)
}

/// [`vars`] as they go over REST.
pub fn variables(args: &VarArgs) -> Result<BTreeMap<String, String>> {
    Ok(vars(args)?.texts().collect())
}

/// Modules that a file names by path (as it stands there), and where they are, relative to the file. A file that cannot
/// be read as TOML has none: its diagnostics come from the real parser.
pub fn module_paths(file: &Path, text: &str, vars: &Vars) -> BTreeMap<String, PathBuf> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let by_path = |module: ModuleRef| match module {
        ModuleRef::File(path) => Some((path.clone(), folder.join(path))),
        ModuleRef::Registered { .. } => None,
    };
    pipeline::modules(text, vars).into_iter().filter_map(by_path).collect()
}
