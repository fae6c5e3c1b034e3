//! Turns the match of one pattern into a [`Verdict`], and reads the groups `port` and `percent`.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llama_warden_events::FailureReason;
use regex::bytes::Regex;

use super::DetectorPattern;
use super::compile::build;
use crate::matcher::Verdict;
use crate::pack_file::PatternVerdict;

/// The rank of a weak failure has this bit, so that it ranks behind every other failure.
const WEAK_RANK: u16 = 0x8000;

/// The verdict on a match of one pattern.
#[derive(Debug)]
pub(super) struct VerdictRule {
    /// The verdict, if the line needs no further look.
    verdict: Verdict,
    /// Reads the percentage of progress, or the port of a hint, if the pattern has that group.
    reader: Option<GroupReader>,
}

/// Reads a group of a pattern. Its regex is compiled with the first line that matches: most patterns never see one.
#[derive(Debug)]
struct GroupReader {
    pattern: Arc<str>,
    group: &'static str,
    regex: Mutex<Option<Regex>>,
}

impl VerdictRule {
    /// The rule of the pattern at `position` in its pack.
    pub(super) fn new(position: usize, pattern: &DetectorPattern) -> Self {
        let (verdict, group) = match pattern.verdict {
            PatternVerdict::Echo => (Verdict::Echo, None),
            PatternVerdict::Progress if pattern.loads => (Verdict::Loading { percent: None }, Some("percent")),
            PatternVerdict::Progress => (Verdict::Progress { percent: None }, Some("percent")),
            PatternVerdict::NearlyReady => (Verdict::NearlyReady, Some("port")),
            PatternVerdict::Ready => (Verdict::Ready, Some("port")),
            PatternVerdict::Failure => {
                let position = u16::try_from(position).unwrap_or(WEAK_RANK - 1).min(WEAK_RANK - 1);
                let rank = if pattern.weak { WEAK_RANK | position } else { position };
                (Verdict::Failure { reason: pattern.reason.unwrap_or(FailureReason::Unknown), rank }, None)
            }
        };
        Self { verdict, reader: group.and_then(|group| GroupReader::new(&pattern.regex, group)) }
    }

    /// The verdict on a line that matches. `None` if the line names another port than ours: then the next matching pattern
    /// counts.
    pub(super) fn verdict(&self, line: &[u8], ours: Option<u16>) -> Option<Verdict> {
        let Some(reader) = &self.reader else { return Some(self.verdict) };
        let percent = || reader.read(line).and_then(number).filter(|percent| (0.0..=100.0).contains(percent));
        match self.verdict {
            Verdict::Progress { .. } => return Some(Verdict::Progress { percent: percent() }),
            Verdict::Loading { .. } => return Some(Verdict::Loading { percent: percent() }),
            _ => {}
        }
        // Without a known port, and in a match without the group, any line is ours.
        let Some(ours) = ours else { return Some(self.verdict) };
        let is_ours = reader.read(line).is_none_or(|named| number(named) == Some(ours));
        is_ours.then_some(self.verdict)
    }

    /// Drops the compiled regex.
    pub(super) fn clear_cache(&self) {
        if let Some(reader) = &self.reader {
            *reader.regex() = None;
        }
    }
}

impl GroupReader {
    /// A reader of `group`; `None` if the pattern has no such group.
    fn new(pattern: &Arc<str>, group: &'static str) -> Option<Self> {
        let has_group = pattern.contains(&format!("<{group}>"));
        has_group.then(|| Self { pattern: pattern.clone(), group, regex: Mutex::default() })
    }

    /// The bytes of the group in this line.
    fn read<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let mut regex = self.regex();
        if regex.is_none() {
            // It compiled once before, when its pack was checked.
            *regex = build(&self.pattern).ok();
        }
        Some(regex.as_ref()?.captures(line)?.name(self.group)?.as_bytes())
    }

    fn regex(&self) -> MutexGuard<'_, Option<Regex>> {
        self.regex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
