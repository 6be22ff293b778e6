//! REST: the routes of a node. Handlers turn requests into calls of [`Node`] on a blocking thread and back; nothing is
//! decided here.

mod guard;
mod letters;
mod logs;
mod openapi;
mod routes;
mod stream;
mod tap;

pub use guard::{Token, token};

use crate::node::Node;
use crate::refusal::{Fault, Refusal};
use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use std::sync::Arc;

/// A module of the largest size, and JSON around a page of records.
const BODY_BYTES_MAX: usize = crate::registry::MODULE_BYTES_MAX + (1 << 20);

/// `token`: what whoever asks must show.
pub fn router(node: Arc<Node>, token: Option<Token>) -> Router {
    let guarded = guarded().with_state(node.clone());
    let guarded = match token {
        Some(token) => guarded.layer(axum::middleware::from_fn_with_state(Arc::new(token), guard::check)),
        None => guarded,
    };
    let open = Router::new().route("/health", get(routes::health)).with_state(node);
    open.merge(guarded)
}

fn guarded() -> Router<Arc<Node>> {
    Router::new()
        .route("/metrics", get(routes::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/v1/status", get(routes::status))
        .route("/v1/cluster", get(routes::cluster))
        .route("/v1/leave", post(routes::leave))
        .route("/v1/modules", get(routes::modules).post(routes::add_module))
        .route("/v1/modules/{id}", get(routes::module).delete(routes::remove_module))
        .route("/v1/modules/{id}/component", get(routes::component))
        .route("/v1/plan", post(routes::plan))
        .route("/v1/pipelines", get(routes::pipelines).post(routes::apply))
        .route(
            "/v1/pipelines/{name}",
            get(routes::pipeline).delete(routes::delete_pipeline),
        )
        .route("/v1/pipelines/{name}/description", get(routes::describe))
        .route("/v1/pipelines/{name}/topology", get(routes::topology))
        .route("/v1/pipelines/{name}/pause", post(routes::pause))
        .route("/v1/pipelines/{name}/resume", post(routes::resume))
        .route("/v1/pipelines/{name}/reset", post(routes::reset))
        .route(
            "/v1/pipelines/{name}/swap",
            get(routes::swap_progress).post(routes::swap),
        )
        .route("/v1/pipelines/{name}/rollback", post(routes::rollback))
        .route("/v1/pipelines/{name}/promote", post(routes::promote))
        .route("/v1/pipelines/{name}/versions", get(routes::versions))
        .route("/v1/pipelines/{name}/stores/{store}/entries", get(routes::query))
        .route("/v1/pipelines/{name}/dead-letters", get(letters::list))
        .route("/v1/pipelines/{name}/dead-letters/replay", post(letters::replay))
        .route("/v1/pipelines/{name}/dead-letters/{id}", get(letters::show))
        .route("/v1/pipelines/{name}/tap", get(tap::tap))
        .route("/v1/logs", get(logs::logs))
        .route("/v1/topics", get(routes::topics).post(routes::create_topic))
        .route("/v1/topics/{topic}", delete(routes::delete_topic))
        .route("/v1/topics/{topic}/records", get(routes::consume).post(routes::produce))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Runs a call of the node on a thread that may wait.
async fn call<T: Send + 'static>(
    node: Arc<Node>,
    work: impl FnOnce(&Arc<Node>) -> Result<T, Refusal> + Send + 'static,
) -> Result<Json<T>, Refusal> {
    match tokio::task::spawn_blocking(move || work(&node)).await {
        Ok(answer) => answer.map(Json),
        Err(error) => Err(Refusal::ours(format!("the request ended early: {error}"))),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.fault {
            Fault::Invalid => StatusCode::BAD_REQUEST,
            Fault::Unauthorized => StatusCode::UNAUTHORIZED,
            Fault::NotFound => StatusCode::NOT_FOUND,
            Fault::Conflict => StatusCode::CONFLICT,
            Fault::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Fault::Ours => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.problem())).into_response()
    }
}
