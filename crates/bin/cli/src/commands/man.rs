//! `man`: writes the manual pages from the same text as the help.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_terminal::output::print_line;

use crate::args::Cli;

pub fn run(directory: &Path) -> CommandResult {
    let failed = |verb: &str, error: std::io::Error| {
        CommandFailure::failed(format!("cannot {verb} {}: {error}", directory.display()))
    };
    fs::create_dir_all(directory).map_err(|error| failed("create", error))?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(|error| failed("write the pages into", error))?;
    print_line(format!("wrote the manual pages: man -l {}", directory.join("llama-warden.1").display()))?;
    Ok(Exit::Done)
}
