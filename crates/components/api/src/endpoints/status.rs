//! Reports of servers, each made from the latest snapshot.

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::StatusCode;
use llama_warden_api_types::{AllStatusReport, ServerDetail, ServerReport};

use crate::app::{App, KnownServer, json};
use crate::endpoints::peers::AllQuery;
use crate::problem::ProblemResponse;
use crate::query::{StrictQuery, query_schema};
use crate::route::{Route, UNKNOWN_SERVER, answer, json_body};

pub(super) const STATUS: Route = Route {
    summary: "All servers at a glance, with totals",
    query: Some(query_schema::<AllQuery>),
    answers: &[answer(200, "The status; its `peers` are empty without `all`.", &[json_body::<AllStatusReport>()])],
    ..Route::get("getStatus", "/api/v1/status", |method| on(method, status))
};

async fn status(State(app): State<App>, StrictQuery(query): StrictQuery<AllQuery>) -> Response {
    if !query.all.is_on() {
        return json(StatusCode::OK, &app.status());
    }
    let peers = app.peers.statuses(app.bus.snapshot().boot).await;
    json(StatusCode::OK, &AllStatusReport { own: app.status(), peers })
}

pub(super) const SERVERS: Route = Route {
    summary: "All servers at a glance",
    answers: &[answer(200, "The reports, by id.", &[json_body::<Vec<ServerReport>>()])],
    ..Route::get("listServers", "/api/v1/servers", |method| on(method, servers))
};

async fn servers(State(app): State<App>) -> Response {
    json(StatusCode::OK, &app.status().servers)
}

pub(super) const SERVER: Route = Route {
    summary: "One server: phase, history, last failure, command line, detector",
    answers: &[answer(200, "The server's report.", &[json_body::<ServerDetail>()]), UNKNOWN_SERVER],
    ..Route::get("getServer", "/api/v1/servers/{id}", |method| on(method, server))
};

async fn server(State(app): State<App>, KnownServer(id): KnownServer) -> Result<Response, ProblemResponse> {
    // The server may have been removed since the path was checked.
    Ok(json(StatusCode::OK, &app.detail(&app.bus.snapshot(), &id)?))
}
