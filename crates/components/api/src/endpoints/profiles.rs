//! Profiles, and changes of the whole fleet: activate, deactivate, reload.
//!
//! The supervisor publishes the plan of such a command before it touches a server, so every answer carries the plan.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::StatusCode;
use llama_warden_api_types::{ActiveProfileReport, ApiProblem, ProfileReport, SwitchAnswer};
use llama_warden_bus::{Delivery, Subscription};
use llama_warden_events::{Event, ProfileCard, Seq, SuperviseCommand, SwitchPlan};
use llama_warden_state::Snapshot;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::{App, ProfileName, json};
use crate::command::{ACCEPT_TIMEOUT_WITH_FILES, CommandGoal, CommandWaiter, answer_status, send};
use crate::problem::ProblemResponse;
use crate::query::{DurationParameter, StrictQuery, SwitchParameter, query_schema};
use crate::route::{PROBLEM_BODY, Route, RouteAnswer, UNKNOWN_PROFILE, answer, json_body};

/// Longest time from the acceptance of a command to its plan, which is the next event that its owner publishes.
const PLAN_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const LIST: Route = Route {
    summary: "All configured profiles",
    answers: &[answer(200, "The profiles, by name.", &[json_body::<Vec<ProfileReport>>()])],
    ..Route::get("listProfiles", "/api/v1/profiles", |method| on(method, profiles))
};

async fn profiles(State(app): State<App>) -> Response {
    let snapshot = app.bus.snapshot();
    let reports: Vec<_> = snapshot.daemon.profiles.iter().map(|card| report(&snapshot, card)).collect();
    json(StatusCode::OK, &reports)
}

pub(super) const PROFILE: Route = Route {
    summary: "One profile",
    answers: &[answer(200, "The profile as configured.", &[json_body::<ProfileReport>()]), UNKNOWN_PROFILE],
    ..Route::get("getProfile", "/api/v1/profiles/{name}", |method| on(method, profile))
};

async fn profile(State(app): State<App>, ProfileName(name): ProfileName) -> Result<Response, ProblemResponse> {
    let snapshot = app.bus.snapshot();
    let card = snapshot.daemon.profiles.iter().find(|card| card.name == name);
    let card = card.ok_or_else(|| ApiProblem::unknown_profile(&name))?;
    Ok(json(StatusCode::OK, &report(&snapshot, card)))
}

pub(super) const ACTIVE: Route = Route {
    summary: "The active profile: which servers should be ready, and which of them are not",
    answers: &[answer(
        200,
        "The profile; null if there is none and every enabled server should be ready.",
        &[json_body::<ActiveProfileReport>()],
    )],
    ..Route::get("getActiveProfile", "/api/v1/profiles/active", |method| on(method, active_profile))
};

async fn active_profile(State(app): State<App>) -> Response {
    let snapshot = app.bus.snapshot();
    let enabled = snapshot.servers.iter().filter(|(_, server)| server.card.enabled);
    let report = ActiveProfileReport {
        profile: snapshot.daemon.profile.clone(),
        servers: enabled.map(|(id, _)| id.clone()).collect(),
        missing: snapshot.missing_servers().map(|(id, _)| id.clone()).collect(),
    };
    json(StatusCode::OK, &report)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SwitchQuery {
    /// Only plan; do not touch any server.
    #[serde(default)]
    dry_run: SwitchParameter,
    /// Answer when the command is done, at most this much later. Does not change what the command does.
    wait: Option<DurationParameter>,
}

const SWITCH_ANSWERS: &[RouteAnswer] = &[
    answer(200, "Done, with `wait`, or planned, with `dry_run`.", &[json_body::<SwitchAnswer>()]),
    ACCEPTED_SWITCH,
    UNKNOWN_PROFILE,
];

const ACCEPTED_SWITCH: RouteAnswer =
    answer(202, "Accepted and not done yet: the plan.", &[json_body::<SwitchAnswer>()]);

pub(super) const ACTIVATE: Route = Route {
    summary: "Bring the fleet to a profile; servers that already run as it says are not touched",
    query: Some(query_schema::<SwitchQuery>),
    answers: SWITCH_ANSWERS,
    ..Route::post("activateProfile", "/api/v1/profiles/{name}/activate", |method| on(method, activate))
};

async fn activate(
    State(app): State<App>,
    ProfileName(name): ProfileName,
    StrictQuery(query): StrictQuery<SwitchQuery>,
) -> Result<Response, ProblemResponse> {
    switch(&app, Some(name), &query).await
}

pub(super) const DEACTIVATE: Route = Route {
    summary: "Leave the active profile: bring the fleet to every enabled server",
    query: Some(query_schema::<SwitchQuery>),
    answers: SWITCH_ANSWERS,
    ..Route::delete("deactivateProfile", "/api/v1/profiles/active", |method| on(method, deactivate))
};

async fn deactivate(
    State(app): State<App>,
    StrictQuery(query): StrictQuery<SwitchQuery>,
) -> Result<Response, ProblemResponse> {
    switch(&app, None, &query).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReloadQuery {
    /// Answer when the command is done, at most this much later. Does not change what the command does.
    wait: Option<DurationParameter>,
    /// Apply the configuration even if it looks half written.
    #[serde(default)]
    force: SwitchParameter,
}

pub(super) const RELOAD: Route = Route {
    summary: "Read the configuration and the folders of models again and bring the fleet to what they say",
    query: Some(query_schema::<ReloadQuery>),
    answers: &[
        answer(200, "Done, with `wait`.", &[json_body::<SwitchAnswer>()]),
        ACCEPTED_SWITCH,
        answer(
            422,
            "The configuration is invalid, looks half written, or is no file; nothing changed. `detail` lists all problems.",
            &[PROBLEM_BODY],
        ),
    ],
    ..Route::post("reload", "/api/v1/reload", |method| on(method, reload))
};

async fn reload(
    State(app): State<App>,
    StrictQuery(query): StrictQuery<ReloadQuery>,
) -> Result<Response, ProblemResponse> {
    let (trigger, force) = ("POST /api/v1/reload".to_owned(), query.force.is_on());
    let command = SuperviseCommand::Reload { trigger, force };
    perform(&app, command, query.wait).await
}

async fn switch(app: &App, profile: Option<String>, query: &SwitchQuery) -> Result<Response, ProblemResponse> {
    let dry_run = query.dry_run.is_on();
    // A dry run is done as soon as it is planned, so the answer always waits for it.
    let wait = if dry_run { Some(DurationParameter(PLAN_TIMEOUT)) } else { query.wait };
    perform(app, SuperviseCommand::ActivateProfile { profile, dry_run }, wait).await
}

async fn perform(
    app: &App,
    command: SuperviseCommand,
    wait: Option<DurationParameter>,
) -> Result<Response, ProblemResponse> {
    let goal = CommandGoal::of(&command, &app.bus.snapshot());
    let accepted = send(app, command, ACCEPT_TIMEOUT_WITH_FILES).await?;
    let command = accepted.id.ok_or_else(|| plan_missing("it has no id"))?;
    // Subscribing afterwards misses nothing: the bus still keeps the events since the command's own.
    let mut events = app.bus.subscribe_after("api", command);
    let plan = tokio::time::timeout(PLAN_TIMEOUT, find_plan(&mut events, command)).await.ok().flatten();
    let plan = plan.ok_or_else(|| plan_missing(&format!("command {command} was accepted")))?;
    let outcome = match wait {
        Some(wait) => CommandWaiter { events, command, goal }.within(app, wait.0).await,
        None => None,
    };
    let http_status = answer_status(outcome.as_ref())?;
    Ok(json(http_status, &SwitchAnswer { command, outcome, plan, status: app.status() }))
}

/// The plan of a command; `None` if the bus closed, or the plan fell into a gap.
async fn find_plan(events: &mut Subscription, command: Seq) -> Option<SwitchPlan> {
    loop {
        match events.next().await? {
            Delivery::Event(envelope) => {
                if let Event::SwitchPlanned { plan } = &envelope.event
                    && envelope.cause == Some(command)
                {
                    return Some(SwitchPlan::clone(plan));
                }
            }
            Delivery::Gap { .. } => return None,
        }
    }
}

fn plan_missing(why: &str) -> ApiProblem {
    ApiProblem::internal(format!("the plan of a command is missing: {why}"))
        .next_step("`llama-warden status` shows what came of it")
}

fn report(snapshot: &Snapshot, card: &ProfileCard) -> ProfileReport {
    ProfileReport { card: card.clone(), active: snapshot.daemon.profile.as_ref() == Some(&card.name) }
}
