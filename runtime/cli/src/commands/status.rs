//! `status`: the node on one screen, once or as it changes.

use super::{pipeline, swap as swaps};
use crate::args::{Global, StatusArgs};
use crate::client::Client;
use crate::show;
use anyhow::Result;
use server::api::{Pipeline, Status, Task};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Of a pipeline, since its node started.
pub(super) const PROCESSED: &str = "records-processed";

pub fn run(global: &Global, client: &Client, args: &StatusArgs) -> Result<()> {
    match args.watch {
        None => {
            let status: Status = client.get("/v1/status", &[])?;
            show::either(global.format, &status, |status| text(status, None))
        }
        Some(every) => watch(global, client, every),
    }
}

/// A node that does not answer now may do so the next time.
fn watch(global: &Global, client: &Client, every: Duration) -> Result<()> {
    let mut before: Option<(Instant, Status)> = None;
    loop {
        let status: Result<Status> = client.get("/v1/status", &[]);
        clear_screen();
        match status {
            Ok(status) => {
                let now = Instant::now();
                let rates = before
                    .as_ref()
                    .map(|(then, before)| rates(before, &status, now - *then));
                show::either(global.format, &status, |status| text(status, rates.as_ref()))?;
                before = Some((now, status));
            }
            Err(error) => show::say(&format!("{error:#}")),
        }
        std::thread::sleep(every);
    }
}

/// To the upper left corner, and what is below it goes; nothing where nobody looks at a terminal.
pub(super) fn clear_screen() {
    if std::io::stdout().is_terminal() {
        show::line("\x1b[H\x1b[J");
    }
}

/// Records a second by pipeline; none where the node was started anew in between.
fn rates(before: &Status, now: &Status, passed: Duration) -> BTreeMap<String, f64> {
    let processed = |status: &Status, name: &str| {
        let pipeline = status.pipelines.iter().find(|pipeline| pipeline.name == name)?;
        pipeline.counters.get(PROCESSED).copied()
    };
    let rate = |name: &String| {
        let more = processed(now, name)?.checked_sub(processed(before, name)?)?;
        Some((name.clone(), more as f64 / passed.as_secs_f64()))
    };
    now.pipelines
        .iter()
        .filter_map(|pipeline| rate(&pipeline.name))
        .collect()
}

fn text(status: &Status, rates: Option<&BTreeMap<String, f64>>) {
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
    pipeline::list(&status.pipelines, rates);
    for pipeline in &status.pipelines {
        for table in pipeline.globals.iter().filter(|table| table.state != "whole") {
            show::line(&format!(
                "\n{} global table {}: {} {}, {}/{} records",
                pipeline.name, table.name, table.state, table.topic, table.read.records, table.read.total
            ));
        }
        standbys(pipeline);
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

/// One line for all, and those that failed.
fn standbys(pipeline: &Pipeline) {
    let standbys = &pipeline.standbys;
    if standbys.is_empty() {
        return;
    }
    let following = standbys.iter().filter(|standby| standby.state == "following").count();
    let lag: i64 = standbys.iter().filter_map(|standby| standby.lag).sum();
    show::line(&format!(
        "\n{} standbys here: {}, {following} following, lag {lag}",
        pipeline.name,
        standbys.len()
    ));
    for standby in standbys {
        for line in standby.reason.iter().flat_map(|reason| reason.lines()) {
            show::line(&format!("  standby {}: {line}", standby.task));
        }
    }
}
