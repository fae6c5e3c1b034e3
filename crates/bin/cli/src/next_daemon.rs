//! Waits for the daemon that follows one that has ended, for commands that follow what happens.

use std::time::Duration;

use llama_warden_client::{Client, ClientError};
use llama_warden_daemon::CommandFailure;
use llama_warden_events::BootId;

use crate::connect;

/// Pause between two attempts to connect: nothing announces a daemon of another process.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How a stream of a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The daemon ended it, since it ends itself.
    Whole,
    /// The connection broke.
    Broken,
}

impl StreamEnd {
    /// The end that the result of a read means; an error that is none of the connection stays one.
    pub fn of(error: ClientError) -> Result<Self, CommandFailure> {
        match error {
            ClientError::Unreachable { .. } | ClientError::Protocol { .. } => Ok(Self::Broken),
            error => Err(connect::request_failure(error)),
        }
    }
}

/// Waits until a daemon answers at the same address: after a stream that the daemon ended, one of another run than `boot`.
pub async fn await_daemon(client: &Client, boot: BootId, end: StreamEnd) -> Result<BootId, CommandFailure> {
    let mut is_told = false;
    loop {
        match client.status().await {
            Ok(status) if status.boot != boot || end == StreamEnd::Broken => return Ok(status.boot),
            Ok(_) => {}
            Err(error) => {
                StreamEnd::of(error)?;
                if !std::mem::replace(&mut is_told, true) {
                    eprintln!("[the daemon has ended; waiting for the next one]");
                }
            }
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}
