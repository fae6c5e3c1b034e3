//! The data of events: server cards, command summaries, outcomes, plans.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ArgumentList, FailureReason, RefusalReason, Seq, ServerId, Signal, closed_set};

/// A configured server, as it is known before it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerCard {
    /// The name for people.
    pub display_name: String,
    /// The model file; absent if the server's own arguments name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The port that it listens on.
    pub port: u16,
    /// The address that it binds.
    pub host: String,
    /// Quantisation or another class of quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Whether the model thinks before it answers.
    pub thinking: bool,
    /// Whether it starts with the daemon.
    pub enabled: bool,
}

impl ServerCard {
    /// Whether the server listens on its port: not if its host is a list of paths of unix sockets alone.
    pub fn has_port(&self) -> bool {
        !self.host.split(',').all(|host| host.trim().ends_with(".sock"))
    }
}

/// What an executable printed about itself.
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
    /// The long options that its help lists, without dashes, sorted.
    // Shared: it is the same for every launch.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub options: Arc<[String]>,
}

/// A command of a person or a program.
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
    /// Stop the server until somebody wants it.
    Unload,
    /// Bring the fleet to what a profile says.
    ActivateProfile {
        /// The profile; absent for every enabled server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<String>,
    },
    /// Change the executable of the server, or try another one beside it.
    ChangeBuild {
        /// The change.
        build: BuildChange,
    },
    /// Read the configuration again.
    Reload,
    /// End the daemon and leave every process to the next one.
    HandOver,
    /// Stop every server and end the daemon.
    ShutDown,
}

/// What becomes of the executable of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum BuildChange {
    /// Add a canary of the server: the same server with this executable, on a free port.
    AddCanary {
        /// The executable.
        binary: PathBuf,
    },
    /// Stop the canary, and remove it.
    RemoveCanary,
    /// The server itself runs this executable from now on, on trial: until the daemon ends, or the trial does.
    Try {
        /// The executable.
        binary: PathBuf,
    },
    /// Keep the executable that is on trial, also in later runs of the daemon.
    Keep,
    /// End the trial: the server runs what it ran before.
    Revert,
}

/// A profile, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileCard {
    /// Its name.
    pub name: String,
    /// Its purpose, for people.
    pub description: String,
    /// The servers that it runs.
    pub servers: Vec<ServerId>,
}

/// Where the router listens, which takes requests for every model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouterCard {
    /// The address for clients on this machine, such as `http://127.0.0.1:8080`, or `unix:PATH`.
    pub base_url: String,
    /// The host as configured, or the path of its unix socket.
    pub host: String,
    /// The port; null on a unix socket.
    pub port: Option<u16>,
    /// Whether a request starts the server that it names.
    pub on_demand: bool,
    /// Whether clients need a key.
    pub needs_key: bool,
}

/// The effect of a change of profile or configuration on each server.
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
        /// The reason of its failure.
        reason: FailureReason,
        /// The reason in words.
        detail: String,
    },
    /// A later command asked for something else.
    Superseded {
        /// The id of that command.
        by: Seq,
    },
    /// The command was refused after it had been accepted.
    Refused {
        /// The reason of the refusal.
        reason: RefusalReason,
    },
}

/// The estimated memory need of a server until it is ready, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryEstimate {
    /// The model, its projector, its adapters and its draft model.
    pub weights_bytes: u64,
    /// The KV cache.
    pub kv_bytes: u64,
    /// Compute buffers, and the process itself.
    pub compute_bytes: u64,
    /// The part of the sum that lies on GPUs.
    pub gpu_bytes: u64,
}

/// One option whose spelling was changed for a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OptionNote {
    /// The option as the user means it.
    pub option: Box<str>,
    /// What llama-warden did with it.
    pub treatment: OptionTreatment,
    /// The arguments that were passed instead; empty if none was.
    pub spelled: ArgumentList,
    /// Why, for people.
    pub because: Box<str>,
    /// The dialect whose rule or synonym applied; absent if the build's help alone decided.
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

/// The owner of the socket that listens on a server's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "owner", rename_all = "kebab-case")]
pub enum ListenerOwner {
    /// A process of the server's group.
    Own,
    /// A process that does not belong to the server.
    Foreign {
        /// Its process id, if it can be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        /// Its program, if it can be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<String>,
    },
    /// No process listens.
    Nobody,
    /// No process listens there, and the server listens on another address.
    Elsewhere {
        /// The first of its addresses, as HOST:PORT.
        address: String,
    },
    /// The owner cannot be determined.
    Unreadable {
        /// What prevented it.
        detail: String,
    },
}

/// A step of the escalation ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rung {
    /// Its position on the ladder, from 0.
    pub index: u8,
    /// Its signal.
    pub signal: Signal,
}

closed_set! {
    /// One of the two output streams of a process.
    StreamName {
        /// Standard error.
        Stderr = "stderr",
        /// Standard output.
        Stdout = "stdout",
    }
}

/// A failure after which no restart followed, as an earlier daemon left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftFailure {
    /// What failed.
    pub reason: FailureReason,
    /// The failure, for people.
    pub detail: String,
    /// Why the restart policy gave up, for people; absent where it never restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<String>,
}
