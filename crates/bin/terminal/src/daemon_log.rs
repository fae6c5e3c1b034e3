//! The log of a daemon that runs in this process: on standard error, or above the table that is on the same terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _, PipeReader, Read as _, pipe, stderr};
use std::os::fd::OwnedFd;

use llama_warden_exit::{CommandFailure, with_source};
use llama_warden_telemetry::{LogGuard, LoggingSettings, start_logging, start_logging_to};
use tracing::level_filters::LevelFilter;

use crate::output::print_note;

/// The log settings of the environment; `level`, if that sets none.
///
/// # Errors
/// A variable has a value that means nothing.
pub fn log_settings(level: LevelFilter) -> Result<LoggingSettings, CommandFailure> {
    let settings = LoggingSettings::from_env()
        .map_err(|error| CommandFailure::usage(error).next_step("unset it, or give it one of these values"))?;
    let is_set = std::env::var_os("LLAMA_WARDEN_LOG").is_some_and(|level| !level.is_empty());
    Ok(if is_set { settings } else { LoggingSettings { level, ..settings } })
}

/// The log of a daemon.
pub struct DaemonLog {
    /// Writes the last lines when it is dropped.
    pub guard: LogGuard,
    /// Where a table is on the terminal that the log would be on.
    pub pipe: Option<LogPipe>,
}

impl DaemonLog {
    /// Starts the log: on standard error, or through a pipe if that is the terminal of a table.
    ///
    /// # Errors
    /// The kernel gives no pipe or thread, or the log was started before.
    pub fn start(settings: &LoggingSettings, has_table: bool) -> Result<Self, CommandFailure> {
        let failed = |error| CommandFailure::failed(format!("cannot open the log: {error}"));
        let (started, pipe) = if has_table && stderr().is_terminal() {
            let (pipe, output) = LogPipe::open().map_err(failed)?;
            (start_logging_to(settings, output), Some(pipe))
        } else {
            (start_logging(settings), None)
        };
        let guard = started.map_err(|error| CommandFailure::failed(with_source(&error)))?;
        Ok(Self { guard, pipe })
    }
}

/// Where a daemon logs whose table is on the same terminal: lines that are shown above the table.
pub struct LogPipe(PipeReader);

impl LogPipe {
    /// A pipe, and its end for the log.
    fn open() -> io::Result<(Self, File)> {
        let (reader, writer) = pipe()?;
        Ok((Self(reader), File::from(OwnedFd::from(writer))))
    }

    /// Prints everything, of a log that has ended before there was a table.
    pub fn print(mut self) {
        let mut log = Vec::new();
        // If it fails, what was read before is printed.
        let _ = self.0.read_to_end(&mut log);
        String::from_utf8_lossy(&log).lines().for_each(print_note);
    }
}

impl From<LogPipe> for OwnedFd {
    fn from(LogPipe(reader): LogPipe) -> Self {
        reader.into()
    }
}
