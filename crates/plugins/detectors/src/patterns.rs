//! Matches all patterns of a pack against a line, in time proportional to the line.
//!
//! Two groups of patterns, since nearly all of them start with `^`:
//!
//! * The **anchored** ones are one [`Automaton`]: a single pass, which ends after a word or two for most lines.
//! * The **floating** ones must read every byte of a line. A [`Prefilter`] excludes most lines first.
//!
//! Of all patterns that match, the first in the pack counts, whichever group it is in. Worked example, a pack with the
//! patterns 0 `^load_tensors: ` (progress), 1 `(?i)listening on` (nearly-ready) and 2 `^[a-z_]+: ` (echo), on the line
//! `load_tensors: offloaded`:
//!
//! ```text
//! anchored: the automaton finds 0 and 2; the first is 0      (0, Progress)
//! floating: the prefilter finds no `l···e···g`; not searched  none
//! the lesser position counts                                  Progress
//! ```
//!
//! Compiled patterns and caches belong to the pack, not to a launch: a hundred servers cost no more than one, and a new
//! launch matches fast from its first line on. The tests compare every verdict with that of each pattern alone.

mod automaton;
mod compile;
mod prefilter;
mod swar;
#[cfg(test)]
mod tests;
mod verdict_rule;

use std::sync::{Arc, OnceLock};

use llama_warden_events::{FailureReason, StreamName};
use llama_warden_requests::RequestLine;
use regex::bytes::RegexSet;

use crate::line::{CleanLine, LineCleaner};
use crate::matcher::{Matcher, Verdict};
use crate::pack_file::{PatternVerdict, StreamFilter, StructuredSource};
use automaton::{Automaton, CacheThrashed};
pub(crate) use compile::check;
use compile::{compile_set, is_anchored};
use prefilter::Prefilter;
use verdict_rule::VerdictRule;

/// A checked pattern of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectorPattern {
    /// The verdict on a line that matches.
    pub verdict: PatternVerdict,
    /// The streams whose lines the pattern sees.
    pub stream: StreamFilter,
    /// The regular expression.
    pub regex: Arc<str>,
    /// The reason of a failure; `None` for every other verdict.
    pub reason: Option<FailureReason>,
    /// Whether a failure explains the end only if no other failure line was seen.
    pub weak: bool,
    /// Whether a line of progress comes only after the server has its model, so that a download is over.
    pub loads: bool,
    /// Whether a line about a request counts only with a prefix, once there was a line with one.
    pub prefixed: bool,
    /// Whether a timing counts only behind a line that announces it.
    pub announced: bool,
}

/// Applies the patterns of a pack to the lines of one launch.
#[derive(Debug)]
pub struct PatternMatcher {
    patterns: CompiledPatterns,
    /// By [`StreamName`].
    lazy_dfa: [LazyDfa; 2],
    port: Option<u16>,
    cleaner: LineCleaner,
    /// Whether a line with a prefix has come.
    has_prefixes: bool,
    /// By [`StreamName`].
    timings: [AnnouncedTimings; 2],
}

/// Whose timings the next line of a stream may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnnouncedTimings {
    Any,
    None,
    /// Those of a server, or of this child of a router, whose children's lines may come in turns.
    Of(Option<u16>),
}

impl AnnouncedTimings {
    fn admits(self, child: Option<u16>) -> bool {
        self == Self::Any || self == Self::Of(child)
    }

    /// What is announced behind a line.
    fn after(self, child: Option<u16>, verdict: Verdict) -> Self {
        use RequestLine::{Decode, Prompt, SlotTimings};
        match (self, verdict) {
            (_, Verdict::Request(SlotTimings(_) | Prompt(_) | Decode(_))) => Self::Of(child),
            (Self::Of(other), _) if other != child => self,
            _ => Self::None,
        }
    }
}

/// What a verdict depends on beside the line's text.
#[derive(Debug, Clone, Copy)]
struct LineOrigin {
    /// The port of the launch.
    ours: Option<u16>,
    /// The port of the router's child that wrote the line.
    child: Option<u16>,
    /// Whether the line has no prefix though others of its launch have one.
    is_bare: bool,
    /// Whether the line may be a timing that another line announces.
    is_announced: bool,
}

/// Whether the lines of one stream of one launch use the shared lazy DFA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LazyDfa {
    Enabled,
    /// The lines are so varied that they only evict the DFA states of other launches. A plain regex set matches them.
    Disabled,
}

/// The patterns of a pack, compiled per stream. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct CompiledPatterns(Arc<ByStream>);

/// One automaton for both streams would make each line of one stream walk through the patterns of the other.
#[derive(Debug, Default)]
struct ByStream {
    patterns: Box<[DetectorPattern]>,
    /// By [`StreamName`]. Compiled with the stream's first line: most servers write to one stream only.
    compiled: [OnceLock<StreamPatterns>; 2],
}

/// The patterns that one stream admits.
#[derive(Debug, Default)]
struct StreamPatterns {
    /// Patterns that can match only at the start of a line.
    anchored: PatternGroup,
    /// Finds the anchored patterns that match. `None` if it would be too large.
    automaton: Option<Automaton>,
    /// The other patterns.
    floating: PatternGroup,
    /// Rules floating patterns out. `None` if a match need not contain any phrase.
    prefilter: Option<Prefilter>,
}

#[derive(Debug, Default)]
struct PatternGroup {
    regexes: Vec<Arc<str>>,
    /// All regexes. If there is an automaton, compiled only when that is given up.
    set: OnceLock<RegexSet>,
    /// The rule of each regex, with its pattern's position in the pack.
    rules: Vec<(usize, VerdictRule)>,
}

impl PatternMatcher {
    pub(crate) fn new(patterns: CompiledPatterns, structured: &[StructuredSource], port: Option<u16>) -> Self {
        Self {
            patterns,
            lazy_dfa: [LazyDfa::Enabled; 2],
            port,
            cleaner: LineCleaner::new(structured),
            has_prefixes: false,
            timings: [AnnouncedTimings::None; 2],
        }
    }

    /// Judges the next line by itself, whatever came before.
    pub(crate) const fn forget_lines(&mut self) {
        self.has_prefixes = false;
        self.timings = [AnnouncedTimings::Any; 2];
    }

    /// A matcher without patterns: every line gets [`Verdict::Nothing`].
    pub fn empty() -> Self {
        Self::new(CompiledPatterns::default(), &[], None)
    }
}

impl Matcher for PatternMatcher {
    fn on_line(&mut self, stream: StreamName, line: &[u8]) -> Verdict {
        let CleanLine { text, child, has_prefix } = self.cleaner.clean(line);
        self.has_prefixes |= has_prefix;
        let timings = &mut self.timings[stream as usize];
        let (is_bare, is_announced) = (self.has_prefixes && !has_prefix, timings.admits(child));
        let origin = LineOrigin { ours: self.port, child, is_bare, is_announced };
        let lazy_dfa = &mut self.lazy_dfa[stream as usize];
        let verdict = self.patterns.get(stream).match_line(lazy_dfa, &text, origin).unwrap_or(Verdict::Nothing);
        *timings = timings.after(child, verdict);
        verdict
    }
}

impl CompiledPatterns {
    /// The patterns of a pack, in order. Those of a stream are compiled with its first line.
    pub(crate) fn new(patterns: &[DetectorPattern]) -> Self {
        Self(Arc::new(ByStream { patterns: patterns.into(), ..ByStream::default() }))
    }

    /// Compiles the patterns of both streams at once; the error says why that fails.
    pub(crate) fn checked(patterns: &[DetectorPattern]) -> Result<Self, String> {
        let compiled = Self::new(patterns);
        for stream in StreamName::ALL {
            let patterns = StreamPatterns::compile(patterns, stream)?;
            compiled.0.compiled[stream as usize].get_or_init(|| patterns);
        }
        Ok(compiled)
    }

    fn get(&self, stream: StreamName) -> &StreamPatterns {
        self.0.compiled[stream as usize].get_or_init(|| {
            StreamPatterns::compile(&self.0.patterns, stream).unwrap_or_else(|error| {
                // Cannot happen to a pack that passed its checks. If it did, the probe alone would find readiness.
                tracing::error!(error, "the patterns of a detector pack do not compile");
                StreamPatterns::default()
            })
        })
    }

    /// Drops this thread's DFA caches and the regexes that read groups. The next lines rebuild them.
    pub(crate) fn clear_cache(&self) {
        for patterns in self.0.compiled.iter().filter_map(OnceLock::get) {
            if let Some(automaton) = &patterns.automaton {
                *automaton.dfa_cache() = None;
            }
            patterns.anchored.rules.iter().chain(&patterns.floating.rules).for_each(|(_, rule)| rule.clear_cache());
        }
    }
}

impl StreamPatterns {
    /// Compiles the patterns that `stream` admits, in order.
    fn compile(patterns: &[DetectorPattern], stream: StreamName) -> Result<Self, String> {
        let admitted = patterns.iter().enumerate().filter(|(_, pattern)| pattern.stream.admits(stream));
        let (anchored, floating): (Vec<_>, Vec<_>) = admitted.partition(|(_, pattern)| is_anchored(&pattern.regex));
        let automaton = Automaton::new(&regexes(&anchored));
        let anchored = PatternGroup::new(&anchored);
        if automaton.is_none() {
            anchored.compile()?;
        }
        let prefilter = Prefilter::new(&regexes(&floating));
        let floating = PatternGroup::new(&floating);
        floating.compile()?;
        Ok(Self { anchored, automaton, floating, prefilter })
    }

    /// The verdict of the first pattern that has one.
    fn match_line(&self, lazy_dfa: &mut LazyDfa, line: &[u8], origin: LineOrigin) -> Option<Verdict> {
        let anchored = self.match_anchored(lazy_dfa, line, origin);
        let may_float = match &self.prefilter {
            Some(prefilter) => prefilter.may_match(line),
            None => !self.floating.rules.is_empty(),
        };
        if !may_float {
            return anchored.map(|(_, verdict)| verdict);
        }
        // A floating pattern may stand before the anchored one in the pack.
        let floating = self.floating.search(line, origin);
        [anchored, floating].into_iter().flatten().min_by_key(|(position, _)| *position).map(|(_, verdict)| verdict)
    }

    fn match_anchored(&self, lazy_dfa: &mut LazyDfa, line: &[u8], origin: LineOrigin) -> Option<(usize, Verdict)> {
        if let (Some(automaton), LazyDfa::Enabled) = (&self.automaton, *lazy_dfa) {
            let mut dfa_cache = automaton.dfa_cache();
            match automaton.find(&mut dfa_cache, line) {
                Ok(matched) => {
                    return self.anchored.first_verdict(matched?.iter().map(|index| index.as_usize()), line, origin);
                }
                // This stream of this launch continues without the automaton. Others start again with an empty cache.
                Err(CacheThrashed) => {
                    *dfa_cache = None;
                    *lazy_dfa = LazyDfa::Disabled;
                }
            }
        }
        self.anchored.search(line, origin)
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

    /// Searches without an automaton: the verdict of the first pattern that has one, and its position in the pack.
    fn search(&self, line: &[u8], origin: LineOrigin) -> Option<(usize, Verdict)> {
        if self.rules.is_empty() {
            return None;
        }
        // The set compiles if its automaton did.
        let set = self.set.get_or_init(|| compile_set(&self.regexes).unwrap_or_else(|_| RegexSet::empty()));
        // `matches` allocates, `is_match` does not, and most lines end here.
        if !set.is_match(line) {
            return None;
        }
        if self.rules.len() == 1 {
            return self.first_verdict(std::iter::once(0), line, origin);
        }
        self.first_verdict(set.matches(line).iter(), line, origin)
    }

    /// The first of the matched rules that has a verdict on the line of this origin.
    fn first_verdict(
        &self,
        mut matched: impl Iterator<Item = usize>,
        line: &[u8],
        origin: LineOrigin,
    ) -> Option<(usize, Verdict)> {
        matched.find_map(|index| {
            let (position, rule) = self.rules.get(index)?;
            Some((*position, rule.verdict(line, origin)?))
        })
    }
}

fn regexes<'a>(patterns: &[(usize, &'a DetectorPattern)]) -> Vec<&'a str> {
    patterns.iter().map(|(_, pattern)| &*pattern.regex).collect()
}
