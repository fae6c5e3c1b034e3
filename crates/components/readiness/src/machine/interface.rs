//! What goes into the machine, and what comes out.

use std::time::Duration;

use llama_warden_config::{Confirm, OnTimeout, ReadinessSpec};
use llama_warden_events::{Event, ListenerOwner, ProcessEnd, StreamName, Uptime};
use llama_warden_probe::Answer;

use crate::failure::{FailureEvidence, ReadinessFailure};
use crate::identity::Identity;

/// What the verdict is decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadinessPolicy {
    pub(crate) timeout: Duration,
    pub(crate) on_timeout: OnTimeout,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) confirm: Confirm,
    /// Whether the server can be asked at all.
    pub(crate) probeable: Probeable,
}

/// Whether a server can be asked whether it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probeable {
    Yes,
    /// Its pack or its TLS says that we cannot; its ready line is the proof.
    No,
}

impl ReadinessPolicy {
    pub(crate) const fn new(spec: &ReadinessSpec, probeable: Probeable) -> Self {
        Self {
            timeout: spec.timeout,
            on_timeout: spec.on_timeout,
            stall_timeout: spec.stall_timeout,
            confirm: spec.confirm,
            probeable,
        }
    }
}

/// Everything that can wake the machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ReadinessInput {
    /// Lines were read.
    Output(OutputSummary),
    /// A probe came back.
    Answered(Answer),
    /// It is known who listens.
    ListenerIdentified(ListenerOwner),
    /// It is known which model answers, in that round of confirmation.
    IdentityChecked { round: u32, identity: Identity },
    /// Somebody asked the server to end: what follows is expected.
    StopBegan,
    /// Somebody else has published the failure of this incarnation.
    FailedElsewhere,
    /// The process ended.
    Exited { end: ProcessEnd, evidence: Option<FailureEvidence> },
    /// A deadline has come.
    Deadline,
}

/// What the lines since the last summary say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OutputSummary {
    pub(crate) hints: Vec<ReadinessHint>,
    /// The latest progress, with its percentage where there is one.
    pub(crate) progress: Option<Option<f64>>,
    /// When the last line came that is no echo of our own.
    pub(crate) last_line: Option<Uptime>,
}

/// A line that says that it is worth looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadinessHint {
    pub(crate) stream: StreamName,
    pub(crate) strength: HintStrength,
    pub(crate) line: String,
}

/// How much a hint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HintStrength {
    NearlyReady,
    Ready,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ReadinessAction {
    Probe,
    IdentifyListener,
    CheckIdentity {
        round: u32,
    },
    Publish(Event),
    /// Publish the failure with the last lines.
    Fail(ReadinessFailure),
}
