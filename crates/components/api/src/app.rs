//! Shared by all handlers: the application state, extractors of path parameters, and bodies of answers.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{StatusCode, header};
use llama_warden_api_types::{ApiProblem, ConfigurationPlace, ServerDetail, StatusReport};
use llama_warden_bus::{Bus, CommandSender, OutputLane, Publisher, wall_time};
use llama_warden_events::{ServerId, TraceParent};
use llama_warden_memory::MemoryProbe;
use llama_warden_peers::Peers;
use llama_warden_state::Snapshot;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::problem::ProblemResponse;

/// Answers `/api/v1/models`: the models that discovery found at the start or the latest reload, as JSON. Called for each
/// request on the runtime's only thread, so it must not read files.
pub type ModelsSource = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// The application state that every handler gets. One exists per daemon.
pub(crate) struct AppState {
    pub(crate) bus: Bus,
    pub(crate) lane: OutputLane,
    pub(crate) events: Publisher,
    pub(crate) commands: CommandSender,
    pub(crate) models: ModelsSource,
    /// The daemons of other machines.
    pub(crate) peers: Peers,
    /// Reads the memory of the machine.
    pub(crate) memory: Arc<dyn MemoryProbe>,
    /// Where the configuration is.
    pub(crate) configuration: ConfigurationPlace,
    /// The OpenAPI document.
    pub(crate) description: &'static str,
    /// Cancelled when the daemon shuts the API down.
    pub(crate) cancel: CancellationToken,
}

pub(crate) type App = Arc<AppState>;

impl AppState {
    /// The report of a server in `snapshot`; a problem if it is not configured (any more).
    pub(crate) fn detail(&self, snapshot: &Snapshot, id: &ServerId) -> Result<ServerDetail, ApiProblem> {
        let server = snapshot.servers.get(id).ok_or_else(|| ApiProblem::unknown_server(id.as_str()))?;
        let detail = ServerDetail::of(id, server, self.bus.clock().now());
        Ok(detail.with_requests(self.lane.requests(), wall_time()))
    }

    /// The report of all servers in the latest snapshot.
    pub(crate) fn status(&self) -> StatusReport {
        let report = StatusReport::of(&self.bus.snapshot(), self.bus.clock().now());
        report.with_requests(self.lane.requests(), wall_time())
    }
}

/// The `{name}` of a path, whether or not a profile has it.
pub(crate) struct ProfileName(pub(crate) String);

impl FromRequestParts<App> for ProfileName {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ProblemResponse> {
        path_parameter(parts, app).await.map(Self)
    }
}

/// The `{id}` of a path, if such a server is configured; otherwise a 404.
pub(crate) struct KnownServer(pub(crate) ServerId);

impl FromRequestParts<App> for KnownServer {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ProblemResponse> {
        let id = path_parameter(parts, app).await?;
        match app.bus.snapshot().servers.get_key_value(id.as_str()) {
            Some((id, _)) => Ok(Self(id.clone())),
            None => Err(ApiProblem::unknown_server(&id).into()),
        }
    }
}

/// The trace that the caller names in `traceparent`. A header that is none is no trace, and no error: the standard asks for that.
pub(crate) struct CallerTrace(pub(crate) Option<TraceParent>);

impl FromRequestParts<App> for CallerTrace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get("traceparent").and_then(|header| header.to_str().ok()?.parse().ok())))
    }
}

/// The only parameter of a path. One that is not UTF-8 makes the path unknown.
async fn path_parameter(parts: &mut Parts, app: &App) -> Result<String, ProblemResponse> {
    let parameter: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, app).await;
    match parameter {
        Ok(Path(parameter)) => Ok(parameter),
        Err(_) => Err(ApiProblem::no_such_path(parts.uri.path()).into()),
    }
}

/// `value` as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            let problem = ApiProblem::internal(format!("the answer cannot be written as JSON: {error}"));
            ProblemResponse(problem).into_response()
        }
    }
}
