//! The runtime of commands that talk to a daemon.

use llama_warden_daemon::{Exit, Failure};

/// Runs `work` on this thread.
pub fn on_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))?.block_on(work)
}
