//! The commands: one file for each.

mod apply_change;
mod argv;
mod check;
mod completions;
mod control;
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

use llama_warden_daemon::{Exit, Failure, Matchers};

use crate::args::{Cli, Command};
use crate::runtime::on_runtime;

/// Runs the command of a command line.
pub fn run(cli: &Cli, matchers: Option<&Matchers>) -> Result<Exit, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Up(args) => up::run(global, args, matchers),
        Command::Demo => up::demo(matchers),
        Command::Status(args) => on_runtime(status::run(global, args)),
        Command::Start(args) => on_runtime(control::run(global, control::Verb::Start, args)),
        Command::Stop(args) => on_runtime(control::run(global, control::Verb::Stop, args)),
        Command::Restart(args) => on_runtime(control::run(global, control::Verb::Restart, args)),
        Command::Down(args) => on_runtime(down::run(global, args)),
        Command::Logs(args) => on_runtime(logs::run(global, args)),
        Command::Events(args) => on_runtime(events::run(global, args)),
        Command::Wait(args) => on_runtime(wait::run(global, args)),
        Command::Argv(args) => on_runtime(argv::run(global, args)),
        Command::Detector(command) => detector::run(global, command),
        Command::Dialect(command) => dialect::run(global, command),
        Command::Models(args) => models::run(global, args),
        Command::Profile(command) => on_runtime(profile::run(global, command)),
        Command::Reload(args) => on_runtime(apply_change::reload(global, args)),
        Command::Check => check::run(global),
        Command::Schema(args) => schema::run(args),
        Command::Health(args) => on_runtime(health::run(global, args)),
        Command::Completions { shell } => completions::run(*shell),
    }
}
