//! Matching a pack's patterns: one pass over a line for all of them, in time proportional to the line.
//!
//! Nearly all patterns begin at the line's start. One walk of an automaton tells which of these match, and is done with most
//! lines after a word or two. The others have to see each line to its end; where they need certain regexes, a look for these
//! spares most lines the patterns. What the automaton learns of lines belongs to the pack and not to a server, so that a
//! hundred servers cost no more than one, and each reads fast from its first line on.

mod automaton;
mod compile;
mod prefilter;
mod swar;
#[cfg(test)]
mod tests;
mod verdict_rule;

use std::sync::{Arc, OnceLock};

use llama_warden_events::{FailureReason, StreamName};
use regex::bytes::RegexSet;

use crate::line::LineCleaner;
use crate::matcher::{Matcher, Verdict};
use crate::pack_file::{PatternVerdict, StreamFilter, StructuredSource};
use automaton::{Automaton, CacheThrashed};
pub(crate) use compile::check;
use compile::{compile_set, is_anchored};
use prefilter::Prefilter;
use verdict_rule::VerdictRule;

/// A checked pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectorPattern {
    /// What a line that matches says.
    pub verdict: PatternVerdict,
    /// The streams that it is looked for on.
    pub stream: StreamFilter,
    /// The regular expression.
    pub regex: Arc<str>,
    /// The reason of a failure.
    pub reason: Option<FailureReason>,
    /// Whether a failure counts only when no other one was seen.
    pub weak: bool,
}

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
