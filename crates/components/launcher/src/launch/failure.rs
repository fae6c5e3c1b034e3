//! The failure of a launch before its process ran.

use std::fmt;
use std::io;
use std::path::Path;

use llama_warden_dialects::OptionErrors;
use llama_warden_events::FailureReason;
use nix::errno::Errno;

/// A reason from the closed set, with a sentence that names the cause and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFailure {
    /// The reason in events and metrics.
    pub reason: FailureReason,
    /// The cause in words, with the next step.
    pub detail: String,
    /// The last lines that a failed command printed, oldest first.
    pub lines: Vec<String>,
}

/// The next step where the kernel takes no such command line.
pub(crate) const TOO_LONG: &str = "`env` or `args` are longer than the kernel takes: put what is long into a file";

/// The next step where the daemon or the machine ran out of something.
pub(crate) const EXHAUSTED: &str = "that is no fault of the executable: free memory, or raise the limits of this user (`ulimit -u`, \
                                    `ulimit -n`) and of its control group (pids.max)";

impl LaunchFailure {
    pub(crate) fn new(reason: FailureReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), lines: Vec::new() }
    }

    /// A file or address that could not be opened, bound or read: `reason`, unless the daemon or the machine ran out of
    /// descriptors or memory. That says nothing about the file or address and passes, so that a restart may help.
    pub(crate) fn of_io(reason: FailureReason, detail: impl Into<String>, error: &io::Error) -> Self {
        Self::new(if is_exhaustion(error) { FailureReason::SpawnFailed } else { reason }, detail)
    }

    /// The kernel did not execute `program`.
    pub(crate) fn spawn(program: &Path, error: &io::Error) -> Self {
        let reason = match error.raw_os_error().map(Errno::from_raw) {
            Some(
                Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR | Errno::EISDIR | Errno::ELOOP | Errno::ENAMETOOLONG,
            ) => FailureReason::BinaryNotFound,
            Some(Errno::ENOEXEC | Errno::ELIBBAD | Errno::ELIBACC) => FailureReason::BinaryBroken,
            Some(Errno::E2BIG | Errno::EINVAL) => FailureReason::BadArgument,
            _ => FailureReason::SpawnFailed,
        };
        let mut detail = format!("cannot run {}: {error}", program.display());
        if error.kind() == io::ErrorKind::ArgumentListTooLong {
            detail.push_str(&format!("; {TOO_LONG}"));
        } else if is_exhaustion(error) {
            detail.push_str(&format!("; {EXHAUSTED}"));
        }
        Self::new(reason, detail)
    }
}

/// Whether the daemon or the machine ran out of something.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN | Errno::ENOSPC)
    )
}

impl From<OptionErrors> for LaunchFailure {
    fn from(error: OptionErrors) -> Self {
        Self::new(FailureReason::BadArgument, error.to_string())
    }
}

impl fmt::Display for LaunchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for LaunchFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault S7.
    #[test]
    fn what_the_daemon_lacks_passes_and_is_no_fault_of_the_server() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN] {
            let error = io::Error::from(errno);
            let failures = [
                LaunchFailure::spawn(Path::new("/bin/server"), &error),
                LaunchFailure::of_io(FailureReason::ModelNotFound, "cannot open the model", &error),
            ];
            for failure in failures {
                assert_eq!(failure.reason, FailureReason::SpawnFailed, "{errno}");
                assert!(!failure.reason.is_permanent(), "{errno}");
            }
        }
        let missing = io::Error::from(Errno::ENOENT);
        let failure = LaunchFailure::of_io(FailureReason::ModelNotFound, "cannot open the model", &missing);
        assert_eq!(failure.reason, FailureReason::ModelNotFound);
        assert_eq!(LaunchFailure::spawn(Path::new("/bin/server"), &missing).reason, FailureReason::BinaryNotFound);
    }
}
