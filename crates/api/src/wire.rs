//! What travels beside the reports of `llama-warden-state`: answers to commands, and the records of the two streams.

use llama_warden_events::{CommandOutcome, Envelope, Seq, StreamName};
use llama_warden_state::{ServerDetail, StatusReport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer to a start, stop or restart: the command and the server's record at the time of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandAnswer {
    /// The command's id: the `seq` of its `CommandAccepted` fact, and the `cause` of what follows from it.
    pub command: Option<Seq>,
    /// How it ended; null while it is under way.
    pub outcome: Option<CommandOutcome>,
    /// The server.
    #[serde(flatten)]
    pub server: ServerDetail,
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
    /// A fact.
    Envelope(Box<Envelope>),
    /// Facts that the daemon no longer keeps.
    Gap {
        /// How many, and what they came to.
        gap: GapReport,
    },
}

/// A hole in the event stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GapReport {
    /// How many facts are missing.
    pub missed: u64,
    /// The state that contains them; what follows in the stream comes after its `seq`. Null where the stream goes on
    /// with older facts that are still kept (`follow=0`).
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
