//! What a line of output says, and who says it: the [`Matcher`] trait.

use llama_warden_events::{FailureReason, StreamName};

/// Reads the output of one incarnation, line by line.
///
/// The built-in implementation is [`PatternMatcher`](crate::PatternMatcher), which follows a detector pack. Whoever
/// compiles their own hands it over with `Program::with_matchers`. A matcher runs in
/// the task that reads the child's pipe, so it takes time in proportion to the line and never waits.
pub trait Matcher: Send {
    /// Judges one line without its line end, at most 64 KiB of it, in any encoding.
    fn on_line(&mut self, stream: StreamName, line: &[u8]) -> Verdict;
}

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Nothing of interest; the server lives.
    Nothing,
    /// It echoes one of our own requests, and is no sign of life.
    Echo,
    /// The model is being loaded.
    Progress {
        /// From 0 to 100, where the line tells.
        percent: Option<f64>,
    },
    /// It is worth looking now.
    NearlyReady,
    /// The server says that it is ready, on our port.
    Ready,
    /// Something failed. Evidence for the case that the process ends, not a verdict on the process.
    Failure {
        /// What.
        reason: FailureReason,
        /// How specific it is: of several lines the one with the lowest rank counts.
        rank: u16,
    },
}

impl Verdict {
    /// Its name, as in a pack.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Echo => "echo",
            Self::Progress { .. } => "progress",
            Self::NearlyReady => "nearly-ready",
            Self::Ready => "ready",
            Self::Failure { .. } => "failure",
        }
    }

    /// It, with its reason, for people.
    pub fn describe(self) -> String {
        match self {
            Self::Failure { reason, .. } => format!("`failure` with `{reason}`"),
            other => format!("`{}`", other.as_str()),
        }
    }
}
