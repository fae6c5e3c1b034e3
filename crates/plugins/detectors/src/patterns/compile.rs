//! Compiles patterns, within limits that keep a faulty or hostile pack from taking the daemon's memory.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::util::syntax;

use crate::pack_file::PatternVerdict;

/// Longest text of a pattern, in bytes.
const PATTERN_LIMIT: usize = 1024;
/// Most memory of one compiled pattern, in bytes.
const COMPILED_LIMIT: usize = 1024 * 1024;
/// Most memory of all patterns of a pack for one stream, in bytes. Their automaton may take the same again.
const SET_LIMIT: usize = 16 * 1024 * 1024;

/// Checks one pattern: its length, its syntax, its size when compiled, and the names of its groups.
pub(crate) fn check(pattern: &str, verdict: PatternVerdict) -> Result<(), String> {
    if pattern.len() > PATTERN_LIMIT {
        return Err(format!("a pattern of {} bytes is longer than {PATTERN_LIMIT}", pattern.len()));
    }
    let regex = build(pattern)?;
    let names: Vec<&str> = regex.capture_names().flatten().collect();
    let (needed, allowed) = verdict.groups();
    if let Some(name) = names.iter().find(|name| !allowed.contains(name)) {
        let allowed = allowed.join("` or `");
        return Err(format!("a group of a `{}` pattern may be named `{allowed}`, not `{name}`", verdict.as_str()));
    }
    match needed.iter().find(|name| !names.contains(name)) {
        Some(name) => Err(format!("a `{}` pattern needs the group `{name}`: (?P<{name}>…)", verdict.as_str())),
        None => Ok(()),
    }
}

/// Whether a pattern can match only at the start of a line.
pub(super) fn is_anchored(pattern: &str) -> bool {
    let nfa = NFA::compiler().syntax(bytes()).configure(nfa_limits()).build(pattern);
    nfa.is_ok_and(|nfa| nfa.is_always_start_anchored())
}

/// Patterns match bytes: a line may be in any encoding.
pub(super) fn bytes() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

pub(super) fn nfa_limits() -> thompson::Config {
    thompson::Config::new().utf8(false).nfa_size_limit(Some(SET_LIMIT))
}

pub(super) fn compile_set(patterns: &[Arc<str>]) -> Result<RegexSet, String> {
    RegexSetBuilder::new(patterns)
        .unicode(false)
        .size_limit(SET_LIMIT)
        .dfa_size_limit(SET_LIMIT)
        .build()
        .map_err(|error| explain(&error))
}

pub(super) fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).unicode(false).size_limit(COMPILED_LIMIT).build().map_err(|error| explain(&error))
}

fn explain(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("the pattern is too large: it compiles to over {limit} bytes"),
        // The last line says what is wrong. Those before draw the pattern with a marker, which does not fit a message.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("the pattern is invalid: {}", last.strip_prefix("error: ").unwrap_or(last))
        }
    }
}
