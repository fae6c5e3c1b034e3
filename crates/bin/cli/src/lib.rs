//! The command line of llama-warden: reads it, runs the command, and turns the result into an exit code.
//!
//! Data goes to standard output, everything else to standard error.

/// Replaces the macro of the standard library in this crate, so that whatever a terminal gets is filtered.
macro_rules! eprintln {
    ($($text:tt)*) => {
        llama_warden_terminal::output::print_note(format_args!($($text)*))
    };
}

mod args;
mod commands;
mod completion;
mod demo_fleet;

use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};
use llama_warden_connect::GlobalArgs;
use llama_warden_daemon::Extensions;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_support::{program_name, set_program_name};
use llama_warden_terminal::advice::{self, AdvisedOptions};
use llama_warden_terminal::output;

use args::Cli;
pub use demo_fleet::is_stand_in;

/// Runs the command of this process's command line, with the compiled-in matchers and components. `version` is what
/// `--version` prints after the name.
pub fn main(extensions: Extensions, version: &'static str) -> ExitCode {
    set_program_name(std::env::args_os().next().as_deref());
    if completion::answer_shell(Cli::command) {
        return Exit::Done.into();
    }
    let cli = match command().version(version).try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(mut error) => {
            // No value of ours begins with a dash, so that "pass it as a value" is no advice.
            if error.kind() == ErrorKind::UnknownArgument {
                error.remove(ContextKind::Suggested);
            }
            // clap reports help and version as errors too.
            let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // The command line is not understood, so it is searched for the word alone.
            if !is_answer && std::env::args_os().any(|argument| argument == "--json") {
                let text = error.render().to_string();
                let failure = CommandFailure::usage(text.trim().trim_start_matches("error: "));
                return end(Err(failure), true);
            }
            return end(output::print_usage(&error), false);
        }
    };
    let GlobalArgs { config, address, token_file, .. } = cli.global.clone();
    advice::set_options(AdvisedOptions { config, address, token_file });
    end(commands::run(&cli, extensions, version), cli.global.json)
}

/// The exit code of a command. Why it failed is printed.
fn end(result: CommandResult, json: bool) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::print_failure(&failure, json);
            failure.exit.into()
        }
    }
}

/// The command line, to which a variable without a value is one that is not set.
fn command() -> Command {
    let examples = args::EXAMPLES.replace("llama-warden ", &format!("{} ", program_name()));
    Cli::command().after_help(examples).mut_args(|argument| {
        let is_empty = argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { argument.env(Resettable::Reset) } else { argument }
    })
}
