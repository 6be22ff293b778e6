//! One handler a route, in the order of the router.

use super::call;
use crate::api;
use crate::node::Node;
use crate::refusal::Refusal;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use std::sync::Arc;

type App = State<Arc<Node>>;
type Answer<T> = Result<Json<T>, Refusal>;

/// 200 when the node serves; the text names what is wrong otherwise.
pub async fn health(State(node): App) -> impl IntoResponse {
    match node.health() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Prometheus' text format.
pub async fn metrics(State(node): App) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        node.metrics_text(),
    )
}

pub async fn status(State(node): App) -> Answer<api::Status> {
    call(node, |node| Ok(node.status())).await
}

pub async fn cluster(State(node): App) -> Answer<api::Cluster> {
    call(node, |node| Ok(node.cluster())).await
}

pub async fn modules(State(node): App) -> Answer<Vec<api::Module>> {
    call(node, |node| node.modules()).await
}

/// The body is the component.
pub async fn add_module(State(node): App, Query(request): Query<api::AddModule>, body: Bytes) -> Answer<api::Module> {
    call(node, move |node| node.add_module(&body, request.dev)).await
}

pub async fn module(State(node): App, Path(id): Path<String>) -> Answer<api::Module> {
    call(node, move |node| node.module(&id)).await
}

/// Its bytes.
pub async fn component(State(node): App, Path(id): Path<String>) -> Result<Vec<u8>, Refusal> {
    call(node, move |node| node.component(&id))
        .await
        .map(|Json(bytes)| bytes)
}

pub async fn remove_module(State(node): App, Path(id): Path<String>) -> Answer<()> {
    call(node, move |node| node.remove_module(&id)).await
}

pub async fn plan(State(node): App, Json(request): Json<api::ApplyRequest>) -> Answer<api::Plan> {
    call(node, move |node| node.plan(&request)).await
}

pub async fn apply(State(node): App, Json(request): Json<api::ApplyRequest>) -> Answer<api::Plan> {
    call(node, move |node| Node::apply(node, &request)).await
}

pub async fn pipelines(State(node): App) -> Answer<Vec<api::Pipeline>> {
    call(node, |node| Ok(node.pipelines())).await
}

pub async fn pipeline(State(node): App, Path(name): Path<String>) -> Answer<api::Pipeline> {
    call(node, move |node| node.pipeline(&name)).await
}

pub async fn describe(State(node): App, Path(name): Path<String>) -> Result<String, Refusal> {
    call(node, move |node| node.describe(&name))
        .await
        .map(|Json(text)| text)
}

/// As it runs: nodes with their settings, modules with their digests.
pub async fn topology(State(node): App, Path(name): Path<String>) -> Answer<topology::Topology> {
    call(node, move |node| Ok(node.entry(&name)?.details.topology)).await
}

pub async fn delete_pipeline(State(node): App, Path(name): Path<String>) -> Answer<()> {
    call(node, move |node| Node::delete(node, &name)).await
}

pub async fn pause(State(node): App, Path(name): Path<String>) -> Answer<()> {
    call(node, move |node| Node::set_paused(node, &name, true)).await
}

pub async fn resume(State(node): App, Path(name): Path<String>) -> Answer<()> {
    call(node, move |node| Node::set_paused(node, &name, false)).await
}

pub async fn leave(State(node): App) -> Answer<()> {
    call(node, move |node| {
        node.leave();
        Ok(())
    })
    .await
}

pub async fn reset(State(node): App, Path(name): Path<String>, Json(request): Json<api::ResetRequest>) -> Answer<()> {
    call(node, move |node| Node::reset(node, &name, &request)).await
}

pub async fn swap(
    State(node): App,
    Path(name): Path<String>,
    Json(request): Json<api::SwapRequest>,
) -> Answer<api::Swap> {
    call(node, move |node| Node::swap(node, &name, &request)).await
}

pub async fn swap_progress(
    State(node): App,
    Path(name): Path<String>,
    Query(request): Query<api::SwapAsked>,
) -> Answer<api::Swap> {
    call(node, move |node| node.swap_progress(&name, request.id.as_deref())).await
}

pub async fn rollback(
    State(node): App,
    Path(name): Path<String>,
    Json(request): Json<api::Asked>,
) -> Answer<api::Swap> {
    call(node, move |node| Node::rollback(node, &name, &request)).await
}

pub async fn promote(State(node): App, Path(name): Path<String>, Json(request): Json<api::Asked>) -> Answer<api::Swap> {
    call(node, move |node| Node::promote(node, &name, &request)).await
}

pub async fn versions(State(node): App, Path(name): Path<String>) -> Answer<api::Versions> {
    call(node, move |node| node.versions(&name)).await
}

pub async fn query(
    State(node): App,
    Path((pipeline, store)): Path<(String, String)>,
    Query(request): Query<api::QueryRequest>,
) -> Answer<api::QueryAnswer> {
    call(node, move |node| node.query(&pipeline, &store, &request)).await
}

pub async fn topics(State(node): App) -> Answer<Vec<api::Topic>> {
    call(node, |node| node.topics()).await
}

pub async fn create_topic(State(node): App, Json(request): Json<api::CreateTopic>) -> Answer<()> {
    call(node, move |node| node.create_topic(&request)).await
}

pub async fn delete_topic(State(node): App, Path(topic): Path<String>) -> Answer<()> {
    call(node, move |node| node.delete_topic(&topic)).await
}

pub async fn consume(
    State(node): App,
    Path(topic): Path<String>,
    Query(request): Query<api::ConsumeRequest>,
) -> Answer<api::Consumed> {
    call(node, move |node| node.consume(&topic, &request)).await
}

pub async fn produce(
    State(node): App,
    Path(topic): Path<String>,
    Json(request): Json<api::ProduceRequest>,
) -> Answer<api::Produced> {
    call(node, move |node| node.produce(&topic, &request)).await
}
