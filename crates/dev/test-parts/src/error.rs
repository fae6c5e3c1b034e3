//! The error type of the chores: what was tried, on what, and the next step where there is one.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

/// Why a chore failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation on a file or a process failed.
    #[error("{what}")]
    Io {
        /// The action and its object.
        what: String,
        /// The answer of the system.
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("`{command}` ended with {status}{output}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it wrote, each on a line of its own; empty where they were already shown.
        output: String,
    },
    /// Something is missing or wrong that a person has to correct.
    #[error("{problem}\n  next step: {next}")]
    Missing {
        /// The mistake, or the missing part.
        problem: String,
        /// The next step for the user.
        next: String,
    },
}

impl Error {
    /// Prints the error and its source on stderr, and returns the exit code of a chore that failed.
    pub fn report(&self) -> ExitCode {
        match self.source() {
            Some(source) => eprintln!("error: {self}: {source}"),
            None => eprintln!("error: {self}"),
        }
        ExitCode::FAILURE
    }

    /// Creates an error with a next step.
    pub fn missing(problem: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Missing { problem: problem.into(), next: next.into() }
    }
}

/// Adds the path to the error of an I/O operation.
pub trait OnPath<T> {
    /// Turns an [`io::Error`] into an [`Error`] that reads "cannot VERB PATH".
    fn on(self, verb: &str, path: &Path) -> Result<T, Error>;
}

impl<T> OnPath<T> for io::Result<T> {
    fn on(self, verb: &str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: format!("cannot {verb} {}", path.display()), source })
    }
}
