//! Dead letters over REST.

use super::call;
use crate::api::letters::{DeadLetter, DeadLetters, LettersRequest, ReplayAnswer, ReplayRequest};
use crate::node::Node;
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::{Path, Query, State};
use std::sync::Arc;

type App = State<Arc<Node>>;
type Answer<T> = Result<Json<T>, Refusal>;

pub async fn list(
    State(node): App,
    Path(pipeline): Path<String>,
    Query(request): Query<LettersRequest>,
) -> Answer<DeadLetters> {
    call(node, move |node| node.dead_letters(&pipeline, &request)).await
}

pub async fn show(State(node): App, Path((pipeline, id)): Path<(String, String)>) -> Answer<DeadLetter> {
    call(node, move |node| node.dead_letter(&pipeline, &id)).await
}

pub async fn replay(
    State(node): App,
    Path(pipeline): Path<String>,
    Json(request): Json<ReplayRequest>,
) -> Answer<ReplayAnswer> {
    call(node, move |node| node.replay(&pipeline, &request)).await
}
