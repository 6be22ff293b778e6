//! `status`: the node on one screen.

use super::{pipeline, swap as swaps};
use crate::args::Global;
use crate::client::Client;
use crate::show;
use anyhow::Result;
use server::api::{Status, Task};

pub fn run(global: &Global, client: &Client) -> Result<()> {
    let status: Status = client.get("/v1/status", &[])?;
    show::either(global.format, &status, text)
}

fn text(status: &Status) {
    let up = show::duration(status.uptime_ms);
    show::line(&format!(
        "node {} of cluster {}  up {up}  wasmill {}",
        status.node, status.cluster, status.version
    ));
    show::line(&format!(
        "log {}  data {}  modules {}",
        status.log, status.data_dir, status.modules
    ));
    if status.pipelines.is_empty() {
        show::line("no pipelines; `wasmill apply pipeline.toml` brings one");
        return;
    }
    show::line("");
    pipeline::list(&status.pipelines);
    for pipeline in &status.pipelines {
        let interesting = |task: &&Task| task.state != "running" || task.reason.is_some();
        for task in pipeline.tasks.iter().filter(interesting) {
            let restored = task
                .restored
                .map(|r| format!(" {}/{} records", r.records, r.total))
                .unwrap_or_default();
            show::line(&format!(
                "\n{} task {}: {}{restored}",
                pipeline.name, task.task, task.state
            ));
            for line in task.reason.iter().flat_map(|reason| reason.lines()) {
                show::line(&format!("  {line}"));
            }
        }
        if let Some(swap) = &pipeline.swap {
            show::line("");
            for line in swaps::standing(swap) {
                show::line(&format!("{}: {line}", pipeline.name));
            }
        }
        for problem in &pipeline.problems {
            show::line(&format!("\n{}: {problem}", pipeline.name));
        }
    }
}
