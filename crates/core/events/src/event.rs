//! The events: what happened, in the past tense. The comment on each variant is its entry in `docs/events.md`.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::{
    ArgumentList, BinaryIdentity, CommandOutcome, CommandSummary, FailureReason, FileRefusal, HookOutcome, HookPoint,
    ListenerOwner, MemoryEstimate, OptionNote, ProcessEnd, ProfileCard, ReadyVia, Rung, ServerCard, ServerId, Signal,
    StopReason, StreamName, SwitchPlan, Warning,
};

/// Something that happened. Who publishes it stands in each comment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, IntoStaticStr, VariantNames)]
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
        card: Arc<ServerCard>,
    },
    /// A server is no longer part of the configuration. (supervisor)
    ServerRemoved,
    /// The configuration in force has these profiles. (supervisor)
    ProfilesConfigured {
        /// All of them, by name.
        profiles: Vec<ProfileCard>,
    },
    /// It was worked out what a change of profile or configuration does to each server. (supervisor)
    SwitchPlanned {
        /// The plan.
        plan: Box<SwitchPlan>,
    },
    /// A profile is active from now on; absent means every enabled server. (supervisor)
    ProfileActivated {
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<String>,
    },
    /// A changed configuration is in force. (supervisor)
    ConfigurationReloaded {
        /// What asked for it, for people.
        trigger: String,
    },
    /// A changed configuration cannot be used; what is in force stays. (supervisor)
    ConfigurationRefused {
        /// What asked for it, for people.
        trigger: String,
        /// Every problem, with its place.
        detail: String,
    },
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
    /// It was estimated what a server will need of memory, before its launch. (supervisor)
    MemoryEstimated {
        /// The estimate, an upper bound of what it takes until it is ready.
        estimate: MemoryEstimate,
    },
    /// A launch that is due waits for memory that is about to be free. (supervisor)
    LaunchHeld {
        /// How much it needs, what there is, and what it waits for.
        because: String,
    },
    /// A launch that was held waits no more: it comes, or is refused, or is no longer wanted. (supervisor)
    LaunchReleased,
    /// The launch of an incarnation began: look before the leap, then spawn. (launcher)
    LaunchBegan {
        /// The executable as configured.
        binary: PathBuf,
    },
    /// The executable said what it is. (launcher)
    BinaryIdentified(Arc<BinaryIdentity>),
    /// Files in the dialect directory were found to have changed; it is looked at before each launch. Where a file was
    /// refused, what it said before stays in force. (launcher)
    DialectsReloaded {
        /// The dialects that are new or changed, by name.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        dialects: Box<[String]>,
        /// The dialects that are gone, by name; the built-in one of that name is in force again.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        removed: Box<[String]>,
        /// The files that were refused.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        refused: Box<[FileRefusal]>,
    },
    /// The dialect that spells this incarnation's options was chosen. (launcher)
    DialectChosen {
        /// The dialect's name.
        dialect: Arc<str>,
        /// Why this one.
        because: String,
    },
    /// Options were spelled for this build; only those that did not stay as they were are named. (launcher)
    OptionsTranslated {
        /// One note per option. Shared with the snapshot.
        notes: Arc<[Arc<OptionNote>]>,
    },
    /// The process exists and its executable is loaded. (launcher)
    ServerSpawned {
        /// Process id, also the id of its process group.
        pid: u32,
        /// Start time in clock ticks since the machine booted: field 22 of `/proc/PID/stat`. With `pid` it names the
        /// process for good.
        start_ticks: u64,
        /// The command line, secrets redacted. Shared with the snapshot.
        argv: ArgumentList,
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
        /// How many processes of its group, marker or lock outlived it and were killed.
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
        detector: Arc<str>,
        /// Why this one.
        because: String,
    },
    /// Files in the detector directory changed. What was taken up reads launches from the next one on; where a file was
    /// refused, what it said before stays in force. (readiness)
    DetectorsReloaded {
        /// The packs that are new or changed, by name.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        packs: Box<[String]>,
        /// The packs that are gone, by name; a built-in one of that name is in force again.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        removed: Box<[String]>,
        /// The files that were refused.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        refused: Box<[FileRefusal]>,
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
    /// A check of a ready server came out otherwise than the one before: its first one, every failure, and the first
    /// success after one. (health)
    HealthProbed {
        /// Whether it answered as ready.
        ok: bool,
        /// Milliseconds until its answer, or until it was given up.
        latency_ms: f64,
        /// Consecutive failures. A server that does not answer while it computes has none.
        failures: u32,
    },
    /// A ready server no longer answers as ready. (health)
    ReadyLost {
        /// What it answered.
        detail: String,
    },
    /// A server that had lost it answers as ready again. (health)
    ReadyRegained,
    /// A server failed. Published once per incarnation, by the component that found out: supervisor (a launch that is
    /// refused, of which it is the only event), launcher (before the process exists), readiness (from the process' start to
    /// its end), terminator (unkillable), health.
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
    /// A command that the user put around a server's life has ended. It names its launch where something waits for it:
    /// `pre-start` and `pre-stop`. (hooks)
    HookCompleted {
        /// When it runs.
        hook: HookPoint,
        /// How it ended.
        outcome: HookOutcome,
        /// Seconds from its start to its end.
        seconds: f64,
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
    /// A scheduled restart does not come: a person decided otherwise. (supervisor)
    RestartCancelled,
    /// A failed server is not started again by itself. (supervisor)
    RestartAbandoned {
        /// Consecutive failures.
        attempts: u32,
        /// Why, for people.
        because: String,
    },
    /// Something that a component of others publishes. The state counts it, and changes by it in no other way. (extension)
    Extension(Box<ExtensionEvent>),
}

/// An event of a component that llama-warden does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct ExtensionEvent {
    /// The name of the component that publishes it.
    pub source: String,
    /// What kind of event of that component: a noun and a past participle, such as `PageSent`. Becomes a label of a metric, so
    /// there are few.
    pub kind: String,
    /// Whatever belongs to it.
    #[serde(default)]
    pub data: serde_json::Value,
}

impl Event {
    /// An event of the component `source`. `data` is what serializes to it; what does not is null.
    pub fn extension(source: &str, kind: &str, data: impl Serialize) -> Self {
        let data = serde_json::to_value(data).unwrap_or_default();
        Self::Extension(Box::new(ExtensionEvent { source: source.to_owned(), kind: kind.to_owned(), data }))
    }

    /// Every type of event, in the order of declaration.
    pub const KINDS: &[&str] = Self::VARIANTS;

    /// The event's type, as written in its `type` field.
    pub fn kind(&self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_kinds_is_complete() {
        let schema = schemars::schema_for!(Event);
        let variants = schema.as_value()["oneOf"].as_array().expect("an enum");
        let kinds: Vec<_> =
            variants.iter().filter_map(|variant| variant["properties"]["type"]["const"].as_str()).collect();
        assert_eq!(kinds, Event::KINDS);
    }

    #[test]
    fn an_event_is_named_in_json_as_its_kind_says() {
        let events = [
            Event::DaemonStopped { survivors: vec![] },
            Event::ServerRemoved,
            Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 },
            Event::ServerFailed { reason: FailureReason::Crashed, detail: String::new(), lines: vec![] },
        ];
        for event in events {
            let json = serde_json::to_value(&event).expect("serializes");
            assert_eq!(json["type"], event.kind());
        }
    }
}
