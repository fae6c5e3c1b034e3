//! `start`, `stop` and `restart`: sends a command for each named server at once, and prints one answer each.

use std::time::Duration;

use futures_util::future::join_all;
use llama_warden_api_types::CommandAnswer;
use llama_warden_client::{Client, ClientError, CommandOptions, ServerAction};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_events::{CommandOutcome, ServerId};
use serde_json::json;

use super::status;
use crate::args::{ControlArgs, GlobalArgs};
use crate::connect;
use crate::output::{print_error, print_json, print_line};

/// The longest wait that the API accepts.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The answer to a command that did not finish within the wait.
pub const TIMED_OUT: &str = "timed out; still running in the daemon";

pub async fn run(global: &GlobalArgs, verb: ServerAction, args: &ControlArgs) -> CommandResult {
    let client = connect::to_daemon(global)?;
    let ids = selected_servers(&client, verb, args).await?;
    let options = CommandOptions { wait: bounded_wait(args.wait, args.timeout), grace: args.grace, force: args.force };
    // Each answer may take as long as a model loads, so the requests run side by side.
    let answers = join_all(ids.iter().map(|id| client.command(verb, id, options)));
    let answers = status::with_progress(global, &client, &ids, options.wait, answers).await;
    // Every answer is printed; the first one that is not a success decides the exit code.
    let mut exit = Exit::Done;
    for (id, answer) in ids.iter().zip(answers) {
        let outcome = report(global, verb, args, id, answer)?;
        if exit == Exit::Done {
            exit = outcome;
        }
    }
    Ok(exit)
}

/// How long a command waits: not at all without `--wait`, and at most as long as the API accepts.
pub fn bounded_wait(wait: bool, timeout: Option<Duration>) -> Option<Duration> {
    wait.then(|| timeout.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT))
}

/// The named servers, or those of `--all`, by id.
async fn selected_servers(
    client: &Client,
    verb: ServerAction,
    args: &ControlArgs,
) -> Result<Vec<ServerId>, CommandFailure> {
    let mut ids = args.ids.clone();
    if args.all {
        let report = client.status().await.map_err(connect::request_failure)?;
        let selected = report.servers.into_iter().filter(|server| match verb {
            ServerAction::Start => server.enabled,
            ServerAction::Stop => true,
            ServerAction::Restart => server.enabled || server.is_running,
        });
        ids.extend(selected.map(|server| server.model_id));
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// Prints the answer of one server and returns its exit code.
fn report(
    global: &GlobalArgs,
    verb: ServerAction,
    args: &ControlArgs,
    id: &ServerId,
    answer: Result<CommandAnswer, ClientError>,
) -> CommandResult {
    let (exit, outcome) = match &answer {
        Ok(answer) => match &answer.outcome {
            None if args.wait => (Exit::NotReached, TIMED_OUT.to_owned()),
            None => (Exit::Done, format!("{} accepted", verb.as_str())),
            Some(CommandOutcome::Ready) => (Exit::Done, "ready".to_owned()),
            Some(CommandOutcome::Stopped) => (Exit::Done, "stopped".to_owned()),
            Some(CommandOutcome::Failed { reason, detail }) => {
                (Exit::NotReached, format!("failed: {reason}: {detail}"))
            }
            Some(CommandOutcome::Superseded { by }) => {
                (Exit::NotReached, format!("command {by} asked for something else meanwhile"))
            }
            Some(CommandOutcome::Refused { reason }) => (Exit::Failed, format!("refused: {reason}")),
        },
        // The command ended, and its server is not where it should be.
        Err(ClientError::Problem(problem)) if problem.status == 502 => (Exit::NotReached, problem.to_string()),
        Err(error @ ClientError::Unreachable { .. }) => (Exit::NoDaemon, error.to_string()),
        Err(error) => (Exit::Failed, error.to_string()),
    };
    match (&answer, global.json) {
        (Ok(answer), true) => print_json(answer)?,
        (Err(ClientError::Problem(problem)), true) => print_json(&json!({ "model_id": id, "problem": problem }))?,
        (Ok(_), false) => print_line(format!("{id}: {outcome}"))?,
        (Err(error), _) => {
            print_error(format_args!("{id}: {outcome}"), error.next_step());
        }
    }
    Ok(exit)
}
