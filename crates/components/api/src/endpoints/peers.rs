//! The daemons of other machines, each asked for its own servers.

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::StatusCode;
use llama_warden_api_types::PeerReport;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::{App, json};
use crate::query::SwitchParameter;
use crate::route::{Route, answer, json_body};

/// The query of a route that can include the peers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AllQuery {
    /// Include the daemons of `[peers]`. They are asked now, for their own servers alone.
    #[serde(default)]
    pub(super) all: SwitchParameter,
}

pub(super) const PEERS: Route = Route {
    summary: "The daemons of other machines that [peers] names, each with its servers or with why it does not tell them",
    answers: &[answer(200, "The peers, by name.", &[json_body::<Vec<PeerReport>>()])],
    ..Route::get("listPeers", "/api/v1/peers", |method| on(method, peers))
};

async fn peers(State(app): State<App>) -> Response {
    json(StatusCode::OK, &app.peers.statuses(app.bus.snapshot().boot).await)
}
