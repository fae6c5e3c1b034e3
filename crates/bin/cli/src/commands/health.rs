//! `health`: one exit code for the HEALTHCHECK of a container.

use llama_warden_daemon::{Exit, Failure};

use crate::args::{Global, HealthArgs};
use crate::connect;

pub async fn run(global: &Global, args: &HealthArgs) -> Result<Exit, Failure> {
    let report = connect::client(global)?.status().await.map_err(connect::failure)?;
    let missing: Vec<_> = report
        .servers
        .iter()
        .filter(|server| args.ready && server.enabled && !server.is_ready)
        .map(|server| format!("{} is {}", server.model_id, server.phase))
        .collect();
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::new(Exit::Failed, missing.join(", ")))
}
