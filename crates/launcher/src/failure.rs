//! Why a launch failed before there was a process.

use std::fmt;
use std::io;
use std::path::Path;

use llama_warden_events::FailureReason;
use nix::errno::Errno;

/// A reason from the closed set, and the same for people with the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFailure {
    /// Why.
    pub reason: FailureReason,
    /// The same for people.
    pub detail: String,
    /// The last lines of what failed, oldest first, where it said any.
    pub lines: Vec<String>,
}

impl LaunchFailure {
    pub(crate) fn new(reason: FailureReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), lines: Vec::new() }
    }

    /// A program that the kernel did not start.
    pub(crate) fn spawn(program: &Path, error: &io::Error) -> Self {
        let reason = match error.raw_os_error().map(Errno::from_raw) {
            Some(
                Errno::ENOENT
                | Errno::EACCES
                | Errno::ENOTDIR
                | Errno::EISDIR
                | Errno::ELOOP
                | Errno::ENAMETOOLONG
                | Errno::ENOEXEC,
            ) => FailureReason::BinaryNotFound,
            Some(Errno::E2BIG | Errno::EINVAL) => FailureReason::BadArgument,
            _ => FailureReason::SpawnFailed,
        };
        Self::new(reason, format!("cannot run {}: {error}", program.display()))
    }
}

impl fmt::Display for LaunchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for LaunchFailure {}
