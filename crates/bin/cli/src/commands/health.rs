//! `health`: reports the daemon's health as an exit code, for the HEALTHCHECK of a container.

use std::time::Duration;

use llama_warden_connect::{self as connect, GlobalArgs};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use serde_json::json;

use llama_warden_terminal::output::print_json;

pub async fn run(global: &GlobalArgs, ready: bool, limit: Duration) -> CommandResult {
    let asking = async { connect::to_daemon(global).await?.status().await.map_err(connect::request_failure) };
    // The daemon itself waits for nothing here, so that no time is left to it beyond the limit.
    let report = tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| Err(connect::no_answer(limit)))?;
    let missing: Vec<_> = report.servers.iter().filter(|server| ready && server.enabled && !server.is_ready).collect();
    if global.json {
        let ids: Vec<_> = missing.iter().map(|server| &server.model_id).collect();
        print_json(&json!({ "ok": missing.is_empty(), "not_ready": ids }))?;
        return Ok(if missing.is_empty() { Exit::Done } else { Exit::Failed });
    }
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    let missing: Vec<_> = missing.iter().map(|server| format!("{} is {}", server.model_id, server.phase)).collect();
    Err(CommandFailure::failed(missing.join(", ")).next_step("`llama-warden status` shows what each waits for"))
}
