//! Matching a pack's patterns: one pass over a line for all of them, in time proportional to the line.
//!
//! Nearly all patterns begin at the line's start. One walk of an automaton tells which of these match, and is done with most
//! lines after a word or two. The others have to see each line to its end; where they need certain texts, a look for these
//! spares most lines the patterns. The set of all patterns stands behind both, and reads on when their memory is let go.

mod automaton;
mod lanes;
mod phrases;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use llama_warden_events::{FailureReason, StreamName};
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::util::syntax;

use crate::line::LineCleaner;
use crate::{Matcher, Pattern, PatternVerdict, StructuredSource, Verdict};
use automaton::{Automaton, Learnt};
use phrases::Phrases;

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
    /// What the automata have learnt of the lines so far.
    stderr: Option<Learnt>,
    stdout: Option<Learnt>,
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
    /// Says which of the anchored ones match; none where it would be too large.
    automaton: Option<Automaton>,
    floating: PatternGroup,
    /// Says that none of the floating ones matches; none where nothing short of themselves could.
    phrases: Option<Phrases>,
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
    fn judge(&self, learnt: Option<&mut Learnt>, line: &[u8], port: Option<u16>) -> Option<Verdict> {
        let anchored = self.judge_start(learnt, line, port);
        let can_float = match &self.phrases {
            Some(phrases) => phrases.may_be_in(line),
            None => !self.floating.judges.is_empty(),
        };
        if !can_float {
            return anchored.map(|(_, verdict)| verdict);
        }
        let floating = self.floating.search(line, port);
        [anchored, floating].into_iter().flatten().min_by_key(|(place, _)| *place).map(|(_, verdict)| verdict)
    }

    fn judge_start(&self, learnt: Option<&mut Learnt>, line: &[u8], port: Option<u16>) -> Option<(usize, Verdict)> {
        if let (Some(automaton), Some(learnt)) = (&self.automaton, learnt)
            && let Ok(hits) = automaton.hits(learnt, line)
        {
            return self.anchored.first(hits?.iter().map(|hit| hit.as_usize()), line, port);
        }
        self.anchored.search(line, port)
    }
}

impl PatternGroup {
    /// What the first matching pattern says that has something to say, and its place in the pack.
    fn search(&self, line: &[u8], port: Option<u16>) -> Option<(usize, Verdict)> {
        // Only asking which patterns match needs an allocation.
        if self.judges.is_empty() || !self.set.is_match(line) {
            return None;
        }
        if self.judges.len() == 1 {
            return self.first(std::iter::once(0), line, port);
        }
        self.first(self.set.matches(line).iter(), line, port)
    }

    fn first(&self, mut hits: impl Iterator<Item = usize>, line: &[u8], port: Option<u16>) -> Option<(usize, Verdict)> {
        hits.find_map(|hit| {
            let (place, judge) = self.judges.get(hit)?;
            Some((*place, judge.judge(line, port)?))
        })
    }
}

impl PatternMatcher {
    pub(crate) fn new(patterns: CompiledPatterns, structured: &[StructuredSource], port: Option<u16>) -> Self {
        let blank = |patterns: &StreamPatterns| patterns.automaton.as_ref().map(Automaton::blank);
        let (stderr, stdout) = (blank(&patterns.stderr), blank(&patterns.stdout));
        Self { patterns, stderr, stdout, port, cleaner: LineCleaner::new(structured) }
    }

    /// A matcher to which no line says anything.
    pub(crate) fn blank() -> Self {
        Self::new(CompiledPatterns::default(), &[], None)
    }
}

impl Matcher for PatternMatcher {
    fn on_line(&mut self, stream: StreamName, line: &[u8]) -> Verdict {
        let (patterns, learnt) = match stream {
            StreamName::Stderr => (&self.patterns.stderr, &mut self.stderr),
            StreamName::Stdout => (&self.patterns.stdout, &mut self.stdout),
        };
        let line = self.cleaner.clean(line);
        patterns.judge(learnt.as_mut(), line, self.port).unwrap_or(Verdict::Nothing)
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
        automaton: Automaton::new(&texts(&anchored)),
        anchored: compile_group(&anchored)?,
        phrases: Phrases::of(&texts(&floating)),
        floating: compile_group(&floating)?,
    })
}

fn texts<'a>(patterns: &[(usize, &'a Pattern)]) -> Vec<&'a str> {
    patterns.iter().map(|(_, pattern)| pattern.regex.as_str()).collect()
}

/// Whether a pattern can only match at the start of a line.
fn is_anchored(pattern: &str) -> bool {
    let nfa = NFA::compiler().syntax(bytes()).configure(nfa_limits()).build(pattern);
    nfa.is_ok_and(|nfa| nfa.is_always_start_anchored())
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
