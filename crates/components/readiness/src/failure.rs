//! The failures of a launch in words: what happened, and the next step for the user.

use llama_warden_events::{FailureReason, ProcessEnd, Signal};

/// The failure of a launch, without its last lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadinessFailure {
    pub(crate) reason: FailureReason,
    pub(crate) detail: String,
}

/// A line whose verdict is a failure: it explains the end of the process, if the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailureEvidence {
    pub(crate) reason: FailureReason,
    /// The lowest is the most specific.
    pub(crate) rank: u16,
    pub(crate) line: String,
}

impl ReadinessFailure {
    /// A failure with a text of what happened and the next step for its reason.
    pub(crate) fn new(reason: FailureReason, what: impl std::fmt::Display) -> Self {
        let detail = match next_step(reason) {
            Some(step) => format!("{what}: {step}"),
            None => what.to_string(),
        };
        Self { reason, detail }
    }

    /// The process ended before the server was ready.
    pub(crate) fn at_exit_before_ready(end: ProcessEnd, evidence: Option<FailureEvidence>) -> Self {
        match evidence {
            Some(evidence) => Self::new(evidence.reason, format_args!("{} ({end})", evidence.line.trim())),
            None => Self::new(FailureReason::ExitedBeforeReady, format_args!("{} before it was ready", told(end))),
        }
    }

    /// The process ended by itself after the server was ready. Only lack of memory is explained by a line: a ready server
    /// logs and survives every other failure.
    pub(crate) fn at_exit_after_ready(end: ProcessEnd, evidence: Option<FailureEvidence>) -> Self {
        match evidence {
            Some(FailureEvidence { reason: FailureReason::OutOfMemory, line, .. }) => {
                Self::new(FailureReason::OutOfMemory, format_args!("{} ({end})", line.trim()))
            }
            _ if end.is_success() => Self::new(FailureReason::Ended, told(end)),
            _ => Self::new(FailureReason::Crashed, told(end)),
        }
    }
}

/// The end of a process that we did not stop, in words.
fn told(end: ProcessEnd) -> String {
    match end {
        ProcessEnd::Exited { code: 0 } => "ended with 0, nobody stopped it".to_owned(),
        // Only another process sends these. A shell ends with 128 and the signal of the program that it waited for.
        ProcessEnd::Signaled {
            signal: Signal::KILL | Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT, ..
        } => {
            format!("another process ended it with {end}")
        }
        ProcessEnd::Exited { code: code @ (129 | 130 | 131 | 137 | 143) } => {
            format!("another process ended it: {end}, as after signal {}", code - 128)
        }
        _ => format!("ended by itself with {end}"),
    }
}

fn next_step(reason: FailureReason) -> Option<&'static str> {
    Some(match reason {
        FailureReason::BadArgument => "compare `llama-warden argv` with what this build's --help lists",
        FailureReason::BinaryBroken => "install what is missing, or use a build for this machine",
        FailureReason::ModelNotFound => "check the path of the model",
        FailureReason::ModelInvalid => "fetch or convert the model again, or use a newer build",
        FailureReason::OutOfMemory => "lower ctx-size, or use a smaller model or fewer GPU layers",
        FailureReason::PortInUse => {
            "free the port, configure another one, or check that `host` is an address of this machine"
        }
        FailureReason::IdentityMismatch => "check `model`, `port` and --alias",
        FailureReason::ExitedBeforeReady | FailureReason::Stalled => "`llama-warden logs` shows what it said",
        FailureReason::ReadyTimeout => "raise `readiness.timeout`, or see `llama-warden logs`",
        _ => return None,
    })
}
