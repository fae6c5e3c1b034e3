//! Errors of the API: `application/problem+json` (RFC 9457) with a reason to branch on and a next step.
//!
//! All problems that more than one endpoint can answer are made here, so that a reason has one status and one next step.

use http::StatusCode;
use llama_warden_events::{FailureReason, RefusalReason, Refused, Seq, ServerId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Media type of an [`ApiProblem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{detail}")]
#[schemars(rename = "Problem")]
pub struct ApiProblem {
    /// A URI that identifies the reason.
    #[serde(rename = "type")]
    pub kind: Box<str>,
    /// The reason in a few words, the same at every occurrence.
    pub title: Box<str>,
    /// The HTTP status of the response.
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// The reason in kebab case, for programs to branch on. If a server failed, the failure's reason.
    pub reason: String,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<Box<str>>,
    /// The servers that the problem is about.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub servers: Box<[ServerId]>,
}

impl ApiProblem {
    /// A problem without a next step. `reason` is in kebab case.
    pub fn new(status: StatusCode, reason: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:llama-warden:problem:{reason}").into(),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            reason: reason.to_owned(),
            next_step: None,
            servers: Box::default(),
        }
    }

    /// Whether the request named a server or a profile that is not configured.
    pub fn names_nothing(&self) -> bool {
        [RefusalReason::UnknownServer, RefusalReason::UnknownProfile]
            .iter()
            .any(|reason| reason.as_str() == self.reason)
    }

    /// An error of the daemon itself, status 500.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error", detail)
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn next_step(mut self, next_step: impl Into<Box<str>>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }

    /// Adds the servers that the problem is about.
    #[must_use]
    pub fn about(mut self, servers: impl Into<Box<[ServerId]>>) -> Self {
        self.servers = servers.into();
        self
    }

    /// No route has this path: 404.
    pub fn no_such_path(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown-path", "no such path", format!("no route has the path {path}"))
            .next_step("`llama-warden schema openapi` lists all paths; client and daemon must be of one version")
    }

    /// The path has routes, but none for this method: 405.
    pub fn wrong_method(method: &str, path: &str) -> Self {
        let detail = format!("{path} does not support {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "method not allowed", detail)
            .next_step("`llama-warden schema openapi` lists the methods of each path")
    }

    /// A query parameter is unknown, or its value is invalid: 400.
    pub fn bad_query(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-query", "query not understood", detail)
            .next_step("`llama-warden schema openapi` lists the parameters of each path")
    }

    /// No configured server has this id: 404.
    pub fn unknown_server(id: &str) -> Self {
        Self::refused(&Refused::new(RefusalReason::UnknownServer, format!("no server is named `{id}`")))
    }

    /// No configured profile has this name: 404.
    pub fn unknown_profile(name: &str) -> Self {
        Self::refused(&Refused::new(RefusalReason::UnknownProfile, format!("no profile is named `{name}`")))
    }

    /// The owner of a command refused it.
    pub fn refused(refused: &Refused) -> Self {
        let (status, title, next_step) = match refused.reason {
            RefusalReason::UnknownServer => {
                (StatusCode::NOT_FOUND, "unknown server", "`llama-warden status` lists what is configured")
            }
            RefusalReason::UnknownProfile => {
                (StatusCode::NOT_FOUND, "unknown profile", "`llama-warden profile list` lists what is configured")
            }
            RefusalReason::InvalidConfiguration => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid configuration",
                "fix it; `llama-warden check` shows each problem with its place",
            ),
            RefusalReason::DoubtfulConfiguration => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "doubtful configuration",
                "complete the file, or apply it as it is with `llama-warden reload --force`",
            ),
            RefusalReason::NotReloadable => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "no configuration file",
                "start the daemon with `llama-warden up --config FILE`, whose changes it follows",
            ),
            RefusalReason::WrongPhase => (
                StatusCode::CONFLICT,
                "wrong phase",
                "`llama-warden status` shows the phase; try again when it has changed",
            ),
            RefusalReason::StaleIncarnation => (
                StatusCode::CONFLICT,
                "incarnation is over",
                "`llama-warden status --json` shows the present incarnation",
            ),
            RefusalReason::ShuttingDown => {
                (StatusCode::SERVICE_UNAVAILABLE, "shutting down", "start the daemon again with `llama-warden up`")
            }
            RefusalReason::StoppedByHand => {
                (StatusCode::SERVICE_UNAVAILABLE, "stopped by hand", "`llama-warden start ID` starts it")
            }
            RefusalReason::GivenUp => (
                StatusCode::SERVICE_UNAVAILABLE,
                "given up",
                "`llama-warden status` shows why it failed; `llama-warden start ID` tries it again",
            ),
            RefusalReason::NoMemory => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no memory",
                "lower its ctx-size or cache types, stop another server, or set start.memory = \"warn\"",
            ),
            RefusalReason::NoRoom => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no room",
                "stop another server, or change `max-loaded`, groups or combinations of [router]",
            ),
            RefusalReason::NotOnDemand => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not started by requests",
                "`llama-warden start ID` starts it; `router.on-demand = true` lets requests do so",
            ),
            RefusalReason::InUse => (StatusCode::CONFLICT, "in use", "try again when its requests have ended"),
            RefusalReason::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "too many commands", "try again in a second"),
            RefusalReason::Expired => (StatusCode::SERVICE_UNAVAILABLE, "not accepted in time", "try again"),
            RefusalReason::OwnerGone => {
                (StatusCode::SERVICE_UNAVAILABLE, "component ended", "read the daemon's log, then start it again")
            }
        };
        Self::new(status, refused.reason.as_str(), title, refused.detail.clone()).next_step(next_step)
    }

    /// A command was accepted, and its server failed: 502.
    pub fn failed(server: &ServerId, reason: FailureReason, detail: &str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, reason.as_str(), "server failed", detail)
            .next_step(format!("`llama-warden logs {server}` shows its last lines"))
            .about(vec![server.clone()])
    }

    /// A command was accepted, and a later one overruled it: 409.
    pub fn superseded(by: Seq) -> Self {
        let detail = format!("command {by} came later and asked for something else");
        Self::new(StatusCode::CONFLICT, "superseded", "overruled by a later command", detail)
    }
}
