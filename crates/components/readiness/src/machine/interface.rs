//! The inputs and actions of the readiness machine.

use std::time::Duration;

use llama_warden_config::{Confirm, ListenerPolicy, OnTimeout, ReadinessSpec, ServerSpec};
use llama_warden_events::{Event, ListenerOwner, ProcessEnd, StreamName, Uptime};
use llama_warden_probe::ProbeAnswer;

use crate::failure::{FailureEvidence, ReadinessFailure};
use crate::identity::Identity;

/// The settings of one launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadinessPolicy {
    /// Time from the spawn to the cap, at which `on_timeout` decides.
    pub timeout: Duration,
    /// What happens to a silent server at the cap.
    pub on_timeout: OnTimeout,
    /// Longest time without a sign of life; `None` is no limit.
    pub stall_timeout: Option<Duration>,
    /// Whether a ready line is a proof.
    pub confirm: Confirm,
    /// Whose process may listen.
    pub listener: ListenerPolicy,
    /// Whether probes can prove anything.
    pub probeable: Probeable,
    /// The server may download its model first. Then `timeout` counts from the end of the download.
    pub fetches_model: bool,
    /// It was ready under an earlier daemon: its proof is that it still answers.
    pub was_ready: bool,
}

/// Whether a probe can find out that a server is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probeable {
    /// It can.
    Yes,
    /// The pack says that these builds have no health path, or the server speaks TLS. Its ready line is the proof.
    No,
}

impl ReadinessPolicy {
    /// The settings of a launch with this specification.
    pub fn new(spec: &ServerSpec, probeable: Probeable) -> Self {
        let ReadinessSpec { timeout, on_timeout, stall_timeout, confirm, listener, .. } = *spec.readiness;
        Self {
            timeout,
            on_timeout,
            stall_timeout,
            confirm,
            listener,
            probeable,
            fetches_model: spec.model_repository().is_some(),
            was_ready: false,
        }
    }
}

/// Everything that can wake the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadinessInput {
    /// The server wrote lines.
    Output(OutputSummary),
    /// A probe came back.
    Answered(ProbeAnswer),
    /// The launcher identified the process that listens on the server's port.
    ListenerIdentified(ListenerOwner),
    /// The identity check of that round of confirmation came back.
    IdentityChecked {
        /// The round of [`ReadinessAction::CheckIdentity`].
        round: u32,
        /// The model that answers.
        identity: Identity,
    },
    /// A stop began: the end of the server is expected.
    StopBegan,
    /// Another component published the failure of this launch.
    FailedElsewhere,
    /// The process ended.
    Exited {
        /// How it ended.
        end: ProcessEnd,
        /// The line that explains it.
        evidence: Option<FailureEvidence>,
    },
    /// The time that `next_deadline` named has come.
    Deadline,
}

/// The verdicts on the lines since the previous summary.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OutputSummary {
    /// The first hint of each stream and strength, the weaker ones first.
    pub hints: Vec<ReadinessHint>,
    /// The latest progress, with its percentage if the line named one.
    pub progress: Option<Option<f64>>,
    /// A line came that comes only after a download.
    pub has_model: bool,
    /// When the last line came that is not an echo of our own requests.
    pub last_line: Option<Uptime>,
}

/// A line whose verdict is ready, or nearly ready. It makes the machine probe; alone it proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessHint {
    /// The stream of the line.
    pub stream: StreamName,
    /// What the line says.
    pub strength: HintStrength,
    /// The line.
    pub line: String,
}

/// How strong a hint is, the weaker one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HintStrength {
    /// Readiness is near.
    NearlyReady,
    /// It is ready.
    Ready,
}

/// An action that the component performs for the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadinessAction {
    /// Send a probe.
    Probe,
    /// Ask the launcher which process listens on the server's port.
    IdentifyListener,
    /// Ask the server which model it serves, in this round of confirmation.
    CheckIdentity {
        /// Returned with the answer.
        round: u32,
    },
    /// Publish an event about the launch.
    Publish(Event),
    /// Publish the failure with the last lines of output.
    Fail(ReadinessFailure),
}
