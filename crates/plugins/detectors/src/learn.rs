//! Writes a detector pack for an unknown build, from recordings of a few starts with the probe as the ground truth.
//!
//! The line that comes with readiness in every start, and never before it, is the ready line. Lines that only look like it
//! come before it at least once; they become `none` examples. This module decides; its caller starts the build and records.
//!
//! The probe and the line race: a line was seen up to 22 ms before the first 200 and up to 13 ms after it, and some models
//! load in less time than that. So a line counts as early if it comes more than a tenth of the start-up before the first
//! 200; that tolerance is at least 5 ms and at most 60 ms.
//!
//! The steps: [`observe`](observe::observe) makes templates of all lines, [`select`](select::select) chooses those that mean something,
//! [`write`](write::pack) puts them into a pack, and `verify` runs the pack over the recordings.

mod observe;
mod recording;
mod select;
mod template;
mod write;

use std::path::Path;

use llama_warden_plugin_files::FileError;

use crate::matcher::{Matcher, Verdict};
use crate::pack::{Pack, PackSet};
use observe::ObservedLine;
use recording::is_early;
pub use recording::{HealthPath, LearnSubject, RecordedLine, Recording};

/// The result of [`learn()`].
#[derive(Debug, Clone)]
pub struct LearnedPack {
    /// The pack, checked as if it were loaded.
    pub pack: Pack,
    /// How many `none` examples it has: lines that look like readiness and come before it.
    pub early: usize,
}

/// Why there is no pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// There are no recordings.
    #[error("the build was never started")]
    NoRecording,
    /// No line comes with readiness in every start and never before it.
    #[error("of {lines} lines none comes with readiness in each start and never before it")]
    NoReadyLine {
        /// Lines of the first start that were considered.
        lines: usize,
    },
    /// The text that was written is not a valid pack.
    #[error("what was learnt is no valid pack: {0}")]
    Invalid(#[from] FileError),
    /// The pack finds the ready line of a recording too early, or not at all.
    #[error("what was learnt does not tell when start {start} was ready")]
    Unproven {
        /// The number of the start, from 1.
        start: usize,
    },
}

/// Writes a pack for the build `subject`. It is checked as a file of `packs` would be, and with every recording.
///
/// # Errors
/// If there are no recordings, no line is a ready line, or the pack fails a check.
pub fn learn(subject: &LearnSubject, recordings: &[Recording], packs: &PackSet) -> Result<LearnedPack, LearnError> {
    if recordings.is_empty() {
        return Err(LearnError::NoRecording);
    }
    let observed = observe::observe(subject, recordings, packs);
    let selection = select::select(&observed).ok_or(LearnError::NoReadyLine { lines: observed.seen })?;
    let path = Path::new(&subject.name).with_extension("toml");
    // A draft without early lines shows which of them the shared patterns of all packs match: those cannot be `none` examples.
    let draft = packs.parse(&path, &write::pack(subject, &selection, &[], packs))?;
    let mut matcher = draft.matcher(None);
    let says_nothing = |line: &&ObservedLine| matcher.on_line(line.stream, line.example.as_bytes()) == Verdict::Nothing;
    let early: Vec<_> = observed.early_looking().filter(says_nothing).take(write::MOST_EARLY).collect();
    let pack = packs.parse(&path, &write::pack(subject, &selection, &early, packs))?;
    verify(&pack, recordings)?;
    Ok(LearnedPack { pack, early: early.len() })
}

/// Checks that the pack finds the ready line of each recording, and none too early.
fn verify(pack: &Pack, recordings: &[Recording]) -> Result<(), LearnError> {
    for (index, recording) in recordings.iter().enumerate() {
        let mut matcher = pack.matcher(Some(recording.port));
        let says_ready = |line: &&RecordedLine| matcher.on_line(line.stream, &line.line) == Verdict::Ready;
        let first = recording.lines.iter().find(says_ready);
        if first.is_none_or(|line| is_early(line.at, recording)) {
            return Err(LearnError::Unproven { start: index + 1 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
