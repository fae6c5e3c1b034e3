//! The builds of llama-server that can be imitated, and their differences in behaviour. [`crate::lines`] has their log lines.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// A generation of llama-server builds, in order of age.
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
    /// A build of 2026: timestamps, `--load-mode`, `--flash-attn on`.
    #[default]
    #[serde(rename = "b11669")]
    B11669,
}

pub(crate) const ALL: RangeInclusive<Era> = Era::December2023..=Era::B11669;
pub(crate) const OF_2023: RangeInclusive<Era> = Era::December2023..=Era::December2023;
pub(crate) const UNTIL_MID_2024: RangeInclusive<Era> = Era::December2023..=Era::July2024;
pub(crate) const UNTIL_LATE_2024: RangeInclusive<Era> = Era::December2023..=Era::November2024;
pub(crate) const UNTIL_2025: RangeInclusive<Era> = Era::December2023..=Era::August2025;
pub(crate) const MID_2024: RangeInclusive<Era> = Era::July2024..=Era::July2024;
pub(crate) const MID_2024_TO_2025: RangeInclusive<Era> = Era::July2024..=Era::August2025;
pub(crate) const SINCE_MID_2024: RangeInclusive<Era> = Era::July2024..=Era::B11669;
pub(crate) const LATE_2024: RangeInclusive<Era> = Era::November2024..=Era::November2024;
pub(crate) const LATE_2024_TO_2025: RangeInclusive<Era> = Era::November2024..=Era::August2025;
pub(crate) const SINCE_LATE_2024: RangeInclusive<Era> = Era::November2024..=Era::B11669;
pub(crate) const OF_2025: RangeInclusive<Era> = Era::August2025..=Era::August2025;
pub(crate) const SINCE_2025: RangeInclusive<Era> = Era::August2025..=Era::B11669;
pub(crate) const TODAY: RangeInclusive<Era> = Era::B11669..=Era::B11669;

impl Era {
    /// Whether TERM and INT are handled once the model is loaded: the first stops the server, the second exits with 1 at once.
    pub(crate) fn handles_term(self) -> bool {
        !matches!(self, Self::December2023 | Self::November2024)
    }

    /// Whether two servers can bind one port: the HTTP library set SO_REUSEPORT until autumn 2025.
    pub(crate) fn shares_ports(self) -> bool {
        self <= Self::August2025
    }

    pub(crate) fn binds_after_load(self) -> bool {
        self == Self::December2023
    }

    /// Whether log lines begin with a timestamp and a level.
    pub(crate) fn stamps_lines(self) -> bool {
        self == Self::B11669
    }

    /// Whether `--log-disable` silences the log, as it does since late 2024; before, it concerned a log file.
    pub(crate) fn can_silence_log(self) -> bool {
        self >= Self::November2024
    }

    /// Whether a failed load or bind ends in SIGSEGV, as in mid 2024.
    pub(crate) fn crashes_on_failure(self) -> bool {
        self == Self::July2024
    }

    /// Whether unknown GGUF versions are refused, as they are since 2025.
    pub(crate) fn checks_version(self) -> bool {
        self >= Self::August2025
    }

    pub(crate) fn default_port(self) -> u16 {
        if self == Self::B11669 { 9931 } else { 8080 }
    }
}
