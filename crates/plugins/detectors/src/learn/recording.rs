//! A recording of one start of a build, and the properties of the build that the recordings share.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_events::StreamName;

/// One start of a build, from its spawn until a moment after it was ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The port that the server was given.
    pub port: u16,
    /// The lines that it printed, in order.
    pub lines: Vec<RecordedLine>,
    /// The time from the spawn to the first answer that it serves.
    pub ready: Duration,
}

/// A line of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedLine {
    /// The time from the spawn to the line.
    pub at: Duration,
    /// The stream that it was printed on.
    pub stream: StreamName,
    /// The bytes, without the line end.
    pub line: Vec<u8>,
}

/// The build that was started, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnSubject {
    /// The name for the pack.
    pub name: String,
    /// The build number, if its version has one.
    pub build: Option<u64>,
    /// The long options that its help lists, without dashes.
    pub options: Vec<String>,
    /// The model, as it was given on the command line.
    pub model: PathBuf,
    /// The host, as it was given on the command line.
    pub host: String,
    /// Whether the build answers health requests.
    pub health: HealthPath,
}

/// Whether a build has a path that reports its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthPath {
    /// `/health` answers 200.
    Answers,
    /// There is no such path: the pack says `probe = "none"`, and the ready line is the proof.
    Missing,
}

/// Whether a line came so long before the first 200 that it does not belong to it.
pub(super) fn is_early(at: Duration, recording: &Recording) -> bool {
    let tolerance = (recording.ready / 10).clamp(Duration::from_millis(5), Duration::from_millis(60));
    at + tolerance < recording.ready
}
