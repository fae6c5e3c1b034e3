//! Writes data to standard output, and failures to standard error.

use std::io::Write;

use llama_warden_daemon::{CommandFailure, Exit, FailureMessage, print_problems};

/// Prints one line of data. A reader that went away (`| head`) ends the command well.
pub fn print_line(line: impl std::fmt::Display) -> Result<(), CommandFailure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => CommandFailure::silent(Exit::Done),
        _ => CommandFailure::new(Exit::Failed, format!("cannot write to standard output: {error}")),
    })
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), CommandFailure> {
    print_line(serde_json::to_string(value).map_err(|error| CommandFailure::new(Exit::Failed, error))?)
}

/// Tells a failure.
pub fn print_failure(failure: &CommandFailure) {
    match &failure.message {
        FailureMessage::AlreadyPrinted => {}
        FailureMessage::Configuration(problems) => print_problems(problems),
        FailureMessage::Text { message, next_step } => {
            eprintln!("error: {message}");
            if let Some(step) = next_step.as_ref().filter(|step| !step.is_empty()) {
                eprintln!("  next: {step}");
            }
        }
    }
}
