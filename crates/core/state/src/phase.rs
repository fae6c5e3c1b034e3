//! The phases of a server's life.

use llama_warden_events::{FailureReason, ProcessEnd, ReadyVia, Rung, StopReason, Uptime, closed_set};
use serde::Serialize;

/// The phase of a server, with the data of that phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Phase {
    /// Configured, not launched in this run of the daemon.
    #[default]
    Idle,
    /// The launch is being checked and prepared; there is no process yet.
    Launching,
    /// The process runs and has shown no progress yet.
    Starting,
    /// The model is being loaded.
    Loading {
        /// From 0 to 1; `None` if the build prints no progress.
        progress: Option<f64>,
    },
    /// It answers as ready.
    Ready {
        /// What proved that it is ready.
        via: ReadyVia,
    },
    /// It was ready and no longer answers as ready.
    Unready {
        /// What had proved that it was ready.
        via: ReadyVia,
    },
    /// It is being stopped.
    Stopping {
        /// Why it is stopped.
        reason: StopReason,
        /// The current rung of the ladder; `None` before the first signal.
        rung: Option<Rung>,
    },
    /// It waits for its next restart.
    BackingOff {
        /// Consecutive failures, or looks for what is missing.
        attempt: u32,
        /// How many restarts in a row the policy allows; `None` where it waits for something that is missing.
        max_attempts: Option<u32>,
        /// When the restart is due.
        until: Uptime,
    },
    /// Its process ended, and no failure was published (yet).
    Exited {
        /// How it ended.
        end: ProcessEnd,
    },
    /// It failed.
    Failed {
        /// The reason of the failure.
        reason: FailureReason,
    },
}

closed_set! {
    /// The phases without their details: the `phase` label and the `phase` key.
    PhaseName {
        /// Configured, not launched in this run of the daemon.
        Idle = "idle",
        /// The launch is being checked and prepared; there is no process yet.
        Launching = "launching",
        /// The process runs and has shown no progress yet.
        Starting = "starting",
        /// The model is being loaded.
        Loading = "loading",
        /// It answers as ready.
        Ready = "ready",
        /// It was ready and no longer answers as ready.
        Unready = "unready",
        /// It is being stopped.
        Stopping = "stopping",
        /// It waits for its next restart.
        BackingOff = "backing-off",
        /// It ended without a failure.
        Exited = "exited",
        /// It failed.
        Failed = "failed",
    }
}

impl PhaseName {
    /// Whether no process runs and neither a launch nor a restart is under way.
    pub const fn is_settled_down(self) -> bool {
        matches!(self, Self::Idle | Self::Exited | Self::Failed)
    }
}

impl Phase {
    /// The phase without its details.
    pub const fn name(&self) -> PhaseName {
        match self {
            Self::Idle => PhaseName::Idle,
            Self::Launching => PhaseName::Launching,
            Self::Starting => PhaseName::Starting,
            Self::Loading { .. } => PhaseName::Loading,
            Self::Ready { .. } => PhaseName::Ready,
            Self::Unready { .. } => PhaseName::Unready,
            Self::Stopping { .. } => PhaseName::Stopping,
            Self::BackingOff { .. } => PhaseName::BackingOff,
            Self::Exited { .. } => PhaseName::Exited,
            Self::Failed { .. } => PhaseName::Failed,
        }
    }
}
