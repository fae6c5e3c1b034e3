//! The daemon's tokio runtime: one thread for all tasks, and others for blocking work.

use llama_warden_exit::{CommandFailure, CommandResult, next_step_for};
use tokio::runtime::Runtime;

/// Runs the work of a command that talks to a daemon or to an executable.
///
/// # Errors
/// Those of the work, and those of [`build_runtime`].
pub fn on_runtime(work: impl Future<Output = CommandResult>) -> CommandResult {
    let runtime = build_runtime()?;
    let result = runtime.block_on(work);
    // Does not wait for blocking threads: one of them may wait for a lock or a name that never comes.
    runtime.shutdown_background();
    result
}

/// Builds a runtime. Tasks of the daemon mostly wait, so one thread serves any number of servers, from one heap.
///
/// End it by [`Runtime::shutdown_background`]: a blocking thread may be stuck in a read from a disk that never answers.
///
/// # Errors
/// The kernel refuses a thread or a descriptor.
pub fn build_runtime() -> Result<Runtime, CommandFailure> {
    llama_warden_support::build_runtime("llama-warden").map_err(|error| {
        CommandFailure::failed(format!("cannot start the runtime: {error}"))
            .next_step(next_step_for(&error).unwrap_or("look at the limits of the machine"))
    })
}
