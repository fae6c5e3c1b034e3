//! `down`: stops every server and the daemon, and returns when the daemon is gone.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use llama_warden_client::{Client, DaemonAddress, EventRange, ShutdownMode};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};

use crate::args::GlobalArgs;
use crate::connect;

pub async fn run(global: &GlobalArgs, force: bool, limit: Duration) -> CommandResult {
    let client = connect::to_daemon(global)?;
    let gone = async {
        let mut events = client.events(EventRange::New).await.map_err(connect::request_failure)?;
        let manner = if force { ShutdownMode::Forced } else { ShutdownMode::Graceful };
        client.shut_down(manner).await.map_err(connect::request_failure)?;
        // The daemon closes the stream at its end; if it is killed, the stream breaks off. Both mean that it is gone.
        while let Ok(Some(_)) = events.next().await {}
        wait_for_lock(&client).await;
        Ok(Exit::Done)
    };
    tokio::time::timeout(limit, gone).await.unwrap_or_else(|_| {
        Err(CommandFailure::failed(format!("the daemon is still there after {limit:?}"))
            .next_step("look at `llama-warden status` for what it waits for, or use --force"))
    })
}

/// Waits until the daemon releases the lock of its state directory, which is the last that it does. A following `up` never
/// finds it held.
async fn wait_for_lock(client: &Client) {
    let DaemonAddress::Unix(socket) = client.address() else { return };
    let Some(lock): Option<PathBuf> = socket.parent().map(|state| state.join("daemon.lock")) else { return };
    let taken = tokio::task::spawn_blocking(move || File::open(lock).and_then(|lock| lock.lock_shared()));
    // If the directory is gone, as a demo's is, opening the lock fails, and there is no daemon either.
    let _ = taken.await;
}
