//! The [`Matcher`] trait: one line in, one [`Verdict`] out.

use llama_warden_events::{FailureReason, StreamName};
use llama_warden_requests::RequestLine;
use strum::IntoStaticStr;

/// Reads the output of one launch, line by line.
///
/// The built-in implementation is [`PatternMatcher`](crate::PatternMatcher), which applies the patterns of a detector pack.
/// A program with a matcher of its own compiles it in with `Program::with_matchers`.
///
/// A matcher runs in the task that reads the child's pipe. It must take time in proportion to the line and never wait:
/// while it works, the pipe fills up, and a full pipe stops the server.
///
/// ```
/// use llama_warden_detectors::{Matcher, Verdict};
/// use llama_warden_events::StreamName;
///
/// /// Reads a fork that counts its layers: `layer 12 of 48`.
/// struct LayerMatcher;
///
/// impl Matcher for LayerMatcher {
///     fn on_line(&mut self, _: StreamName, line: &[u8]) -> Verdict {
///         let text = String::from_utf8_lossy(line);
///         let layers = text.strip_prefix("layer ").and_then(|rest| rest.split_once(" of "));
///         match layers.map(|(done, all)| (done.parse::<f64>(), all.parse::<f64>())) {
///             Some((Ok(done), Ok(all))) if done <= all => Verdict::Progress { percent: Some(100.0 * done / all) },
///             _ => Verdict::Nothing,
///         }
///     }
/// }
///
/// assert_eq!(
///     LayerMatcher.on_line(StreamName::Stderr, b"layer 12 of 48"),
///     Verdict::Progress { percent: Some(25.0) }
/// );
/// assert_eq!(LayerMatcher.on_line(StreamName::Stderr, b"hello"), Verdict::Nothing);
/// ```
pub trait Matcher: Send {
    /// Judges one line: without its line end, at most 64 KiB, in any encoding.
    fn on_line(&mut self, stream: StreamName, line: &[u8]) -> Verdict;
}

/// The meaning of one line for the launch that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Verdict {
    /// The line has no meaning of its own. It still is a sign of life.
    #[strum(serialize = "none")]
    Nothing,
    /// The line echoes one of our own requests. It is no sign of life.
    Echo,
    /// The server is loading the model, or downloads it before.
    Progress {
        /// From 0 to 100, where the line names a percentage.
        percent: Option<f64>,
    },
    /// The server has the model and is loading it: a download is over.
    #[strum(serialize = "progress")]
    Loading {
        /// From 0 to 100, where the line names a percentage.
        percent: Option<f64>,
    },
    /// The server may be ready soon: a probe is worth its cost now.
    NearlyReady,
    /// The server says that it is ready, on the launch's port.
    Ready,
    /// Something failed. It explains the end of the process, if the process ends; it does not fail the launch.
    Failure {
        /// The kind of failure, from the closed set.
        reason: FailureReason,
        /// How specific the line is: of several failure lines, the one with the lowest rank explains the end.
        rank: u16,
    },
    /// The server says something about a request. It is counted, and decides nothing.
    Request(RequestLine),
}

impl Verdict {
    /// The verdict's word in a pack.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request(line) => line.as_str(),
            other => other.into(),
        }
    }

    /// The verdict with its reason, for messages.
    pub fn describe(self) -> String {
        match self {
            Self::Failure { reason, .. } => format!("`failure` with `{reason}`"),
            other => format!("`{}`", other.as_str()),
        }
    }
}
