//! The patterns that begin at a line's start, as one lazy automaton: a single walk along the line tells which of them match,
//! and ends where none can any more, which for most lines is after a word or two.

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::pool::{Pool, PoolGuard};
use regex_automata::{Anchored, Input, MatchKind, PatternSet};

use super::compile::{bytes, nfa_limits};

/// Most memory of what an automaton learns, in bytes, for each thread that reads at the same time. It starts with nothing.
const CACHE_LIMIT: usize = 2 * 1024 * 1024;
/// How often that memory may fill up. Lines that fill it more often teach nothing that is seen twice.
const CACHE_CLEARS: usize = 3;
/// Steps between two looks at whether the line goes on: each look is a branch to be foreseen.
const UNROLLED: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Automaton {
    dfa: DFA,
    /// What was dfa_cache, once per thread that reads at the same time; nothing before its first line.
    caches: Pool<Option<DfaCache>, NoCache>,
}

type NoCache = fn() -> Option<DfaCache>;

/// What an automaton has dfa_cache of the lines so far, and the patterns that the last walk found.
#[derive(Debug)]
pub(super) struct DfaCache {
    cache: Cache,
    /// Where each walk begins; holds until the cache is cleared for this many times.
    start: Option<(usize, LazyStateID)>,
    matched: PatternSet,
}

/// The memory fills up again and again; matching without an automaton is faster.
#[derive(Debug)]
pub(super) struct CacheThrashed;

impl DfaCache {
    fn empty(dfa: &DFA) -> Self {
        Self { cache: dfa.create_cache(), start: None, matched: PatternSet::new(dfa.pattern_len()) }
    }
}

impl Automaton {
    /// The automaton of patterns that can only match at a line's start; `None` where there are none, or it would be too
    /// large.
    pub(super) fn new(patterns: &[&str]) -> Option<Self> {
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .cache_capacity(CACHE_LIMIT)
            .minimum_cache_clear_count(Some(CACHE_CLEARS));
        let mut builder = DFA::builder();
        builder.configure(config).syntax(bytes()).thompson(nfa_limits());
        let dfa = if patterns.is_empty() { return None } else { builder.build_many(patterns).ok()? };
        Some(Self { dfa, caches: Pool::new(|| None) })
    }

    /// What this thread has dfa_cache so far, for as long as a line is looked at; `None` forgets it.
    #[inline]
    pub(super) fn dfa_cache(&self) -> PoolGuard<'_, Option<DfaCache>, NoCache> {
        self.caches.get()
    }

    /// The patterns that match, by their place among those of the automaton; `None` where there are none.
    pub(super) fn find<'a>(
        &self,
        dfa_cache: &'a mut Option<DfaCache>,
        line: &[u8],
    ) -> Result<Option<&'a PatternSet>, CacheThrashed> {
        let dfa_cache = dfa_cache.get_or_insert_with(|| DfaCache::empty(&self.dfa));
        let mut state = self.start(dfa_cache)?;
        let DfaCache { cache, matched, .. } = dfa_cache;
        let mut is_match = false;
        let mut note = |cache: &Cache, state| {
            if !std::mem::replace(&mut is_match, true) {
                matched.clear();
            }
            for index in 0..self.dfa.match_len(cache, state) {
                matched.insert(self.dfa.match_pattern(cache, state, index));
            }
        };
        let mut rest = line;
        loop {
            if !state.is_tagged() {
                let (next, steps) = self.skip_untagged(cache, state, rest);
                (state, rest) = (next, &rest[steps..]);
            }
            let Some((byte, after)) = rest.split_first() else { break };
            state = self.dfa.next_state(cache, state, *byte).map_err(|_| CacheThrashed)?;
            if state.is_dead() {
                return Ok(is_match.then_some(matched));
            }
            // The automaton tells a match one byte after its end.
            if state.is_match() {
                note(cache, state);
            }
            rest = after;
        }
        let end = self.dfa.next_eoi_state(cache, state).map_err(|_| CacheThrashed)?;
        if end.is_match() {
            note(cache, end);
        }
        Ok(is_match.then_some(matched))
    }

    /// Goes on as long as nothing happens: from one state that says nothing to another one that was seen before. Returns the
    /// last of them and the number of steps.
    #[inline]
    fn skip_untagged(&self, cache: &Cache, mut state: LazyStateID, line: &[u8]) -> (LazyStateID, usize) {
        let mut steps = 0;
        for bytes in line.as_chunks::<UNROLLED>().0 {
            for byte in bytes {
                let next = self.dfa.next_state_untagged(cache, state, *byte);
                if next.is_tagged() {
                    return (state, steps);
                }
                state = next;
                steps += 1;
            }
        }
        (state, steps)
    }

    #[inline]
    fn start(&self, dfa_cache: &mut DfaCache) -> Result<LazyStateID, CacheThrashed> {
        match dfa_cache.start {
            Some((cleared, start)) if cleared == dfa_cache.cache.clear_count() => Ok(start),
            _ => {
                let anchored = Input::new(b"").anchored(Anchored::Yes);
                let start = self.dfa.start_state_forward(&mut dfa_cache.cache, &anchored).map_err(|_| CacheThrashed)?;
                dfa_cache.start = Some((dfa_cache.cache.clear_count(), start));
                Ok(start)
            }
        }
    }
}
