//! `man`: writes the manual pages from the same text as the help.

use std::fs;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_terminal::output::print_line;

use crate::args::Cli;

pub fn run(directory: &Path) -> CommandResult {
    let failed = |verb: &str, error: std::io::Error| {
        CommandFailure::failed(format!("cannot {verb} {}: {error}", directory.display()))
    };
    fs::create_dir_all(directory).map_err(|error| failed("create", error))?;
    let pages = clap_mangen::generate_to(repeated(Cli::command()), directory);
    pages.map_err(|error| failed("write the pages into", error))?;
    print_line(format!("wrote the manual pages: man -l {}", directory.join("llama-warden.1").display()))?;
    Ok(Exit::Done)
}

/// The command with dots behind each argument that may be repeated, and so all below it: the pages show `[ID...]`, where the help has
/// `[ID]...` by itself.
fn repeated(command: Command) -> Command {
    command.mut_args(dotted).mut_subcommands(repeated)
}

fn dotted(arg: Arg) -> Arg {
    let name = arg.get_value_names().and_then(|names| names.last()).map(ToString::to_string);
    match name {
        // The name has to live as long as the program, which ends when the pages are written.
        Some(name) if arg.is_positional() && matches!(arg.get_action(), ArgAction::Append) => {
            arg.value_name(&*format!("{name}...").leak())
        }
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The synopsis of a command's page, without its typeface.
    fn synopsis(name: &str) -> String {
        let command = repeated(Cli::command()).find_subcommand(name).expect("a command").clone();
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render_synopsis_section(&mut page).expect("renders");
        let page = String::from_utf8(page).expect("text");
        page.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-")
    }

    #[test]
    fn a_page_says_which_arguments_may_be_repeated_and_so_does_the_help() {
        for (name, shown) in [
            ("status", "[ID...]"),
            ("logs", "[ID...]"),
            ("stop", "[ID...]"),
            ("wait", "[ID...]"),
            ("models", "[DIR...]"),
            ("argv", "<ID>"),
            ("check", "[FILE]"),
        ] {
            let synopsis = synopsis(name);
            assert!(synopsis.contains(shown), "{name}: {synopsis}");
            assert_eq!(synopsis.contains("..."), shown.contains("..."), "{name}: {synopsis}");
            let usage = Cli::command().find_subcommand(name).expect("a command").clone().render_usage().to_string();
            assert_eq!(usage.contains("..."), shown.contains("..."), "{name}: {usage}");
        }
    }
}
