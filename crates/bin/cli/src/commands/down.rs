//! `down`: stop every server and the daemon, and come back when it is gone.

use std::fs::File;
use std::path::PathBuf;

use llama_warden_api::client::{Address, Client, EventRange, Manner};
use llama_warden_daemon::{CommandFailure, Exit};

use crate::args::{DownArgs, GlobalArgs};
use crate::connect;

pub async fn run(global: &GlobalArgs, args: &DownArgs) -> Result<Exit, CommandFailure> {
    let client = connect::to_daemon(global)?;
    let gone = async {
        let mut events = client.events(EventRange::New).await.map_err(connect::request_failure)?;
        let manner = if args.force { Manner::Forced } else { Manner::Graceful };
        client.shut_down(manner).await.map_err(connect::request_failure)?;
        // The stream ends when the daemon closes it, or breaks off when the daemon is killed; both mean the end.
        while let Ok(Some(_)) = events.next().await {}
        wait_for_lock(&client).await;
        Ok(Exit::Done)
    };
    tokio::time::timeout(args.timeout, gone).await.unwrap_or_else(|_| {
        Err(CommandFailure::new(Exit::Failed, format!("the daemon is still there after {:?}", args.timeout))
            .next_step("look at `llama-warden status` for what it waits for, or use --force"))
    })
}

/// The daemon holds the lock of its state directory to its very end, so that `down && up` never meets it.
async fn wait_for_lock(client: &Client) {
    let Address::Unix(socket) = client.address() else { return };
    let Some(lock): Option<PathBuf> = socket.parent().map(|state| state.join("daemon.lock")) else { return };
    let taken = tokio::task::spawn_blocking(move || File::open(lock).and_then(|lock| lock.lock_shared()));
    // A directory that is gone (a demo's) has no daemon either.
    let _ = taken.await;
}
