//! `start`, `stop` and `restart`: sends a command for each named server at once, and prints one answer each.

use std::time::Duration;

use futures_util::future::join_all;
use llama_warden_api_types::CommandAnswer;
use llama_warden_client::{Client, ClientError, CommandOptions, ServerAction};
use llama_warden_connect::{self as connect, GlobalArgs, keep_named};
use llama_warden_events::{CommandOutcome, ServerId};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use serde_json::{Value, json};

use super::status;
use crate::args::ControlArgs;
use llama_warden_terminal::output::{print_error, print_json, print_line, problem};

/// The longest wait that the API accepts.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The answer to a command that did not finish within the wait.
pub const TIMED_OUT: &str = "timed out; still running in the daemon";

pub async fn run(global: &GlobalArgs, verb: ServerAction, args: &ControlArgs) -> CommandResult {
    let options = CommandOptions { wait: bounded_wait(args.wait, args.timeout), grace: args.grace, force: args.force };
    let (ids, answers, table) = connect::within(args.timeout, async {
        let client = connect::to_daemon(global).await?;
        let ids = selected_servers(&client, verb, args).await?;
        // Each answer may take as long as a model loads, so the requests run side by side.
        let answers = join_all(ids.iter().map(|id| client.command(verb, id, options)));
        let (answers, table) = status::with_progress(global, &client, &args.ids, options.wait, answers).await;
        Ok((ids, answers, table))
    })
    .await?;
    // Every answer is printed; the first one that is not a success decides the exit code.
    let mut exit = Exit::Done;
    let mut documents = Vec::new();
    for (id, answer) in ids.iter().zip(answers) {
        let (outcome, text) = judge(verb, args, &answer);
        if exit == Exit::Done {
            exit = outcome;
        }
        match answer {
            answer if global.json => documents.push(document(id, answer)?),
            // Said already.
            Ok(_) if outcome == Exit::Done && table.as_ref().is_some_and(|table| table.has_told(id)) => {}
            Ok(_) => print_line(format_args!("{id}: {text}"))?,
            Err(error) => print_error(format_args!("{id}: {text}"), error.next_step()),
        }
    }
    if global.json {
        print_documents(documents, matches!(&*args.ids, [one] if one.is_id()))?;
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
    let report = client.status().await.map_err(connect::request_failure)?;
    let report = keep_named(report, &args.ids)?;
    let selected = report.servers.into_iter().filter(|server| match verb {
        _ if !args.all => true,
        ServerAction::Start => server.enabled,
        ServerAction::Stop => true,
        ServerAction::Restart => server.enabled || server.is_running,
    });
    Ok(selected.map(|server| server.model_id).collect())
}

/// The exit code of one server's answer, and the answer in words.
fn judge(verb: ServerAction, args: &ControlArgs, answer: &Result<CommandAnswer, ClientError>) -> (Exit, String) {
    match answer {
        Ok(answer) => match &answer.outcome {
            None if args.wait => (Exit::NotReached, TIMED_OUT.to_owned()),
            None => (Exit::Done, format!("{} accepted", verb.as_str())),
            Some(outcome @ (CommandOutcome::Ready | CommandOutcome::Stopped)) => (Exit::Done, outcome.to_string()),
            Some(outcome @ (CommandOutcome::Failed { .. } | CommandOutcome::Superseded { .. })) => {
                (Exit::NotReached, outcome.to_string())
            }
            Some(outcome @ CommandOutcome::Refused { .. }) => (Exit::Failed, outcome.to_string()),
        },
        // The command ended, and its server is not where it should be.
        Err(ClientError::Problem(problem)) if problem.status == 502 => (Exit::NotReached, problem.to_string()),
        Err(error) if error.is_without_daemon() => (Exit::NoDaemon, error.to_string()),
        Err(error) => (Exit::Failed, error.to_string()),
    }
}

/// The answer of one server as JSON.
fn document(id: &ServerId, answer: Result<CommandAnswer, ClientError>) -> Result<Value, CommandFailure> {
    match answer {
        Ok(answer) => serde_json::to_value(answer).map_err(CommandFailure::failed),
        Err(error) => Ok(json!({ "server": id, "model_id": id, "problem": problem(&connect::request_failure(error)) })),
    }
}

/// Prints one document if one server is named by its id, otherwise an array.
fn print_documents(documents: Vec<Value>, is_one: bool) -> Result<(), CommandFailure> {
    match &*documents {
        [one] if is_one => print_json(one),
        documents => print_json(&documents),
    }
}
