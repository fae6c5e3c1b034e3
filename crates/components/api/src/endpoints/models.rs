//! The models that discovery found.

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::StatusCode;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::app::{App, json};
use crate::route::{BodyForm, Route, answer};

pub(super) const MODELS: Route = Route {
    summary: "The models that discovery found, files that are not models, and files with problems",
    answers: &[answer(
        200,
        "As of the start or the latest reload.",
        &[BodyForm { media_type: "application/json", schema: Some(schema) }],
    )],
    ..Route::get("listModels", "/api/v1/models", |method| on(method, models))
};

async fn models(State(app): State<App>) -> Response {
    json(StatusCode::OK, &(app.models)())
}

/// Discovery belongs to another crate, whose types this one may not name.
fn schema(_: &mut SchemaGenerator) -> Schema {
    let list = |about: &str| json_schema!({ "type": "array", "description": about, "items": { "type": "object" } });
    json_schema!({
        "type": "object",
        "properties": {
            "directories": {
                "type": "array",
                "description": "The searched folders.",
                "items": { "type": "string" },
            },
            "models": list("Each with id, path, port, enabled, tier, thinking, and the server that runs it."),
            "skipped": list("Valid files that are not models to serve, with what they are."),
            "problems": list("Files that cannot be used: path, reason, detail, help."),
        },
    })
}
