//! `tap`: records that pass between steps, live.

use crate::args::TapArgs;
use crate::client::Client;
use crate::show;
use anyhow::Result;
use server::api::logs::Missed;

pub fn run(client: &Client, args: &TapArgs) -> Result<()> {
    let query = [("step", args.step.clone())];
    let (mut left, mut dropped) = (args.limit.unwrap_or(u64::MAX), 0);
    if left == 0 {
        return Ok(());
    }
    client.stream(&format!("/v1/pipelines/{}/tap", args.pipeline), &query, |line| {
        if let Ok(Missed { missed }) = serde_json::from_str(line) {
            dropped += missed;
            show::say(&format!(
                "{} records passed that are not shown, {} in all",
                show::number(missed as i64),
                show::number(dropped as i64)
            ));
            return Ok(true);
        }
        show::line(line);
        left -= 1;
        Ok(left > 0)
    })
}
