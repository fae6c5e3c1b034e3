//! How talking to a daemon fails.

use std::io;

use llama_warden_api_types::ApiProblem;

use super::DaemonAddress;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no daemon answers on {address}")]
    Unreachable {
        /// Where.
        address: DaemonAddress,
        /// What the kernel said.
        source: io::Error,
    },
    /// The daemon refused, or what it did failed.
    #[error(transparent)]
    Problem(#[from] Box<ApiProblem>),
    /// What answers does not speak as a daemon does, or stopped in the middle.
    #[error("no sensible answer from {address}: {detail}")]
    Protocol {
        /// Where.
        address: DaemonAddress,
        /// What was wrong.
        detail: String,
    },
}

impl ClientError {
    /// What a person can do about it.
    pub fn next_step(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "start a daemon with `llama-warden up`, or name one with --address",
            Self::Problem(problem) => problem.next_step.as_deref().unwrap_or_default(),
            Self::Protocol { .. } => "check the address, and that client and daemon are of one version",
        }
    }
}
