//! Errors of requests.

use std::io;

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
    /// The peer is not a daemon of this version, or the answer is incomplete or too late.
    #[error("no sensible answer from {address}: {detail}")]
    Protocol {
        /// The address that answered.
        address: DaemonAddress,
        /// The mistake in the answer.
        detail: String,
    },
}

impl ClientError {
    /// The next step for the user; empty if the daemon named nothing.
    pub fn next_step(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "start a daemon with `llama-warden up`, or name one with --address",
            Self::Problem(problem) => problem.next_step.as_deref().unwrap_or_default(),
            Self::Protocol { .. } => "check the address, and that client and daemon are of one version",
        }
    }
}
