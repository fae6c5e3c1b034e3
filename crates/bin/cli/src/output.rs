//! Prints data to standard output, and failures to standard error.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use llama_warden_daemon::{CommandFailure, CommandResult, Exit, FailureMessage, print_problems};
use serde::Serialize;

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

/// Prints why a command failed.
pub fn print_failure(failure: &CommandFailure) {
    match &failure.message {
        FailureMessage::AlreadyPrinted => {}
        FailureMessage::Configuration(problems) => print_problems(problems),
        FailureMessage::Text { message, next_step } => print_error(message, next_step.as_deref().unwrap_or_default()),
    }
}
