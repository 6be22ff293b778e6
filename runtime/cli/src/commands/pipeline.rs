//! `pipeline list|describe|pause|resume|reset|delete`.

use super::confirmed;
use crate::args::{Format, Global, PipelineCommand};
use crate::client::Client;
use crate::show;
use anyhow::Result;
use server::api::{Pipeline, ResetRequest};
use std::collections::BTreeMap;

pub fn run(global: &Global, client: &Client, command: PipelineCommand) -> Result<()> {
    match command {
        PipelineCommand::List => {
            let pipelines: Vec<Pipeline> = client.get("/v1/pipelines", &[])?;
            show::either(global.format, &pipelines, |pipelines| list(pipelines, None))
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
        PipelineCommand::Reset {
            name,
            to,
            offsets,
            keep_state,
            yes,
        } => {
            let mut request = ResetRequest {
                to,
                keep_state,
                ..ResetRequest::default()
            };
            for (topic, partition, offset) in offsets {
                request.offsets.entry(topic).or_default().insert(partition, offset);
            }
            let question = match keep_state {
                true => format!("move the positions of `{name}` and keep its state?"),
                false => format!("empty the state of `{name}` and move its positions?"),
            };
            if confirmed(&question, yes)? {
                client.post::<()>(&format!("/v1/pipelines/{name}/reset"), &request)?;
                show::say(&format!("{name} was reset"));
            }
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

/// `rates`: records a second, by name, where they are known.
pub fn list(pipelines: &[Pipeline], rates: Option<&BTreeMap<String, f64>>) {
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
        let mut cells = vec![
            p.name.clone(),
            p.state.clone(),
            format!("{running}/{}", p.tasks.len()),
            p.lag.map_or_else(|| "?".into(), show::number),
        ];
        cells.extend(rates.map(|rates| {
            rates
                .get(&p.name)
                .map_or_else(|| "?".into(), |rate| show::number(*rate as i64))
        }));
        cells.extend([p.guarantee.clone(), modules.join(" ")]);
        cells
    };
    let mut head = vec!["pipeline", "state", "tasks", "lag"];
    head.extend(rates.map(|_| "records/s"));
    head.extend(["guarantee", "modules"]);
    show::table(
        &head,
        &["tasks", "lag", "records/s"],
        pipelines.iter().map(row).collect(),
    );
}
