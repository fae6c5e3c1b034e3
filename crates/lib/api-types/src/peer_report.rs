//! Reports of the daemons of other machines.

use llama_warden_events::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::StatusReport;

/// The servers of this daemon, and of its peers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AllStatusReport {
    /// Those of this daemon.
    #[serde(flatten)]
    pub own: StatusReport,
    /// Those of its peers, one entry per peer of `[peers]`, by name; absent without `?all=1`.
    #[serde(default)]
    pub peers: Vec<PeerReport>,
}

/// The daemon of another machine: what it says of its servers, or why it says nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerReport {
    /// Its name in `[peers]`.
    pub name: String,
    /// Where it is asked.
    pub url: String,
    /// Why it has no status; null if it has one.
    pub problem: Option<PeerProblemReport>,
    /// When it last gave its status, as far as somebody asked in this run of the daemon.
    pub answered_at: Option<Timestamp>,
    /// What it says of itself and of its servers; null if there is a problem.
    pub status: Option<StatusReport>,
}

/// Why a peer has no status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerProblemReport {
    /// The reason, from a closed set.
    pub reason: PeerProblem,
    /// The same in words.
    pub detail: String,
    /// What to do.
    pub next_step: String,
    /// Since when it has been so: the first question without a status since the latest with one.
    pub since: Timestamp,
}

/// Reasons why a peer has no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PeerProblem {
    /// Nothing listens there, or there is no way to it.
    Unreachable,
    /// It has not answered in time.
    TimedOut,
    /// It does not take the token, or wants one.
    Unauthorized,
    /// The file with its token cannot be used.
    TokenUnusable,
    /// It refuses the question.
    Refused,
    /// What answers there is no daemon.
    NotADaemon,
    /// It is a daemon of a version that this one does not understand.
    OtherVersion,
    /// It is this daemon.
    Itself,
    /// Another peer is the same daemon.
    Duplicate,
}

impl PeerProblem {
    /// Its one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::Unauthorized => "unauthorized",
            Self::TokenUnusable => "token-unusable",
            Self::Refused => "refused",
            Self::NotADaemon => "not-a-daemon",
            Self::OtherVersion => "other-version",
            Self::Itself => "itself",
            Self::Duplicate => "duplicate",
        }
    }
}
