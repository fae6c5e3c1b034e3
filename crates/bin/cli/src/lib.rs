//! The command line of llama-warden: reads it, runs the command, and turns the result into an exit code.
//!
//! Data goes to standard output, everything else to standard error.

mod args;
mod commands;
mod connect;
mod demo_fleet;
mod executable;
mod live_table;
mod memory;
mod option_check;
mod output;
mod plugin_files;
mod table;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use llama_warden_daemon::{Exit, Extensions};

use args::Cli;
pub use demo_fleet::is_stand_in;

/// Runs the command of this process's command line, with the compiled-in matchers and components.
pub fn main(extensions: Extensions) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap reports help and version as errors too. If their reader has closed the pipe, that is no failure.
            let _ = error.print();
            let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_answer { Exit::Done } else { Exit::Usage }.into();
        }
    };
    match commands::run(&cli, extensions) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::print_failure(&failure);
            failure.exit.into()
        }
    }
}
