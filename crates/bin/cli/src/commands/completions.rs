//! `completions`: prints the script that makes a shell complete the command line.

use clap_complete::Shell;
use llama_warden_exit::{CommandResult, Exit};

use crate::completion;
use llama_warden_terminal::output::print_line;

pub fn run(shell: Shell) -> CommandResult {
    print_line(completion::script(shell)?.trim())?;
    Ok(Exit::Done)
}
