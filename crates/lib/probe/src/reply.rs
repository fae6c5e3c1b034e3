//! The answer to a question, or why there is none.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its body, within the limit of the question.
    pub body: Bytes,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There was no connection.
    #[error("nobody listens there: {0}")]
    Refused(io::Error),
    /// The time was over.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection ended in the middle.
    #[error("the connection broke off: {0}")]
    BrokenOff(io::Error),
    /// Something else than HTTP came.
    #[error("the answer is no HTTP: {0}")]
    NotHttp(String),
    /// More came than any honest answer has.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The path is invalid.
    #[error("`{0}` cannot be asked for")]
    BadPath(String),
}
