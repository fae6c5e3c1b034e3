//! What is recorded of the starts of a build.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_events::StreamName;

/// One start of a build, from its spawn until a moment after it was ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The port that it was given.
    pub port: u16,
    /// What it printed, in order.
    pub lines: Vec<RecordedLine>,
    /// When the ground truth first said that it serves, since the spawn.
    pub ready: Duration,
}

/// A line of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedLine {
    /// When it came, since the spawn.
    pub at: Duration,
    /// Where.
    pub stream: StreamName,
    /// What, without its line end.
    pub line: Vec<u8>,
}

/// What was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnSubject {
    /// The name that the pack gets.
    pub name: String,
    /// The build number, where its version gives one.
    pub build: Option<u64>,
    /// The long options that its help lists, without dashes.
    pub options: Vec<String>,
    /// The model, as it was named on the command line.
    pub model: PathBuf,
    /// The host, as it was named on the command line.
    pub host: String,
    /// How it can be asked.
    pub health: HealthPath,
}

/// Whether a build can be asked for its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthPath {
    /// `/health` answers 200.
    Answers,
    /// There is no such path: the ready line will have to be the proof.
    Missing,
}

/// Whether a line came so long before the first 200 that it does not come with it.
pub(super) fn is_early(at: Duration, recording: &Recording) -> bool {
    let tolerance = (recording.ready / 10).clamp(Duration::from_millis(5), Duration::from_millis(60));
    at + tolerance < recording.ready
}
