//! Why a body is not taken.

/// The kinds of reasons why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyRefusal {
    /// It ended early, or is none that llama-server reads.
    Broken,
    /// No byte came for too long.
    TooSlow,
    /// It is longer than bodies may be.
    TooLong,
    /// It is compressed.
    Encoded,
    /// The memory of all bodies is taken.
    NoRoom,
}

/// A body is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BodyRefused {
    /// The kind of reason.
    pub because: BodyRefusal,
    /// The reason, for people.
    pub message: String,
}

impl BodyRefused {
    pub(crate) fn new(because: BodyRefusal, message: impl Into<String>) -> Self {
        Self { because, message: message.into() }
    }
}
