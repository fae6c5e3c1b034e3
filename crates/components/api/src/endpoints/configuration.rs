//! Where the daemon's configuration is.

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::StatusCode;
use llama_warden_api_types::ConfigurationPlace;

use crate::app::{App, json};
use crate::route::{Route, answer, json_body};

pub(super) const CONFIGURATION: Route = Route {
    summary: "Where the daemon's configuration is",
    answers: &[answer(200, "The file, and the folders of the command line.", &[json_body::<ConfigurationPlace>()])],
    ..Route::get("getConfiguration", "/api/v1/configuration", |method| on(method, configuration))
};

async fn configuration(State(app): State<App>) -> Response {
    json(StatusCode::OK, &app.configuration)
}
