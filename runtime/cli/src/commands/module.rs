//! `module add|list|show|remove`.

use crate::args::{Global, ModuleCommand};
use crate::client::Client;
use crate::show;
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use server::api::Module;
use std::path::Path;
use std::time::Duration;

pub fn run(global: &Global, client: &Client, command: ModuleCommand) -> Result<()> {
    match command {
        ModuleCommand::Add { file } => {
            let module = add(client, &file)?;
            show::either(global.format, &module, |module| {
                let done = if module.new {
                    "registered"
                } else {
                    "was registered already:"
                };
                show::line(&format!(
                    "{done} {}@{} ({})",
                    module.name,
                    module.version,
                    show::size(module.bytes)
                ));
            })
        }
        ModuleCommand::List => {
            let modules: Vec<Module> = client.get("/v1/modules", &[])?;
            show::either(global.format, &modules, |modules| {
                let row = |m: &Module| {
                    let digest = m.digest.get(..12).unwrap_or_default().to_owned();
                    let summary = text(&m.description, "summary");
                    vec![
                        format!("{}@{}", m.name, m.version),
                        show::size(m.bytes),
                        digest,
                        summary,
                    ]
                };
                show::table(
                    &["module", "size", "digest", "summary"],
                    &["size"],
                    modules.iter().map(row).collect(),
                );
            })
        }
        ModuleCommand::Show { id } => {
            let module: Module = client.get(&format!("/v1/modules/{id}"), &[])?;
            show::either(global.format, &module, describe)
        }
        ModuleCommand::Remove { id } => {
            client.delete(&format!("/v1/modules/{id}"))?;
            show::say(&format!("removed {id}"));
            Ok(())
        }
    }
}

/// Uploads and waits for the compilation.
pub fn add(client: &Client, file: &Path) -> Result<Module> {
    let bytes = std::fs::read(file).with_context(|| format!("failed to read the module `{}`", file.display()))?;
    let progress = ProgressBar::new_spinner().with_message(format!("compiling {}", file.display()));
    progress.enable_steady_tick(Duration::from_millis(100));
    let module = client.post_bytes("/v1/modules", &bytes);
    progress.finish_and_clear();
    module
}

fn text(value: &serde_json::Value, field: &str) -> String {
    value.get(field).map(show::cell).unwrap_or_default()
}

fn describe(module: &Module) {
    let d = &module.description;
    show::line(&format!("{}@{}  {}", module.name, module.version, text(d, "summary")));
    show::line(&format!("digest {}  {}", module.digest, show::size(module.bytes)));
    let items = |field: &str| d.get(field).and_then(|v| v.as_array()).cloned().unwrap_or_default();
    for (field, title) in [("inputs", "input"), ("outputs", "output")] {
        for port in items(field) {
            let formats = format!("{} -> {}", text(&port, "key-format"), text(&port, "value-format"));
            show::line(&format!(
                "{title:9} {}  {formats}  {}",
                text(&port, "name"),
                text(&port, "summary")
            ));
        }
    }
    for store in items("stores") {
        let kind = format!("{} schema {}", text(&store, "kind"), text(&store, "schema"));
        show::line(&format!(
            "store     {}  {kind}  {}",
            text(&store, "name"),
            text(&store, "summary")
        ));
    }
    for parameter in items("parameters") {
        let default = match parameter.get("default") {
            None | Some(serde_json::Value::Null) => "must be given".to_owned(),
            Some(value) => format!("default {}", show::cell(value)),
        };
        let kind = text(&parameter, "kind");
        show::line(&format!(
            "param     {}  {kind}, {default}  {}",
            text(&parameter, "name"),
            text(&parameter, "summary")
        ));
    }
}
