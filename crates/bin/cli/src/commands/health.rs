//! `health`: reports the daemon's health as an exit code, for the HEALTHCHECK of a container.

use llama_warden_daemon::{CommandFailure, CommandResult, Exit};

use crate::args::GlobalArgs;
use crate::connect;

pub async fn run(global: &GlobalArgs, ready: bool) -> CommandResult {
    let report = connect::to_daemon(global)?.status().await.map_err(connect::request_failure)?;
    let missing: Vec<_> = report
        .servers
        .iter()
        .filter(|server| ready && server.enabled && !server.is_ready)
        .map(|server| format!("{} is {}", server.model_id, server.phase))
        .collect();
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    Err(CommandFailure::failed(missing.join(", ")))
}
