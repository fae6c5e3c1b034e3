//! What the paths answer. Each handler reads one snapshot, or sends one command.

mod control;
mod events;
mod logs;
mod profiles;
mod status;
mod targets;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{StatusCode, header};
use llama_warden_api_types::{ApiProblem, ServerDetail};
use llama_warden_bus::{Bus, CommandSender, OutputLane, Publisher};
use llama_warden_events::ServerId;
use llama_warden_state::Snapshot;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::problem::ProblemResponse;
use crate::{MetricsSource, ModelsSource};

pub(crate) use control::{restart, shut_down, start, stop};
pub(crate) use events::events;
pub(crate) use logs::logs;
pub(crate) use profiles::{activate, active_profile, deactivate, profile, profiles, reload};
pub(crate) use status::{description, livez, metrics, models, readyz, server, servers, status};
pub(crate) use targets::targets;

/// What every handler can use.
pub(crate) struct AppState {
    pub(crate) bus: Bus,
    pub(crate) lane: OutputLane,
    pub(crate) events: Publisher,
    pub(crate) commands: CommandSender,
    pub(crate) metrics: MetricsSource,
    pub(crate) models: ModelsSource,
    pub(crate) description: &'static str,
    pub(crate) cancel: CancellationToken,
}

pub(crate) type App = Arc<AppState>;

impl AppState {
    /// The record of a server at this moment; a problem when it is not configured (any more).
    fn detail(&self, snapshot: &Snapshot, id: &ServerId) -> Result<ServerDetail, ApiProblem> {
        let server = snapshot.servers.get(id).ok_or_else(|| ApiProblem::unknown_server(id.as_str()))?;
        Ok(ServerDetail::of(id, server, self.bus.clock().now()))
    }
}

/// The `{name}` of a path, whether or not there is such a profile.
pub(crate) struct ProfileName(pub(crate) String);

impl FromRequestParts<App> for ProfileName {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ProblemResponse> {
        let name: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, app).await;
        name.map(|Path(name)| Self(name)).map_err(|_| ApiProblem::no_such_path(parts.uri.path()).into())
    }
}

/// The `{id}` of a path, if such a server is configured; otherwise a 404.
pub(crate) struct KnownServer(pub(crate) ServerId);

impl FromRequestParts<App> for KnownServer {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ProblemResponse> {
        let id: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, app).await;
        let Path(id) = id.map_err(|_| ApiProblem::no_such_path(parts.uri.path()))?;
        let snapshot = app.bus.snapshot();
        match snapshot.servers.get_key_value(id.as_str()) {
            Some((id, _)) => Ok(Self(id.clone())),
            None => Err(ApiProblem::unknown_server(&id).into()),
        }
    }
}

/// A value as JSON.
fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            let detail = format!("the answer cannot be written as JSON: {error}");
            let problem = ApiProblem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error", detail);
            ProblemResponse(problem).into_response()
        }
    }
}

/// Lines of text.
fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}
