//! The OpenAPI document, as it was generated when the program was built.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use http::header;
use llama_warden_api_types::Access;

use crate::app::App;
use crate::route::{Route, RouteMethod, answer, json_body};

pub(super) const DESCRIPTION: Route = Route {
    operation: "getDescription",
    method: RouteMethod::Get,
    path: "/openapi.json",
    access: Access::Guarded,
    summary: "This document",
    query: None,
    answers: &[answer(200, "OpenAPI 3.1.", &[json_body::<serde_json::Value>()])],
    handler: |method| on(method, description),
};

async fn description(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.description).into_response()
}
