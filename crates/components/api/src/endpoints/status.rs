//! Reading: probes, metrics, status, the description.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use llama_warden_api_types::{ApiProblem, ServerReport, StatusReport};
use llama_warden_state::{DaemonPhase, Snapshot};
use llama_warden_support::blocking;
use serde::Deserialize;

use super::{App, KnownServer, json, text};
use crate::problem::ProblemResponse;
use crate::query::{StrictQuery, SwitchParameter};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProbeOptions {
    verbose: Option<SwitchParameter>,
}

impl ProbeOptions {
    fn is_verbose(&self) -> bool {
        self.verbose.is_some_and(|verbose| verbose.0)
    }
}

/// 200 whenever this code runs.
pub(crate) async fn livez(StrictQuery(options): StrictQuery<ProbeOptions>) -> Response {
    text(StatusCode::OK, if options.is_verbose() { "[+]http ok\nlivez check passed\n" } else { "ok\n" })
}

/// 200 when the daemon runs and every enabled server is ready.
pub(crate) async fn readyz(State(app): State<App>, StrictQuery(options): StrictQuery<ProbeOptions>) -> Response {
    let snapshot = app.bus.snapshot();
    let missing: Vec<_> = snapshot.missing_servers().collect();
    let ready = missing.is_empty() && snapshot.daemon.phase == DaemonPhase::Running;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if options.is_verbose() {
        return text(status, checks(&snapshot, status));
    }
    if ready {
        return text(status, "ok\n");
    }
    let detail = match snapshot.daemon.phase {
        DaemonPhase::Running => {
            let names: Vec<_> = missing.iter().map(|(id, server)| format!("{id} ({})", server.phase.name())).collect();
            format!("not ready: {}", names.join(", "))
        }
        phase => format!("the daemon is {}", daemon_phase(phase)),
    };
    let problem = ApiProblem::new(status, "not-ready", "not every server is ready", detail)
        .next_step("GET /api/v1/status shows where each server stands")
        .about(missing.into_iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
    ProblemResponse(problem).into_response()
}

/// One line per check, in the manner of Kubernetes.
fn checks(snapshot: &Snapshot, status: StatusCode) -> String {
    let mut lines = String::new();
    let mut check = |passed: bool, name: &str, state: &str| {
        let mark = if passed { '+' } else { '-' };
        lines.push_str(&format!("[{mark}]{name} {state}\n"));
    };
    check(snapshot.daemon.phase == DaemonPhase::Running, "daemon", daemon_phase(snapshot.daemon.phase));
    for (id, server) in snapshot.servers.iter().filter(|(_, server)| server.card.enabled) {
        check(server.is_ready(), &format!("server/{id}"), server.phase.name().as_str());
    }
    lines.push_str(if status.is_success() { "readyz check passed\n" } else { "readyz check failed\n" });
    lines
}

const fn daemon_phase(phase: DaemonPhase) -> &'static str {
    match phase {
        DaemonPhase::Starting => "starting",
        DaemonPhase::Running => "running",
        DaemonPhase::Stopping => "stopping",
        DaemonPhase::Stopped => "stopped",
    }
}

/// The metrics, in the format that the client prefers. Rendering reads `/proc`, so it must not hold up other answers.
pub(crate) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).map(str::to_owned);
    let render = app.metrics.clone();
    let rendered = blocking(move || render(accept.as_deref())).await;
    match rendered.unwrap_or_else(|error| Err(error.to_string())) {
        Ok((content_type, body)) => ([(header::CONTENT_TYPE, content_type)], body).into_response(),
        Err(error) => {
            let detail = format!("the metrics could not be rendered: {error}");
            let problem = ApiProblem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error", detail);
            ProblemResponse(problem).into_response()
        }
    }
}

/// All servers at a glance, with totals.
pub(crate) async fn status(State(app): State<App>) -> Response {
    json(StatusCode::OK, &StatusReport::of(&app.bus.snapshot(), app.bus.clock().now()))
}

/// All servers at a glance.
pub(crate) async fn servers(State(app): State<App>) -> Response {
    let snapshot = app.bus.snapshot();
    let now = app.bus.clock().now();
    let reports: Vec<_> = snapshot.servers.iter().map(|(id, server)| ServerReport::of(id, server, now)).collect();
    json(StatusCode::OK, &reports)
}

/// One server whole.
pub(crate) async fn server(State(app): State<App>, KnownServer(id): KnownServer) -> Response {
    match app.detail(&app.bus.snapshot(), &id) {
        Ok(detail) => json(StatusCode::OK, &detail),
        Err(problem) => ProblemResponse(problem).into_response(),
    }
}

/// What discovery knows.
pub(crate) async fn models(State(app): State<App>) -> Response {
    json(StatusCode::OK, &(app.models)())
}

/// The OpenAPI document.
pub(crate) async fn description(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.description).into_response()
}
