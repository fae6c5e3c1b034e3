//! Writes data to standard output, and failures to standard error.

use std::io::Write;

use llama_warden_daemon::{Exit, Failure, Told, report};

/// Prints one line of data. A reader that went away (`| head`) ends the command well.
pub fn print_line(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
        _ => Failure::new(Exit::Failed, format!("cannot write to standard output: {error}")),
    })
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print_line(serde_json::to_string(value).map_err(|error| Failure::new(Exit::Failed, error))?)
}

/// Tells a failure.
pub fn tell(failure: &Failure) {
    match &failure.told {
        Told::Nothing => {}
        Told::Configuration(problems) => report(problems),
        Told::Text { message, next_step } => {
            eprintln!("error: {message}");
            if let Some(step) = next_step.as_ref().filter(|step| !step.is_empty()) {
                eprintln!("  next: {step}");
            }
        }
    }
}
