//! Matching a pack's patterns: one pass over a line for all of them, in time proportional to the line.
//!
//! Nearly all patterns begin at the line's start. One walk of an automaton tells which of these match, and is done with most
//! lines after a word or two. The others have to see each line to its end; where they need certain regexes, a look for these
//! spares most lines the patterns. What the automaton learns of lines belongs to the pack and not to a server, so that a
//! hundred servers cost no more than one, and each reads fast from its first line on.

mod automaton;
mod prefilter;
mod swar;
#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use llama_warden_events::{FailureReason, StreamName};
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::util::syntax;

use crate::line::LineCleaner;
use crate::{DetectorPattern, Matcher, PatternVerdict, StructuredSource, Verdict};
use automaton::{Automaton, CacheThrashed};
use prefilter::Prefilter;

/// Longest pattern, in bytes.
const PATTERN_LIMIT: usize = 1024;
/// Most memory that one compiled pattern takes, in bytes.
const COMPILED_LIMIT: usize = 1024 * 1024;
/// Most memory that all patterns of a pack take for one stream, in bytes; the same again for their lazy automaton.
const SET_LIMIT: usize = 16 * 1024 * 1024;
/// Weak failures rank behind every other one.
const WEAK_RANK: u16 = 0x8000;

/// Follows the patterns of a pack for one incarnation.
#[derive(Debug)]
pub struct PatternMatcher {
    patterns: CompiledPatterns,
    /// Whether the lines of a stream can be dfa_cache of.
    stderr: LazyDfa,
    stdout: LazyDfa,
    port: Option<u16>,
    cleaner: LineCleaner,
}

/// Whether the lines of one stream of one incarnation go past the automaton.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LazyDfa {
    Enabled,
    /// They teach nothing that is seen twice, and would push out what others have taught.
    Disabled,
}

/// The patterns of a pack. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct CompiledPatterns(Arc<ByStream>);

/// The patterns that each stream admits, compiled with its first line: most servers write to one of them only. Those of both
/// in one automaton would make each line of one stream walk through the patterns of the other.
#[derive(Debug, Default)]
struct ByStream {
    patterns: Box<[DetectorPattern]>,
    stderr: OnceLock<StreamPatterns>,
    stdout: OnceLock<StreamPatterns>,
}

/// StreamPatterns that can only match at the start of a line, and the others, which have to see each line to its end.
#[derive(Debug, Default)]
struct StreamPatterns {
    anchored: PatternGroup,
    /// Says which of the anchored ones match; none where it would be too large.
    automaton: Option<Automaton>,
    floating: PatternGroup,
    /// Says that none of the floating ones matches; none where nothing short of themselves could.
    prefilter: Option<Prefilter>,
}

#[derive(Debug, Default)]
struct PatternGroup {
    regexes: Vec<Arc<str>>,
    /// All of them. Behind an automaton it is compiled when that gives up.
    set: OnceLock<RegexSet>,
    /// With the position of their pattern in the pack.
    rules: Vec<(usize, VerdictRule)>,
}

/// What a matching pattern means; the expression once more where a group has to be read.
#[derive(Debug)]
enum VerdictRule {
    Echo,
    Progress(Option<GroupReader>),
    NearlyReady(Option<GroupReader>),
    Ready(Option<GroupReader>),
    Failure { reason: FailureReason, rank: u16 },
}

/// Reads a group of a pattern. Compiled with the first line that matches: most patterns never see one.
#[derive(Debug)]
struct GroupReader {
    pattern: Arc<str>,
    group: &'static str,
    regex: Mutex<Option<Regex>>,
}

impl CompiledPatterns {
    /// The patterns of a pack, in order; those of a stream are compiled when it has a line.
    pub(crate) fn new(patterns: &[DetectorPattern]) -> Self {
        Self(Arc::new(ByStream { patterns: patterns.into(), ..ByStream::default() }))
    }

    /// The same, compiled at once; says why that cannot be.
    pub(crate) fn checked(patterns: &[DetectorPattern]) -> Result<Self, String> {
        let compiled = Self::new(patterns);
        for stream in StreamName::ALL {
            let patterns = compile(patterns, stream)?;
            compiled.slot(stream).get_or_init(|| patterns);
        }
        Ok(compiled)
    }

    fn get(&self, stream: StreamName) -> &StreamPatterns {
        self.slot(stream).get_or_init(|| {
            compile(&self.0.patterns, stream).unwrap_or_else(|error| {
                // Cannot happen to a pack that was loaded; if it did, the probe would still find the truth.
                tracing::error!(error, "the patterns of a detector pack do not compile");
                StreamPatterns::default()
            })
        })
    }

    fn slot(&self, stream: StreamName) -> &OnceLock<StreamPatterns> {
        match stream {
            StreamName::Stderr => &self.0.stderr,
            StreamName::Stdout => &self.0.stdout,
        }
    }

    /// Forgets what this thread's lines have taught: it is dfa_cache again with the lines to come.
    pub(crate) fn clear_cache(&self) {
        for patterns in StreamName::ALL.into_iter().filter_map(|stream| self.slot(stream).get()) {
            let StreamPatterns { anchored, automaton, floating, prefilter: _ } = patterns;
            if let Some(automaton) = automaton {
                *automaton.dfa_cache() = None;
            }
            anchored.rules.iter().chain(&floating.rules).for_each(|(_, rule)| rule.clear_cache());
        }
    }
}

impl StreamPatterns {
    /// What the first pattern says that has something to say.
    fn match_line(&self, lazy_dfa: &mut LazyDfa, line: &[u8], port: Option<u16>) -> Option<Verdict> {
        let anchored = self.match_anchored(lazy_dfa, line, port);
        let can_float = match &self.prefilter {
            Some(prefilter) => prefilter.may_match(line),
            None => !self.floating.rules.is_empty(),
        };
        if !can_float {
            return anchored.map(|(_, verdict)| verdict);
        }
        let floating = self.floating.search(line, port);
        [anchored, floating].into_iter().flatten().min_by_key(|(position, _)| *position).map(|(_, verdict)| verdict)
    }

    fn match_anchored(&self, lazy_dfa: &mut LazyDfa, line: &[u8], port: Option<u16>) -> Option<(usize, Verdict)> {
        if let (Some(automaton), LazyDfa::Enabled) = (&self.automaton, *lazy_dfa) {
            let mut dfa_cache = automaton.dfa_cache();
            match automaton.find(&mut dfa_cache, line) {
                Ok(matched) => {
                    return self.anchored.first_verdict(matched?.iter().map(|index| index.as_usize()), line, port);
                }
                Err(CacheThrashed) => {
                    *dfa_cache = None;
                    *lazy_dfa = LazyDfa::Disabled;
                }
            }
        }
        self.anchored.search(line, port)
    }
}

impl PatternGroup {
    fn new(patterns: &[(usize, &DetectorPattern)]) -> Self {
        let rules = patterns.iter().map(|(position, pattern)| (*position, VerdictRule::new(*position, pattern)));
        let regexes = patterns.iter().map(|(_, pattern)| pattern.regex.clone());
        Self { regexes: regexes.collect(), set: OnceLock::new(), rules: rules.collect() }
    }

    fn compile(&self) -> Result<(), String> {
        let set = compile_set(&self.regexes)?;
        self.set.get_or_init(|| set);
        Ok(())
    }

    /// What the first matching pattern says that has something to say, and its position in the pack.
    fn search(&self, line: &[u8], port: Option<u16>) -> Option<(usize, Verdict)> {
        // Only asking which patterns match needs an allocation.
        if self.rules.is_empty() {
            return None;
        }
        // What an automaton could be made of, a set can.
        let set = self.set.get_or_init(|| compile_set(&self.regexes).unwrap_or_else(|_| RegexSet::empty()));
        if !set.is_match(line) {
            return None;
        }
        if self.rules.len() == 1 {
            return self.first_verdict(std::iter::once(0), line, port);
        }
        self.first_verdict(set.matches(line).iter(), line, port)
    }

    fn first_verdict(
        &self,
        mut matched: impl Iterator<Item = usize>,
        line: &[u8],
        port: Option<u16>,
    ) -> Option<(usize, Verdict)> {
        matched.find_map(|index| {
            let (position, rule) = self.rules.get(index)?;
            Some((*position, rule.verdict(line, port)?))
        })
    }
}

impl PatternMatcher {
    pub(crate) fn new(patterns: CompiledPatterns, structured: &[StructuredSource], port: Option<u16>) -> Self {
        let (stderr, stdout) = (LazyDfa::Enabled, LazyDfa::Enabled);
        Self { patterns, stderr, stdout, port, cleaner: LineCleaner::new(structured) }
    }

    /// A matcher to which no line says anything.
    pub fn empty() -> Self {
        Self::new(CompiledPatterns::default(), &[], None)
    }
}

impl Matcher for PatternMatcher {
    fn on_line(&mut self, stream: StreamName, line: &[u8]) -> Verdict {
        let lazy_dfa = match stream {
            StreamName::Stderr => &mut self.stderr,
            StreamName::Stdout => &mut self.stdout,
        };
        let line = self.cleaner.clean(line);
        self.patterns.get(stream).match_line(lazy_dfa, &line, self.port).unwrap_or(Verdict::Nothing)
    }
}

impl VerdictRule {
    fn new(position: usize, pattern: &DetectorPattern) -> Self {
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
    fn verdict(&self, line: &[u8], port: Option<u16>) -> Option<Verdict> {
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
    fn clear_cache(&self) {
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

/// Compiles the patterns that a stream admits, in order.
fn compile(patterns: &[DetectorPattern], stream: StreamName) -> Result<StreamPatterns, String> {
    let admitted = patterns.iter().enumerate().filter(|(_, pattern)| pattern.stream.admits(stream));
    let (anchored, floating): (Vec<_>, Vec<_>) = admitted.partition(|(_, pattern)| is_anchored(&pattern.regex));
    let automaton = Automaton::new(&regexes(&anchored));
    let anchored = PatternGroup::new(&anchored);
    if automaton.is_none() {
        anchored.compile()?;
    }
    let prefilter = Prefilter::of(&regexes(&floating));
    let floating = PatternGroup::new(&floating);
    floating.compile()?;
    Ok(StreamPatterns { anchored, automaton, floating, prefilter })
}

fn regexes<'a>(patterns: &[(usize, &'a DetectorPattern)]) -> Vec<&'a str> {
    patterns.iter().map(|(_, pattern)| &*pattern.regex).collect()
}

/// Whether a pattern can only match at the start of a line.
fn is_anchored(pattern: &str) -> bool {
    let nfa = NFA::compiler().syntax(bytes()).configure(nfa_limits()).build(pattern);
    nfa.is_ok_and(|nfa| nfa.is_always_start_anchored())
}

/// StreamPatterns see bytes, which may be no text.
fn bytes() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

fn nfa_limits() -> thompson::Config {
    thompson::Config::new().utf8(false).nfa_size_limit(Some(SET_LIMIT))
}

fn compile_set(patterns: &[Arc<str>]) -> Result<RegexSet, String> {
    RegexSetBuilder::new(patterns)
        .unicode(false)
        .size_limit(SET_LIMIT)
        .dfa_size_limit(SET_LIMIT)
        .build()
        .map_err(|error| explain(&error))
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
