//! The builds that can be imitated, and how they differ in manners rather than in words.

use serde::{Deserialize, Serialize};

/// A generation of llama-server, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Era {
    /// No `/health`, no `--version`; binds after the load; JSON lines on stdout.
    #[serde(rename = "2023-12")]
    December2023,
    /// Accepts TCP at once and answers HTTP only when loaded; lines on stdout; crashes on every failed load.
    #[serde(rename = "2024-07")]
    July2024,
    /// Prints "HTTP server is listening" before the load; dies of TERM.
    #[serde(rename = "2024-11")]
    November2024,
    /// The same early line; handles TERM; aborts when a client streams.
    #[serde(rename = "2025-08")]
    August2025,
    /// Today's: timestamps, `--load-mode`, `--flash-attn on`.
    #[default]
    #[serde(rename = "b11669")]
    B11669,
}

/// What TERM and INT do once the model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TermHandling {
    /// Nothing is installed: the kernel's default action kills.
    None,
    /// The first ends the server, the second exits with 1 at once.
    Graceful,
}

/// What becomes of a first TERM while a client is being streamed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamedStop {
    /// The server ends when the generation does.
    EndsWithGeneration,
    /// `std::terminate`, because a thread was not joined.
    Aborts,
    /// The generation is noticed as cancelled only at the next ping.
    EndsAtPing,
}

impl Era {
    pub(crate) fn term_handling(self) -> TermHandling {
        match self {
            Self::December2023 | Self::November2024 => TermHandling::None,
            Self::July2024 | Self::August2025 | Self::B11669 => TermHandling::Graceful,
        }
    }

    pub(crate) fn streamed_stop(self) -> StreamedStop {
        match self {
            Self::August2025 => StreamedStop::Aborts,
            Self::B11669 => StreamedStop::EndsAtPing,
            Self::December2023 | Self::July2024 | Self::November2024 => StreamedStop::EndsWithGeneration,
        }
    }

    /// SO_REUSEPORT was set by the HTTP library until autumn 2025: two servers can share a port.
    pub(crate) fn shares_ports(self) -> bool {
        self <= Self::August2025
    }

    pub(crate) fn has_health(self) -> bool {
        self > Self::December2023
    }

    pub(crate) fn binds_after_load(self) -> bool {
        self == Self::December2023
    }

    /// Whether connections made during the load get their answer only after it.
    pub(crate) fn answers_after_load(self) -> bool {
        self == Self::July2024
    }

    /// Whether `/v1/models` answers during the load.
    pub(crate) fn lists_models_while_loading(self) -> bool {
        matches!(self, Self::November2024 | Self::August2025)
    }

    /// Whether lines carry a timestamp and a level.
    pub(crate) fn stamps_lines(self) -> bool {
        self == Self::B11669
    }

    /// `--log-disable` silences the log only since late 2024; before it concerned a file.
    pub(crate) fn can_silence_log(self) -> bool {
        self >= Self::November2024
    }

    /// The load or bind failures of mid 2024 end in SIGSEGV.
    pub(crate) fn crashes_on_failure(self) -> bool {
        self == Self::July2024
    }

    /// GGUF versions of the future are refused since 2025.
    pub(crate) fn checks_version(self) -> bool {
        self >= Self::August2025
    }

    pub(crate) fn default_port(self) -> u16 {
        if self == Self::B11669 { 9931 } else { 8080 }
    }
}
