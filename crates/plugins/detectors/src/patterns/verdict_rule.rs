//! What a matching pattern says of its line.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llama_warden_events::FailureReason;
use regex::bytes::Regex;

use super::DetectorPattern;
use super::compile::build;
use crate::matcher::Verdict;
use crate::pack_file::PatternVerdict;

/// Weak failures rank behind every other one.
const WEAK_RANK: u16 = 0x8000;

/// What a matching pattern means; the expression once more where a group has to be read.
#[derive(Debug)]
pub(super) enum VerdictRule {
    Echo,
    Progress(Option<GroupReader>),
    NearlyReady(Option<GroupReader>),
    Ready(Option<GroupReader>),
    Failure { reason: FailureReason, rank: u16 },
}

/// Reads a group of a pattern. Compiled with the first line that matches: most patterns never see one.
#[derive(Debug)]
pub(super) struct GroupReader {
    pattern: Arc<str>,
    group: &'static str,
    regex: Mutex<Option<Regex>>,
}

impl VerdictRule {
    pub(super) fn new(position: usize, pattern: &DetectorPattern) -> Self {
        match pattern.verdict {
            PatternVerdict::Echo => Self::Echo,
            PatternVerdict::Progress => Self::Progress(GroupReader::new(&pattern.regex, "percent")),
            PatternVerdict::NearlyReady => Self::NearlyReady(GroupReader::new(&pattern.regex, "port")),
            PatternVerdict::Ready => Self::Ready(GroupReader::new(&pattern.regex, "port")),
            PatternVerdict::Failure => {
                let position = u16::try_from(position).unwrap_or(WEAK_RANK - 1).min(WEAK_RANK - 1);
                let rank = if pattern.weak { WEAK_RANK | position } else { position };
                Self::Failure { reason: pattern.reason.unwrap_or(FailureReason::Unknown), rank }
            }
        }
    }

    /// The verdict, or none where the line speaks of another port.
    pub(super) fn verdict(&self, line: &[u8], port: Option<u16>) -> Option<Verdict> {
        match self {
            Self::Echo => Some(Verdict::Echo),
            Self::Progress(reader) => {
                let percent = reader.as_ref().and_then(|reader| number(reader.read(line)?));
                Some(Verdict::Progress { percent: percent.filter(|percent: &f64| (0.0..=100.0).contains(percent)) })
            }
            Self::NearlyReady(reader) => names_our_port(reader.as_ref(), line, port).then_some(Verdict::NearlyReady),
            Self::Ready(reader) => names_our_port(reader.as_ref(), line, port).then_some(Verdict::Ready),
            Self::Failure { reason, rank } => Some(Verdict::Failure { reason: *reason, rank: *rank }),
        }
    }

    /// Drops what was made with the lines so far.
    pub(super) fn clear_cache(&self) {
        match self {
            Self::Progress(Some(reader)) | Self::NearlyReady(Some(reader)) | Self::Ready(Some(reader)) => {
                *reader.regex() = None;
            }
            Self::Progress(None) | Self::NearlyReady(None) | Self::Ready(None) | Self::Echo | Self::Failure { .. } => {}
        }
    }
}

impl GroupReader {
    /// A reader of `group`, where the pattern has it.
    fn new(pattern: &Arc<str>, group: &'static str) -> Option<Self> {
        let has_group = pattern.contains(&format!("<{group}>"));
        has_group.then(|| Self { pattern: pattern.clone(), group, regex: Mutex::default() })
    }

    /// What the group holds on this line.
    fn read<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let mut regex = self.regex();
        if regex.is_none() {
            // It was compiled once before, when its pack was checked.
            *regex = build(&self.pattern).ok();
        }
        Some(regex.as_ref()?.captures(line)?.name(self.group)?.as_bytes())
    }

    fn regex(&self) -> MutexGuard<'_, Option<Regex>> {
        self.regex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the line names our port, or none at all.
fn names_our_port(reader: Option<&GroupReader>, line: &[u8], ours: Option<u16>) -> bool {
    let (Some(reader), Some(ours)) = (reader, ours) else { return true };
    reader.read(line).is_none_or(|named| number(named) == Some(ours))
}

fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
