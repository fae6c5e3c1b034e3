//! Parameters of requests: the options of commands and the ranges of streams.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_events::{EventPosition, StreamName};

/// A command to one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAction {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop it if it runs, then start it.
    Restart,
}

impl ServerAction {
    /// The last segment of the action's path.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// Options of a [`ServerAction`]. The daemon refuses `grace` and `force` for a start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandOptions {
    /// Longest wait for the command's end; `None` returns once the command is accepted. Whole milliseconds, at most 24 h.
    pub wait: Option<Duration>,
    /// Time before KILL, instead of the configured one. Whole milliseconds, at most 24 h.
    pub grace: Option<Duration>,
    /// Send KILL at once.
    pub force: bool,
}

/// Options of a reload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReloadOptions {
    /// Longest wait until every server is up or down as planned; `None` returns once the reload is accepted. Whole
    /// milliseconds, at most 24 h.
    pub wait: Option<Duration>,
    /// Apply the configuration even if it looks half written.
    pub force: bool,
}

/// When a change of the fleet is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SwitchMode {
    /// Once the change is accepted.
    #[default]
    Begin,
    /// Once every server is up or down as planned, at most this much later. Whole milliseconds, at most 24 h.
    Wait(Duration),
    /// Once it is planned. No server is touched.
    DryRun,
}

/// How a shutdown stops the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownMode {
    /// By the ladder of signals, within each server's grace.
    Graceful,
    /// By KILL at once.
    Forced,
    /// Not at all: the next daemon takes them over.
    HandOver,
}

/// The lines of a log stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Only this many of the latest kept lines; `None` is all of them.
    pub tail: Option<usize>,
    /// Stay connected and receive new lines.
    pub follow: bool,
    /// Only lines of this stream.
    pub stream: Option<StreamName>,
    /// Only lines behind these.
    pub after: LogPosition,
}

/// The `number` of the last line of each stream that was read; `None` before the first one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogPosition {
    /// Of standard error.
    pub stderr: Option<u64>,
    /// Of standard output.
    pub stdout: Option<u64>,
}

impl LogPosition {
    /// The number of the last line of `stream`.
    pub const fn of(&self, stream: StreamName) -> Option<u64> {
        match stream {
            StreamName::Stderr => self.stderr,
            StreamName::Stdout => self.stdout,
        }
    }

    /// A line of `stream` was read.
    pub const fn pass(&mut self, stream: StreamName, number: u64) {
        match stream {
            StreamName::Stderr => self.stderr = Some(number),
            StreamName::Stdout => self.stdout = Some(number),
        }
    }
}

/// The events of an event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventRange {
    /// The kept events after this one, then the end. 0 is all of them, and so is one of another run of the daemon, after a gap.
    Kept(EventPosition),
    /// The events after this one, kept and new; after one of another run, a gap and new ones.
    After(EventPosition),
    /// New events only.
    New,
}

/// The trial of another build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryOptions {
    /// Its executable: an absolute path, or a bare name that is looked up in the daemon's PATH.
    pub binary: PathBuf,
    /// What both builds complete; `None` is a built-in text.
    pub prompt: Option<String>,
    /// Replace the server's build by the other one if that proves itself.
    pub switch: bool,
}
