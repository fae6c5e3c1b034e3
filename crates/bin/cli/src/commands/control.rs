//! `start`, `stop` and `restart`: all named servers side by side, one answer each.

use std::time::Duration;

use llama_warden_api::CommandAnswer;
pub use llama_warden_api::client::Verb;
use llama_warden_api::client::{Client, ClientError, CommandOptions};
use llama_warden_daemon::{CommandFailure, Exit};
use llama_warden_events::{CommandOutcome, ServerId};
use serde_json::json;
use tokio::task::JoinSet;

use super::status;
use crate::args::{ControlArgs, GlobalArgs};
use crate::connect;
use crate::output::{print_json, print_line};

/// The longest wait that the daemon takes.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

type Answer = Result<CommandAnswer, ClientError>;

pub async fn run(global: &GlobalArgs, verb: Verb, args: &ControlArgs) -> Result<Exit, CommandFailure> {
    let client = connect::to_daemon(global)?;
    let ids = selected_servers(&client, verb, args).await?;
    let options = CommandOptions {
        wait: args.wait.then(|| args.timeout.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)),
        grace: args.grace,
        force: args.force,
    };
    let mut commands = JoinSet::new();
    for id in ids.iter().cloned() {
        let client = client.clone();
        commands.spawn(async move {
            let answer = client.command(verb, &id, options).await;
            (id, answer)
        });
    }
    let progress = async {
        if args.wait && !global.json {
            status::show_progress(&client, &ids).await;
        }
        std::future::pending::<()>().await
    };
    tokio::pin!(progress);
    let mut answers = Vec::new();
    while answers.len() < ids.len() {
        tokio::select! {
            Some(ended) = commands.join_next() => {
                answers.push(ended.map_err(|error| CommandFailure::new(Exit::Failed, error))?);
            }
            () = &mut progress => {}
        }
    }
    answers.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut worst = Exit::Done;
    for (id, answer) in answers {
        let exit = report(global, verb, args, &id, answer)?;
        if worst == Exit::Done {
            worst = exit;
        }
    }
    Ok(worst)
}

/// The servers that are meant by the names, or by `--all`.
async fn selected_servers(client: &Client, verb: Verb, args: &ControlArgs) -> Result<Vec<ServerId>, CommandFailure> {
    if !args.all {
        let mut ids = args.ids.clone();
        ids.sort();
        ids.dedup();
        return Ok(ids);
    }
    let report = client.status().await.map_err(connect::request_failure)?;
    let wanted = report.servers.into_iter().filter(|server| match verb {
        Verb::Start => server.enabled,
        Verb::Stop => true,
        Verb::Restart => server.enabled || server.is_running,
    });
    Ok(wanted.map(|server| server.model_id).collect())
}

fn report(
    global: &GlobalArgs,
    verb: Verb,
    args: &ControlArgs,
    id: &ServerId,
    answer: Answer,
) -> Result<Exit, CommandFailure> {
    let (exit, outcome) = match &answer {
        Ok(answer) => match &answer.outcome {
            None if args.wait => (Exit::NotReached, "not done within the time; it goes on".to_owned()),
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
        Err(ClientError::Problem(problem)) if problem.status == 502 => (Exit::NotReached, problem.to_string()),
        Err(error @ ClientError::Unreachable { .. }) => (Exit::NoDaemon, error.to_string()),
        Err(error) => (Exit::Failed, error.to_string()),
    };
    match (&answer, global.json) {
        (Ok(answer), true) => print_json(answer)?,
        (Err(ClientError::Problem(problem)), true) => print_json(&json!({ "model_id": id, "problem": problem }))?,
        (Ok(_), false) => print_line(format!("{id}: {outcome}"))?,
        (Err(error), _) => {
            eprintln!("error: {id}: {outcome}");
            if !error.next_step().is_empty() {
                eprintln!("  next: {}", error.next_step());
            }
        }
    }
    Ok(exit)
}
