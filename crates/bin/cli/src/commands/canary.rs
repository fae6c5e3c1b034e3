//! `canary`: runs another build beside a server, compares the two, and replaces the server's build if that is asked for.

use std::path::Path;
use std::time::Duration;

use llama_warden_api_types::ConfigurationPlace;
use llama_warden_client::{CanaryOptions, ClientError};
use llama_warden_connect::{self as connect, GlobalArgs};
use llama_warden_events::{CanaryOutcome, CanaryReport, FailureReason};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};

use super::status;
use crate::args::CanaryArgs;
use llama_warden_terminal::canary_table;
use llama_warden_terminal::interruption::interruption;
use llama_warden_terminal::output::{print_error, print_json, print_line};

pub async fn run(global: &GlobalArgs, args: &CanaryArgs) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let options = CanaryOptions { binary: absolute(&args.binary)?, prompt: args.prompt.clone(), switch: args.switch };
    // The canary comes into the table when it is added.
    let shown = format!("{{{0},{0}~canary}}", args.id).parse().map(|selector| vec![selector]).unwrap_or_default();
    let trial = client.canary(&args.id, &options);
    let report = tokio::select! {
        report = status::with_progress(global, &client, &shown, Some(Duration::MAX), trial) => report,
        // The daemon sees that the connection ends.
        signal = interruption() => {
            let next = "the canary is stopped; a replacement that had begun goes on: `llama-warden events -f` shows how it ends";
            print_error(format_args!("{}: interrupted", args.id), next);
            return Ok(Exit::Signaled(signal));
        }
    };
    let report = match report.0 {
        Ok(report) => report,
        Err(ClientError::Problem(problem)) if problem.names_nothing() => {
            let known = client.status().await.map_err(connect::request_failure)?.servers;
            return Err(CommandFailure::unknown_server(args.id.as_str(), known.iter().map(|it| it.model_id.as_str())));
        }
        Err(ClientError::Protocol { .. }) => {
            let failure = CommandFailure::failed(format!("the daemon ended before the trial of {} did", args.id));
            return Err(
                failure.next_step("start it again with `llama-warden up`: servers run what they ran before the trial")
            );
        }
        Err(error) => return Err(connect::request_failure(error)),
    };
    let place = client.configuration().await.unwrap_or_default();
    if global.json {
        print_json(&report)?;
    } else if report.new.dialect.is_some() {
        print_line(canary_table::text(&report))?;
    }
    Ok(conclude(&report, &place, global.json))
}

/// The path as the daemon understands it. A bare name is looked up in its PATH.
fn absolute(binary: &Path) -> Result<std::path::PathBuf, CommandFailure> {
    if !binary.as_os_str().as_encoded_bytes().contains(&b'/') {
        return Ok(binary.to_owned());
    }
    std::path::absolute(binary)
        .map_err(|error| CommandFailure::usage(format!("cannot use {}: {error}", binary.display())))
}

/// Says how the trial ended, and what to do next.
fn conclude(report: &CanaryReport, place: &ConfigurationPlace, json: bool) -> Exit {
    let CanaryReport { server, new, .. } = report;
    let binary = new.binary.display();
    let failed = |message: String, next: &str, exit| {
        if !json {
            print_error(message, next);
        }
        exit
    };
    match &report.outcome {
        CanaryOutcome::Passed => Exit::Done,
        CanaryOutcome::Switched => {
            if !json {
                let file =
                    place.file.as_ref().map_or("the configuration".to_owned(), |file| file.display().to_string());
                eprintln!(
                    "{server} runs {binary} now, also after a restart of the daemon, until its `binary` is another one"
                );
                eprintln!("  next: write `binary = \"{binary}\"` into {file}, for {server} or below [llama-server]");
            }
            Exit::Done
        }
        CanaryOutcome::Cancelled => failed(format!("{server}: the canary was cancelled"), "", Exit::Failed),
        CanaryOutcome::RolledBack { detail } => {
            let next = format!("`llama-warden logs {server}` shows what {binary} wrote");
            failed(format!("{server}: rolled back: {detail}"), &next, Exit::NotReached)
        }
        CanaryOutcome::Failed { reason, detail, lines } => {
            let lines: String = lines.iter().map(|line| format!("\n  | {line}")).collect();
            let next = next_step(*reason, report);
            failed(format!("the canary of {server} failed: {reason}: {detail}{lines}"), &next, Exit::NotReached)
        }
    }
}

fn next_step(reason: FailureReason, report: &CanaryReport) -> String {
    let (server, binary) = (&report.server, report.new.binary.display());
    match reason {
        FailureReason::BinaryNotFound | FailureReason::BinaryBroken | FailureReason::SpawnFailed => {
            format!("name a llama-server that runs here; `{binary} --version` must print its version")
        }
        FailureReason::Refused => format!("{server} was not touched; free memory and try again"),
        _ => format!(
            "{server} was not touched; `llama-warden argv {server} --binary {binary}` shows what it was started with"
        ),
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_events::{BuildFigures, ServerId};

    use super::*;

    fn report(outcome: CanaryOutcome) -> CanaryReport {
        let new = BuildFigures { binary: "/opt/new/llama-server".into(), ..BuildFigures::default() };
        let server = ServerId::new("coder").expect("valid");
        CanaryReport { server, outcome, old: None, new, options: vec![], warnings: vec![] }
    }

    #[test]
    fn each_outcome_has_its_exit_code() {
        let failed = CanaryOutcome::Failed { reason: FailureReason::BadArgument, detail: String::new(), lines: vec![] };
        for (outcome, exit) in [
            (CanaryOutcome::Passed, Exit::Done),
            (CanaryOutcome::Switched, Exit::Done),
            (CanaryOutcome::Cancelled, Exit::Failed),
            (CanaryOutcome::RolledBack { detail: String::new() }, Exit::NotReached),
            (failed, Exit::NotReached),
        ] {
            assert_eq!(conclude(&report(outcome), &ConfigurationPlace::default(), true), exit);
        }
    }
}
