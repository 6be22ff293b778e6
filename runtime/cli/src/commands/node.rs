//! `serve` and `run`: this process is the node.

use super::{file, start_logging};
use crate::args::{FileArgs, Global, NodeArgs, RunArgs};
use crate::client::Client;
use crate::failure::Exit;
use crate::show;
use anyhow::{Context, Result};
use server::api::{Pipeline, Plan};
use server::{Config, Server};
use std::path::PathBuf;
use std::time::Duration;

/// How often `run` looks whether its pipeline still runs.
const WATCH: Duration = Duration::from_millis(500);

pub fn serve(global: &Global, args: &NodeArgs) -> Result<()> {
    start_logging(&global.log, global.log_json);
    let config = config(args)?;
    let server = start(&config, Vec::new())?;
    announce(&server, &config);
    server.wait().map_err(|e| Exit::ours(e.to_string()))
}

pub fn run(global: &Global, args: &RunArgs) -> Result<()> {
    start_logging(&global.log, global.log_json);
    let config = config(&args.node)?;
    let is_module = args.file.extension().is_some_and(|e| e == "wasm");
    let path = if is_module {
        write_file_for(&args.file)?
    } else {
        args.file.clone()
    };
    let file = FileArgs {
        file: path,
        vars: args.vars.clone(),
    };
    let server = start(&config, file::modules(&file)?)?;
    announce(&server, &config);
    let client = Client::own(&server, &config)?;
    let applied = file::uploaded(&client, &file).and_then(|request| client.post::<Plan>("/v1/pipelines", &request));
    let plan = match applied {
        Ok(plan) => plan,
        Err(error) => {
            server.stop();
            return Err(error);
        }
    };
    show::say(&format!("running {}; Ctrl-C stops", plan.pipeline));
    let failed = server.wait_or(WATCH, || {
        let pipeline: Pipeline = client.get(&format!("/v1/pipelines/{}", plan.pipeline), &[]).ok()?;
        (pipeline.state == "failed").then(|| why(&pipeline))
    });
    match failed.map_err(|e| Exit::ours(e.to_string()))? {
        Some(reason) => Err(anyhow::anyhow!("{} stopped: {reason}", plan.pipeline)),
        None => Ok(()),
    }
}

pub fn why(pipeline: &Pipeline) -> String {
    let reason = |task: &server::api::Task| {
        task.reason
            .as_ref()
            .map(|reason| format!("task {}: {reason}", task.task))
    };
    let reasons = pipeline.tasks.iter().filter_map(reason);
    pipeline
        .problems
        .iter()
        .cloned()
        .chain(reasons)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A pipeline file for a bare module, printed so that it can be kept and changed.
fn write_file_for(module: &std::path::Path) -> Result<std::path::PathBuf> {
    let bytes = std::fs::read(module).with_context(|| format!("failed to read `{}`", module.display()))?;
    let text = server::file_for_module(&bytes, module).map_err(|refusal| anyhow::anyhow!(refusal.message))?;
    show::say(&format!("# the pipeline file used:\n{text}"));
    let path = module.with_extension("pipeline.toml");
    std::fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))?;
    Ok(path)
}

pub fn start(config: &Config, modules: Vec<PathBuf>) -> Result<Server> {
    Server::start(config.clone(), modules).map_err(|refusal| crate::failure::not_started(&refusal))
}

pub fn announce(server: &Server, config: &Config) {
    let log = if config.brokers.is_empty() {
        "the embedded log".to_owned()
    } else {
        format!("Kafka at {}", config.brokers)
    };
    show::say(&format!("wasmill node {} on {}, {log}", config.node, server.url()));
}

/// Flag over environment (both by clap) over file over default.
pub fn config(args: &NodeArgs) -> Result<Config> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(brokers) = &args.brokers {
        config.brokers.clone_from(brokers);
    }
    if let Some(dir) = &args.data_dir {
        config.data_dir.clone_from(dir);
    }
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(threads) = args.threads {
        config.threads = threads;
    }
    if let Some(cluster) = &args.cluster {
        config.cluster.clone_from(cluster);
    }
    if let Some(name) = &args.node_name {
        config.node.clone_from(name);
    }
    Ok(config)
}
