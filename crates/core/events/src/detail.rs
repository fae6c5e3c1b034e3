//! What events carry: cards, summaries, outcomes, plans.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ArgumentList, FailureReason, RefusalReason, Seq, ServerId, Signal};

/// What is known of a server before it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerCard {
    /// The name for people.
    pub display_name: String,
    /// The model file; absent where the server is given one by its own arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The port that it is given.
    pub port: u16,
    /// The address that it binds.
    pub host: String,
    /// Quantisation or another class of quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Whether the model thinks before it answers.
    pub thinking: bool,
    /// Whether it belongs to what is started by itself.
    pub enabled: bool,
}

/// What an executable said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct BinaryIdentity {
    /// The executable, as an absolute path.
    pub binary: PathBuf,
    /// The build in short form (`b11669`), where its version says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The build number, where its version gives one. Builds inside llama-cpp-python say 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<u64>,
    /// The long options that its help lists, without dashes, sorted. Shared: it is the same for every launch.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub options: Arc<[String]>,
}

/// What a person or a program asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum CommandSummary {
    /// Start the server.
    Start,
    /// Stop the server.
    Stop {
        /// Kill at once.
        force: bool,
    },
    /// Stop the server, then start it.
    Restart {
        /// Kill at once.
        force: bool,
    },
    /// Bring the fleet to what a profile says.
    ActivateProfile {
        /// Which; absent for every enabled server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<String>,
    },
    /// Read the configuration again.
    Reload,
    /// Stop every server and end the daemon.
    ShutDown,
}

/// A profile, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileCard {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The servers that it runs.
    pub servers: Vec<ServerId>,
}

/// What a change of profile or configuration does to each server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchPlan {
    /// The profile that becomes active; absent means every enabled server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Servers that are stopped.
    pub stop: Vec<ServerId>,
    /// Servers that are started.
    pub start: Vec<ServerId>,
    /// Running servers whose command line changes.
    pub restart: Vec<ServerId>,
    /// Running servers that are not touched.
    pub keep: Vec<ServerId>,
}

/// How an accepted command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum CommandOutcome {
    /// The server is ready.
    Ready,
    /// The server is stopped.
    Stopped,
    /// The server failed.
    Failed {
        /// Why.
        reason: FailureReason,
        /// The same for people.
        detail: String,
    },
    /// A later command asked for something else.
    Superseded {
        /// The id of that command.
        by: Seq,
    },
    /// It was refused after it had been accepted.
    Refused {
        /// Why.
        reason: RefusalReason,
    },
}

/// What a server is estimated to need of memory before it is ready, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryEstimate {
    /// For the model, its projector, its adapters and its draft model.
    pub weights_bytes: u64,
    /// For the cache of keys and values.
    pub kv_bytes: u64,
    /// For buffers of the computation, and the process itself.
    pub compute_bytes: u64,
    /// How much of all this lies on GPUs.
    pub gpu_bytes: u64,
}

/// One option whose spelling was changed for a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OptionNote {
    /// The option as the user means it.
    pub option: Box<str>,
    /// What was done.
    pub treatment: OptionTreatment,
    /// What was passed instead; empty where nothing is.
    pub spelled: ArgumentList,
    /// Why.
    pub because: Box<str>,
    /// The dialect whose rule or synonym says so; absent where the build's help alone does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Box<str>>,
}

/// What happened to an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OptionTreatment {
    /// Passed under the name that the user gave.
    Kept,
    /// Spelled otherwise for this build.
    Translated,
    /// Not passed: the build does not list it.
    Dropped,
    /// Added by llama-warden for its own needs.
    Added,
}

/// Who listens on a server's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "owner", rename_all = "kebab-case")]
pub enum ListenerOwner {
    /// A process of the server's group.
    Own,
    /// Somebody else.
    Foreign {
        /// Its process id, where the kernel tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        /// Its program, where the kernel tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<String>,
    },
    /// Nobody listens.
    Nobody,
    /// The kernel does not let us see.
    Unreadable {
        /// What stood in the way.
        detail: String,
    },
}

/// A step of the escalation ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rung {
    /// Its place, from 0.
    pub index: u8,
    /// Its signal.
    pub signal: Signal,
}

/// One of the two output streams of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StreamName {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

impl StreamName {
    /// Both streams.
    pub const ALL: [Self; 2] = [Self::Stderr, Self::Stdout];

    /// The stream's one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
        }
    }
}

impl std::fmt::Display for StreamName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
