//! Liveness and readiness of the daemon, in the manner of Kubernetes.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use http::StatusCode;
use llama_warden_api_types::{Access, ApiProblem};
use llama_warden_state::{DaemonPhase, Snapshot};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::App;
use crate::problem::ProblemResponse;
use crate::query::{StrictQuery, SwitchParameter, query_schema};
use crate::route::{PROBLEM_BODY, Route, TEXT_BODY, answer};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProbeQuery {
    /// One line per check.
    #[serde(default)]
    verbose: SwitchParameter,
}

pub(super) const LIVENESS: Route = Route {
    access: Access::Open,
    summary: "Whether the daemon runs",
    query: Some(query_schema::<ProbeQuery>),
    answers: &[answer(200, "The daemon runs.", &[TEXT_BODY])],
    ..Route::get("getLiveness", "/livez", |method| on(method, livez))
};

pub(super) const READINESS: Route = Route {
    access: Access::Open,
    summary: "Whether every enabled server is ready",
    query: Some(query_schema::<ProbeQuery>),
    answers: &[
        answer(200, "Every enabled server is ready.", &[TEXT_BODY]),
        answer(
            503,
            "Some enabled servers are not ready, or the daemon is starting or stopping.",
            &[PROBLEM_BODY, TEXT_BODY],
        ),
    ],
    ..Route::get("getReadiness", "/readyz", |method| on(method, readyz))
};

/// Always 200: a daemon that can answer is alive.
async fn livez(StrictQuery(query): StrictQuery<ProbeQuery>) -> Response {
    let body = if query.verbose.is_on() { "[+]http ok\nlivez check passed\n" } else { "ok\n" };
    body.into_response()
}

/// 200 if the daemon runs and every enabled server is ready.
async fn readyz(State(app): State<App>, StrictQuery(query): StrictQuery<ProbeQuery>) -> Response {
    let snapshot = app.bus.snapshot();
    let missing: Vec<_> = snapshot.missing_servers().collect();
    let ready = missing.is_empty() && snapshot.daemon.phase == DaemonPhase::Running;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if query.verbose.is_on() {
        return (status, checks(&snapshot, status)).into_response();
    }
    if ready {
        return "ok\n".into_response();
    }
    let detail = match snapshot.daemon.phase {
        DaemonPhase::Running => {
            let names: Vec<_> = missing.iter().map(|(id, server)| format!("{id} ({})", server.phase.name())).collect();
            format!("not ready: {}", names.join(", "))
        }
        phase => format!("the daemon is {}", phase_name(phase)),
    };
    let problem = ApiProblem::new(status, "not-ready", "not every server is ready", detail)
        .next_step("`llama-warden status` shows what each server waits for")
        .about(missing.into_iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
    ProblemResponse(problem).into_response()
}

/// One line per check.
fn checks(snapshot: &Snapshot, status: StatusCode) -> String {
    let mut lines = String::new();
    let mut check = |passed: bool, name: &str, state: &str| {
        let mark = if passed { '+' } else { '-' };
        lines.push_str(&format!("[{mark}]{name} {state}\n"));
    };
    check(snapshot.daemon.phase == DaemonPhase::Running, "daemon", phase_name(snapshot.daemon.phase));
    for (id, server) in snapshot.servers.iter().filter(|(_, server)| server.card.enabled) {
        check(server.is_ready(), &format!("server/{id}"), server.phase.name().as_str());
    }
    lines.push_str(if status.is_success() { "readyz check passed\n" } else { "readyz check failed\n" });
    lines
}

const fn phase_name(phase: DaemonPhase) -> &'static str {
    match phase {
        DaemonPhase::Starting => "starting",
        DaemonPhase::Running => "running",
        DaemonPhase::Stopping => "stopping",
        DaemonPhase::Stopped => "stopped",
    }
}
