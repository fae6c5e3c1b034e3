//! What travels beside the reports of `llama-warden-state`: profiles, targets, answers to commands, and the records of the
//! two streams.

use std::collections::BTreeMap;

use llama_warden_events::{CommandOutcome, Envelope, ProfileCard, Seq, ServerId, StreamName, SwitchPlan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ServerDetail, StatusReport};

/// The answer to a start, stop or restart: the command and the server's record at the time of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandAnswer {
    /// The command's id: the `seq` of its `CommandAccepted` event, and the `cause` of what follows from it.
    pub command: Option<Seq>,
    /// How it ended; null while it is under way.
    pub outcome: Option<CommandOutcome>,
    /// The server.
    #[serde(flatten)]
    pub server: ServerDetail,
}

/// A configured profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileReport {
    /// What the configuration says of it.
    #[serde(flatten)]
    pub card: ProfileCard,
    /// Whether it is the active one.
    pub active: bool,
}

/// What should run at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveProfileReport {
    /// The active profile; null where every enabled server runs without one.
    pub profile: Option<String>,
    /// The servers that should be ready.
    pub servers: Vec<ServerId>,
    /// Those of them that are not.
    pub missing: Vec<ServerId>,
}

/// The answer to a change of the whole fleet: what it does to each server, and the status at the time of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchAnswer {
    /// The command's id: the `seq` of its `CommandAccepted` event, and the `cause` of what follows from it.
    pub command: Seq,
    /// How it ended; null while it is under way. A server that failed does not sink the change: the status names it.
    pub outcome: Option<CommandOutcome>,
    /// The plan.
    #[serde(flatten)]
    pub plan: SwitchPlan,
    /// All servers.
    pub status: StatusReport,
}

/// Targets with labels in common, as Prometheus' `http_sd_config` reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetGroup {
    /// `HOST:PORT`.
    pub targets: Vec<String>,
    /// Labels; those that begin with `__meta_` are for relabelling.
    pub labels: BTreeMap<String, String>,
}

/// The answer to a shutdown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShutdownAnswer {
    /// The command's id.
    pub command: Option<Seq>,
}

/// One record of the event stream: a line of NDJSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EventRecord {
    /// An event.
    Envelope(Box<Envelope>),
    /// Events that the daemon no longer keeps.
    Gap {
        /// How many, and what they came to.
        gap: GapReport,
    },
}

/// A hole in the event stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GapReport {
    /// How many events are missing.
    pub missed: u64,
    /// The state that contains them; what follows in the stream comes after its `seq`. Null where the stream goes on
    /// with older events that are still kept (`follow=0`).
    pub snapshot: Option<StatusReport>,
}

/// One record of the log stream: a line of NDJSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LogRecord {
    /// A line of the server.
    Line {
        /// Where it was written.
        stream: StreamName,
        /// Its place among all lines of this server.
        order: u64,
        /// Its text; bytes that are no UTF-8 became U+FFFD.
        line: String,
    },
    /// Lines that were forgotten before they could be sent.
    Lost {
        /// Where they were written.
        stream: StreamName,
        /// How many.
        lost: u64,
    },
}
