//! The commands: one file for each.

mod apply_change;
mod argv;
mod canary;
mod check;
mod completions;
mod config;
mod control;
mod demo;
mod detach;
mod down;
mod events;
mod health;
mod import;
mod key;
mod logs;
mod man;
mod models;
mod profile;
mod schema;
mod status;
mod status_all;
mod take_over;
mod up;
mod wait;

use llama_warden_client::ServerAction;
use llama_warden_connect::GlobalArgs;
use llama_warden_daemon::{Extensions, on_runtime};
use llama_warden_exit::CommandResult;
use serde_json::json;

use crate::args::{Cli, CliCommand, EventsArgs};
use llama_warden_terminal::output::print_either;

/// Runs the command of a command line. `version` is that of the program.
pub fn run(cli: &Cli, extensions: Extensions, version: &str) -> CommandResult {
    let global = &cli.global;
    match &cli.command {
        CliCommand::Up(args) if args.detach => on_runtime(detach::run(global, args)),
        CliCommand::Up(args) => up::run(global, args, extensions),
        CliCommand::Demo => demo::run(global, extensions),
        CliCommand::Status { ids, watch, all: true } => on_runtime(status_all::run(global, ids, *watch)),
        CliCommand::Status { ids, watch, all: false } => on_runtime(status::run(global, ids, *watch)),
        CliCommand::Top { ids, all } => on_runtime(llama_warden_top::run(global, ids, *all)),
        CliCommand::Start(args) => on_runtime(control::run(global, ServerAction::Start, args)),
        CliCommand::Stop(args) => on_runtime(control::run(global, ServerAction::Stop, args)),
        CliCommand::Restart(args) => on_runtime(control::run(global, ServerAction::Restart, args)),
        CliCommand::Down { force, timeout } => on_runtime(down::run(global, *force, *timeout)),
        CliCommand::Logs(args) => on_runtime(logs::run(global, args)),
        CliCommand::Events(EventsArgs { run: Some(run), ids, .. }) => {
            events::run_of_log(global, ids, run.unsigned_abs())
        }
        CliCommand::Events(args) => on_runtime(events::run(global, args)),
        CliCommand::Wait(args) => on_runtime(wait::run(global, args)),
        CliCommand::Argv { id, binary, profile } => {
            on_runtime(argv::run(global, id, binary.as_deref(), profile.as_deref()))
        }
        CliCommand::Canary(args) => on_runtime(canary::run(global, args)),
        CliCommand::Detector(command) => llama_warden_plugin_commands::detector::run(global, command),
        CliCommand::Dialect(command) => llama_warden_plugin_commands::dialect::run(global, command),
        CliCommand::Models { folders } => models::run(global, folders),
        CliCommand::Profile(command) => on_runtime(profile::run(global, command)),
        CliCommand::Reload(args) => on_runtime(apply_change::reload(global, args)),
        CliCommand::Check { file: Some(file) } => {
            let named = GlobalArgs { config: Some(file.clone()), ..global.clone() };
            on_runtime(check::run(&named, &extensions))
        }
        CliCommand::Check { file: None } => on_runtime(check::run(global, &extensions)),
        CliCommand::Key(command) => key::run(global, command),
        CliCommand::Import(command) => import::run(global, command),
        CliCommand::Doctor => on_runtime(llama_warden_doctor::run(global)),
        CliCommand::Config(command) => config::run(global, *command),
        CliCommand::Schema { name } => schema::run(*name),
        CliCommand::Health { ready, timeout } => on_runtime(health::run(global, *ready, *timeout)),
        CliCommand::Completions { shell } => completions::run(*shell),
        CliCommand::Man { directory } => man::run(directory),
        CliCommand::Version => print_version(global, version),
    }
}

fn print_version(global: &GlobalArgs, version: &str) -> CommandResult {
    print_either(global.json, &json!({ "version": version }), || format!("llama-warden {version}"))
}
