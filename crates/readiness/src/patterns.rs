//! Matching a pack's patterns: one pass over a line for all of them, in time proportional to the line.

use std::sync::Arc;

use llama_warden_events::{FailureReason, StreamName};
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::line::LineCleaner;
use crate::{Matcher, Pattern, PatternVerdict, Verdict};

/// Longest pattern, in bytes.
const PATTERN_LIMIT: usize = 1024;
/// Most memory that one compiled pattern takes, in bytes.
const COMPILED_LIMIT: usize = 1024 * 1024;
/// Most memory that all patterns of a pack take for one stream, in bytes; the same again for their lazy automaton.
const SET_LIMIT: usize = 16 * 1024 * 1024;
/// Weak failures rank behind every other one.
const WEAK: u16 = 0x8000;

/// Follows the patterns of a pack for one incarnation.
#[derive(Debug)]
pub struct PatternMatcher {
    patterns: CompiledPatterns,
    port: Option<u16>,
    cleaner: LineCleaner,
}

/// The patterns of a pack, for both streams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct CompiledPatterns {
    stderr: Arc<StreamPatterns>,
    stdout: Arc<StreamPatterns>,
}

#[derive(Debug)]
struct StreamPatterns {
    set: RegexSet,
    judges: Vec<Judge>,
}

/// What a matching pattern means; the expression once more where a group has to be read.
#[derive(Debug)]
enum Judge {
    Echo,
    Progress(Option<Regex>),
    NearlyReady(Option<Regex>),
    Ready(Option<Regex>),
    Failure { reason: FailureReason, rank: u16 },
}

impl Default for StreamPatterns {
    fn default() -> Self {
        Self { set: RegexSet::empty(), judges: Vec::new() }
    }
}

impl PatternMatcher {
    pub(crate) fn new(patterns: CompiledPatterns, port: Option<u16>) -> Self {
        Self { patterns, port, cleaner: LineCleaner::default() }
    }

    /// A matcher to which no line says anything.
    pub(crate) fn blank() -> Self {
        Self::new(CompiledPatterns::default(), None)
    }
}

impl Matcher for PatternMatcher {
    fn on_line(&mut self, stream: StreamName, line: &[u8]) -> Verdict {
        let patterns = match stream {
            StreamName::Stderr => &self.patterns.stderr,
            StreamName::Stdout => &self.patterns.stdout,
        };
        let line = self.cleaner.clean(line);
        // Hardly any line matches, and only asking which patterns did needs an allocation.
        if !patterns.set.is_match(line) {
            return Verdict::Nothing;
        }
        let hits = patterns.set.matches(line);
        hits.iter().find_map(|hit| patterns.judges[hit].judge(line, self.port)).unwrap_or(Verdict::Nothing)
    }
}

impl Judge {
    /// The verdict, or none where the line speaks of another port.
    fn judge(&self, line: &[u8], port: Option<u16>) -> Option<Verdict> {
        match self {
            Self::Echo => Some(Verdict::Echo),
            Self::Progress(regex) => {
                let percent = regex.as_ref().and_then(|regex| group(regex, line, "percent"));
                Some(Verdict::Progress { percent: percent.filter(|percent: &f64| (0.0..=100.0).contains(percent)) })
            }
            Self::NearlyReady(regex) => is_our_port(regex.as_ref(), line, port).then_some(Verdict::NearlyReady),
            Self::Ready(regex) => is_our_port(regex.as_ref(), line, port).then_some(Verdict::Ready),
            Self::Failure { reason, rank } => Some(Verdict::Failure { reason: *reason, rank: *rank }),
        }
    }
}

/// Whether the line names our port, or none at all.
fn is_our_port(regex: Option<&Regex>, line: &[u8], ours: Option<u16>) -> bool {
    let (Some(regex), Some(ours)) = (regex, ours) else { return true };
    let Some(named) = regex.captures(line).and_then(|captures| captures.name("port")) else { return true };
    std::str::from_utf8(named.as_bytes()).ok().and_then(|text| text.parse().ok()) == Some(ours)
}

fn group<T: std::str::FromStr>(regex: &Regex, line: &[u8], name: &str) -> Option<T> {
    let captures = regex.captures(line)?;
    std::str::from_utf8(captures.name(name)?.as_bytes()).ok()?.parse().ok()
}

/// Whether a pattern is taken; says why not.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    if pattern.len() > PATTERN_LIMIT {
        return Err(format!("a pattern of {} bytes is longer than {PATTERN_LIMIT}", pattern.len()));
    }
    let regex = build(pattern)?;
    match regex.capture_names().flatten().find(|name| !matches!(*name, "port" | "percent")) {
        Some(name) => Err(format!("a group may be named `port` or `percent`, not `{name}`")),
        None => Ok(()),
    }
}

/// Compiles the patterns of a pack, in order.
pub(crate) fn compile(patterns: &[Pattern]) -> Result<CompiledPatterns, String> {
    Ok(CompiledPatterns {
        stderr: Arc::new(compile_stream(patterns, StreamName::Stderr)?),
        stdout: Arc::new(compile_stream(patterns, StreamName::Stdout)?),
    })
}

fn compile_stream(patterns: &[Pattern], stream: StreamName) -> Result<StreamPatterns, String> {
    let admitted = || patterns.iter().enumerate().filter(|(_, pattern)| pattern.stream.admits(stream));
    let set = RegexSetBuilder::new(admitted().map(|(_, pattern)| &pattern.regex))
        .unicode(false)
        .size_limit(SET_LIMIT)
        .dfa_size_limit(SET_LIMIT)
        .build()
        .map_err(|error| explain(&error))?;
    let judges = admitted().map(|(place, pattern)| judge(place, pattern)).collect::<Result<_, _>>()?;
    Ok(StreamPatterns { set, judges })
}

fn judge(place: usize, pattern: &Pattern) -> Result<Judge, String> {
    let reader = |group: &str| {
        let regex = build(&pattern.regex)?;
        let wanted = regex.capture_names().flatten().any(|name| name == group);
        Ok::<_, String>(wanted.then_some(regex))
    };
    Ok(match pattern.verdict {
        PatternVerdict::Echo => Judge::Echo,
        PatternVerdict::Progress => Judge::Progress(reader("percent")?),
        PatternVerdict::NearlyReady => Judge::NearlyReady(reader("port")?),
        PatternVerdict::Ready => Judge::Ready(reader("port")?),
        PatternVerdict::Failure => {
            let place = u16::try_from(place).unwrap_or(WEAK - 1).min(WEAK - 1);
            let rank = if pattern.weak { WEAK | place } else { place };
            Judge::Failure { reason: pattern.reason.unwrap_or(FailureReason::Unknown), rank }
        }
    })
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).unicode(false).size_limit(COMPILED_LIMIT).build().map_err(|error| explain(&error))
}

fn explain(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("the pattern is too large: it compiles to over {limit} bytes"),
        // The first lines draw the pattern with a marker below; the last one says what is wrong.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("the pattern is invalid: {}", last.strip_prefix("error: ").unwrap_or(last))
        }
    }
}
