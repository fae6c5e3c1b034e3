//! The record of one server in the snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_events::{
    ArgumentList, ExitOutcome, FailureReason, HistogramTotals, HookOutcome, HookPoint, Incarnation, MemoryEstimate,
    OptionNote, ProcessEnd, ReadyVia, Seq, ServerCard, ServerTotals, Signal, StopReason, Timestamp, Uptime, Warning,
    closed_set,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Histogram, Phase, PhaseName, Tally};

/// The record of one server. Fields of a launch are cleared when the next launch begins; totals stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ServerRecord {
    /// Its name, model, port and the like, as configured.
    pub card: Arc<ServerCard>,
    /// Its current phase.
    pub phase: Phase,
    /// When the current phase began.
    pub phase_since: Uptime,
    /// The latest phases, oldest first; at most [`ServerRecord::HISTORY`].
    pub history: Box<[PhaseChange]>,
    /// The number of the latest launch; 0 before the first.
    pub incarnation: Incarnation,
    /// How old the process is that is being taken over.
    pub adopted_age: Option<Duration>,
    /// The failure after which the restart policy has begun this launch, until its process exists: only then is it a restart.
    #[serde(skip)]
    pub restarted_after: Option<FailureReason>,
    /// The running process.
    pub process: Option<ProcessRecord>,
    /// How this launch became ready.
    pub ready: Option<ReadyRecord>,
    /// The latest published health check of this launch.
    pub health: Option<HealthRecord>,
    /// The stop of this launch, under way or complete.
    pub stop: Option<StopRecord>,
    /// The failure of this launch.
    pub failure: Option<Arc<FailureRecord>>,
    /// The latest failure of any launch.
    pub last_failure: Option<Arc<FailureRecord>>,
    /// How the latest process ended.
    pub last_end: Option<ProcessEnd>,
    /// Whether a person or a program had it stopped, and nobody has started it since.
    pub stopped_on_request: bool,
    /// Whether the latest command about it is a stop.
    #[serde(skip)]
    pub stop_is_latest: bool,
    /// The accepted start or restart that neither launched it nor was answered yet.
    #[serde(skip)]
    pub due_start: Option<Seq>,
    /// It was stopped because nobody used it, or to make room, and was not ready since: it is not missed, and comes back once somebody
    /// wants it.
    pub is_unloaded: bool,
    /// The requests that came through the router.
    #[serde(rename = "use")]
    pub usage: UseRecord,
    /// What became of the content of its slots, where it is kept over stops.
    pub slots: Option<Arc<SlotsRecord>>,
    /// Why the restart policy gave up, if it did.
    pub restart_abandoned: Option<String>,
    /// The outcomes of the hooks that this launch or its stop waited for.
    pub hooks: BTreeMap<HookPoint, HookOutcome>,
    /// Warnings of this launch; at most [`ServerRecord::WARNINGS`].
    pub warnings: Vec<WarningRecord>,
    /// Options that were translated for this build.
    pub notes: Arc<[Arc<OptionNote>]>,
    /// The command line of the latest process, secrets redacted.
    pub argv: ArgumentList,
    /// Its estimated memory need.
    pub memory: Option<MemoryEstimate>,
    /// What a held launch waits for.
    pub held: Option<String>,
    /// The pack that reads its output.
    pub detector: Option<Arc<str>>,
    /// The dialect that translated its options.
    pub dialect: Option<Arc<str>>,
    /// The version that the build prints.
    pub llama_version: Option<Arc<str>>,
    /// Totals of this run of the daemon, and of those that it goes on from.
    pub counters: Counters,
    /// Times from spawn to ready, in seconds.
    pub ready_seconds: Histogram,
    /// Times from the stop request to the reaped process, in seconds.
    pub stop_seconds: Histogram,
}

impl ServerRecord {
    /// How many phases are kept.
    pub const HISTORY: usize = 16;
    /// How many warnings of a launch are kept.
    pub const WARNINGS: usize = 16;

    /// A server that was just configured.
    pub fn new(card: Arc<ServerCard>, now: Uptime) -> Self {
        Self {
            card,
            phase_since: now,
            ready_seconds: Histogram::new(Histogram::READY_SECONDS),
            stop_seconds: Histogram::new(Histogram::STOP_SECONDS),
            ..Self::default()
        }
    }

    /// What is counted of it over all its launches.
    pub fn totals(&self) -> ServerTotals {
        let Counters { launches, became_ready, exits, failures, restarts, restarts_abandoned, signals } =
            self.counters.clone();
        ServerTotals {
            launches,
            became_ready: became_ready.into(),
            exits: exits.into(),
            failures: failures.into(),
            restarts: restarts.into(),
            restarts_abandoned: restarts_abandoned.into(),
            signals: signals.into(),
            ready_seconds: self.ready_seconds.totals(),
            stop_seconds: self.stop_seconds.totals(),
        }
    }

    /// Goes on with what earlier daemons have counted.
    pub(crate) fn restore(&mut self, totals: ServerTotals) {
        let ServerTotals { launches, became_ready, exits, failures, restarts, restarts_abandoned, signals, .. } =
            totals;
        self.counters = Counters {
            launches,
            became_ready: became_ready.into(),
            exits: exits.into(),
            failures: failures.into(),
            restarts: restarts.into(),
            restarts_abandoned: restarts_abandoned.into(),
            signals: signals.into(),
        };
        let restored = |bounds, totals: Option<HistogramTotals>| {
            totals.and_then(|totals| Histogram::restored(bounds, &totals)).unwrap_or_else(|| Histogram::new(bounds))
        };
        self.ready_seconds = restored(Histogram::READY_SECONDS, totals.ready_seconds);
        self.stop_seconds = restored(Histogram::STOP_SECONDS, totals.stop_seconds);
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
    /// Its process id.
    pub pid: u32,
    /// Its start in clock ticks since the machine booted; together with the pid it identifies the process.
    pub start_ticks: u64,
    /// The port in its command line.
    pub port: u16,
    /// When it was spawned, as wall time.
    pub spawned_at: Timestamp,
    /// When it was spawned, or taken over, for durations.
    pub spawned: Uptime,
    /// How old it was then: zero, unless it was taken over from an earlier run of the daemon.
    pub age: Duration,
}

impl ProcessRecord {
    /// How long it has run.
    pub fn uptime(&self, now: Uptime) -> Duration {
        self.age + now.since(self.spawned)
    }
}

/// How a server became ready.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReadyRecord {
    /// What proved that it is ready.
    pub via: ReadyVia,
    /// Seconds since the spawn.
    pub startup_seconds: f64,
}

impl ReadyRecord {
    /// Whether its process was taken over: an earlier daemon saw the server load.
    pub fn is_adopted(self) -> bool {
        self.via == ReadyVia::Adopted
    }

    /// How long the server loaded; `None` where its process was taken over.
    pub fn load_time(self) -> Option<Duration> {
        if self.is_adopted() { None } else { Duration::try_from_secs_f64(self.startup_seconds).ok() }
    }
}

/// The use of a server by requests that came through the router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct UseRecord {
    /// Whether requests use it now, or have done so in the latest seconds.
    pub is_active: bool,
    /// When the latest one ended, for durations.
    pub last_used: Option<Uptime>,
    /// The same as wall time, for people.
    pub last_at: Option<Timestamp>,
}

/// What became of the content of a server's slots: the latest thing that happened to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlotsRecord {
    /// What happened.
    pub state: SlotsState,
    /// The tokens that were saved, restored or used.
    pub tokens: u64,
    /// The bytes of the files, where it was saved.
    pub bytes: u64,
    /// Why it was lost, or is off.
    pub because: Option<String>,
}

/// A check of a ready server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HealthRecord {
    /// The wall time, for people.
    pub at: Timestamp,
    /// Whether it answered as ready.
    pub ok: bool,
    /// Milliseconds until the answer or the timeout.
    pub latency_ms: f64,
    /// Consecutive failures.
    pub failures: u32,
    /// Whether it said that it sleeps: its model is unloaded until the next request.
    pub is_sleeping: bool,
}

/// A stop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StopRecord {
    /// The reason.
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
    /// The reason.
    pub reason: FailureReason,
    /// The same in words, for people.
    pub detail: String,
    /// The wall time, for people.
    pub at: Timestamp,
    /// The launch that it belongs to.
    pub incarnation: Incarnation,
    /// The last lines of output, oldest first.
    pub lines: Vec<String>,
}

/// A warning.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WarningRecord {
    /// The kind of warning.
    pub warning: Warning,
    /// The same in words, for people.
    pub detail: String,
}

/// A change of phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseChange {
    /// The phase that began.
    pub phase: PhaseName,
    /// The wall time, for people.
    pub at: Timestamp,
    /// The launch that it belongs to.
    pub incarnation: Incarnation,
}

/// Totals of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Launches that began, and processes that were taken over.
    pub launches: u64,
    /// Launches that became ready, by proof.
    pub became_ready: Tally<ReadyVia>,
    /// Processes that ended, by outcome.
    pub exits: Tally<ExitOutcome>,
    /// Failed launches, by reason.
    pub failures: Tally<FailureReason>,
    /// Processes that the restart policy has started, by the reason of the failure before. A look for what is missing starts none.
    pub restarts: Tally<FailureReason>,
    /// Times that the restart policy gave up, by the reason of the last failure.
    pub restarts_abandoned: Tally<FailureReason>,
    /// Signals that were sent, by signal.
    pub signals: Tally<Signal>,
}

impl Counters {
    /// Restarts for any reason.
    pub fn restarts_total(&self) -> u64 {
        self.restarts.total()
    }
}

closed_set! {
    /// What became of the content of a server's slots.
    SlotsState {
        /// It was saved before a stop.
        Saved = "saved",
        /// It was restored after a start.
        Restored = "restored",
        /// An answer has used it after it was restored.
        Used = "used",
        /// It could not be saved or restored this time.
        Lost = "lost",
        /// It is not kept with this executable, model and arguments.
        Off = "off",
    }
}
