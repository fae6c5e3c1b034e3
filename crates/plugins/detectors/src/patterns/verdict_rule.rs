//! Turns the match of one pattern into a [`Verdict`], and reads the groups of the pattern.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llama_warden_events::FailureReason;
use llama_warden_requests::{RequestLine, SlotKey, TokenTiming};
use regex::bytes::{Captures, Regex};

use super::compile::build;
use super::{DetectorPattern, LineOrigin};
use crate::matcher::Verdict;
use crate::pack_file::PatternVerdict;

/// The rank of a weak failure has this bit, so that it ranks behind every other failure.
const WEAK_RANK: u16 = 0x8000;

/// The verdict on a match of one pattern.
#[derive(Debug)]
pub(super) struct VerdictRule {
    meaning: Meaning,
    /// Reads the groups, if the pattern has some.
    reader: Option<GroupReader>,
    /// Whether a line without a prefix does not count where others have one.
    prefixed: bool,
    /// Whether a line that nothing announces does not count.
    announced: bool,
}

/// What a line that matches means.
#[derive(Debug)]
enum Meaning {
    /// Always the same, apart from a percentage.
    Verdict(Verdict),
    /// A number of tokens and their time.
    Timing(fn(TokenTiming) -> RequestLine),
    /// A slot.
    Slot(fn(SlotKey) -> RequestLine),
}

/// Reads the groups of a pattern. Its regex is compiled with the first line that matches: most patterns never see one.
#[derive(Debug)]
struct GroupReader {
    pattern: Arc<str>,
    regex: Mutex<Option<Regex>>,
}

impl VerdictRule {
    /// The rule of the pattern at `position` in its pack.
    pub(super) fn new(position: usize, pattern: &DetectorPattern) -> Self {
        let meaning = match pattern.verdict {
            PatternVerdict::Echo => Meaning::Verdict(Verdict::Echo),
            PatternVerdict::Progress if pattern.loads => Meaning::Verdict(Verdict::Loading { percent: None }),
            PatternVerdict::Progress => Meaning::Verdict(Verdict::Progress { percent: None }),
            PatternVerdict::NearlyReady => Meaning::Verdict(Verdict::NearlyReady),
            PatternVerdict::Ready => Meaning::Verdict(Verdict::Ready),
            PatternVerdict::Failure => {
                let position = u16::try_from(position).unwrap_or(WEAK_RANK - 1).min(WEAK_RANK - 1);
                let rank = if pattern.weak { WEAK_RANK | position } else { position };
                Meaning::Verdict(Verdict::Failure { reason: pattern.reason.unwrap_or(FailureReason::Unknown), rank })
            }
            PatternVerdict::Prompt => Meaning::Timing(RequestLine::Prompt),
            PatternVerdict::Decode => Meaning::Timing(RequestLine::Decode),
            PatternVerdict::SlotTimings => Meaning::Slot(RequestLine::SlotTimings),
            PatternVerdict::SlotBusy => Meaning::Slot(RequestLine::SlotBusy),
            PatternVerdict::SlotReleased => Meaning::Slot(RequestLine::SlotReleased),
        };
        let group = match meaning {
            Meaning::Verdict(Verdict::Progress { .. } | Verdict::Loading { .. }) => Some("percent"),
            Meaning::Verdict(Verdict::NearlyReady | Verdict::Ready) => Some("port"),
            Meaning::Verdict(_) => None,
            Meaning::Timing(_) => Some("ms"),
            Meaning::Slot(_) => Some("slot"),
        };
        let reader = group.and_then(|group| GroupReader::new(&pattern.regex, group));
        Self { meaning, reader, prefixed: pattern.prefixed, announced: pattern.announced }
    }

    /// The verdict on a line that matches. `None` if the line is about another server than this one, or made by a client:
    /// then the next matching pattern counts.
    pub(super) fn verdict(&self, line: &[u8], origin: LineOrigin) -> Option<Verdict> {
        match self.meaning {
            // A child of a router is not the server itself.
            Meaning::Verdict(_) if origin.child.is_some() => None,
            Meaning::Verdict(verdict) => self.fixed_verdict(verdict, line, origin.ours),
            _ if self.prefixed && origin.is_bare || self.announced && !origin.is_announced => None,
            Meaning::Timing(kind) => {
                let timing = self.reader.as_ref()?.read(line, |groups| {
                    let milliseconds = number(groups, "ms").filter(|ms: &f64| ms.is_finite() && *ms >= 0.0)?;
                    Some(TokenTiming { tokens: number(groups, "tokens")?, milliseconds })
                })?;
                Some(Verdict::Request(kind(timing)))
            }
            Meaning::Slot(kind) => {
                let slot = self.reader.as_ref()?.read(line, |groups| number(groups, "slot"))?;
                Some(Verdict::Request(kind(SlotKey { child: origin.child, slot })))
            }
        }
    }

    fn fixed_verdict(&self, verdict: Verdict, line: &[u8], ours: Option<u16>) -> Option<Verdict> {
        let Some(reader) = &self.reader else { return Some(verdict) };
        let percent =
            || reader.read(line, |groups| number(groups, "percent")).filter(|percent| (0.0..=100.0).contains(percent));
        match verdict {
            Verdict::Progress { .. } => return Some(Verdict::Progress { percent: percent() }),
            Verdict::Loading { .. } => return Some(Verdict::Loading { percent: percent() }),
            _ => {}
        }
        // Without a known port, and in a match without the group, any line is ours.
        let Some(ours) = ours else { return Some(verdict) };
        let is_ours =
            |groups: &Captures<'_>| Some(groups.name("port").is_none() || number(groups, "port") == Some(ours));
        reader.read(line, is_ours).unwrap_or(true).then_some(verdict)
    }

    /// Drops the compiled regex.
    pub(super) fn clear_cache(&self) {
        if let Some(reader) = &self.reader {
            *reader.regex() = None;
        }
    }
}

impl GroupReader {
    /// A reader of the groups; `None` if the pattern has no such group.
    fn new(pattern: &Arc<str>, group: &str) -> Option<Self> {
        pattern.contains(&format!("<{group}>")).then(|| Self { pattern: pattern.clone(), regex: Mutex::default() })
    }

    /// What `read` finds in the groups of this line.
    fn read<T>(&self, line: &[u8], read: impl FnOnce(&Captures<'_>) -> Option<T>) -> Option<T> {
        let mut regex = self.regex();
        if regex.is_none() {
            // It compiled once before, when its pack was checked.
            *regex = build(&self.pattern).ok();
        }
        read(&regex.as_ref()?.captures(line)?)
    }

    fn regex(&self) -> MutexGuard<'_, Option<Regex>> {
        self.regex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number in a group.
fn number<T: FromStr>(groups: &Captures<'_>, name: &str) -> Option<T> {
    std::str::from_utf8(groups.name(name)?.as_bytes()).ok()?.parse().ok()
}
