//! Waits for the daemon that follows one that has ended, for commands that follow what happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use llama_warden_client::{Client, ClientError};
use llama_warden_events::BootId;
use llama_warden_exit::CommandFailure;
use llama_warden_terminal::output::print_note;

use crate::daemon::request_failure;

/// Pause between two attempts to connect: nothing announces a daemon of another process.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How a stream of a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The daemon ended it, since it ends itself.
    Whole,
    /// The connection broke, or the daemon is silent.
    Broken,
}

impl StreamEnd {
    /// The end that the result of a read means; an error that is none of the connection stays one.
    ///
    /// # Errors
    /// The daemon refuses the request.
    pub fn of(error: ClientError) -> Result<Self, CommandFailure> {
        match error {
            ClientError::Problem(_) => Err(request_failure(error)),
            _ => Ok(Self::Broken),
        }
    }
}

/// Tells once for all followers of a command that their daemon has ended, until one answers again.
#[derive(Debug, Default)]
pub struct EndNotice(AtomicBool);

impl EndNotice {
    /// Whether no other follower has printed it yet.
    fn is_first(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    fn daemon_answers(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Waits until a daemon answers at the same address: after a stream that the daemon ended, one of another run than `boot`.
///
/// # Errors
/// The daemon refuses the request.
pub async fn await_daemon(
    client: &Client,
    boot: BootId,
    end: StreamEnd,
    notice: &EndNotice,
) -> Result<BootId, CommandFailure> {
    loop {
        match client.status().await {
            Ok(status) if status.boot != boot || end == StreamEnd::Broken => {
                notice.daemon_answers();
                return Ok(status.boot);
            }
            Ok(_) => {}
            Err(error) => {
                let is_silent = matches!(error, ClientError::NoAnswer { .. });
                StreamEnd::of(error)?;
                if notice.is_first() {
                    let what =
                        if is_silent { "does not answer; waiting" } else { "has ended; waiting for the next one" };
                    print_note(format_args!("[the daemon {what}]"));
                }
            }
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_daemon_is_told_once_for_all_followers() {
        let notice = EndNotice::default();
        assert_eq!([(); 3].map(|()| notice.is_first()), [true, false, false]);
        notice.daemon_answers();
        assert!(notice.is_first(), "the end of the next one");
    }
}
