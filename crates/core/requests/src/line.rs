//! The statement of one line about a request.

use strum::IntoStaticStr;

/// What one line says about a request.
#[derive(Debug, Clone, Copy, PartialEq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum RequestLine {
    /// The timings of a slot follow, each on a line of its own.
    SlotTimings(SlotKey),
    /// A prompt was read. Tokens that were in the cache are not among its tokens.
    Prompt(TokenTiming),
    /// A generation ended by itself: this is what counts as a request.
    Decode(TokenTiming),
    /// A slot works from now on.
    SlotBusy(SlotKey),
    /// A slot is free from now on.
    SlotReleased(SlotKey),
}

/// A number of tokens, and how long they took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenTiming {
    /// The tokens.
    pub tokens: u32,
    /// Milliseconds for all of them: finite and not negative.
    pub milliseconds: f64,
}

/// Names a slot of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotKey {
    /// The port of the child that wrote the line, where the server is a router, whose children have slots of equal numbers.
    pub child: Option<u16>,
    /// Its number.
    pub slot: u32,
}

impl RequestLine {
    /// The word of this kind of line in a detector pack.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
