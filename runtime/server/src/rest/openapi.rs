//! `/openapi.json`: the routes and the bodies that go over them.

use crate::api;
use axum::Json;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(title = "Wasmill node", description = "Everything that the command line does."),
    components(schemas(
        api::Problem,
        api::Module,
        api::ApplyRequest,
        api::Plan,
        api::Pipeline,
        api::Status,
        api::Cluster,
        api::Topic,
        api::CreateTopic,
        api::Record,
        api::ProduceRequest,
        api::Produced,
        api::ConsumeRequest,
        api::Consumed,
        api::QueryRequest,
        api::QueryAnswer,
        api::AddModule,
        api::logs::LogLine,
        api::tap::TappedRecord,
        api::letters::DeadLetters,
        api::letters::DeadLetter,
        api::letters::ReplayRequest,
        api::letters::ReplayAnswer,
        api::ResetRequest,
        api::SwapRequest,
        api::Swap,
        api::Asked,
        api::Versions,
    ))
)]
struct Schemas;

/// Method, path, summary, schema of the request, schema of the answer.
type Route = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
);

const ROUTES: &[Route] = &[
    (
        "get",
        "/v1/status",
        "The node, its pipelines and their tasks",
        None,
        Some("Status"),
    ),
    (
        "get",
        "/v1/cluster",
        "This node and those that run the same pipelines",
        None,
        Some("Cluster"),
    ),
    ("get", "/v1/modules", "Registered modules", None, None),
    (
        "post",
        "/v1/modules",
        "Registers a component; the body is its bytes",
        None,
        Some("Module"),
    ),
    (
        "get",
        "/v1/modules/{id}",
        "One module, by name@version",
        None,
        Some("Module"),
    ),
    (
        "delete",
        "/v1/modules/{id}",
        "Removes a module that no pipeline uses",
        None,
        None,
    ),
    ("get", "/v1/modules/{id}/component", "The bytes of a module", None, None),
    (
        "get",
        "/v1/pipelines/{name}/topology",
        "The topology as it runs",
        None,
        None,
    ),
    (
        "get",
        "/v1/logs",
        "What guests write, as JSON lines; `follow` goes on",
        None,
        None,
    ),
    (
        "get",
        "/v1/pipelines/{name}/tap",
        "Records between steps, live, as JSON lines",
        None,
        None,
    ),
    (
        "post",
        "/v1/plan",
        "What an apply would do",
        Some("ApplyRequest"),
        Some("Plan"),
    ),
    ("get", "/v1/pipelines", "Pipelines with their tasks", None, None),
    (
        "post",
        "/v1/pipelines",
        "Applies a pipeline file",
        Some("ApplyRequest"),
        Some("Plan"),
    ),
    ("get", "/v1/pipelines/{name}", "One pipeline", None, Some("Pipeline")),
    (
        "delete",
        "/v1/pipelines/{name}",
        "Stops a pipeline and deletes its state and internal topics",
        None,
        None,
    ),
    (
        "get",
        "/v1/pipelines/{name}/description",
        "The topology as text",
        None,
        None,
    ),
    (
        "post",
        "/v1/pipelines/{name}/pause",
        "Stops processing, keeps tasks and state",
        None,
        None,
    ),
    (
        "post",
        "/v1/pipelines/{name}/resume",
        "Goes on after a pause",
        None,
        None,
    ),
    (
        "post",
        "/v1/leave",
        "Hands this node's tasks over to the others and ends it",
        None,
        None,
    ),
    (
        "post",
        "/v1/pipelines/{name}/reset",
        "Gives a pipeline other positions, and empties its state unless that is kept",
        Some("ResetRequest"),
        None,
    ),
    (
        "post",
        "/v1/pipelines/{name}/swap",
        "Exchanges the modules of running steps",
        Some("SwapRequest"),
        Some("Swap"),
    ),
    (
        "get",
        "/v1/pipelines/{name}/swap",
        "How far the swap is, or with ?id= how it ended",
        None,
        Some("Swap"),
    ),
    (
        "post",
        "/v1/pipelines/{name}/rollback",
        "Goes back to the versions before",
        Some("Asked"),
        Some("Swap"),
    ),
    (
        "post",
        "/v1/pipelines/{name}/promote",
        "Takes the swap that is under way as it stands",
        Some("Asked"),
        Some("Swap"),
    ),
    (
        "get",
        "/v1/pipelines/{name}/versions",
        "What runs, what ran, and why it changed",
        None,
        Some("Versions"),
    ),
    (
        "get",
        "/v1/pipelines/{name}/stores/{store}/entries",
        "Reads a store",
        None,
        Some("QueryAnswer"),
    ),
    (
        "get",
        "/v1/pipelines/{name}/dead-letters",
        "Records that failed and why, the newest first",
        None,
        Some("DeadLetters"),
    ),
    (
        "get",
        "/v1/pipelines/{name}/dead-letters/{id}",
        "One of them with its bytes, by PARTITION:OFFSET",
        None,
        Some("DeadLetter"),
    ),
    (
        "post",
        "/v1/pipelines/{name}/dead-letters/replay",
        "Writes their records back, each once",
        Some("ReplayRequest"),
        Some("ReplayAnswer"),
    ),
    ("get", "/v1/topics", "Topics of the log", None, None),
    ("post", "/v1/topics", "Creates a topic", Some("CreateTopic"), None),
    (
        "get",
        "/v1/topics/{topic}/records",
        "A page of committed records",
        None,
        Some("Consumed"),
    ),
    (
        "post",
        "/v1/topics/{topic}/records",
        "Writes records",
        Some("ProduceRequest"),
        Some("Produced"),
    ),
];

pub async fn document() -> Json<Value> {
    let mut document = match serde_json::to_value(Schemas::openapi()) {
        Ok(Value::Object(document)) => document,
        _ => Map::new(),
    };
    let mut paths = Map::new();
    for route in ROUTES.iter().copied() {
        let (method, path, ..) = route;
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        if let Value::Object(operations) = operations {
            operations.insert(method.to_owned(), operation(route));
        }
    }
    document.insert("paths".to_owned(), paths.into());
    Json(document.into())
}

fn operation((_, path, summary, request, answer): Route) -> Value {
    let body = |name: &str| {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        json!({ "application/json": { "schema": schema } })
    };
    let done = match answer {
        Some(name) => json!({ "description": "Done", "content": body(name) }),
        None => json!({ "description": "Done" }),
    };
    let refusal = json!({ "description": "A refusal", "content": body("Problem") });
    let parameters: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let mut operation =
        json!({ "summary": summary, "parameters": parameters, "responses": { "200": done, "default": refusal } });
    if let (Some(name), Value::Object(fields)) = (request, &mut operation) {
        fields.insert(
            "requestBody".to_owned(),
            json!({ "required": true, "content": body(name) }),
        );
    }
    operation
}
