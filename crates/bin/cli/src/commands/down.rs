//! `down`: stops every server and the daemon, shows what it waits for, and returns when the daemon is gone.

use std::fs::OpenOptions;
use std::time::Duration;

use llama_warden_api_types::StatusReport;
use llama_warden_client::{Client, DaemonAddress, EventRange, ShutdownMode};
use llama_warden_connect::{self as connect, GlobalArgs};
use llama_warden_daemon::LOCK;
use llama_warden_events::Seq;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_support::open_own_file;
use serde_json::json;

use llama_warden_terminal::live_table::{LiveTable, Place};
use llama_warden_terminal::output::{print_json, print_line};
use llama_warden_terminal::server_text;

pub async fn run(global: &GlobalArgs, force: bool, limit: Duration) -> CommandResult {
    let mut latest = None;
    let Ok(ended) = tokio::time::timeout(limit, shut_down(global, force, &mut latest)).await else {
        return Err(still_there(limit, latest));
    };
    let command = ended?;
    if global.json {
        print_json(&json!({ "command": command, "ended": true }))?;
    } else {
        print_line("everything is stopped")?;
    }
    Ok(Exit::Done)
}

/// Shuts the daemon down, follows its servers in `latest` to its end, and returns the number of the command.
async fn shut_down(
    global: &GlobalArgs,
    force: bool,
    latest: &mut Option<StatusReport>,
) -> Result<Option<Seq>, CommandFailure> {
    let client = connect::to_daemon(global).await?;
    let mut table = (!global.json).then(|| LiveTable::new(Place::Inline));
    let mut events = client.events(EventRange::New).await.map_err(connect::request_failure)?;
    let first = latest.insert(client.status().await.map_err(connect::request_failure)?);
    // That nobody reads the table is no reason to leave the daemon running.
    table.iter_mut().for_each(|table| drop(table.begin(first)));
    let manner = if force { ShutdownMode::Forced } else { ShutdownMode::Graceful };
    let answer = client.shut_down(manner).await.map_err(connect::request_failure)?;
    // The daemon closes the stream at its end; if it is killed, the stream breaks off. Both mean that it is gone.
    while let Ok(Some(_)) = events.next().await {
        // Near its end it takes no requests any more.
        if let Ok(report) = client.status().await {
            let report = latest.insert(report);
            table.iter_mut().for_each(|table| drop(table.show(report)));
        }
    }
    wait_for_lock(&client).await;
    Ok(answer.command)
}

fn still_there(limit: Duration, latest: Option<StatusReport>) -> CommandFailure {
    let Some(report) = latest else { return connect::no_answer(limit) };
    let running = report.servers.iter().filter(|server| server.is_running).map(server_text::server_line);
    let running: Vec<_> = running.collect();
    let what = if running.is_empty() { String::new() } else { format!("; it waits for {}", running.join(", ")) };
    CommandFailure::failed(format!("the daemon is still there after {limit:?}{what}"))
        .next_step("give it more time with --timeout, or kill every server with --force")
}

/// Waits until the daemon releases the lock of its state directory, which is the last that it does. A following `up` never
/// finds it held.
async fn wait_for_lock(client: &Client) {
    let DaemonAddress::Unix(socket) = client.address() else { return };
    let lock = socket.with_file_name(LOCK);
    let taken = tokio::task::spawn_blocking(move || {
        open_own_file(&lock, OpenOptions::new().read(true)).and_then(|lock| lock.lock_shared())
    });
    // If the directory is gone, as a demo's is, or the lock is no lock, opening it fails, and there is no daemon either.
    let _ = taken.await;
}
