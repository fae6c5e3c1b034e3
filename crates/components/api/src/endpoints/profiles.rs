//! Profiles, and the change of the whole fleet: activate, deactivate, reload.
//!
//! Each such command has its plan published before anything is touched, so that every answer carries it.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use llama_warden_api_types::{ActiveProfileReport, ApiProblem, ProfileReport, StatusReport, SwitchAnswer};
use llama_warden_bus::{Delivery, Subscription};
use llama_warden_events::{CommandOutcome, Event, ProfileCard, Refused, Seq, SuperviseCommand, SwitchPlan};
use llama_warden_state::Snapshot;
use serde::Deserialize;

use super::{App, ProfileName, json};
use crate::command::{ACCEPT_TIMEOUT_WITH_FILES, CommandGoal, CommandWaiter, send};
use crate::problem::ProblemResponse;
use crate::query::{DurationParameter, StrictQuery, SwitchParameter};

/// Longest time from a command that is taken up to its plan, which its owner publishes next.
const PLANNING: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwitchOptions {
    dry_run: Option<SwitchParameter>,
    wait: Option<DurationParameter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReloadOptions {
    wait: Option<DurationParameter>,
}

/// Every configured profile.
pub(crate) async fn profiles(State(app): State<App>) -> Response {
    let snapshot = app.bus.snapshot();
    let reports: Vec<_> = snapshot.daemon.profiles.iter().map(|card| report(&snapshot, card)).collect();
    json(StatusCode::OK, &reports)
}

/// One of them.
pub(crate) async fn profile(
    State(app): State<App>,
    ProfileName(name): ProfileName,
) -> Result<Response, ProblemResponse> {
    let snapshot = app.bus.snapshot();
    let card = snapshot.daemon.profiles.iter().find(|card| card.name == name);
    card.map(|card| json(StatusCode::OK, &report(&snapshot, card)))
        .ok_or_else(|| ApiProblem::unknown_profile(&name).into())
}

/// The active one, and how it stands.
pub(crate) async fn active_profile(State(app): State<App>) -> Response {
    let snapshot = app.bus.snapshot();
    let enabled = snapshot.servers.iter().filter(|(_, server)| server.card.enabled);
    let report = ActiveProfileReport {
        profile: snapshot.daemon.profile.clone(),
        servers: enabled.map(|(id, _)| id.clone()).collect(),
        missing: snapshot.missing_servers().map(|(id, _)| id.clone()).collect(),
    };
    json(StatusCode::OK, &report)
}

/// Brings the fleet to what a profile says.
pub(crate) async fn activate(
    State(app): State<App>,
    ProfileName(name): ProfileName,
    StrictQuery(options): StrictQuery<SwitchOptions>,
) -> Result<Response, ProblemResponse> {
    switch(&app, Some(name), options).await
}

/// Brings the fleet to every enabled server, without a profile.
pub(crate) async fn deactivate(
    State(app): State<App>,
    StrictQuery(options): StrictQuery<SwitchOptions>,
) -> Result<Response, ProblemResponse> {
    switch(&app, None, options).await
}

/// Reads the configuration again and brings the fleet to what it says.
pub(crate) async fn reload(
    State(app): State<App>,
    StrictQuery(options): StrictQuery<ReloadOptions>,
) -> Result<Response, ProblemResponse> {
    let command = SuperviseCommand::Reload { trigger: "POST /api/v1/reload".to_owned() };
    perform(&app, command, options.wait).await
}

async fn switch(app: &App, profile: Option<String>, options: SwitchOptions) -> Result<Response, ProblemResponse> {
    let dry_run = options.dry_run.is_some_and(|dry_run| dry_run.0);
    // A plan alone is done once it is made.
    let wait = if dry_run { Some(DurationParameter(PLANNING)) } else { options.wait };
    perform(app, SuperviseCommand::ActivateProfile { profile, dry_run }, wait).await
}

async fn perform(
    app: &App,
    command: SuperviseCommand,
    wait: Option<DurationParameter>,
) -> Result<Response, ProblemResponse> {
    let goal = CommandGoal::of(&command, &app.bus.snapshot());
    let accepted = send(app, command, ACCEPT_TIMEOUT_WITH_FILES).await?;
    let command = accepted.id.ok_or_else(|| lost("it has no id"))?;
    // The events after the command's own, which are kept far longer than it takes to come here.
    let mut events = app.bus.subscribe_after("api", command);
    let plan = tokio::time::timeout(PLANNING, plan(&mut events, command)).await.ok().flatten();
    let plan = plan.ok_or_else(|| lost(&format!("command {command} was accepted")))?;
    let outcome = match wait {
        Some(wait) => CommandWaiter { events, command, goal }.within(app, wait.0).await,
        None => None,
    };
    let status = match &outcome {
        None => StatusCode::ACCEPTED,
        Some(CommandOutcome::Superseded { by }) => return Err(ApiProblem::superseded(*by).into()),
        Some(CommandOutcome::Refused { reason }) => {
            let refused = Refused::new(*reason, "the command was given up after it was taken up");
            return Err(ApiProblem::refused(&refused).into());
        }
        Some(CommandOutcome::Ready | CommandOutcome::Stopped | CommandOutcome::Failed { .. }) => StatusCode::OK,
    };
    let report = StatusReport::of(&app.bus.snapshot(), app.bus.clock().now());
    Ok(json(status, &SwitchAnswer { command, outcome, plan, status: report }))
}

/// The plan of a command; `None` when the bus closed, or the plan fell into a gap.
async fn plan(events: &mut Subscription, command: Seq) -> Option<SwitchPlan> {
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

fn lost(what: &str) -> ApiProblem {
    let detail = format!("the plan of a command cannot be told: {what}");
    ApiProblem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error", detail)
        .next_step("GET /api/v1/status shows what came of it")
}

fn report(snapshot: &Snapshot, card: &ProfileCard) -> ProfileReport {
    ProfileReport { card: card.clone(), active: snapshot.daemon.profile.as_ref() == Some(&card.name) }
}
