//! Prints data to standard output, and everything else to standard error. Control characters in the
//! texts of servers and files are escaped on a terminal.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};

use llama_warden_exit::{CommandFailure, CommandResult, Exit, FailureMessage};
use llama_warden_inventory::print_problems;
use llama_warden_support::for_terminal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::advice::with_options;

/// Prints one line of data. If the reader has closed the pipe (`| head`), the command ends with exit code 0.
pub fn print_line(line: impl Display) -> Result<(), CommandFailure> {
    let line = line.to_string();
    let mut stdout = std::io::stdout().lock();
    let shown = if stdout.is_terminal() { for_terminal(&line) } else { line.as_str().into() };
    writeln!(stdout, "{shown}").and_then(|()| stdout.flush()).map_err(write_failure)
}

/// The failure of a command that cannot write; none if the reader has closed the pipe.
pub fn write_failure(error: std::io::Error) -> CommandFailure {
    match error.kind() {
        ErrorKind::BrokenPipe => CommandFailure::silent(Exit::Done),
        _ => CommandFailure::failed(format!("cannot write to standard output: {error}")),
    }
}

/// Waits until the reader of standard output is gone, as after `| head -3`; for ever if it is a file or a terminal that stays.
pub async fn reader_gone() {
    let (gone, is_gone) = oneshot::channel();
    // A thread of its own, which ends with the process: it waits for nothing but an error or a hang-up.
    let waiting = std::thread::Builder::new().name("reader-gone".to_owned()).spawn(move || {
        let stdout = std::io::stdout();
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut watched, None) == Err(Errno::INTR) {}
        if watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            // Fails if nobody waits any more.
            let _ = gone.send(());
        }
    });
    if waiting.is_ok() && is_gone.await.is_ok() {
        return;
    }
    std::future::pending().await
}

/// Prints a line to standard error, with the commands in it as [`with_options`] completes them. A closed standard error is no failure
/// of the command.
pub fn print_note(line: impl Display) {
    let line = with_options(&line.to_string());
    let mut stderr = std::io::stderr().lock();
    let shown = if stderr.is_terminal() { for_terminal(&line) } else { line.as_str().into() };
    let _ = writeln!(stderr, "{shown}");
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), CommandFailure> {
    print_line(serde_json::to_string(value).map_err(CommandFailure::failed)?)
}

/// Prints `data` as JSON, or `text`.
pub fn print_either(json: bool, data: &impl Serialize, text: impl FnOnce() -> String) -> CommandResult {
    if json {
        print_json(data)?
    } else {
        print_line(text())?
    }
    Ok(Exit::Done)
}

/// Prints what clap has to say: an error of usage, or help.
pub fn print_usage(error: &clap::Error) -> CommandResult {
    let text = error.render();
    let text = |colours: bool| if colours { text.ansi().to_string() } else { text.to_string() };
    if error.use_stderr() {
        let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        print_note(text(colours).trim_end());
        Ok(Exit::Usage)
    } else {
        print_line(text(crate::screen::Screen::now().colours).trim_end())?;
        Ok(Exit::Done)
    }
}

/// Prints an error, and its next step unless it is empty.
pub fn print_error(message: impl Display, next_step: &str) {
    print_note(format_args!("error: {message}"));
    if !next_step.is_empty() {
        print_note(format_args!("  next: {next_step}"));
    }
}

/// Prints why a command failed: with `--json` as a problem on standard output, otherwise as text on standard error.
pub fn print_failure(failure: &CommandFailure, json: bool) {
    if json && !matches!(failure.message, FailureMessage::AlreadyPrinted) {
        // If the reader has closed the pipe, the exit code says it all. A full disk leaves standard error.
        match print_json(&problem(failure)) {
            Err(unwritten) if unwritten.exit != Exit::Done => print_failure(failure, false),
            _ => {}
        }
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
            "next_step": next_step.map(with_options),
        })
    };
    match &failure.message {
        FailureMessage::AlreadyPrinted => with("", None),
        FailureMessage::Text { message, next_step } => with(message, next_step.as_deref()),
        FailureMessage::Problem(problem) => {
            let mut told = problem.clone();
            told.next_step = told.next_step.as_deref().map(|next_step| with_options(next_step).into());
            serde_json::to_value(told).unwrap_or_default()
        }
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
