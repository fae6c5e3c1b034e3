//! The phases of a server's life.

use std::fmt;

use llama_warden_events::{FailureReason, ProcessEnd, ReadyVia, Rung, StopReason, Uptime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The phase of a server, with the data of that phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Phase {
    /// Configured, not launched in this run of the daemon.
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
        /// Consecutive failures.
        attempt: u32,
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

/// The phases without their details: the `phase` label and the `phase` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// Configured, not launched in this run of the daemon.
    Idle,
    /// The launch is being checked and prepared; there is no process yet.
    Launching,
    /// The process runs and has shown no progress yet.
    Starting,
    /// The model is being loaded.
    Loading,
    /// It answers as ready.
    Ready,
    /// It was ready and no longer answers as ready.
    Unready,
    /// It is being stopped.
    Stopping,
    /// It waits for its next restart.
    BackingOff,
    /// It ended without a failure.
    Exited,
    /// It failed.
    Failed,
}

impl PhaseName {
    /// Every phase.
    pub const ALL: [Self; 10] = [
        Self::Idle,
        Self::Launching,
        Self::Starting,
        Self::Loading,
        Self::Ready,
        Self::Unready,
        Self::Stopping,
        Self::BackingOff,
        Self::Exited,
        Self::Failed,
    ];

    /// The phase's one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Launching => "launching",
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::Stopping => "stopping",
            Self::BackingOff => "backing-off",
            Self::Exited => "exited",
            Self::Failed => "failed",
        }
    }

    /// Whether no process runs and neither a launch nor a restart is under way.
    pub const fn is_settled_down(self) -> bool {
        matches!(self, Self::Idle | Self::Exited | Self::Failed)
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
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
