//! Reports of servers, made from a snapshot: the JSON of `/api/v1/status` and of `/api/v1/servers/{id}`.
//!
//! A report is a pure function of the snapshot and of the time `now`, which ages such as the uptime are measured to. Requests are
//! not in the snapshot: `with_requests` adds them.

use std::path::PathBuf;

use llama_warden_events::{
    BootId, FailureReason, Incarnation, MemoryEstimate, OptionNote, ProcessEnd, ReadyVia, RouterCard, Seq, ServerId,
    StopReason, Timestamp, Uptime, Warning,
};
use llama_warden_requests::RequestLog;
use llama_warden_state::{
    FailureRecord, GuardianRecord, HealthRecord, Phase, PhaseChange, PhaseName, ServerRecord, SlotsState, Snapshot,
    UseRecord,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RequestReport;

/// All servers at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusReport {
    /// Configured servers.
    pub total_servers: usize,
    /// Servers that are ready.
    pub ready_servers: usize,
    /// Servers with a process.
    pub running_servers: usize,
    /// The active profile; null if there is none.
    pub profile: Option<String>,
    /// The version of the daemon.
    #[serde(default)]
    pub version: String,
    /// Why the latest change of the configuration was refused; null once a change is accepted.
    #[serde(default)]
    pub configuration_refused: Option<String>,
    /// The daemon's first child, which forks a parent for each program that the daemon runs; null in its first moments.
    #[serde(default)]
    pub guardian: Option<GuardianReport>,
    /// Where requests for every model go; null where the router is off.
    #[serde(default)]
    pub router: Option<Box<RouterCard>>,
    /// The run of the daemon.
    pub boot: BootId,
    /// The last event that this report contains.
    pub seq: Seq,
    /// One entry per configured server, by id.
    pub servers: Vec<ServerReport>,
}

/// The guardian of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuardianReport {
    /// Its process id.
    pub pid: u32,
    /// How often it was killed or stopped by somebody and started again; no server notices that.
    pub restarts: u64,
}

/// One server at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerReport {
    /// The server's id.
    pub model_id: ServerId,
    /// The same id, by the name that it has in events and in the labels of metrics.
    pub server: ServerId,
    /// The server's name for people.
    pub display_name: String,
    /// The port of its process, or the configured one while none runs; null if it listens on unix sockets alone.
    pub port: Option<u16>,
    /// The address that it listens on, or the path of its unix socket.
    pub host: String,
    /// The address for clients on this machine, such as `http://127.0.0.1:8001`, or `unix:PATH`.
    #[serde(default)]
    pub base_url: String,
    /// The model file; null where llama-server gets it otherwise.
    #[serde(default)]
    pub model: Option<PathBuf>,
    /// The process id; null while no process runs.
    pub pid: Option<u32>,
    /// Whether it is ready now.
    pub is_ready: bool,
    /// Whether its process runs.
    pub is_running: bool,
    /// Whether it is ready but sleeps, by its own option `--sleep-idle-seconds`: its model is unloaded until the next request. Known from
    /// a health check, so that it may be late by an interval of those.
    #[serde(default)]
    pub is_sleeping: bool,
    /// Whole seconds since the spawn; 0 while no process runs.
    pub uptime_seconds: u64,
    /// The configured class of quality, such as a quantisation.
    pub tier: Option<String>,
    /// Whether the model thinks before it answers.
    pub is_thinking: bool,
    /// Whether the daemon starts it without being asked.
    pub enabled: bool,
    /// The present phase of its life.
    pub phase: PhaseName,
    /// Seconds in the present phase.
    #[serde(default)]
    pub phase_seconds: f64,
    /// What proved it ready, in its latest launch.
    pub ready_via: Option<ReadyVia>,
    /// Seconds from spawn to ready, in its latest launch.
    pub startup_seconds: Option<f64>,
    /// Seconds from spawn to ready on average over its launches in this run of the daemon; null before the first that became ready.
    #[serde(default)]
    pub usual_startup_seconds: Option<f64>,
    /// The number of its latest launch: how often this daemon has launched it.
    pub incarnation: Incarnation,
    /// How often the restart policy has started its process again, also under earlier daemons that this one took over from. A look for
    /// an executable or a model that is missing is no restart.
    pub restarts: u64,
    /// The detector pack that reads its output.
    pub detector: Option<String>,
    /// The version that its build reports.
    pub llama_version: Option<String>,
    /// How much of the model is loaded, from 0 to 1; null unless it is loading and its build reports progress.
    pub progress: Option<f64>,
    /// What it waits for, in words: its launch, the end of a stop, the time of a restart, or what is missing.
    pub waiting_for: Option<String>,
    /// Whether the latest command was to stop it: it stays down until one starts it.
    #[serde(default)]
    pub stopped_by_hand: bool,
    /// Why it is in its phase, in one sentence for people; null where the phase says it all.
    #[serde(default)]
    pub note: Option<String>,
    /// The latest health check whose result differs from the one before; null before the first check and while no process
    /// runs.
    pub health: Option<HealthReport>,
    /// The memory that it is estimated to need; null before its first launch, and if no estimate is possible.
    #[serde(default)]
    pub memory: Option<MemoryEstimate>,
    /// The latest failure.
    pub last_failure: Option<FailureReport>,
    /// Why the restart policy does not start it again; null unless it was given up.
    pub restart_abandoned: Option<String>,
    /// Its requests, from the lines that it prints about them; null if this build prints none.
    #[serde(default)]
    pub requests: Option<RequestReport>,
    /// Whether it was stopped because nobody used it, or to make room: it is not missed, and a request starts it.
    #[serde(default)]
    pub is_unloaded: bool,
    /// Its use by requests through the router; null before the first.
    #[serde(default, rename = "use")]
    pub usage: Option<UseReport>,
    /// What became of the content of its slots, where `router.keep-cache` is on; null before anything did.
    #[serde(default)]
    pub slots: Option<SlotsReport>,
}

/// What became of the content of a server's slots: the latest thing that happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotsReport {
    /// What happened.
    pub state: SlotsState,
    /// The tokens that were saved, restored or used.
    pub tokens: u64,
    /// The bytes of the files, where they were saved.
    pub bytes: u64,
    /// Why it was lost, or is off; null otherwise.
    pub because: Option<String>,
}

/// The use of a server by requests through the router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UseReport {
    /// Whether requests use it now, or have done so in the latest ten seconds.
    pub is_active: bool,
    /// When the latest one ended; null before that.
    pub last_at: Option<Timestamp>,
}

/// The latest health check of a ready server whose result differs from the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthReport {
    /// Time of the check.
    pub at: Timestamp,
    /// Whether the server answered as ready.
    pub ok: bool,
    /// Milliseconds until the answer, or until the check gave up.
    pub latency_ms: f64,
    /// The same in seconds, as every other time.
    pub latency_seconds: f64,
    /// Consecutive failed checks up to this one.
    pub failures: u32,
}

/// A failure of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureReport {
    /// The reason, from a closed set.
    pub reason: FailureReason,
    /// The same in words.
    pub detail: String,
    /// Time of the failure.
    pub at: Timestamp,
    /// The last lines of output before it, oldest first.
    pub lines: Vec<String>,
}

/// One server in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerDetail {
    /// The server at a glance.
    #[serde(flatten)]
    pub report: ServerReport,
    /// The latest phases, oldest first.
    pub history: Vec<PhaseChange>,
    /// The command line of the latest process, secrets redacted.
    pub argv: Vec<String>,
    /// Options that were translated for this build.
    pub options: Vec<OptionNote>,
    /// The flag dialect that translated them.
    pub dialect: Option<String>,
    /// Warnings about its latest launch, such as options that its build does not know.
    pub warnings: Vec<WarningReport>,
    /// How the latest process ended.
    pub last_end: Option<ProcessEnd>,
    /// Why it is being stopped, or was stopped.
    pub stop_reason: Option<StopReason>,
}

/// A warning about a launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WarningReport {
    /// The kind of warning, from a closed set.
    pub warning: Warning,
    /// The same in words.
    pub detail: String,
}

impl StatusReport {
    /// Reports `snapshot` at the time `now`.
    pub fn of(snapshot: &Snapshot, now: Uptime) -> Self {
        Self {
            total_servers: snapshot.servers.len(),
            ready_servers: snapshot.ready_servers(),
            running_servers: snapshot.running_servers(),
            profile: snapshot.daemon.profile.clone(),
            version: snapshot.daemon.version.clone(),
            configuration_refused: snapshot.daemon.configuration_refused.clone(),
            guardian: snapshot.daemon.guardian.map(|GuardianRecord { pid, restarts }| GuardianReport { pid, restarts }),
            router: snapshot.daemon.router.clone(),
            boot: snapshot.boot,
            seq: snapshot.seq,
            servers: snapshot.servers.iter().map(|(id, server)| ServerReport::of(id, server, now)).collect(),
        }
    }
}

impl ServerReport {
    /// Reports one server at the time `now`.
    pub fn of(id: &ServerId, server: &ServerRecord, now: Uptime) -> Self {
        let process = server.process.as_ref();
        Self {
            model_id: id.clone(),
            server: id.clone(),
            display_name: server.card.display_name.clone(),
            port: server.card.has_port().then(|| process.map_or(server.card.port, |process| process.port)),
            host: server.card.host.clone(),
            base_url: base_url(&server.card.host, process.map_or(server.card.port, |process| process.port)),
            model: server.card.model.clone(),
            pid: process.map(|process| process.pid),
            is_ready: server.is_ready(),
            is_running: server.is_running(),
            is_sleeping: is_sleeping(server),
            uptime_seconds: process.map_or(0, |process| process.uptime(now).as_secs()),
            tier: server.card.tier.clone(),
            is_thinking: server.card.thinking,
            enabled: server.card.enabled,
            phase: server.phase.name(),
            phase_seconds: now.since(server.phase_since).as_secs_f64(),
            ready_via: server.ready.map(|ready| ready.via),
            startup_seconds: server.ready.map(|ready| ready.startup_seconds),
            usual_startup_seconds: usual_startup(server),
            incarnation: server.incarnation,
            restarts: server.counters.restarts_total(),
            detector: server.detector.as_deref().map(str::to_owned),
            llama_version: server.llama_version.as_deref().map(str::to_owned),
            progress: match server.phase {
                Phase::Loading { progress } => progress,
                _ => None,
            },
            waiting_for: waiting_for(server, now),
            stopped_by_hand: server.stopped_on_request,
            note: note(server, now),
            health: server.health.map(HealthReport::of),
            memory: server.memory,
            last_failure: server.last_failure.as_deref().map(FailureReport::of),
            restart_abandoned: server.restart_abandoned.clone(),
            is_unloaded: server.is_unloaded,
            usage: (server.usage != UseRecord::default())
                .then_some(UseReport { is_active: server.usage.is_active, last_at: server.usage.last_at }),
            slots: server.slots.as_deref().map(|slots| SlotsReport {
                state: slots.state,
                tokens: slots.tokens,
                bytes: slots.bytes,
                because: slots.because.clone(),
            }),
            requests: None,
        }
    }
}

impl ServerDetail {
    /// Reports one server in full at the time `now`.
    pub fn of(id: &ServerId, server: &ServerRecord, now: Uptime) -> Self {
        Self {
            report: ServerReport::of(id, server, now),
            history: server.history.to_vec(),
            argv: server.argv.to_vec(),
            options: server.notes.iter().map(|note| OptionNote::clone(note)).collect(),
            dialect: server.dialect.as_deref().map(str::to_owned),
            warnings: server
                .warnings
                .iter()
                .map(|record| WarningReport { warning: record.warning, detail: record.detail.clone() })
                .collect(),
            last_end: server.last_end,
            stop_reason: server.stop.map(|stop| stop.reason),
        }
    }
}

impl HealthReport {
    fn of(health: HealthRecord) -> Self {
        let HealthRecord { at, ok, latency_ms, failures, is_sleeping: _ } = health;
        // Through whole microseconds, so that it has no digits of a conversion.
        let latency_seconds = (latency_ms * 1e3).round() / 1e6;
        Self { at, ok, latency_ms, latency_seconds, failures }
    }
}

impl FailureReport {
    fn of(failure: &FailureRecord) -> Self {
        Self { reason: failure.reason, detail: failure.detail.clone(), at: failure.at, lines: failure.lines.clone() }
    }
}

fn is_sleeping(server: &ServerRecord) -> bool {
    server.is_ready() && server.health.is_some_and(|health| health.is_sleeping)
}

/// The mean time from spawn to ready, to whole milliseconds.
fn usual_startup(server: &ServerRecord) -> Option<f64> {
    server.ready_seconds.mean().map(|seconds| (seconds * 1e3).round() / 1e3)
}

/// What a server waits for, in words.
fn waiting_for(server: &ServerRecord, now: Uptime) -> Option<String> {
    if let Some(because) = &server.held {
        return Some(format!("memory: {because}"));
    }
    match (server.phase, server.stop) {
        (Phase::Stopping { rung, .. }, Some(stop)) => {
            let left = (stop.grace_seconds - now.since(stop.began).as_secs_f64()).max(0.0);
            Some(match rung {
                Some(rung) if stop.forced => format!("its end after {}", rung.signal),
                Some(rung) => format!("its end after {}; KILL in {left:.1} s", rung.signal),
                None => "its first signal".to_owned(),
            })
        }
        (Phase::BackingOff { attempt, max_attempts, until }, _) => {
            let seconds = until.since(now).as_secs_f64();
            let awaited = server.failure.as_ref().and_then(|failure| failure.reason.awaited());
            Some(match (awaited, max_attempts) {
                (Some(awaited), _) => format!("{awaited}; next look in {seconds:.1} s"),
                (None, Some(most)) => format!("restart {attempt} of {most} in {seconds:.1} s"),
                (None, None) => format!("restart {attempt} in {seconds:.1} s"),
            })
        }
        (phase, _) if phase.name().is_settled_down() && server.due_start.is_some() => Some("its launch".to_owned()),
        _ => None,
    }
}

/// The address of a server for its clients, such as `http://127.0.0.1:8001`; `unix:PATH` where it listens on a socket. `host` is
/// as configured: the first of a list counts. A server that listens on every address is reached on this machine by loopback.
pub fn base_url(host: &str, port: u16) -> String {
    let first = host.split(',').next().unwrap_or_default().trim();
    match first.trim_matches(['[', ']']) {
        // llama-server takes a host with this end as the path of a socket.
        path if path.ends_with(".sock") => format!("unix:{path}"),
        "0.0.0.0" => format!("http://127.0.0.1:{port}"),
        "::" => format!("http://[::1]:{port}"),
        address if address.contains(':') => format!("http://[{address}]:{port}"),
        address => format!("http://{address}:{port}"),
    }
}

/// How the detail of a failure begins that is the end of the process.
const ENDED: &str = "ended by itself";

/// Why a server is in its phase, in words.
fn note(server: &ServerRecord, now: Uptime) -> Option<String> {
    let told = |failure: &FailureRecord| format!("{}: {}", failure.reason, failure.detail);
    if let Some(waiting_for) = waiting_for(server, now) {
        let failure = server.failure.as_deref().filter(|_| matches!(server.phase, Phase::BackingOff { .. }));
        return Some(match failure {
            Some(failure) if failure.reason.awaited().is_some() => {
                format!("waits for {waiting_for}: {}", failure.detail)
            }
            Some(failure) => format!("{}; {waiting_for}", told(failure)),
            None => format!("waits for {waiting_for}"),
        });
    }
    let stopped = || match server.stop.map(|stop| stop.reason) {
        _ if server.stopped_on_request => Some("stopped by hand".to_owned()),
        Some(StopReason::Reconfigured) => Some("stopped by a change of the profile or the configuration".to_owned()),
        Some(StopReason::Idle) => Some("stopped because nobody used it; a request starts it".to_owned()),
        Some(StopReason::Evicted) => Some("stopped to make room for another server; a request starts it".to_owned()),
        Some(StopReason::Unloaded) => Some("unloaded; a request starts it".to_owned()),
        _ if server.is_unloaded => Some("not started for want of room; a request starts it".to_owned()),
        _ => None,
    };
    match (server.phase, server.failure.as_deref()) {
        (Phase::Failed { .. }, Some(failure)) if !server.stopped_on_request => Some(match &server.restart_abandoned {
            Some(because) if failure.reason.is_permanent() => format!("{}; {because}", told(failure)),
            Some(because) => format!("{}; given up: {because}", told(failure)),
            None => told(failure),
        }),
        (Phase::Idle | Phase::Exited { .. } | Phase::Failed { .. }, _) => stopped(),
        (Phase::Ready { .. }, None) if is_sleeping(server) => {
            Some("its model is unloaded while nobody uses it; a request loads it again".to_owned())
        }
        // The launch that failed was the one before.
        (Phase::Starting | Phase::Loading { .. } | Phase::Ready { .. }, None) => {
            let before = server.last_failure.as_deref();
            let before = before.filter(|failure| failure.incarnation.next() == server.incarnation)?;
            // The reason would say the same again.
            let why = if before.detail.starts_with(ENDED) { format!("it {}", before.detail) } else { told(before) };
            Some(format!("started again after {why}"))
        }
        _ => None,
    }
}

impl ServerReport {
    /// The report with the requests of the server at the time `now`.
    #[must_use]
    pub fn with_requests(self, requests: &RequestLog, now: Timestamp) -> Self {
        Self { requests: RequestReport::of(&self.server, requests, now), ..self }
    }
}

impl StatusReport {
    /// The report with the requests of every server at the time `now`.
    #[must_use]
    pub fn with_requests(self, requests: &RequestLog, now: Timestamp) -> Self {
        let servers = self.servers.into_iter().map(|server| server.with_requests(requests, now)).collect();
        Self { servers, ..self }
    }
}

impl ServerDetail {
    /// The report with the requests of the server at the time `now`.
    #[must_use]
    pub fn with_requests(self, requests: &RequestLog, now: Timestamp) -> Self {
        Self { report: self.report.with_requests(requests, now), ..self }
    }
}

#[cfg(test)]
mod tests;
