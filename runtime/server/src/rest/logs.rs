//! What guests write and what passes between steps, as streams.

use super::stream::{self, Gone, HEARTBEAT, Lines};
use crate::api::logs::{LogsRequest, Missed};
use crate::node::{Follower, Node};
use crate::refusal::Refusal;
use axum::extract::{Query, State};
use axum::response::Response;
use std::sync::Arc;

pub async fn logs(State(node): State<Arc<Node>>, Query(request): Query<LogsRequest>) -> Result<Response, Refusal> {
    let follower = node.logs(request)?;
    let (lines, response) = stream::lines();
    tokio::spawn(async move {
        // It ends with the reader, which needs no word about it.
        drop(follow(follower, &lines).await);
    });
    Ok(response)
}

async fn follow(mut follower: Follower, lines: &Lines) -> Result<(), Gone> {
    loop {
        let (missed, found) = follower.take();
        lines.send((missed > 0).then_some(Missed { missed })).await?;
        lines.send(found.iter().map(|line| &**line)).await?;
        if !follower.follows() {
            return Ok(());
        }
        match tokio::time::timeout(HEARTBEAT, follower.news()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => lines.heartbeat().await?,
        }
    }
}
