//! Learns a detector pack from a build that nobody has seen, started a few times with the probe as the ground truth.
//!
//! What comes with readiness in every start and never before it is the ready line; what only looks like it comes before it at least
//! once. Here is the part that decides; whoever starts the build hands in [`Recording`]s.
//!
//! The probe and the line race: a line was seen up to 22 ms before the first 200 and 13 ms after it, and a model may be loaded in
//! less. So a line counts as early when it comes more than a tenth of the start-up before the first 200, but at least 5 ms
//! and at most 60 ms.

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

/// What was learnt.
#[derive(Debug, Clone)]
pub struct LearnedPack {
    /// The pack, checked as if it were loaded.
    pub pack: Pack,
    /// How many lines look like readiness and come before it.
    pub early: usize,
}

/// Why nothing was learnt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// There was no start to learn from.
    #[error("the build was never started")]
    NoRecording,
    /// No line is a ready line.
    #[error("of {lines} lines none comes with readiness in each start and never before it")]
    NoReadyLine {
        /// How many lines of the first start were looked at.
        lines: usize,
    },
    /// What was learnt is no valid pack.
    #[error("what was learnt is no valid pack: {0}")]
    Invalid(#[from] FileError),
    /// What was learnt does not say about a recording what the probe said.
    #[error("what was learnt does not tell when start {start} was ready")]
    Unproven {
        /// Which, from 1.
        start: usize,
    },
}

/// Learns a pack that reads `subject`, which is then part of `packs`.
///
/// # Errors
/// See [`LearnError`].
pub fn learn(subject: &LearnSubject, recordings: &[Recording], packs: &PackSet) -> Result<LearnedPack, LearnError> {
    if recordings.is_empty() {
        return Err(LearnError::NoRecording);
    }
    let observed = observe::observe(subject, recordings, packs);
    let selection = select::select(&observed).ok_or(LearnError::NoReadyLine { lines: observed.seen })?;
    let path = Path::new(&subject.name).with_extension("toml");
    // Early lines become examples only where the patterns that all packs share say nothing of them.
    let draft = packs.parse(&path, &write::pack(subject, &selection, &[], packs))?;
    let mut matcher = draft.matcher(None);
    let says_nothing = |line: &&ObservedLine| matcher.on_line(line.stream, line.example.as_bytes()) == Verdict::Nothing;
    let early: Vec<_> = observed.early_looking().filter(says_nothing).take(write::MOST_EARLY).collect();
    let pack = packs.parse(&path, &write::pack(subject, &selection, &early, packs))?;
    verify(&pack, recordings)?;
    Ok(LearnedPack { pack, early: early.len() })
}

/// Checks that the pack sees each start become ready, and none too early.
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
