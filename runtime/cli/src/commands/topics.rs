//! `topics list|create|delete`.

use crate::args::{Global, TopicsCommand};
use crate::client::Client;
use crate::show;
use anyhow::{Context, Result};
use server::api::{CreateTopic, Topic};

pub fn run(global: &Global, client: &Client, command: TopicsCommand) -> Result<()> {
    match command {
        TopicsCommand::List { internal } => {
            let mut topics: Vec<Topic> = client.get("/v1/topics", &[])?;
            topics.retain(|topic| internal || !topic.internal);
            show::either(global.format, &topics, |topics| {
                let row = |t: &Topic| {
                    let records = t.offsets.iter().map(|(first, next)| next - first).sum();
                    vec![
                        t.name.clone(),
                        t.partitions.to_string(),
                        show::number(records),
                        t.cleanup.clone(),
                    ]
                };
                // Offsets, not records: compaction and transaction markers leave gaps.
                show::table(
                    &["topic", "partitions", "offsets", "cleanup"],
                    &["partitions", "offsets"],
                    topics.iter().map(row).collect(),
                );
            })
        }
        TopicsCommand::Create {
            name,
            partitions,
            cleanup,
            config,
        } => {
            let mut settings = std::collections::BTreeMap::new();
            for setting in config {
                let (name, value) = setting
                    .split_once('=')
                    .with_context(|| format!("`{setting}` is not NAME=VALUE"))?;
                settings.insert(name.to_owned(), value.to_owned());
            }
            let request = CreateTopic {
                name: name.clone(),
                partitions,
                cleanup,
                settings,
            };
            client.post::<()>("/v1/topics", &request)?;
            show::say(&format!("created {name} with {partitions} partitions"));
            Ok(())
        }
        TopicsCommand::Delete { name } => {
            client.delete(&format!("/v1/topics/{name}"))?;
            show::say(&format!("deleted {name}"));
            Ok(())
        }
    }
}
