//! Answers to commands, profiles, targets for Prometheus, and the records of the event and log streams.

use std::collections::BTreeMap;
use std::path::PathBuf;

use llama_warden_events::{
    CommandOutcome, Envelope, Incarnation, ProfileCard, Seq, ServerId, StreamName, SwitchPlan, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ServerDetail, StatusReport};

/// The answer to a start, stop or restart: the command and the server's record at the time of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandAnswer {
    /// The command's id: the `seq` of its `CommandAccepted` event, and the `cause` of the events that follow from it.
    pub command: Option<Seq>,
    /// How it ended; null if it had not ended at the time of the answer.
    pub outcome: Option<CommandOutcome>,
    /// The server at the time of the answer.
    #[serde(flatten)]
    pub server: ServerDetail,
}

/// A configured profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileReport {
    /// The profile as configured.
    #[serde(flatten)]
    pub card: ProfileCard,
    /// Whether it is the active one.
    pub active: bool,
}

/// The servers that should be ready at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveProfileReport {
    /// The active profile; null if there is none, and every enabled server should be ready.
    pub profile: Option<String>,
    /// The servers that should be ready.
    pub servers: Vec<ServerId>,
    /// Those of them that are not.
    pub missing: Vec<ServerId>,
}

/// The answer to a change of the whole fleet: its plan for each server, and the status at the time of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchAnswer {
    /// The command's id: the `seq` of its `CommandAccepted` event, and the `cause` of the events that follow from it.
    pub command: Seq,
    /// How it ended; null if it had not ended at the time of the answer. A failed server does not fail the change: see the
    /// status.
    pub outcome: Option<CommandOutcome>,
    /// The servers that the change starts, stops, restarts and keeps.
    #[serde(flatten)]
    pub plan: SwitchPlan,
    /// All servers at the time of the answer.
    pub status: StatusReport,
}

/// Where the daemon's configuration is, for commands that need more of it than the daemon reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigurationPlace {
    /// The file, absolute; null if the built-in defaults are in force.
    pub file: Option<PathBuf>,
    /// The folders of `--models`, absolute.
    pub model_dirs: Vec<PathBuf>,
}

/// A group of targets with the same labels, in the format of Prometheus' `http_sd_config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetGroup {
    /// Each as `HOST:PORT`.
    pub targets: Vec<String>,
    /// Labels of all targets; those that begin with `__meta_` are for relabelling only.
    pub labels: BTreeMap<String, String>,
}

/// The answer to a shutdown, sent before it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShutdownAnswer {
    /// The command's id: the `seq` of its `CommandAccepted` event.
    pub command: Option<Seq>,
}

/// One record of the event stream: a line of NDJSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EventRecord {
    /// An event.
    Envelope(Box<Envelope>),
    /// Events that are missing in the stream, since the daemon no longer keeps them.
    Gap {
        /// Their number, and the state after them.
        gap: GapReport,
    },
}

/// A gap in the event stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GapReport {
    /// The number of missing events.
    pub missed: u64,
    /// The state after the missing events; the stream continues after its `seq`. Null if the stream continues with older
    /// events that are still kept (`follow=0`).
    pub snapshot: Option<StatusReport>,
}

/// One record of the log stream: a line of NDJSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LogRecord {
    /// A line that the server wrote.
    Line {
        /// The output stream of the line.
        stream: StreamName,
        /// Its position among all lines of this server, over both streams.
        order: u64,
        /// Its position among the lines of its stream.
        #[serde(default)]
        number: u64,
        /// The launch that wrote it; 0 if that is no longer known.
        #[serde(default)]
        incarnation: Incarnation,
        /// When the daemon read it.
        at: Timestamp,
        /// Its text; bytes that are not UTF-8 are replaced by U+FFFD.
        line: String,
    },
    /// Lines that the daemon dropped before it could send them.
    Lost {
        /// The output stream of the lines.
        stream: StreamName,
        /// The number of lost lines.
        lost: u64,
    },
}
