//! Trials of other builds: the answer is the report, once the trial is over.

use std::path::PathBuf;

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::StatusCode;
use llama_warden_api_types::ApiProblem;
use llama_warden_bus::{CommandSender, Delivery, Subscription};
use llama_warden_events::{CanaryCommand, CanaryReport, Event, RefusalReason, Refused, Seq, ServerId};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::{App, KnownServer, json};
use crate::command::{ACCEPT_TIMEOUT, send};
use crate::problem::ProblemResponse;
use crate::query::{StrictQuery, SwitchParameter, query_schema};
use crate::route::{PROBLEM_BODY, Route, UNKNOWN_SERVER, answer, json_body};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CanaryQuery {
    /// The executable of the other build: an absolute path, or a bare name that is looked up in the daemon's PATH.
    binary: PathBuf,
    /// What both builds are asked to complete, instead of a built-in text.
    prompt: Option<String>,
    /// Replace the server's build by the other one if that proves itself; roll back if it fails within `restart.stable-after`.
    #[serde(default)]
    switch: SwitchParameter,
}

pub(super) const RUN: Route = Route {
    summary: "Run another build beside a server, compare the two, and stop it again; hanging up cancels it",
    query: Some(query_schema::<CanaryQuery>),
    answers: &[
        answer(200, "The trial is over; `outcome` says how it ended.", &[json_body::<CanaryReport>()]),
        UNKNOWN_SERVER,
        answer(409, "Another trial is under way, or the server to switch is not running.", &[PROBLEM_BODY]),
    ],
    ..Route::post("runCanary", "/api/v1/servers/{id}/canary", |method| on(method, run))
};

async fn run(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    StrictQuery(query): StrictQuery<CanaryQuery>,
) -> Result<Response, ProblemResponse> {
    let CanaryQuery { binary, prompt, switch } = query;
    if binary.components().count() > 1 && binary.is_relative() || binary.as_os_str().is_empty() {
        let detail = format!("`{}` is no absolute path, and no bare name of a program", binary.display());
        return Err(ApiProblem::bad_query(detail).into());
    }
    // Subscribed before the command is sent, so that its completion cannot be missed.
    let mut events = app.bus.subscribe("api");
    let command = CanaryCommand::RunCanary { server: server.clone(), binary, prompt, switch: switch.is_on() };
    let accepted = send(&app, command, ACCEPT_TIMEOUT).await?;
    // The handler is dropped when its client hangs up.
    let _cancel = CancelOnDrop { commands: app.commands.clone(), server };
    let report = tokio::select! {
        report = report_of(&mut events, accepted.id) => report,
        () = app.cancel.cancelled() => None,
    };
    let report = report.ok_or_else(|| {
        let refused = Refused::new(RefusalReason::ShuttingDown, "the daemon ends before the trial does");
        ApiProblem::refused(&refused)
    })??;
    Ok(json(StatusCode::OK, &*report))
}

/// The report of a trial; `None` if the bus closed.
async fn report_of(events: &mut Subscription, id: Option<Seq>) -> Option<Result<Box<CanaryReport>, ApiProblem>> {
    loop {
        match events.next().await? {
            Delivery::Event(envelope) => {
                if let Event::CanaryCompleted { report } = &envelope.event
                    && envelope.cause == id
                {
                    return Some(Ok(report.clone()));
                }
            }
            // The report may be among what was missed, so that nothing is left to wait for.
            Delivery::Gap { missed, .. } => {
                let detail = format!("the answer missed {missed} events, perhaps that of the report");
                return Some(Err(
                    ApiProblem::internal(detail).next_step("read the report in `llama-warden events --json`")
                ));
            }
        }
    }
}

/// Cancels a trial whose client is gone. After the end of the trial, this changes nothing.
struct CancelOnDrop {
    commands: CommandSender,
    server: ServerId,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // The reply is of no use: a refusal says that there is nothing to cancel any more.
        drop(self.commands.post(CanaryCommand::CancelCanary { server: self.server.clone() }));
    }
}
