//! The tokio runtime of commands that talk to a daemon or to an executable.

use llama_warden_daemon::{CommandFailure, Exit};

/// Runs `work` on a runtime of this thread.
pub fn on_runtime(work: impl Future<Output = Result<Exit, CommandFailure>>) -> Result<Exit, CommandFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CommandFailure::failed(format!("cannot start the runtime: {error}")))?.block_on(work)
}
