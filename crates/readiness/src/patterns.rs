//! Matching a pack's patterns: one pass over a line for all of them, in time proportional to the line.
//!
//! Nearly all patterns begin at the line's start, and are done with most lines after a word: a lazy automaton of these alone
//! is asked first whether anything matches, and only then what does. What an automaton learns of lines belongs to the pack
//! and not to a server, so that a hundred servers cost no more than one, and each reads fast from its first line on.

use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use llama_warden_events::{FailureReason, StreamName};
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::util::pool::Pool;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, PatternSet};

use crate::line::LineCleaner;
use crate::{Matcher, Pattern, PatternVerdict, StreamFilter, StructuredSource, Verdict};

/// Longest pattern, in bytes.
const PATTERN_LIMIT: usize = 1024;
/// Most memory that one compiled pattern takes, in bytes.
const COMPILED_LIMIT: usize = 1024 * 1024;
/// Most memory that all patterns of a pack take, in bytes.
const SET_LIMIT: usize = 16 * 1024 * 1024;
/// Most memory of what an automaton learns, in bytes, for each thread that reads at the same time. It starts with far less.
const AUTOMATON_LIMIT: usize = 2 * 1024 * 1024;
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
    groups: Arc<[PatternGroup]>,
}

/// Patterns that are matched together: those that can only match at the start of a line, or the others, which have to see
/// each line to its end.
#[derive(Debug)]
struct PatternGroup {
    engine: Engine,
    judges: Vec<Judge>,
}

#[derive(Debug)]
enum Engine {
    Automaton(Box<Automaton>),
    Set(RegexSet),
}

/// An automaton of patterns that begin at the line's start.
#[derive(Debug)]
struct Automaton {
    dfa: DFA,
    /// What was learnt, once per thread that reads at the same time.
    caches: Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync>>,
}

/// A pattern once it has matched.
#[derive(Debug)]
struct Judge {
    /// Its place in the pack.
    place: usize,
    stream: StreamFilter,
    meaning: Meaning,
}

/// What a matching pattern means; the expression once more where a group has to be read.
#[derive(Debug)]
enum Meaning {
    Echo,
    Progress(Option<Reader>),
    NearlyReady(Option<Reader>),
    Ready(Option<Reader>),
    Failure { reason: FailureReason, rank: u16 },
}

/// Reads a group of a pattern. Compiled with the first line that matches: most patterns never see one.
#[derive(Debug)]
struct Reader {
    pattern: String,
    group: &'static str,
    regex: OnceLock<Option<Regex>>,
}

impl CompiledPatterns {
    /// What the first pattern says that has something to say.
    fn judge(&self, stream: StreamName, line: &[u8], port: Option<u16>) -> Option<Verdict> {
        let mut hits: Vec<&Judge> = Vec::new();
        for group in &*self.groups {
            group.add_hits(line, &mut hits);
        }
        hits.retain(|judge| judge.stream.admits(stream));
        hits.sort_unstable_by_key(|judge| judge.place);
        hits.into_iter().find_map(|judge| judge.meaning.judge(line, port))
    }
}

impl PatternGroup {
    fn new(engine: Engine, patterns: &[(usize, &Pattern)]) -> Self {
        let judges = patterns.iter().map(|(place, pattern)| Judge::new(*place, pattern)).collect();
        Self { engine, judges }
    }

    /// Adds the patterns that match. Hardly any line matches, and only asking which patterns did needs an allocation.
    fn add_hits<'a>(&'a self, line: &[u8], hits: &mut Vec<&'a Judge>) {
        match &self.engine {
            Engine::Automaton(automaton) => {
                let matched = automaton.matched(line, self.judges.len());
                hits.extend(matched.iter().flat_map(PatternSet::iter).map(|hit| &self.judges[hit.as_usize()]));
            }
            Engine::Set(set) if set.is_match(line) => {
                hits.extend(set.matches(line).into_iter().map(|hit| &self.judges[hit]));
            }
            Engine::Set(_) => {}
        }
    }
}

impl Automaton {
    fn new(dfa: DFA) -> Self {
        let template = dfa.clone();
        Self { dfa, caches: Pool::new(Box::new(move || template.create_cache())) }
    }

    /// Which of its `patterns` match; `None` if none does.
    fn matched(&self, line: &[u8], patterns: usize) -> Option<PatternSet> {
        let mut cache = self.caches.get();
        let input = Input::new(line).anchored(Anchored::Yes);
        // It can give up neither for a byte nor for its cache: it is not configured to.
        let is_hit = self.dfa.try_search_fwd(&mut cache, &input.clone().earliest(true)).is_ok_and(|hit| hit.is_some());
        if !is_hit {
            return None;
        }
        let mut matched = PatternSet::new(patterns);
        self.dfa.try_which_overlapping_matches(&mut cache, &input, &mut matched).ok()?;
        Some(matched)
    }
}

impl PatternMatcher {
    pub(crate) fn new(patterns: CompiledPatterns, structured: &[StructuredSource], port: Option<u16>) -> Self {
        Self { patterns, port, cleaner: LineCleaner::new(structured) }
    }

    /// A matcher to which no line says anything.
    pub(crate) fn blank() -> Self {
        Self::new(CompiledPatterns::default(), &[], None)
    }
}

impl Matcher for PatternMatcher {
    fn on_line(&mut self, stream: StreamName, line: &[u8]) -> Verdict {
        let line = self.cleaner.clean(line);
        self.patterns.judge(stream, line, self.port).unwrap_or(Verdict::Nothing)
    }
}

impl Judge {
    fn new(place: usize, pattern: &Pattern) -> Self {
        let meaning = match pattern.verdict {
            PatternVerdict::Echo => Meaning::Echo,
            PatternVerdict::Progress => Meaning::Progress(Reader::new(&pattern.regex, "percent")),
            PatternVerdict::NearlyReady => Meaning::NearlyReady(Reader::new(&pattern.regex, "port")),
            PatternVerdict::Ready => Meaning::Ready(Reader::new(&pattern.regex, "port")),
            PatternVerdict::Failure => {
                let place = u16::try_from(place).unwrap_or(WEAK - 1).min(WEAK - 1);
                let rank = if pattern.weak { WEAK | place } else { place };
                Meaning::Failure { reason: pattern.reason.unwrap_or(FailureReason::Unknown), rank }
            }
        };
        Self { place, stream: pattern.stream, meaning }
    }
}

impl Meaning {
    /// The verdict, or none where the line speaks of another port.
    fn judge(&self, line: &[u8], port: Option<u16>) -> Option<Verdict> {
        match self {
            Self::Echo => Some(Verdict::Echo),
            Self::Progress(reader) => {
                let percent = reader.as_ref().and_then(|reader| number(reader.read(line)?));
                Some(Verdict::Progress { percent: percent.filter(|percent: &f64| (0.0..=100.0).contains(percent)) })
            }
            Self::NearlyReady(reader) => is_our_port(reader.as_ref(), line, port).then_some(Verdict::NearlyReady),
            Self::Ready(reader) => is_our_port(reader.as_ref(), line, port).then_some(Verdict::Ready),
            Self::Failure { reason, rank } => Some(Verdict::Failure { reason: *reason, rank: *rank }),
        }
    }
}

impl Reader {
    /// A reader of `group`, where the pattern has it.
    fn new(pattern: &str, group: &'static str) -> Option<Self> {
        let has_group = pattern.contains(&format!("<{group}>"));
        has_group.then(|| Self { pattern: pattern.to_owned(), group, regex: OnceLock::new() })
    }

    /// What the group holds on this line.
    fn read<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        // It was compiled once before, when its pack was checked.
        let regex = self.regex.get_or_init(|| build(&self.pattern).ok()).as_ref()?;
        Some(regex.captures(line)?.name(self.group)?.as_bytes())
    }
}

/// Whether the line names our port, or none at all.
fn is_our_port(reader: Option<&Reader>, line: &[u8], ours: Option<u16>) -> bool {
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

/// Compiles the patterns of a pack, in order.
pub(crate) fn compile(patterns: &[Pattern]) -> Result<CompiledPatterns, String> {
    let (anchored, floating): (Vec<_>, Vec<_>) =
        patterns.iter().enumerate().partition(|(_, pattern)| is_anchored(&pattern.regex));
    let anchored = match automaton(&anchored) {
        Some(automaton) => PatternGroup::new(Engine::Automaton(Box::new(automaton)), &anchored),
        None => PatternGroup::new(set(&anchored)?, &anchored),
    };
    let floating = PatternGroup::new(set(&floating)?, &floating);
    Ok(CompiledPatterns { groups: Arc::new([anchored, floating]) })
}

/// Whether a pattern can only match at the start of a line.
fn is_anchored(pattern: &str) -> bool {
    let nfa = NFA::compiler().syntax(bytes()).configure(nfa_limits()).build(pattern);
    nfa.is_ok_and(|nfa| nfa.is_always_start_anchored())
}

/// The automaton of anchored patterns; `None` where it would be too large, or one of them looks further than bytes.
fn automaton(patterns: &[(usize, &Pattern)]) -> Option<Automaton> {
    let patterns: Vec<&str> = patterns.iter().map(|(_, pattern)| pattern.regex.as_str()).collect();
    let config = DFA::config().match_kind(MatchKind::All).cache_capacity(AUTOMATON_LIMIT);
    let mut builder = DFA::builder();
    builder.configure(config).syntax(bytes()).thompson(nfa_limits());
    builder.build_many(&patterns).ok().map(Automaton::new)
}

/// Patterns see bytes, which may be no text.
fn bytes() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

fn nfa_limits() -> thompson::Config {
    thompson::Config::new().utf8(false).nfa_size_limit(Some(SET_LIMIT))
}

fn set(patterns: &[(usize, &Pattern)]) -> Result<Engine, String> {
    let set = RegexSetBuilder::new(patterns.iter().map(|(_, pattern)| &pattern.regex))
        .unicode(false)
        .size_limit(SET_LIMIT)
        .dfa_size_limit(SET_LIMIT)
        .build()
        .map_err(|error| explain(&error))?;
    Ok(Engine::Set(set))
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
