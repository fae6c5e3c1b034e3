//! How a command of the program, or the daemon, ends: exit codes, and failures that tell a person what to do next.

mod errno;
mod failure;

pub use errno::next_step_for;
pub use failure::{CommandFailure, CommandResult, Exit, FailureMessage, with_source};
