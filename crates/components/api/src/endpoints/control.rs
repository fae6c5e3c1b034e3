//! Changing: start, stop, restart, shut down.
//!
//! A command is accepted or refused at once; `?wait` only delays the answer.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use llama_warden_api_types::{ApiProblem, CommandAnswer, ShutdownAnswer};
use llama_warden_events::{CommandOutcome, Refused, ServerId, SuperviseCommand};
use serde::Deserialize;

use super::{App, KnownServer, json};
use crate::command::{ACCEPT_TIMEOUT, CommandGoal, CommandWaiter, send};
use crate::problem::ProblemResponse;
use crate::query::{DurationParameter, StrictQuery, SwitchParameter};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartOptions {
    wait: Option<DurationParameter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopOptions {
    wait: Option<DurationParameter>,
    grace: Option<DurationParameter>,
    force: Option<SwitchParameter>,
}

impl StopOptions {
    fn is_forced(&self) -> bool {
        self.force.is_some_and(|force| force.0)
    }

    fn grace(&self) -> Option<Duration> {
        self.grace.map(|grace| grace.0)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShutdownOptions {
    force: Option<SwitchParameter>,
}

pub(crate) async fn start(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    StrictQuery(options): StrictQuery<StartOptions>,
) -> Result<Response, ProblemResponse> {
    let command = SuperviseCommand::StartServer { server: server.clone() };
    perform(app, server, command, options.wait).await
}

pub(crate) async fn stop(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    StrictQuery(options): StrictQuery<StopOptions>,
) -> Result<Response, ProblemResponse> {
    let (grace, force) = (options.grace(), options.is_forced());
    let command = SuperviseCommand::StopServer { server: server.clone(), grace, force };
    perform(app, server, command, options.wait).await
}

pub(crate) async fn restart(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    StrictQuery(options): StrictQuery<StopOptions>,
) -> Result<Response, ProblemResponse> {
    let (grace, force) = (options.grace(), options.is_forced());
    let command = SuperviseCommand::RestartServer { server: server.clone(), grace, force };
    perform(app, server, command, options.wait).await
}

pub(crate) async fn shut_down(
    State(app): State<App>,
    StrictQuery(options): StrictQuery<ShutdownOptions>,
) -> Result<Response, ProblemResponse> {
    let force = options.force.is_some_and(|force| force.0);
    let command = SuperviseCommand::ShutDown { trigger: "POST /api/v1/shutdown".to_owned(), force };
    let accepted = send(&app, command, ACCEPT_TIMEOUT).await?;
    Ok(json(StatusCode::ACCEPTED, &ShutdownAnswer { command: accepted.id }))
}

async fn perform(
    app: App,
    server: ServerId,
    command: SuperviseCommand,
    wait: Option<DurationParameter>,
) -> Result<Response, ProblemResponse> {
    // Before the command is sent, so that its completion cannot be missed.
    let events = app.bus.subscribe("api");
    let goal = CommandGoal::of(&command, &events.snapshot());
    let accepted = send(&app, command, ACCEPT_TIMEOUT).await?;
    let outcome = match (wait, accepted.id) {
        (Some(wait), Some(command)) => CommandWaiter { events, command, goal }.within(&app, wait.0).await,
        _ => None,
    };
    let status = match &outcome {
        None => StatusCode::ACCEPTED,
        Some(CommandOutcome::Ready | CommandOutcome::Stopped) => StatusCode::OK,
        Some(CommandOutcome::Failed { reason, detail }) => {
            return Err(ApiProblem::failed(&server, *reason, detail).into());
        }
        Some(CommandOutcome::Superseded { by }) => return Err(ApiProblem::superseded(*by).into()),
        Some(CommandOutcome::Refused { reason }) => {
            let refused = Refused::new(*reason, "the command was given up after it was taken up");
            return Err(ApiProblem::refused(&refused).into());
        }
    };
    let server = app.detail(&app.bus.snapshot(), &server)?;
    Ok(json(status, &CommandAnswer { command: accepted.id, outcome, server }))
}
