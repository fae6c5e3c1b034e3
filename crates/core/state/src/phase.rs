//! The phases of a server's life.

use std::fmt;

use llama_warden_events::{FailureReason, ProcessEnd, ReadyVia, Rung, StopReason, Uptime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a server stands, with what belongs to that phase alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Phase {
    /// Configured, not launched in this run of the daemon.
    Idle,
    /// Being looked at before the process is made.
    Launching,
    /// The process runs and has shown nothing yet.
    Starting,
    /// The model is being loaded.
    Loading {
        /// From 0 to 1, where the build tells.
        progress: Option<f64>,
    },
    /// It answers.
    Ready {
        /// What proved it.
        via: ReadyVia,
    },
    /// It was ready and no longer answers as such.
    Unready {
        /// What had proved it ready.
        via: ReadyVia,
    },
    /// It was asked to end.
    Stopping {
        /// Why.
        reason: StopReason,
        /// The step of the ladder, once a signal was sent.
        rung: Option<Rung>,
    },
    /// It waits to be launched again.
    BackingOff {
        /// Consecutive failures.
        attempt: u32,
        /// When the launch comes.
        until: Uptime,
    },
    /// It ended, and that was no failure, or nobody has said yet that it was.
    Exited {
        /// How.
        end: ProcessEnd,
    },
    /// It failed.
    Failed {
        /// Why.
        reason: FailureReason,
    },
}

/// The phases without their details: the `phase` label and the `phase` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// Configured, not launched in this run of the daemon.
    Idle,
    /// Being looked at before the process is made.
    Launching,
    /// The process runs and has shown nothing yet.
    Starting,
    /// The model is being loaded.
    Loading,
    /// It answers.
    Ready,
    /// It was ready and no longer answers as such.
    Unready,
    /// It was asked to end.
    Stopping,
    /// It waits to be launched again.
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

    /// Whether nothing runs and nothing is on its way.
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
