//! The anchored patterns as one lazy DFA: a single walk along the line finds all that match.
//!
//! A DFA of many patterns would be far too large. A **lazy** one computes a state when a line first needs it and keeps it in
//! a cache: `regex-automata` calls this a hybrid. A walk ends at the dead state, from which nothing can match; for most lines
//! that is after a word or two.
//!
//! Worked example, the patterns `^load_tensors: ` (0) and `^load` (1) on the line `load_tensors: offloaded`:
//!
//! ```text
//! start -l-> · -o-> · -a-> · -d-> · -_-> [match 1] -t-> · … -:-> · -space-> · -o-> [match 0] -f-> dead
//! ```
//!
//! A match state is entered with the byte *after* the match, since a `$` or `\b` may have to see that byte first. On
//! `srv  init: ready` the first byte leads to the dead state.
//!
//! Hot path: match, dead, start and not-yet-computed states are **tagged**. A step between two untagged states needs no
//! check but for the tag itself, so that [`Automaton::skip_untagged`] takes eight of them per turn of its loop.
//!
//! A line of a kind never seen before computes states and fills the cache. Lines that are all different fill it again and
//! again ([`CacheThrashed`]); for those, a plain regex set is faster.

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::pool::{Pool, PoolGuard};
use regex_automata::{Anchored, Input, MatchKind, PatternSet};

use super::compile::{bytes, nfa_limits};

/// Most bytes of a cache. There is one cache per thread that reads at the same time; each starts empty.
const CACHE_LIMIT: usize = 2 * 1024 * 1024;
/// How often a full cache is cleared before it counts as thrashed.
const CACHE_CLEARS: usize = 3;
/// Steps that `skip_untagged` takes between two checks for the end of the line: each check is a branch to predict.
const UNROLLED: usize = 8;

/// A lazy DFA of anchored patterns.
#[derive(Debug)]
pub(super) struct Automaton {
    dfa: DFA,
    /// One cache per thread that reads at the same time; `None` before the thread's first line.
    caches: Pool<Option<DfaCache>, NoCache>,
}

type NoCache = fn() -> Option<DfaCache>;

/// The states computed so far, and the patterns that the latest walk found.
#[derive(Debug)]
pub(super) struct DfaCache {
    states: Cache,
    /// The start state, with the cache's clear count: clearing the cache invalidates it.
    start: Option<(usize, LazyStateID)>,
    matched: PatternSet,
}

/// The cache was cleared too often. Matching without the automaton is faster.
#[derive(Debug)]
pub(super) struct CacheThrashed;

impl Automaton {
    /// The automaton of anchored patterns. `None` if there are none, or if it would be too large.
    pub(super) fn new(patterns: &[&str]) -> Option<Self> {
        if patterns.is_empty() {
            return None;
        }
        // `All`: every pattern that matches is reported, not only the leftmost-first one.
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .cache_capacity(CACHE_LIMIT)
            .minimum_cache_clear_count(Some(CACHE_CLEARS));
        let dfa = DFA::builder().configure(config).syntax(bytes()).thompson(nfa_limits()).build_many(patterns).ok()?;
        Some(Self { dfa, caches: Pool::new(|| None) })
    }

    /// This thread's cache, borrowed for one line. Setting it to `None` frees it.
    #[inline]
    pub(super) fn dfa_cache(&self) -> PoolGuard<'_, Option<DfaCache>, NoCache> {
        self.caches.get()
    }

    /// The patterns that match the line, by their index in [`Automaton::new`]; `None` if none does.
    pub(super) fn find<'a>(
        &self,
        dfa_cache: &'a mut Option<DfaCache>,
        line: &[u8],
    ) -> Result<Option<&'a PatternSet>, CacheThrashed> {
        let dfa_cache = dfa_cache.get_or_insert_with(|| DfaCache::empty(&self.dfa));
        let mut state = self.start(dfa_cache)?;
        let DfaCache { states, matched, .. } = dfa_cache;
        let mut is_match = false;
        let mut note = |states: &Cache, state| {
            // Cleared with the first match of a line: most lines have none, and save the work.
            if !std::mem::replace(&mut is_match, true) {
                matched.clear();
            }
            for index in 0..self.dfa.match_len(states, state) {
                matched.insert(self.dfa.match_pattern(states, state, index));
            }
        };
        let mut rest = line;
        loop {
            if !state.is_tagged() {
                let (next, steps) = self.skip_untagged(states, state, rest);
                (state, rest) = (next, &rest[steps..]);
            }
            // One careful step, which may compute a state or enter a tagged one.
            let Some((byte, after)) = rest.split_first() else { break };
            state = self.dfa.next_state(states, state, *byte).map_err(|_| CacheThrashed)?;
            if state.is_dead() {
                return Ok(is_match.then_some(matched));
            }
            if state.is_match() {
                note(states, state);
            }
            rest = after;
        }
        // The end of the line is an input of its own: `$` matches here, and so does a pattern that ends with the line.
        let end = self.dfa.next_eoi_state(states, state).map_err(|_| CacheThrashed)?;
        if end.is_match() {
            note(states, end);
        }
        Ok(is_match.then_some(matched))
    }

    /// Takes steps for as long as they lead to untagged states. Returns the last of those and the number of steps.
    ///
    /// It stops before the first step that needs care, or with fewer than [`UNROLLED`] bytes left.
    #[inline]
    fn skip_untagged(&self, states: &Cache, mut state: LazyStateID, line: &[u8]) -> (LazyStateID, usize) {
        let mut steps = 0;
        for bytes in line.as_chunks::<UNROLLED>().0 {
            for byte in bytes {
                let next = self.dfa.next_state_untagged(states, state, *byte);
                if next.is_tagged() {
                    return (state, steps);
                }
                state = next;
                steps += 1;
            }
        }
        (state, steps)
    }

    /// The start state: the same for every line, and computed again only after the cache was cleared.
    #[inline]
    fn start(&self, dfa_cache: &mut DfaCache) -> Result<LazyStateID, CacheThrashed> {
        let DfaCache { states, start, .. } = dfa_cache;
        match start {
            Some((cleared, start)) if *cleared == states.clear_count() => Ok(*start),
            _ => {
                let anchored = Input::new(b"").anchored(Anchored::Yes);
                let state = self.dfa.start_state_forward(states, &anchored).map_err(|_| CacheThrashed)?;
                *start = Some((states.clear_count(), state));
                Ok(state)
            }
        }
    }
}

impl DfaCache {
    fn empty(dfa: &DFA) -> Self {
        Self { states: dfa.create_cache(), start: None, matched: PatternSet::new(dfa.pattern_len()) }
    }
}
