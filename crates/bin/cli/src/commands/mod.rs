//! The commands: one file for each.

mod apply_change;
mod argv;
mod check;
mod completions;
mod control;
mod demo;
mod detector;
mod dialect;
mod down;
mod events;
mod health;
mod logs;
mod models;
mod profile;
mod schema;
mod status;
mod up;
mod wait;

use llama_warden_client::ServerAction;
use llama_warden_daemon::{CommandFailure, Exit, Extensions};

use crate::args::{Cli, CliCommand};
use crate::runtime::on_runtime;

/// Runs the command of a command line.
pub fn run(cli: &Cli, extensions: Extensions) -> Result<Exit, CommandFailure> {
    let global = &cli.global;
    match &cli.command {
        CliCommand::Up(args) => up::run(global, args, extensions),
        CliCommand::Demo => demo::run(extensions),
        CliCommand::Status(args) => on_runtime(status::run(global, args)),
        CliCommand::Start(args) => on_runtime(control::run(global, ServerAction::Start, args)),
        CliCommand::Stop(args) => on_runtime(control::run(global, ServerAction::Stop, args)),
        CliCommand::Restart(args) => on_runtime(control::run(global, ServerAction::Restart, args)),
        CliCommand::Down(args) => on_runtime(down::run(global, args)),
        CliCommand::Logs(args) => on_runtime(logs::run(global, args)),
        CliCommand::Events(args) => on_runtime(events::run(global, args)),
        CliCommand::Wait(args) => on_runtime(wait::run(global, args)),
        CliCommand::Argv(args) => on_runtime(argv::run(global, args)),
        CliCommand::Detector(command) => detector::run(global, command),
        CliCommand::Dialect(command) => dialect::run(global, command),
        CliCommand::Models(args) => models::run(global, args),
        CliCommand::Profile(command) => on_runtime(profile::run(global, command)),
        CliCommand::Reload(args) => on_runtime(apply_change::reload(global, args)),
        CliCommand::Check => check::run(global, &extensions),
        CliCommand::Schema(args) => schema::run(args),
        CliCommand::Health(args) => on_runtime(health::run(global, args)),
        CliCommand::Completions { shell } => completions::run(*shell),
    }
}
