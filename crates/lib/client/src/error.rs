//! Errors of requests.

use std::io;
use std::time::Duration;

use llama_warden_api_types::ApiProblem;

use crate::DaemonAddress;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection: nothing listens on the address, or it did not answer in time.
    #[error("no daemon answers on {address}")]
    Unreachable {
        /// The address that was tried.
        address: DaemonAddress,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The daemon refused the request, or the command failed.
    #[error(transparent)]
    Problem(#[from] Box<ApiProblem>),
    /// The peer accepted the connection and did not answer in time: it is stopped, hangs, or is no daemon.
    #[error("{address} accepts connections and has not answered within {limit:?}")]
    NoAnswer {
        /// The address that accepted.
        address: DaemonAddress,
        /// The time that it was given.
        limit: Duration,
    },
    /// The peer is not a daemon of this version, or the answer is incomplete.
    #[error("no sensible answer from {address}: {detail}")]
    Protocol {
        /// The address that answered.
        address: DaemonAddress,
        /// The mistake in the answer.
        detail: String,
    },
}

impl ClientError {
    /// Whether there is no daemon to talk to: the connection is refused, or nothing answers.
    pub const fn is_without_daemon(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoAnswer { .. })
    }

    /// The next step for the user; empty if the daemon named nothing.
    pub fn next_step(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "start a daemon with `llama-warden up`, or name one with --address",
            Self::NoAnswer { .. } => {
                "see in the daemon's log why it hangs, and with `ps` whether its process is stopped"
            }
            Self::Problem(problem) => problem.next_step.as_deref().unwrap_or_default(),
            Self::Protocol { .. } => "check the address, and that client and daemon are of one version",
        }
    }
}
