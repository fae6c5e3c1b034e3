//! `top`: the servers of a daemon on the whole screen, those in trouble first, with the log of the chosen one below.
//!
//! `state` is what is shown and what a key means, without terminal or daemon; `view` draws it, with the
//! `columns` that there is room for; `session` reads keys,
//! follows the daemon, and does what was asked for.

mod columns;
mod row;
mod screen;
mod session;
mod state;
mod view;

use std::io::IsTerminal;

use llama_warden_connect::{GlobalArgs, ServerSelector};
use llama_warden_exit::{CommandFailure, CommandResult};

/// Shows the named servers until a key ends it; with `all`, those of the daemon's peers too.
///
/// # Errors
/// There is no daemon, standard output is no terminal, or it cannot be written any more.
pub async fn run(global: &GlobalArgs, ids: &[ServerSelector], all: bool) -> CommandResult {
    if !(std::io::stdout().is_terminal() && std::io::stdin().is_terminal()) {
        return Err(CommandFailure::usage("`top` needs a terminal for its output and its keys")
            .next_step("`llama-warden status --watch` prints a line for each change, with --json as JSON"));
    }
    session::run(global, ids, all).await
}
