//! The builds of llama-server that can be imitated.

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

/// Every build.
pub const ALL: RangeInclusive<Era> = Era::December2023..=Era::B11669;
/// Builds of 2023.
pub const OF_2023: RangeInclusive<Era> = Era::December2023..=Era::December2023;
/// Builds until the middle of 2024.
pub const UNTIL_MID_2024: RangeInclusive<Era> = Era::December2023..=Era::July2024;
/// Builds until late 2024.
pub const UNTIL_LATE_2024: RangeInclusive<Era> = Era::December2023..=Era::November2024;
/// Builds until 2025.
pub const UNTIL_2025: RangeInclusive<Era> = Era::December2023..=Era::August2025;
/// Builds of the middle of 2024.
pub const MID_2024: RangeInclusive<Era> = Era::July2024..=Era::July2024;
/// Builds from the middle of 2024 to 2025.
pub const MID_2024_TO_2025: RangeInclusive<Era> = Era::July2024..=Era::August2025;
/// Builds since the middle of 2024.
pub const SINCE_MID_2024: RangeInclusive<Era> = Era::July2024..=Era::B11669;
/// Builds of late 2024.
pub const LATE_2024: RangeInclusive<Era> = Era::November2024..=Era::November2024;
/// Builds from late 2024 to 2025.
pub const LATE_2024_TO_2025: RangeInclusive<Era> = Era::November2024..=Era::August2025;
/// Builds since late 2024.
pub const SINCE_LATE_2024: RangeInclusive<Era> = Era::November2024..=Era::B11669;
/// Builds of 2025.
pub const OF_2025: RangeInclusive<Era> = Era::August2025..=Era::August2025;
/// Builds since 2025.
pub const SINCE_2025: RangeInclusive<Era> = Era::August2025..=Era::B11669;
/// Builds of today.
pub const TODAY: RangeInclusive<Era> = Era::B11669..=Era::B11669;
