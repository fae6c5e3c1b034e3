//! The facts: what happened, in the past tense. The comment on each variant is its entry in `docs/events.md`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FailureReason, ProcessEnd, ReadyVia, RefusalReason, Seq, ServerId, Signal, StopReason, Warning};

/// Something that happened. Who publishes it stands in each comment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Event {
    /// The daemon runs and its components are up. (binary)
    DaemonStarted {
        /// Version of llama-warden.
        version: String,
        /// Process id of the daemon.
        pid: u32,
        /// The profile that is started; absent means every enabled server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<String>,
    },
    /// The daemon begins to stop every server, and starts none any more. (supervisor)
    DaemonStopping {
        /// What asked for it, for people: a signal, a command, a failed component.
        trigger: String,
    },
    /// Every server is gone, or the shutdown deadline has passed; the daemon is about to end. (supervisor)
    DaemonStopped {
        /// Servers whose process outlived the deadline.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        survivors: Vec<ServerId>,
    },
    /// A component ended with an error or a panic; the daemon shuts down. (host)
    ComponentFailed {
        /// The component's name.
        component: String,
        /// What it said.
        error: String,
    },
    /// A server is part of the configuration in force. (supervisor)
    ServerConfigured {
        /// What is known of it before it runs.
        card: ServerCard,
    },
    /// A server is no longer part of the configuration. (supervisor)
    ServerRemoved,
    /// A command was taken up. Its `seq` is the command's id. (supervisor)
    CommandAccepted {
        /// What was asked.
        command: CommandSummary,
    },
    /// What an accepted command asked for has come true, or cannot any more; `cause` is the command's id. (supervisor)
    CommandCompleted {
        /// How it ended.
        outcome: CommandOutcome,
    },
    /// The launch of an incarnation began: look before the leap, then spawn. (launcher)
    LaunchBegan {
        /// The executable as configured.
        binary: PathBuf,
    },
    /// The executable said what it is. (launcher)
    BinaryIdentified {
        /// The executable, as an absolute path.
        binary: PathBuf,
        /// The build in short form (`b11669`), where its version says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// The build number, where its version gives one. Builds inside llama-cpp-python say 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        build: Option<u64>,
        /// The long options that its help lists, without dashes, sorted. Shared: it is the same for every launch.
        #[serde(default, skip_serializing_if = "no_options")]
        options: std::sync::Arc<[String]>,
    },
    /// Options were spelled for this build; only those that did not stay as they were are named. (launcher)
    OptionsTranslated {
        /// One note per option.
        notes: Vec<OptionNote>,
    },
    /// The process exists and its executable is loaded. (launcher)
    ServerSpawned {
        /// Process id, also the id of its process group.
        pid: u32,
        /// Start time in clock ticks since the machine booted: field 22 of `/proc/PID/stat`. With `pid` it names the
        /// process for good.
        start_ticks: u64,
        /// The command line, secrets redacted.
        argv: Vec<String>,
        /// The port that was passed.
        port: u16,
    },
    /// A signal was sent to the group of a server. (launcher)
    SignalDelivered {
        /// The signal.
        signal: Signal,
        /// The step of the ladder that it belongs to.
        rung: Rung,
    },
    /// It was found out who listens on a server's port. (launcher)
    ListenerIdentified {
        /// Who it is.
        listener: ListenerOwner,
    },
    /// The process ended; its group is swept, its output read to the end, its status reaped. (launcher)
    ServerExited {
        /// How it ended.
        end: ProcessEnd,
        /// How many processes of its group or marker outlived it and were killed.
        swept: u32,
    },
    /// Lines were lost to a slow consumer of the output lane. (whoever read too slowly)
    OutputLost {
        /// The stream.
        stream: StreamName,
        /// The consumer.
        consumer: String,
        /// How many lines.
        lines: u64,
    },
    /// The pack that reads this incarnation's output was chosen. (readiness)
    DetectorChosen {
        /// The pack's name.
        detector: String,
        /// Why this one.
        because: String,
    },
    /// A line made readiness look at once; it proves nothing yet. (readiness)
    ReadyHinted {
        /// The stream.
        stream: StreamName,
        /// The line, at most 512 bytes of it.
        line: String,
    },
    /// The model is being loaded; published at most once per percent. (readiness)
    LoadProgressed {
        /// From 0 to 1; absent where the server shows life without a measure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ratio: Option<f64>,
    },
    /// The server is ready: this process, this model, alive, answering. (readiness)
    ReadyReached {
        /// What proved it.
        via: ReadyVia,
        /// Seconds from the spawn to this verdict.
        startup_seconds: f64,
    },
    /// A ready server no longer answers as ready. (health)
    ReadyLost {
        /// What it answered.
        detail: String,
    },
    /// A server that had lost it answers as ready again. (health)
    ReadyRegained,
    /// A server failed. Published once per incarnation, by the component that found out: launcher (before the process
    /// exists), readiness (from the process' start to its end), terminator (unkillable), health.
    ServerFailed {
        /// Why, from the closed set.
        reason: FailureReason,
        /// The same for people, with the next step where there is one.
        detail: String,
        /// The last lines of output, oldest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<String>,
    },
    /// Quality was lost; nothing stops. (anyone)
    ServerWarned {
        /// What kind.
        warning: Warning,
        /// The same for people.
        detail: String,
    },
    /// A stop began; what follows is the ladder. (terminator)
    StopBegan {
        /// Why.
        reason: StopReason,
        /// Seconds before KILL; 0 kills at once.
        grace_seconds: f64,
    },
    /// A rung of the ladder ran out and the next one is climbed. (terminator)
    StopEscalated {
        /// The step that begins.
        rung: Rung,
    },
    /// A stop is complete: the process is gone. (terminator)
    ServerStopped {
        /// Why it was stopped.
        reason: StopReason,
        /// Whether KILL was needed.
        forced: bool,
        /// Seconds from the request to the reaped process.
        stop_seconds: f64,
    },
    /// A restart was scheduled by policy. (supervisor)
    RestartScheduled {
        /// Consecutive failures so far.
        attempt: u32,
        /// Seconds until the launch.
        delay_seconds: f64,
    },
}

fn no_options(options: &std::sync::Arc<[String]>) -> bool {
    options.is_empty()
}

impl Event {
    /// Every type of fact, in the order of declaration.
    pub const KINDS: [&str; 28] = [
        "DaemonStarted",
        "DaemonStopping",
        "DaemonStopped",
        "ComponentFailed",
        "ServerConfigured",
        "ServerRemoved",
        "CommandAccepted",
        "CommandCompleted",
        "LaunchBegan",
        "BinaryIdentified",
        "OptionsTranslated",
        "ServerSpawned",
        "SignalDelivered",
        "ListenerIdentified",
        "ServerExited",
        "OutputLost",
        "DetectorChosen",
        "ReadyHinted",
        "LoadProgressed",
        "ReadyReached",
        "ReadyLost",
        "ReadyRegained",
        "ServerFailed",
        "ServerWarned",
        "StopBegan",
        "StopEscalated",
        "ServerStopped",
        "RestartScheduled",
    ];

    /// The fact's type, as written in its `type` field.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::DaemonStarted { .. } => "DaemonStarted",
            Self::DaemonStopping { .. } => "DaemonStopping",
            Self::DaemonStopped { .. } => "DaemonStopped",
            Self::ComponentFailed { .. } => "ComponentFailed",
            Self::ServerConfigured { .. } => "ServerConfigured",
            Self::ServerRemoved => "ServerRemoved",
            Self::CommandAccepted { .. } => "CommandAccepted",
            Self::CommandCompleted { .. } => "CommandCompleted",
            Self::LaunchBegan { .. } => "LaunchBegan",
            Self::BinaryIdentified { .. } => "BinaryIdentified",
            Self::OptionsTranslated { .. } => "OptionsTranslated",
            Self::ServerSpawned { .. } => "ServerSpawned",
            Self::SignalDelivered { .. } => "SignalDelivered",
            Self::ListenerIdentified { .. } => "ListenerIdentified",
            Self::ServerExited { .. } => "ServerExited",
            Self::OutputLost { .. } => "OutputLost",
            Self::DetectorChosen { .. } => "DetectorChosen",
            Self::ReadyHinted { .. } => "ReadyHinted",
            Self::LoadProgressed { .. } => "LoadProgressed",
            Self::ReadyReached { .. } => "ReadyReached",
            Self::ReadyLost { .. } => "ReadyLost",
            Self::ReadyRegained => "ReadyRegained",
            Self::ServerFailed { .. } => "ServerFailed",
            Self::ServerWarned { .. } => "ServerWarned",
            Self::StopBegan { .. } => "StopBegan",
            Self::StopEscalated { .. } => "StopEscalated",
            Self::ServerStopped { .. } => "ServerStopped",
            Self::RestartScheduled { .. } => "RestartScheduled",
        }
    }
}

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
    /// Stop every server and end the daemon.
    ShutDown,
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

/// One option whose spelling was changed for a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OptionNote {
    /// The option as the user means it.
    pub option: String,
    /// What was done.
    pub treatment: OptionTreatment,
    /// What was passed instead; empty where nothing is.
    pub spelled: Vec<String>,
    /// Why.
    pub because: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_kinds_is_complete() {
        let schema = schemars::schema_for!(Event);
        let variants = schema.as_value()["oneOf"].as_array().expect("an enum");
        let kinds: Vec<_> = variants.iter().filter_map(|variant| variant["properties"]["type"]["const"].as_str()).collect();
        assert_eq!(kinds, Event::KINDS);
    }

    #[test]
    fn a_fact_is_named_in_json_as_its_kind_says() {
        let facts = [
            Event::DaemonStopped { survivors: vec![] },
            Event::ServerRemoved,
            Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 },
            Event::ServerFailed { reason: FailureReason::Crashed, detail: String::new(), lines: vec![] },
        ];
        for fact in facts {
            let json = serde_json::to_value(&fact).expect("serializes");
            assert_eq!(json["type"], fact.kind());
        }
    }
}
