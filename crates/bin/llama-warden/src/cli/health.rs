//! `health`: one exit code for the HEALTHCHECK of a container.

use super::args::{Global, HealthArgs};
use super::peer;
use crate::exit::{Exit, Failure};

pub async fn run(global: &Global, args: &HealthArgs) -> Result<Exit, Failure> {
    let report = peer::client(global)?.status().await.map_err(peer::failure)?;
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
