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
use llama_warden_daemon::{CommandResult, Extensions, build_runtime};

use crate::args::{Cli, CliCommand};

/// Runs the command of a command line.
pub fn run(cli: &Cli, extensions: Extensions) -> CommandResult {
    let global = &cli.global;
    match &cli.command {
        CliCommand::Up(args) => up::run(global, args, extensions),
        CliCommand::Demo => demo::run(extensions),
        CliCommand::Status { ids, watch } => on_runtime(status::run(global, ids, *watch)),
        CliCommand::Start(args) => on_runtime(control::run(global, ServerAction::Start, args)),
        CliCommand::Stop(args) => on_runtime(control::run(global, ServerAction::Stop, args)),
        CliCommand::Restart(args) => on_runtime(control::run(global, ServerAction::Restart, args)),
        CliCommand::Down { force, timeout } => on_runtime(down::run(global, *force, *timeout)),
        CliCommand::Logs(args) => on_runtime(logs::run(global, args)),
        CliCommand::Events(args) => on_runtime(events::run(global, args)),
        CliCommand::Wait(args) => on_runtime(wait::run(global, args)),
        CliCommand::Argv { id, binary } => on_runtime(argv::run(global, id, binary.as_deref())),
        CliCommand::Detector(command) => detector::run(global, command),
        CliCommand::Dialect(command) => dialect::run(global, command),
        CliCommand::Models { folders } => models::run(global, folders),
        CliCommand::Profile(command) => on_runtime(profile::run(global, command)),
        CliCommand::Reload(args) => on_runtime(apply_change::reload(global, args)),
        CliCommand::Check => on_runtime(check::run(global, &extensions)),
        CliCommand::Schema { name } => schema::run(*name),
        CliCommand::Health { ready } => on_runtime(health::run(global, *ready)),
        CliCommand::Completions { shell } => completions::run(*shell),
    }
}

/// Runs the work of a command that talks to a daemon or to an executable.
fn on_runtime(work: impl Future<Output = CommandResult>) -> CommandResult {
    build_runtime()?.block_on(work)
}
