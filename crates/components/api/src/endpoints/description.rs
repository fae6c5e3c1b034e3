//! The OpenAPI document, as it was generated when the program was built.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use http::header;

use crate::app::App;
use crate::route::{Route, answer, json_body};

pub(super) const DESCRIPTION: Route = Route {
    summary: "This document",
    answers: &[answer(200, "OpenAPI 3.1.", &[json_body::<serde_json::Value>()])],
    ..Route::get("getDescription", "/openapi.json", |method| on(method, description))
};

async fn description(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.description).into_response()
}
