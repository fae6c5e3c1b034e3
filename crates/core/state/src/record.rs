//! What the snapshot keeps of one server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use llama_warden_events::{
    ArgumentList, FailureReason, HookOutcome, HookPoint, Incarnation, MemoryEstimate, OptionNote, ProcessEnd, ReadyVia,
    ServerCard, Signal, StopReason, Timestamp, Uptime, Warning,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Histogram, Phase, PhaseName, Tally};

/// One server. What belongs to a launch is cleared when the next one begins; totals stay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerRecord {
    /// What is known of it before it runs.
    pub card: Arc<ServerCard>,
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub phase_since: Uptime,
    /// The latest phases, oldest first; at most [`ServerRecord::HISTORY`].
    pub history: Box<[PhaseChange]>,
    /// The latest launch; 0 before the first.
    pub incarnation: Incarnation,
    /// The running process.
    pub process: Option<ProcessRecord>,
    /// How it became ready in this incarnation.
    pub ready: Option<ReadyRecord>,
    /// The latest check of this incarnation that came out otherwise than the one before.
    pub health: Option<HealthRecord>,
    /// The stop of this incarnation, under way or complete.
    pub stop: Option<StopRecord>,
    /// The failure of this incarnation.
    pub failure: Option<Arc<FailureRecord>>,
    /// The latest failure of any incarnation.
    pub last_failure: Option<Arc<FailureRecord>>,
    /// How the latest process ended.
    pub last_end: Option<ProcessEnd>,
    /// Why policy does not start it again, if it was given up.
    pub restart_abandoned: Option<String>,
    /// How the commands around this incarnation's life ended that something waited for.
    pub hooks: BTreeMap<HookPoint, HookOutcome>,
    /// Losses of quality of this incarnation; at most [`ServerRecord::WARNINGS`].
    pub warnings: Vec<WarningRecord>,
    /// Options that were spelled otherwise for this build.
    pub notes: Arc<[Arc<OptionNote>]>,
    /// The command line of the latest process, secrets redacted.
    pub argv: ArgumentList,
    /// What it is estimated to need of memory.
    pub memory: Option<MemoryEstimate>,
    /// What a launch that is due waits for.
    pub held: Option<String>,
    /// The pack that reads its output.
    pub detector: Option<Arc<str>>,
    /// The dialect that spelled its options.
    pub dialect: Option<Arc<str>>,
    /// What the build calls itself.
    pub llama_version: Option<Arc<str>>,
    /// Totals of this run of the daemon.
    pub counters: Counters,
    /// Spawn to ready.
    pub ready_seconds: Histogram,
    /// Stop asked to reaped.
    pub stop_seconds: Histogram,
}

impl ServerRecord {
    /// How many phases are kept.
    pub const HISTORY: usize = 16;
    /// How many warnings of an incarnation are kept.
    pub const WARNINGS: usize = 16;

    /// A server that was just configured.
    pub fn new(card: Arc<ServerCard>, now: Uptime) -> Self {
        Self {
            card,
            phase: Phase::Idle,
            phase_since: now,
            history: Box::default(),
            incarnation: Incarnation::default(),
            process: None,
            ready: None,
            health: None,
            stop: None,
            failure: None,
            last_failure: None,
            last_end: None,
            restart_abandoned: None,
            hooks: BTreeMap::new(),
            warnings: Vec::new(),
            notes: Arc::default(),
            argv: ArgumentList::default(),
            memory: None,
            held: None,
            detector: None,
            dialect: None,
            llama_version: None,
            counters: Counters::default(),
            ready_seconds: Histogram::new(Histogram::READY_SECONDS),
            stop_seconds: Histogram::new(Histogram::STOP_SECONDS),
        }
    }

    /// Whether a process of it runs.
    pub const fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it is ready now.
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }
}

/// A running process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessRecord {
    /// Its id.
    pub pid: u32,
    /// Its start in clock ticks since the machine booted; with the pid it names the process for good.
    pub start_ticks: u64,
    /// The port that it was given.
    pub port: u16,
    /// When it was made, for people.
    pub spawned_at: Timestamp,
    /// When it was made, for durations.
    pub spawned: Uptime,
}

/// How a server became ready.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReadyRecord {
    /// What proved it.
    pub via: ReadyVia,
    /// Seconds since the spawn.
    pub startup_seconds: f64,
}

/// A check of a ready server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HealthRecord {
    /// When, for people.
    pub at: Timestamp,
    /// Whether it answered as ready.
    pub ok: bool,
    /// Milliseconds until its answer, or until it was given up.
    pub latency_ms: f64,
    /// Consecutive failures.
    pub failures: u32,
}

/// A stop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StopRecord {
    /// Why.
    pub reason: StopReason,
    /// When it began.
    pub began: Uptime,
    /// Seconds before KILL.
    pub grace_seconds: f64,
    /// Whether KILL was sent.
    pub forced: bool,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailureRecord {
    /// Why.
    pub reason: FailureReason,
    /// The same for people.
    pub detail: String,
    /// When, for people.
    pub at: Timestamp,
    /// Of which launch.
    pub incarnation: Incarnation,
    /// The last lines of output, oldest first.
    pub lines: Vec<String>,
}

/// A loss of quality.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WarningRecord {
    /// What kind.
    pub warning: Warning,
    /// The same for people.
    pub detail: String,
}

/// A change of phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseChange {
    /// The phase that began.
    pub phase: PhaseName,
    /// When, for people.
    pub at: Timestamp,
    /// Of which launch.
    pub incarnation: Incarnation,
}

/// Totals of one run of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Launches.
    pub launches: u64,
    /// Times it became ready, by proof.
    pub became_ready: Tally<ReadyVia>,
    /// Ends, by outcome.
    pub exits: Tally<ExitOutcome>,
    /// Failures, by reason.
    pub failures: Tally<FailureReason>,
    /// Restarts by policy, by the reason of the failure before.
    pub restarts: Tally<FailureReason>,
    /// Times that policy gave up, by the reason of the last failure.
    pub restarts_abandoned: Tally<FailureReason>,
    /// Signals of the ladder.
    pub signals: Tally<Signal>,
}

impl Counters {
    /// Restarts for any reason.
    pub fn restarts_total(&self) -> u64 {
        self.restarts.total()
    }
}

/// How an end counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitOutcome {
    /// Asked to end, and it did.
    Stopped,
    /// Asked to end, and KILL was needed.
    Killed,
    /// Was ready and ended unasked with code 0.
    Exited,
    /// Was ready and ended unasked in another way.
    Crashed,
    /// Ended before it was ready.
    Failed,
}

impl ExitOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [Self::Stopped, Self::Killed, Self::Exited, Self::Crashed, Self::Failed];

    /// The outcome's one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Exited => "exited",
            Self::Crashed => "crashed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for ExitOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
