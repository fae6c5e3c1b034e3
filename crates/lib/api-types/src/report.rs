//! The snapshot as people and programs read it: the JSON of `/api/v1/status` and of `/api/v1/servers/{id}`.

use std::path::PathBuf;

use llama_warden_events::{
    FailureReason, Incarnation, MemoryEstimate, OptionNote, ProcessEnd, ReadyVia, Seq, ServerId, StopReason, Timestamp,
    Uptime, Warning,
};
use llama_warden_state::{FailureRecord, HealthRecord, Phase, PhaseChange, PhaseName, ServerRecord, Snapshot};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All servers at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusReport {
    /// Configured servers.
    pub total_servers: usize,
    /// Servers that are ready.
    pub ready_servers: usize,
    /// Servers with a process.
    pub running_servers: usize,
    /// The active profile, if one is.
    pub profile: Option<String>,
    /// Why the latest change of the configuration was refused, until one is taken.
    #[serde(default)]
    pub configuration_refused: Option<String>,
    /// The last event that this report contains.
    pub seq: Seq,
    /// One entry per configured server, by id.
    pub servers: Vec<ServerReport>,
}

/// One server at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerReport {
    /// The server's id.
    pub model_id: ServerId,
    /// The server's name for people.
    pub display_name: String,
    /// The port that it is given.
    pub port: u16,
    /// The address that it binds.
    pub host: String,
    /// The process; null where none runs.
    pub pid: Option<u32>,
    /// Whether it is ready now.
    pub is_ready: bool,
    /// Whether its process runs.
    pub is_running: bool,
    /// Whole seconds since the spawn; 0 where no process runs.
    pub uptime_seconds: u64,
    /// Quantisation or another class of quality.
    pub tier: Option<String>,
    /// Whether the model thinks before it answers.
    pub is_thinking: bool,
    /// Whether it belongs to what is started by itself.
    pub enabled: bool,
    /// Where it stands.
    pub phase: PhaseName,
    /// What proved it ready, in this incarnation.
    pub ready_via: Option<ReadyVia>,
    /// Seconds from spawn to ready, in this incarnation.
    pub startup_seconds: Option<f64>,
    /// Launches in this run of the daemon.
    pub incarnation: Incarnation,
    /// Restarts by policy in this run of the daemon.
    pub restarts: u64,
    /// The pack that reads its output.
    pub detector: Option<String>,
    /// What the build calls itself.
    pub llama_version: Option<String>,
    /// How far the model is loaded, from 0 to 1, where the build tells.
    pub progress: Option<f64>,
    /// What the server waits for: the end of a stop, the time of a restart, or memory that is about to be free.
    pub waiting_for: Option<String>,
    /// The latest check that came out otherwise than the one before; null before the first and where no process runs.
    pub health: Option<HealthReport>,
    /// The latest failure.
    pub last_failure: Option<FailureReport>,
    /// Why policy does not start it again, if it was given up.
    pub restart_abandoned: Option<String>,
}

/// The latest check of a ready server that came out otherwise than the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthReport {
    /// When.
    pub at: Timestamp,
    /// Whether the server answered as ready.
    pub ok: bool,
    /// Milliseconds until the answer, or until it was given up.
    pub latency_ms: f64,
    /// Consecutive failures.
    pub failures: u32,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureReport {
    /// Why.
    pub reason: FailureReason,
    /// The same for people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
    /// The last lines of output, oldest first.
    pub lines: Vec<String>,
}

/// One server whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerDetail {
    /// The server at a glance.
    #[serde(flatten)]
    pub report: ServerReport,
    /// The model file.
    pub model: Option<PathBuf>,
    /// The latest phases, oldest first.
    pub history: Vec<PhaseChange>,
    /// The command line of the latest process, secrets redacted.
    pub argv: Vec<String>,
    /// Options that were spelled otherwise for this build.
    pub options: Vec<OptionNote>,
    /// The dialect that spelled them.
    pub dialect: Option<String>,
    /// Losses of quality of this incarnation.
    pub warnings: Vec<WarningReport>,
    /// What it is estimated to need of memory; null before its first launch, and where nothing tells.
    #[serde(default)]
    pub memory: Option<MemoryEstimate>,
    /// How the latest process ended.
    pub last_end: Option<ProcessEnd>,
    /// Why it is being stopped or was.
    pub stop_reason: Option<StopReason>,
    /// Seconds in the present phase.
    pub phase_seconds: f64,
}

/// A loss of quality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WarningReport {
    /// What kind.
    pub warning: Warning,
    /// The same for people.
    pub detail: String,
}

impl StatusReport {
    /// The report at `now`.
    pub fn of(snapshot: &Snapshot, now: Uptime) -> Self {
        Self {
            total_servers: snapshot.servers.len(),
            ready_servers: snapshot.ready_servers(),
            running_servers: snapshot.running_servers(),
            profile: snapshot.daemon.profile.clone(),
            configuration_refused: snapshot.daemon.configuration_refused.clone(),
            seq: snapshot.seq,
            servers: snapshot.servers.iter().map(|(id, server)| ServerReport::of(id, server, now)).collect(),
        }
    }
}

impl ServerReport {
    /// The report of one server at `now`.
    pub fn of(id: &ServerId, server: &ServerRecord, now: Uptime) -> Self {
        let process = server.process.as_ref();
        Self {
            model_id: id.clone(),
            display_name: server.card.display_name.clone(),
            port: process.map_or(server.card.port, |process| process.port),
            host: server.card.host.clone(),
            pid: process.map(|process| process.pid),
            is_ready: server.is_ready(),
            is_running: server.is_running(),
            uptime_seconds: process.map_or(0, |process| now.since(process.spawned).as_secs()),
            tier: server.card.tier.clone(),
            is_thinking: server.card.thinking,
            enabled: server.card.enabled,
            phase: server.phase.name(),
            ready_via: server.ready.map(|ready| ready.via),
            startup_seconds: server.ready.map(|ready| ready.startup_seconds),
            incarnation: server.incarnation,
            restarts: server.counters.restarts_total(),
            detector: server.detector.as_deref().map(str::to_owned),
            llama_version: server.llama_version.as_deref().map(str::to_owned),
            progress: match server.phase {
                Phase::Loading { progress } => progress,
                _ => None,
            },
            waiting_for: waiting_for(server, now),
            health: server.health.map(HealthReport::of),
            last_failure: server.last_failure.as_deref().map(FailureReport::of),
            restart_abandoned: server.restart_abandoned.clone(),
        }
    }
}

impl ServerDetail {
    /// The whole of one server at `now`.
    pub fn of(id: &ServerId, server: &ServerRecord, now: Uptime) -> Self {
        Self {
            report: ServerReport::of(id, server, now),
            model: server.card.model.clone(),
            history: server.history.to_vec(),
            argv: server.argv.to_vec(),
            options: server.notes.iter().map(|note| OptionNote::clone(note)).collect(),
            dialect: server.dialect.as_deref().map(str::to_owned),
            warnings: server
                .warnings
                .iter()
                .map(|record| WarningReport { warning: record.warning, detail: record.detail.clone() })
                .collect(),
            memory: server.memory,
            last_end: server.last_end,
            stop_reason: server.stop.map(|stop| stop.reason),
            phase_seconds: now.since(server.phase_since).as_secs_f64(),
        }
    }
}

impl HealthReport {
    fn of(health: HealthRecord) -> Self {
        let HealthRecord { at, ok, latency_ms, failures } = health;
        Self { at, ok, latency_ms, failures }
    }
}

impl FailureReport {
    fn of(failure: &FailureRecord) -> Self {
        Self { reason: failure.reason, detail: failure.detail.clone(), at: failure.at, lines: failure.lines.clone() }
    }
}

/// What a server is given time for, in words.
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
        (Phase::BackingOff { attempt, until }, _) => {
            Some(format!("restart {attempt} in {:.1} s", until.since(now).as_secs_f64()))
        }
        _ => None,
    }
}
