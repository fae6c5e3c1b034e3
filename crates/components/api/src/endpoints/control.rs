//! Commands to one server, and the shutdown of the daemon.
//!
//! A command is accepted or refused at once; `wait` only delays the answer.

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::StatusCode;
use llama_warden_api_types::{ApiProblem, CommandAnswer, ShutdownAnswer};
use llama_warden_bus::CommandRequest;
use llama_warden_events::{CommandOutcome, ServerId, SuperviseCommand};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::{App, CallerTrace, KnownServer, json};
use crate::command::{ACCEPT_TIMEOUT, CommandGoal, CommandWaiter, answer_status, send};
use crate::problem::ProblemResponse;
use crate::query::{DurationParameter, StrictQuery, SwitchParameter, WaitQuery, query_schema};
use crate::route::{PROBLEM_BODY, Route, RouteAnswer, UNKNOWN_SERVER, answer, json_body};

const COMMAND_ANSWERS: &[RouteAnswer] = &[
    answer(200, "Done, with `wait`: the server's report.", &[json_body::<CommandAnswer>()]),
    answer(202, "Accepted and not done yet: the server's report.", &[json_body::<CommandAnswer>()]),
    UNKNOWN_SERVER,
    answer(409, "A later command asked for something else.", &[PROBLEM_BODY]),
    answer(502, "The server failed, with `wait`; `reason` is the failure's.", &[PROBLEM_BODY]),
];

pub(super) const START: Route = Route {
    summary: "Start a server",
    query: Some(query_schema::<WaitQuery>),
    answers: COMMAND_ANSWERS,
    ..Route::post("startServer", "/api/v1/servers/{id}/start", |method| on(method, start))
};

async fn start(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    CallerTrace(trace): CallerTrace,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, ProblemResponse> {
    let command = SuperviseCommand::StartServer { server: server.clone() };
    perform(app, server, CommandRequest::new(command).traced(trace), query.wait).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StopQuery {
    /// Answer when the command is done, at most this much later. Does not change what the command does.
    wait: Option<DurationParameter>,
    /// Time before KILL, instead of the configured one.
    grace: Option<DurationParameter>,
    /// Kill at once.
    #[serde(default)]
    force: SwitchParameter,
}

pub(super) const STOP: Route = Route {
    summary: "Stop a server; a repeated stop joins the first",
    query: Some(query_schema::<StopQuery>),
    answers: COMMAND_ANSWERS,
    ..Route::post("stopServer", "/api/v1/servers/{id}/stop", |method| on(method, stop))
};

async fn stop(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    CallerTrace(trace): CallerTrace,
    StrictQuery(query): StrictQuery<StopQuery>,
) -> Result<Response, ProblemResponse> {
    let grace = query.grace.map(|grace| grace.0);
    let command = SuperviseCommand::StopServer { server: server.clone(), grace, force: query.force.is_on() };
    perform(app, server, CommandRequest::new(command).traced(trace), query.wait).await
}

pub(super) const RESTART: Route = Route {
    summary: "Stop a server if it runs, then start it",
    query: Some(query_schema::<StopQuery>),
    answers: COMMAND_ANSWERS,
    ..Route::post("restartServer", "/api/v1/servers/{id}/restart", |method| on(method, restart))
};

async fn restart(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    CallerTrace(trace): CallerTrace,
    StrictQuery(query): StrictQuery<StopQuery>,
) -> Result<Response, ProblemResponse> {
    let grace = query.grace.map(|grace| grace.0);
    let command = SuperviseCommand::RestartServer { server: server.clone(), grace, force: query.force.is_on() };
    perform(app, server, CommandRequest::new(command).traced(trace), query.wait).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShutdownQuery {
    /// Kill at once.
    #[serde(default)]
    force: SwitchParameter,
    /// Leave every server to the next daemon instead of stopping it.
    #[serde(default)]
    hand_over: SwitchParameter,
}

pub(super) const SHUT_DOWN: Route = Route {
    summary: "Stop every server and the daemon",
    query: Some(query_schema::<ShutdownQuery>),
    answers: &[answer(202, "Accepted.", &[json_body::<ShutdownAnswer>()])],
    ..Route::post("shutDown", "/api/v1/shutdown", |method| on(method, shut_down))
};

async fn shut_down(
    State(app): State<App>,
    StrictQuery(query): StrictQuery<ShutdownQuery>,
) -> Result<Response, ProblemResponse> {
    let trigger = "POST /api/v1/shutdown".to_owned();
    let command = match query.hand_over.is_on() {
        true => SuperviseCommand::HandOver { trigger },
        false => SuperviseCommand::ShutDown { trigger, force: query.force.is_on() },
    };
    let accepted = send(&app, command, ACCEPT_TIMEOUT).await?;
    Ok(json(StatusCode::ACCEPTED, &ShutdownAnswer { command: accepted.id }))
}

async fn perform(
    app: App,
    server: ServerId,
    request: CommandRequest<SuperviseCommand>,
    wait: Option<DurationParameter>,
) -> Result<Response, ProblemResponse> {
    // Subscribed before the command is sent, so that its completion cannot be missed.
    let events = app.bus.subscribe("api");
    let goal = CommandGoal::of(&request.command, &events.snapshot());
    let accepted = send(&app, request, ACCEPT_TIMEOUT).await?;
    let outcome = match (wait, accepted.id) {
        (Some(wait), Some(command)) => CommandWaiter { events, command, goal }.within(&app, wait.0).await,
        _ => None,
    };
    if let Some(CommandOutcome::Failed { reason, detail }) = &outcome {
        return Err(ApiProblem::failed(&server, *reason, detail).into());
    }
    let status = answer_status(outcome.as_ref())?;
    let server = app.detail(&app.bus.snapshot(), &server)?;
    Ok(json(status, &CommandAnswer { command: accepted.id, outcome, server }))
}
