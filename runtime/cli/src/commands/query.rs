//! `query`: entries of a store, on committed state.

use crate::args::{Global, QueryArgs};
use crate::client::Client;
use crate::failure::{Code, Exit};
use crate::show;
use anyhow::Result;
use server::api::{QueryAnswer, QueryRequest, StoreEntry};

/// Entries of one page; the node answers page by page so that no iterator stays open.
const PAGE: usize = 10_000;

pub fn run(global: &Global, client: &Client, args: &QueryArgs) -> Result<()> {
    let mut entries = fetch(client, args)?;
    if let Some(count) = args.top {
        let rank = |e: &StoreEntry| e.value.as_f64().unwrap_or(f64::NEG_INFINITY);
        entries.sort_by(|a, b| {
            rank(b)
                .total_cmp(&rank(a))
                .then_with(|| show::cell(&a.key).cmp(&show::cell(&b.key)))
        });
        entries.truncate(count);
    }
    if let Some(key) = &args.key
        && entries.is_empty()
    {
        let message = format!("`{}` has no entry for `{key}`", args.store);
        return Err(Exit {
            code: Code::User,
            message,
        }
        .into());
    }
    show::either(global.format, &entries, |entries| {
        let row = |e: &StoreEntry| vec![show::cell(&e.key), show::cell(&e.value)];
        let numbers = entries.iter().all(|e| e.value.is_number());
        let right: &[&str] = if numbers { &["value"] } else { &[] };
        show::table(&["key", "value"], right, entries.iter().map(row).collect());
    })
}

fn fetch(client: &Client, args: &QueryArgs) -> Result<Vec<StoreEntry>> {
    let limit = if args.top.is_some() || args.limit == 0 {
        usize::MAX
    } else {
        args.limit
    };
    let path = format!("/v1/pipelines/{}/stores/{}/entries", args.pipeline, args.store);
    let mut request = QueryRequest {
        key: args.key.clone(),
        prefix: args.prefix.clone(),
        lower: args.lower.clone(),
        upper: args.upper.clone(),
        stale_ok: args.stale_ok,
        at_least: (!args.at_least.is_empty()).then(|| args.at_least.join(",")),
        ..QueryRequest::default()
    };
    let mut entries: Vec<StoreEntry> = Vec::new();
    // Tasks whose standby was named.
    let mut told: Vec<String> = Vec::new();
    loop {
        request.limit = Some(PAGE.min(limit - entries.len()));
        let answer: QueryAnswer = client.get(&path, &request.words())?;
        entries.extend(answer.entries);
        for stale in answer.stale {
            if !told.contains(&stale.task) {
                show::say(&format!(
                    "task {}: from the standby on node {}, which lacks {} changelog records",
                    stale.task, stale.node, stale.lag
                ));
                told.push(stale.task);
            }
        }
        request.after = answer.next;
        if request.after.is_none() || entries.len() >= limit {
            return Ok(entries);
        }
    }
}
