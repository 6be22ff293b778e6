//! Records between steps, as a stream.

use super::stream::{self, Gone, HEARTBEAT, Lines};
use crate::api::logs::Missed;
use crate::api::tap::TapRequest;
use crate::node::{Node, Tap};
use crate::refusal::Refusal;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use std::sync::Arc;

pub async fn tap(
    State(node): State<Arc<Node>>,
    Path(pipeline): Path<String>,
    Query(request): Query<TapRequest>,
) -> Result<Response, Refusal> {
    let tap = node.tap(&pipeline, &request.step)?;
    let (lines, response) = stream::lines();
    tokio::spawn(async move {
        // It ends with the reader, which needs no word about it.
        drop(forward(&tap, &lines).await);
    });
    Ok(response)
}

async fn forward(tap: &Tap, lines: &Lines) -> Result<(), Gone> {
    loop {
        let (missed, records) = tap.take();
        lines.send(records).await?;
        lines.send((missed > 0).then_some(Missed { missed })).await?;
        if tokio::time::timeout(HEARTBEAT, tap.news()).await.is_err() {
            lines.heartbeat().await?;
        }
    }
}
