//! Prints data to standard output, and failures to standard error.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use llama_warden_daemon::{CommandFailure, CommandResult, Exit, FailureMessage, print_problems};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::GlobalArgs;

/// Prints one line of data. If the reader has closed the pipe (`| head`), the command ends with exit code 0.
pub fn print_line(line: impl Display) -> Result<(), CommandFailure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CommandFailure::silent(Exit::Done),
        _ => CommandFailure::failed(format!("cannot write to standard output: {error}")),
    })
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), CommandFailure> {
    print_line(serde_json::to_string(value).map_err(CommandFailure::failed)?)
}

/// Prints `data` as JSON if `--json` is given, otherwise `text`.
pub fn print_either(global: &GlobalArgs, data: &impl Serialize, text: impl FnOnce() -> String) -> CommandResult {
    if global.json {
        print_json(data)?
    } else {
        print_line(text())?
    }
    Ok(Exit::Done)
}

/// Prints an error, and its next step unless it is empty.
pub fn print_error(message: impl Display, next_step: &str) {
    eprintln!("error: {message}");
    if !next_step.is_empty() {
        eprintln!("  next: {next_step}");
    }
}

/// Prints why a command failed: with `--json` as a problem on standard output, otherwise as text on standard error.
pub fn print_failure(failure: &CommandFailure, json: bool) {
    if json && !matches!(failure.message, FailureMessage::AlreadyPrinted) {
        // If the reader has closed the pipe, the exit code says it all.
        let _ = print_json(&problem(failure));
        return;
    }
    match &failure.message {
        FailureMessage::AlreadyPrinted => {}
        FailureMessage::Configuration(problems) => print_problems(problems),
        FailureMessage::Problem(problem) => {
            print_error(problem, problem.next_step.as_deref().unwrap_or_default());
        }
        FailureMessage::Text { message, next_step } => print_error(message, next_step.as_deref().unwrap_or_default()),
    }
}

/// A failure in the shape of the API's errors (RFC 9457). Its reason follows from the exit code.
pub fn problem(failure: &CommandFailure) -> Value {
    let (status, reason, title) = match failure.exit {
        Exit::Usage => (400, "usage", "the command line or the configuration is wrong"),
        Exit::NotReached => (504, "not-reached", "a server did not reach the requested state"),
        Exit::Held => (409, "held", "another daemon holds the state directory"),
        Exit::NoDaemon => (503, "no-daemon", "no daemon to talk to"),
        Exit::Done | Exit::Failed | Exit::Signaled(_) => (500, "failed", "the command failed"),
    };
    let with = |detail: &str, next_step: Option<&str>| {
        json!({
            "type": format!("urn:llama-warden:problem:{reason}"),
            "title": title,
            "status": status,
            "detail": detail,
            "reason": reason,
            "next_step": next_step,
        })
    };
    match &failure.message {
        FailureMessage::AlreadyPrinted => with("", None),
        FailureMessage::Text { message, next_step } => with(message, next_step.as_deref()),
        FailureMessage::Problem(problem) => serde_json::to_value(problem).unwrap_or_default(),
        FailureMessage::Configuration(problems) => {
            let mut problem =
                with(&problems.to_string(), Some("`llama-warden check` shows each problem with its place"));
            problem["problems"] = json!(problems);
            problem
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_problem_of_the_api() {
        let failure = CommandFailure::new(Exit::NoDaemon, "nobody").next_step("up");
        let problem = problem(&failure);
        for (key, value) in [("reason", "no-daemon"), ("detail", "nobody"), ("next_step", "up")] {
            assert_eq!(problem[key], value);
        }
        assert!(serde_json::from_value::<llama_warden_api_types::ApiProblem>(problem).is_ok());
    }
}
