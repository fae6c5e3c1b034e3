//! The patterns that begin at a line's start, as one lazy automaton: a single walk along the line tells which of them match,
//! and ends where none can any more, which for most lines is after a word or two.

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::pool::{Pool, PoolGuard};
use regex_automata::{Anchored, Input, MatchKind, PatternSet};

use super::{bytes, nfa_limits};

/// Most memory of what an automaton learns, in bytes, for each thread that reads at the same time. It starts with nothing.
const LEARNT_LIMIT: usize = 2 * 1024 * 1024;
/// How often that memory may fill up. Lines that fill it more often teach nothing that is seen twice.
const FILLINGS: usize = 3;
/// Steps between two looks at whether the line goes on: each look is a branch to be foreseen.
const STRIDE: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Automaton {
    dfa: DFA,
    /// What was learnt, once per thread that reads at the same time; nothing before its first line.
    learnt: Pool<Option<Learnt>, Nothing>,
}

type Nothing = fn() -> Option<Learnt>;

/// What an automaton has learnt of the lines so far, and the patterns that the last walk found.
#[derive(Debug)]
pub(super) struct Learnt {
    cache: Cache,
    /// Where each walk begins; holds until the cache is cleared for this many times.
    start: Option<(usize, LazyStateID)>,
    hits: PatternSet,
}

/// The memory fills up again and again; matching without an automaton is faster.
#[derive(Debug)]
pub(super) struct GaveUp;

impl Learnt {
    fn blank(dfa: &DFA) -> Self {
        Self { cache: dfa.create_cache(), start: None, hits: PatternSet::new(dfa.pattern_len()) }
    }
}

impl Automaton {
    /// The automaton of patterns that can only match at a line's start; `None` where there are none, or it would be too
    /// large.
    pub(super) fn new(patterns: &[&str]) -> Option<Self> {
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .cache_capacity(LEARNT_LIMIT)
            .minimum_cache_clear_count(Some(FILLINGS));
        let mut builder = DFA::builder();
        builder.configure(config).syntax(bytes()).thompson(nfa_limits());
        let dfa = if patterns.is_empty() { return None } else { builder.build_many(patterns).ok()? };
        Some(Self { dfa, learnt: Pool::new(|| None) })
    }

    /// What this thread has learnt so far, for as long as a line is looked at; `None` forgets it.
    #[inline]
    pub(super) fn learnt(&self) -> PoolGuard<'_, Option<Learnt>, Nothing> {
        self.learnt.get()
    }

    /// The patterns that match, by their place among those of the automaton; `None` where there are none.
    pub(super) fn hits<'a>(
        &self,
        learnt: &'a mut Option<Learnt>,
        line: &[u8],
    ) -> Result<Option<&'a PatternSet>, GaveUp> {
        let learnt = learnt.get_or_insert_with(|| Learnt::blank(&self.dfa));
        let mut state = self.start(learnt)?;
        let Learnt { cache, hits, .. } = learnt;
        let mut is_hit = false;
        let mut note = |cache: &Cache, state| {
            if !std::mem::replace(&mut is_hit, true) {
                hits.clear();
            }
            for index in 0..self.dfa.match_len(cache, state) {
                hits.insert(self.dfa.match_pattern(cache, state, index));
            }
        };
        let mut rest = line;
        loop {
            if !state.is_tagged() {
                let (next, steps) = self.stride(cache, state, rest);
                (state, rest) = (next, &rest[steps..]);
            }
            let Some((byte, behind)) = rest.split_first() else { break };
            state = self.dfa.next_state(cache, state, *byte).map_err(|_| GaveUp)?;
            if state.is_dead() {
                return Ok(is_hit.then_some(hits));
            }
            // The automaton tells a match one byte after its end.
            if state.is_match() {
                note(cache, state);
            }
            rest = behind;
        }
        let end = self.dfa.next_eoi_state(cache, state).map_err(|_| GaveUp)?;
        if end.is_match() {
            note(cache, end);
        }
        Ok(is_hit.then_some(hits))
    }

    /// Goes on as long as nothing happens: from one state that says nothing to another one that was seen before. Returns the
    /// last of them and the number of steps.
    #[inline]
    fn stride(&self, cache: &Cache, mut state: LazyStateID, line: &[u8]) -> (LazyStateID, usize) {
        let mut steps = 0;
        for bytes in line.as_chunks::<STRIDE>().0 {
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
    fn start(&self, learnt: &mut Learnt) -> Result<LazyStateID, GaveUp> {
        match learnt.start {
            Some((cleared, start)) if cleared == learnt.cache.clear_count() => Ok(start),
            _ => {
                let anchored = Input::new(b"").anchored(Anchored::Yes);
                let start = self.dfa.start_state_forward(&mut learnt.cache, &anchored).map_err(|_| GaveUp)?;
                learnt.start = Some((learnt.cache.clear_count(), start));
                Ok(start)
            }
        }
    }
}
