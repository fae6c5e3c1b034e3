//! Matching a pack's patterns: one pass over a line for all of them, in time proportional to the line.
//!
//! Nearly all patterns begin at the line's start, and are done with most lines after a word. A lazy automaton of these alone
//! says that nothing matches, at half the cost of asking the set; only then is the set asked which ones do.

use std::sync::Arc;

use llama_warden_events::{FailureReason, StreamName};
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

use crate::line::LineCleaner;
use crate::{Matcher, Pattern, PatternVerdict, StructuredSource, Verdict};

/// Longest pattern, in bytes.
const PATTERN_LIMIT: usize = 1024;
/// Most memory that one compiled pattern takes, in bytes.
const COMPILED_LIMIT: usize = 1024 * 1024;
/// Most memory that all patterns of a pack take for one stream, in bytes; the same again for their lazy automaton.
const SET_LIMIT: usize = 16 * 1024 * 1024;
/// Most memory of what an automaton learns for one stream of one incarnation, in bytes. It starts with far less.
const AUTOMATON_LIMIT: usize = 2 * 1024 * 1024;
/// Weak failures rank behind every other one.
const WEAK: u16 = 0x8000;

/// Follows the patterns of a pack for one incarnation.
#[derive(Debug)]
pub struct PatternMatcher {
    patterns: CompiledPatterns,
    /// What the automata have learnt of the lines so far.
    stderr: Option<Cache>,
    stdout: Option<Cache>,
    port: Option<u16>,
    cleaner: LineCleaner,
}

/// The patterns of a pack, for both streams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct CompiledPatterns {
    stderr: Arc<StreamPatterns>,
    stdout: Arc<StreamPatterns>,
}

/// Patterns that can only match at the start of a line, and the others, which have to see each line to its end.
#[derive(Debug, Default)]
struct StreamPatterns {
    anchored: PatternGroup,
    /// Says whether one of the anchored ones matches; none where it would be too large.
    automaton: Option<DFA>,
    floating: PatternGroup,
}

#[derive(Debug)]
struct PatternGroup {
    set: RegexSet,
    /// With the place of their pattern in the pack.
    judges: Vec<(usize, Judge)>,
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

impl Default for PatternGroup {
    fn default() -> Self {
        Self { set: RegexSet::empty(), judges: Vec::new() }
    }
}

impl StreamPatterns {
    /// What the first pattern says that has something to say.
    fn judge(&self, cache: Option<&mut Cache>, line: &[u8], port: Option<u16>) -> Option<Verdict> {
        let can_match = match (&self.automaton, cache) {
            (Some(automaton), Some(cache)) => {
                let input = Input::new(line).anchored(Anchored::Yes).earliest(true);
                // It may give up where its cache is thrashed; the set never does.
                automaton.try_search_fwd(cache, &input).map_or(true, |found| found.is_some())
            }
            _ => true,
        };
        let anchored = can_match.then(|| self.anchored.hits(line)).flatten();
        let floating = self.floating.hits(line);
        if anchored.is_none() && floating.is_none() {
            return None;
        }
        let mut hits: Vec<_> = anchored.into_iter().chain(floating).flatten().collect();
        hits.sort_unstable_by_key(|(place, _)| *place);
        hits.into_iter().find_map(|(_, judge)| judge.judge(line, port))
    }
}

impl PatternGroup {
    /// The patterns that match; `None` if none does.
    fn hits(&self, line: &[u8]) -> Option<impl Iterator<Item = (usize, &Judge)>> {
        // Hardly any line matches, and only asking which patterns did needs an allocation.
        let is_hit = !self.judges.is_empty() && self.set.is_match(line);
        is_hit.then(|| self.set.matches(line).into_iter().map(|hit| (self.judges[hit].0, &self.judges[hit].1)))
    }
}

impl PatternMatcher {
    pub(crate) fn new(patterns: CompiledPatterns, structured: &[StructuredSource], port: Option<u16>) -> Self {
        let cache = |patterns: &StreamPatterns| patterns.automaton.as_ref().map(DFA::create_cache);
        let (stderr, stdout) = (cache(&patterns.stderr), cache(&patterns.stdout));
        Self { patterns, stderr, stdout, port, cleaner: LineCleaner::new(structured) }
    }

    /// A matcher to which no line says anything.
    pub(crate) fn blank() -> Self {
        Self::new(CompiledPatterns::default(), &[], None)
    }
}

impl Matcher for PatternMatcher {
    fn on_line(&mut self, stream: StreamName, line: &[u8]) -> Verdict {
        let (patterns, cache) = match stream {
            StreamName::Stderr => (&self.patterns.stderr, &mut self.stderr),
            StreamName::Stdout => (&self.patterns.stdout, &mut self.stdout),
        };
        let line = self.cleaner.clean(line);
        patterns.judge(cache.as_mut(), line, self.port).unwrap_or(Verdict::Nothing)
    }

    /// What the automata have learnt is some 80 KiB per stream; the set, whose memory all servers share, reads on.
    fn settle(&mut self) {
        (self.stderr, self.stdout) = (None, None);
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
    let admitted = patterns.iter().enumerate().filter(|(_, pattern)| pattern.stream.admits(stream));
    let (anchored, floating): (Vec<_>, Vec<_>) = admitted.partition(|(_, pattern)| is_anchored(&pattern.regex));
    Ok(StreamPatterns {
        automaton: automaton(&anchored),
        anchored: compile_group(&anchored)?,
        floating: compile_group(&floating)?,
    })
}

/// Whether a pattern can only match at the start of a line.
fn is_anchored(pattern: &str) -> bool {
    let nfa = NFA::compiler().syntax(bytes()).configure(nfa_limits()).build(pattern);
    nfa.is_ok_and(|nfa| nfa.is_always_start_anchored())
}

/// The automaton of anchored patterns; `None` where there are none, or it would be too large: the set does without.
fn automaton(patterns: &[(usize, &Pattern)]) -> Option<DFA> {
    let patterns: Vec<&str> = patterns.iter().map(|(_, pattern)| pattern.regex.as_str()).collect();
    let config = DFA::config().match_kind(MatchKind::All).cache_capacity(AUTOMATON_LIMIT);
    let mut builder = DFA::builder();
    builder.configure(config).syntax(bytes()).thompson(nfa_limits());
    if patterns.is_empty() { None } else { builder.build_many(&patterns).ok() }
}

/// Patterns see bytes, which may be no text.
fn bytes() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

fn nfa_limits() -> thompson::Config {
    thompson::Config::new().utf8(false).nfa_size_limit(Some(SET_LIMIT))
}

fn compile_group(patterns: &[(usize, &Pattern)]) -> Result<PatternGroup, String> {
    let set = RegexSetBuilder::new(patterns.iter().map(|(_, pattern)| &pattern.regex))
        .unicode(false)
        .size_limit(SET_LIMIT)
        .dfa_size_limit(SET_LIMIT)
        .build()
        .map_err(|error| explain(&error))?;
    let judges = patterns.iter().map(|(place, pattern)| Ok((*place, judge(*place, pattern)?)));
    Ok(PatternGroup { set, judges: judges.collect::<Result<_, String>>()? })
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
