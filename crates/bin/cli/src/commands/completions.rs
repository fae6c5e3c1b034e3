//! `completions`: prints the completion script of a shell.

use clap::CommandFactory;
use clap_complete::Shell;
use llama_warden_daemon::{CommandResult, Exit};

use crate::args::Cli;
use crate::output::print_line;

pub fn run(shell: Shell) -> CommandResult {
    // Into memory first: the generator panics if the reader has closed the pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "llama-warden", &mut script);
    print_line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
