//! Every event of llama-warden, in the past tense. The comment on each variant is its entry in `docs/events.md`.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::{
    ArgumentList, BinaryIdentity, CanaryReport, CommandOutcome, CommandSummary, EvictionCause, FailureReason,
    FileRefusal, HookOutcome, HookPoint, LeftFailure, ListenerOwner, MemoryEstimate, OptionNote, ProcessEnd,
    ProfileCard, ReadyVia, RouterCard, Rung, ServerCard, ServerId, ServerTotals, Signal, StopReason, StreamName,
    SwitchPlan, TraceParent, Uptime, Warning,
};

/// Something that happened. Each comment ends with the component that publishes the event, in parentheses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, IntoStaticStr, VariantNames)]
#[serde(tag = "type")]
pub enum Event {
    /// The daemon runs and every component has started. (daemon)
    DaemonStarted {
        /// Version of llama-warden.
        version: Box<str>,
        /// Process id of the daemon.
        pid: u32,
        /// The profile that is started; absent means every enabled server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<String>,
        /// Where the router listens; absent where it is off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        router: Option<Box<RouterCard>>,
    },
    /// The daemon begins to stop every server and starts none from now on. (supervisor)
    DaemonStopping {
        /// What caused it, for people: a signal, a command, a failed component.
        trigger: String,
    },
    /// The daemon begins to end and leaves every process to the next one. (supervisor)
    DaemonHandingOver {
        /// What caused it, for people.
        trigger: String,
    },
    /// No server runs any more, or the shutdown deadline has passed; the daemon is about to end. (supervisor)
    DaemonStopped {
        /// Servers whose process outlived the deadline.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        survivors: Vec<ServerId>,
    },
    /// The guardian runs, the process that forks a shim for each program: at the start of the daemon, and again after somebody has
    /// killed or stopped it, which no server notices. (launcher)
    GuardianStarted {
        /// Process id of the guardian.
        pid: u32,
    },
    /// A component ended early, with an error or a panic, or was ended because it flooded the bus with events of its own; the daemon
    /// shuts down. (host)
    ComponentFailed {
        /// The component's name.
        component: String,
        /// Its error message, the message of its panic, or that it published too many events.
        error: String,
    },
    /// A server is part of the configuration in force. (supervisor)
    ServerConfigured {
        /// Its name, model, port and the like, as configured.
        card: Arc<ServerCard>,
    },
    /// A server is no longer part of the configuration. (supervisor)
    ServerRemoved,
    /// The configuration in force has these profiles. (supervisor)
    ProfilesConfigured {
        /// All of them, by name.
        profiles: Vec<ProfileCard>,
    },
    /// The effect of a change of profile or configuration on each server was computed. (supervisor)
    SwitchPlanned {
        /// The servers to stop, start, restart and keep.
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
        /// What caused it, for people: a signal, a command, a changed file.
        trigger: String,
    },
    /// A changed configuration is invalid, or looks half written at two looks; the one in force stays. (supervisor)
    ConfigurationRefused {
        /// What caused it, for people: a signal, a command, a changed file.
        trigger: String,
        /// Every problem, with line and column, or why the configuration is doubted.
        detail: String,
    },
    /// A command was accepted. The `seq` of this event is the command's id. (supervisor)
    CommandAccepted {
        /// The command.
        command: CommandSummary,
        /// The trace that its sender continues, where it named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<Box<TraceParent>>,
    },
    /// An accepted command has reached its goal, or can no longer reach it; `cause` is the command's id. (supervisor)
    CommandCompleted {
        /// How it ended.
        outcome: CommandOutcome,
    },
    /// The memory need of a server was estimated before its launch. (supervisor)
    MemoryEstimated {
        /// The estimate: an upper bound of what the server takes until it is ready.
        estimate: MemoryEstimate,
    },
    /// A launch is due but waits for memory that an ending server, or the driver of its GPU, will free. (supervisor)
    LaunchHeld {
        /// What it needs, what is available, and what it waits for.
        because: String,
    },
    /// A held launch waits no longer: it was granted, refused or cancelled. (supervisor)
    LaunchReleased,
    /// A launch for which nobody waits was left out, since too much runs already: a request, or a person, starts the server. (supervisor)
    LaunchSkipped {
        /// The limit that leaves no room.
        because: String,
    },
    /// Ready servers are stopped to make room for the server of this event, for which somebody waits. (supervisor)
    EvictionPlanned {
        /// The servers that are stopped.
        victims: Vec<ServerId>,
        /// What there is no room in.
        because: EvictionCause,
    },
    /// Requests began to use a server that was idle; published at once, and at most once in ten seconds with its end. (router)
    UseBegan,
    /// The last request that used a server ended; published once ten seconds have passed without another. (router)
    UseEnded {
        /// When it ended, in seconds since the start of the daemon.
        last_used: Uptime,
    },
    /// No request goes to a server any more, as the supervisor asked: its gate is closed, and what was in flight has ended, or its time
    /// has. (router)
    ServerReleased {
        /// Requests that were still in flight when their time was over.
        left: u32,
    },
    /// What the slots of a server hold was saved, so that its next launch need not compute it again. (router)
    SlotsSaved {
        /// The slots.
        slots: u32,
        /// The tokens in them.
        tokens: u64,
        /// The bytes of their files.
        bytes: u64,
    },
    /// What an earlier launch has saved was restored before the first request. (router)
    SlotsRestored {
        /// The slots.
        slots: u32,
        /// The tokens in them.
        tokens: u64,
    },
    /// An answer has used what was restored: keeping it works for this executable, model and arguments. (router)
    SlotsUsed {
        /// The tokens of its prompt that were not computed again.
        cached: u64,
    },
    /// What the slots of a server held could not be kept. (router)
    SlotsLost {
        /// What failed, or was found out.
        because: String,
        /// Whether it is not tried again with this executable, model and arguments.
        off: bool,
    },
    /// A launch began: its executable, model and port are checked, then it is spawned. (launcher)
    LaunchBegan {
        /// The executable as configured.
        binary: PathBuf,
    },
    /// The executable printed its version and its options. (launcher)
    BinaryIdentified(Arc<BinaryIdentity>),
    /// Files in the dialect directory have changed since the last launch. For a refused file, its former content stays in
    /// force. (launcher)
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
    /// The dialect that spells the options of this launch was chosen. (launcher)
    DialectChosen {
        /// The dialect's name.
        dialect: Arc<str>,
        /// Why this one was chosen, for people.
        because: String,
    },
    /// Options were translated for this build; unchanged options are left out. (launcher)
    OptionsTranslated {
        /// One note for each changed option.
        // Shared with the snapshot.
        notes: Arc<[Arc<OptionNote>]>,
    },
    /// The process of an earlier run of the daemon is taken over; `ServerSpawned` with its identity follows. (launcher)
    ServerAdopted {
        /// Seconds since it was spawned.
        age_seconds: f64,
        /// Whether it was ready.
        was_ready: bool,
    },
    /// The process exists and has executed the server's program. (launcher)
    ServerSpawned {
        /// Process id, also the id of its process group.
        pid: u32,
        /// Start time in clock ticks since the machine booted: field 22 of `/proc/PID/stat`. Together with `pid` it
        /// identifies the process, also after the id was reused.
        start_ticks: u64,
        /// The command line, secrets redacted.
        // Shared with the snapshot.
        argv: ArgumentList,
        /// The port in its command line.
        port: u16,
    },
    /// A signal was sent to every process of a server. (launcher)
    SignalDelivered {
        /// The signal.
        signal: Signal,
        /// The step of the ladder that it belongs to.
        rung: Rung,
    },
    /// The process that listens on a server's port was identified. (launcher)
    ListenerIdentified {
        /// Whether it is the server's own.
        listener: ListenerOwner,
    },
    /// The process ended: no descendant is left, and its output is read to the end. (launcher)
    ServerExited {
        /// How it ended.
        end: ProcessEnd,
        /// How many descendants outlived it and were killed: those of its group, its launch tag or its lock.
        swept: u32,
    },
    /// A consumer of the output lane read too slowly and lost lines. (the consumer)
    OutputLost {
        /// The stream that it read.
        stream: StreamName,
        /// The name of the consumer.
        consumer: String,
        /// The number of lines that it lost.
        lines: u64,
    },
    /// The detector pack that reads the output of this launch was chosen. (readiness)
    DetectorChosen {
        /// The pack's name.
        detector: Arc<str>,
        /// Why this one was chosen, for people.
        because: String,
    },
    /// Files in the detector directory have changed, with effect from the next launch on. For a refused file, its former
    /// content stays in force. (readiness)
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
    /// A line looked like readiness, and readiness probes at once. The line alone proves nothing. (readiness)
    ReadyHinted {
        /// The stream of the line.
        stream: StreamName,
        /// The line, at most 512 bytes of it.
        line: String,
    },
    /// The model is loading; published at most once per percent. (readiness)
    LoadProgressed {
        /// From 0 to 1; absent if the build prints no progress.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ratio: Option<f64>,
    },
    /// The server is ready: this process, this model, alive, answering. (readiness)
    ReadyReached {
        /// What proved that it is ready.
        via: ReadyVia,
        /// Seconds from the spawn to this verdict.
        startup_seconds: f64,
    },
    /// The result of a health check changed: published for the first check, every failure, the first success after a
    /// failure, and where a server has gone to sleep or woken up. (health)
    HealthProbed {
        /// Whether it answered as ready.
        ok: bool,
        /// Seconds until the answer or the timeout.
        latency_seconds: f64,
        /// The same in milliseconds: the name of before, which stays.
        latency_ms: f64,
        /// Consecutive failures. A server that computes while it does not answer has none.
        failures: u32,
        /// Whether it says that it sleeps: its model is unloaded until the next request (`--sleep-idle-seconds`).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_sleeping: bool,
    },
    /// A ready server no longer answers as ready. (health)
    ReadyLost {
        /// What it answered, or why there was no answer.
        detail: String,
    },
    /// A server that had lost its readiness answers as ready again. (health)
    ReadyRegained,
    /// A launch failed. Published once per launch, by the component that detects it: supervisor (a refused launch, which has
    /// no other event), launcher (before the process exists), readiness (while the process runs, and at its end), terminator
    /// (a process that outlives KILL, also of a launch that has failed already), health (a ready server that hangs).
    ServerFailed {
        /// The reason, from the closed set.
        reason: FailureReason,
        /// The reason in words, with the next step where there is one.
        detail: String,
        /// The last lines of output, oldest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<String>,
    },
    /// Something works worse than configured, but goes on. (any component)
    ServerWarned {
        /// The kind of warning.
        warning: Warning,
        /// The warning in words.
        detail: String,
    },
    /// A hook has ended. The event names a launch only for the hooks that a launch or a stop waits for: `pre-start` and
    /// `pre-stop`. (hooks)
    HookCompleted {
        /// Which hook.
        hook: HookPoint,
        /// How it ended.
        outcome: HookOutcome,
        /// Seconds from its start to its end.
        seconds: f64,
    },
    /// A stop began; the signals of the ladder follow. (terminator)
    StopBegan {
        /// Why the server is stopped.
        reason: StopReason,
        /// Seconds before KILL; 0 kills at once.
        grace_seconds: f64,
    },
    /// The next rung of the ladder begins. (terminator)
    StopEscalated {
        /// The rung that begins.
        rung: Rung,
        /// Whether it begins before its time: a request, or the deadline of a shutdown, has shortened the grace.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        early: bool,
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
    /// The restart policy scheduled a restart. (supervisor)
    RestartScheduled {
        /// Consecutive failures so far; where the launch waits for something that is missing, the looks for it.
        attempt: u32,
        /// How many restarts in a row the policy allows; absent where the launch waits for something that is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_attempts: Option<u32>,
        /// Seconds until the launch.
        delay_seconds: f64,
    },
    /// A scheduled restart was cancelled by a command, or by a request for which the server is launched at once. (supervisor)
    RestartCancelled,
    /// The restart policy gave up: a failed server is not started again by itself. (supervisor)
    RestartAbandoned {
        /// Consecutive failures so far.
        attempts: u32,
        /// Why it gave up, for people.
        because: String,
    },
    /// What earlier daemons have counted of the server goes on; the next event about it after its configuration. (supervisor)
    TotalsRestored {
        /// What they have counted.
        totals: Box<ServerTotals>,
    },
    /// The earlier daemon left the server down, and it stays so until somebody starts it. (supervisor)
    ServerLeftDown {
        /// The failure that it was left with; absent for a server that a person has stopped.
        failed: Option<Box<LeftFailure>>,
    },
    /// The trial of another build of llama-server began; the `seq` of this event is the command's id. The events of the canary
    /// itself are about a server of its own, `ID~canary`. (canary)
    CanaryBegan {
        /// The executable of the other build.
        binary: PathBuf,
        /// Whether it replaces the server's build if it proves itself.
        switch: bool,
    },
    /// The trial of another build is over, and its canary is gone; `cause` is the command's id. (canary)
    CanaryCompleted {
        /// What came of it.
        report: Box<CanaryReport>,
    },
    /// An event of a component that is not part of llama-warden. The snapshot counts it and is otherwise unchanged. (extension)
    Extension(Box<ExtensionEvent>),
}

/// An event of a component that llama-warden does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct ExtensionEvent {
    /// The name of the component that publishes it.
    pub source: String,
    /// The kind of event: a noun and a past participle, such as `PageSent`. It becomes the label of a metric, so a component has
    /// few kinds.
    pub kind: String,
    /// Anything else that belongs to the event.
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
