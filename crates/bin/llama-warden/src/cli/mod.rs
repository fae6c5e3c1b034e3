//! The command line: one file per command. Data goes to standard output, everything else to standard error.

pub mod args;
mod argv;
mod check;
mod completions;
mod control;
mod data_files;
mod detector;
mod dialect;
mod down;
mod events;
mod fleet_args;
mod health;
mod live;
mod logs;
mod memory;
mod models;
mod peer;
mod profile;
mod schema;
mod status;
mod switch;
mod up;
mod wait;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::Program;
use crate::exit::{Exit, Failure, Told};
use crate::load;
use args::{Cli, Command};

/// Runs what the command line asks for.
pub fn main(program: &Program) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; if nobody reads them any more, that is no failure of ours.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Done } else { Exit::Usage }.into();
        }
    };
    match run(&cli, program) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            tell(&failure);
            failure.exit.into()
        }
    }
}

fn run(cli: &Cli, program: &Program) -> Result<Exit, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Up(args) => up::run(global, args, program),
        Command::Demo => up::demo(program),
        Command::Status(args) => on_runtime(status::run(global, args)),
        Command::Start(args) => on_runtime(control::run(global, control::ServerAction::Start, args)),
        Command::Stop(args) => on_runtime(control::run(global, control::ServerAction::Stop, args)),
        Command::Restart(args) => on_runtime(control::run(global, control::ServerAction::Restart, args)),
        Command::Down(args) => on_runtime(down::run(global, args)),
        Command::Logs(args) => on_runtime(logs::run(global, args)),
        Command::Events(args) => on_runtime(events::run(global, args)),
        Command::Wait(args) => on_runtime(wait::run(global, args)),
        Command::Argv(args) => on_runtime(argv::run(global, args)),
        Command::Detector(command) => detector::run(global, command),
        Command::Dialect(command) => dialect::run(global, command),
        Command::Models(args) => models::run(global, args),
        Command::Profile(command) => on_runtime(profile::run(global, command)),
        Command::Reload(args) => on_runtime(switch::reload(global, args)),
        Command::Check => check::run(global),
        Command::Schema(args) => schema::run(args),
        Command::Health(args) => on_runtime(health::run(global, args)),
        Command::Completions { shell } => completions::run(*shell),
    }
}

fn on_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))?.block_on(work)
}

fn tell(failure: &Failure) {
    match &failure.told {
        Told::Nothing => {}
        Told::Configuration(problems) => load::report(problems),
        Told::Text { message, next_step } => {
            eprintln!("error: {message}");
            if let Some(step) = next_step.as_ref().filter(|step| !step.is_empty()) {
                eprintln!("  next: {step}");
            }
        }
    }
}

/// Prints one line of data. A reader that went away (`| head`) ends the command well.
fn print_line(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
        _ => Failure::new(Exit::Failed, format!("cannot write to standard output: {error}")),
    })
}

/// Prints a value as one line of JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print_line(serde_json::to_string(value).map_err(|error| Failure::new(Exit::Failed, error))?)
}
