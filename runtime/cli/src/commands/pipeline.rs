//! `pipeline list|describe|pause|resume|delete`.

use super::confirmed;
use crate::args::{Format, Global, PipelineCommand};
use crate::client::Client;
use crate::show;
use anyhow::Result;
use server::api::Pipeline;

pub fn run(global: &Global, client: &Client, command: PipelineCommand) -> Result<()> {
    match command {
        PipelineCommand::List => {
            let pipelines: Vec<Pipeline> = client.get("/v1/pipelines", &[])?;
            show::either(global.format, &pipelines, |pipelines| list(pipelines))
        }
        PipelineCommand::Describe { name } => {
            if global.format == Format::Json {
                return show::json(&client.get::<Pipeline>(&format!("/v1/pipelines/{name}"), &[])?);
            }
            show::line(
                client
                    .get_text(&format!("/v1/pipelines/{name}/description"))?
                    .trim_end(),
            );
            Ok(())
        }
        PipelineCommand::Pause { name } => {
            client.post::<()>(&format!("/v1/pipelines/{name}/pause"), &())?;
            show::say(&format!("{name} is paused; `wasmill pipeline resume {name}` goes on"));
            Ok(())
        }
        PipelineCommand::Resume { name } => {
            client.post::<()>(&format!("/v1/pipelines/{name}/resume"), &())?;
            show::say(&format!("{name} goes on"));
            Ok(())
        }
        PipelineCommand::Delete { name, yes } => {
            let question = format!("delete `{name}` with its state, internal topics and positions?");
            if confirmed(&question, yes)? {
                client.delete(&format!("/v1/pipelines/{name}"))?;
                show::say(&format!("deleted {name}"));
            }
            Ok(())
        }
    }
}

pub fn list(pipelines: &[Pipeline]) {
    let row = |p: &Pipeline| {
        let coming = |step: &str| {
            let mut steps = p.swap.iter().flat_map(|swap| &swap.steps);
            let to = steps.find(|change| change.step == step).map(|change| &change.to);
            to.zip(p.swap.as_ref())
                .map(|(to, swap)| format!("->{to}({})", swap.phase))
                .unwrap_or_default()
        };
        let modules: Vec<String> = p
            .modules
            .iter()
            .map(|(step, id)| format!("{step}={id}{}", coming(step)))
            .collect();
        let running = p.tasks.iter().filter(|t| t.state == "running").count();
        vec![
            p.name.clone(),
            p.state.clone(),
            format!("{running}/{}", p.tasks.len()),
            p.lag.map_or_else(|| "?".into(), show::number),
            p.guarantee.clone(),
            modules.join(" "),
        ]
    };
    let head = ["pipeline", "state", "tasks", "lag", "guarantee", "modules"];
    show::table(&head, &["tasks", "lag"], pipelines.iter().map(row).collect());
}
