//! The requests of one server.

use std::collections::BTreeSet;

use llama_warden_events::{HistogramTotals, Timestamp};
use llama_warden_state::Histogram;

use crate::recent::RecentTokens;
use crate::{RequestLine, RequestTotals, SlotKey, TokenTiming};

/// Bounds for the time of a prompt, in seconds: a cached one takes milliseconds, a long one on a CPU minutes.
const PROMPT_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Bounds for the time of a generation, in seconds: one word to a long piece of reasoning.
const DECODE_SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Bounds for the time of one token, in seconds: 1000 tokens in a second to one in 2.5 s. People read about 10 in a second.
const TOKEN_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5];

/// Slots from this number on do not exist: a line that names one was made by a client.
const SLOT_LIMIT: u32 = 256;
/// Most busy slots that the text for the next daemon lists, so that it stays short.
const TOLD_SLOTS: usize = 256;
/// Most busy slots that are kept, of all children of a router together.
const BUSY_LIMIT: usize = 1024;

/// The requests of one server. Its restarts change only the slots.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    requests: u64,
    prompt_tokens: u64,
    decode_tokens: u64,
    prompt_seconds: Histogram,
    decode_seconds: Histogram,
    token_seconds: Histogram,
    last_at: Option<Timestamp>,
    recent_prompt: RecentTokens,
    recent_decode: RecentTokens,
    busy: BTreeSet<SlotKey>,
}

/// Tokens per second of work over the last minute; `None` without a request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenRates {
    /// Tokens of prompts.
    pub prompt: Option<f64>,
    /// Tokens that were generated, without the first one of each request.
    pub decode: Option<f64>,
}

impl Default for RequestRecord {
    fn default() -> Self {
        Self {
            requests: 0,
            prompt_tokens: 0,
            decode_tokens: 0,
            prompt_seconds: Histogram::new(PROMPT_SECONDS),
            decode_seconds: Histogram::new(DECODE_SECONDS),
            token_seconds: Histogram::new(TOKEN_SECONDS),
            last_at: None,
            recent_prompt: RecentTokens::default(),
            recent_decode: RecentTokens::default(),
            busy: BTreeSet::new(),
        }
    }
}

impl RequestRecord {
    /// Counts what a line of `at` says. A line with no tokens says nothing: early builds print one for a request that has
    /// nothing to do.
    pub fn note(&mut self, line: RequestLine, at: Timestamp) {
        match line {
            RequestLine::SlotTimings(_)
            | RequestLine::Prompt(TokenTiming { tokens: 0, .. })
            | RequestLine::Decode(TokenTiming { tokens: 0, .. }) => {}
            RequestLine::Prompt(TokenTiming { tokens, milliseconds }) => {
                let seconds = milliseconds / 1e3;
                self.prompt_tokens += u64::from(tokens);
                self.prompt_seconds.observe(seconds);
                self.recent_prompt.add(tokens, seconds, at);
            }
            RequestLine::Decode(TokenTiming { tokens, milliseconds }) => {
                let seconds = milliseconds / 1e3;
                self.requests += 1;
                self.decode_tokens += u64::from(tokens);
                self.decode_seconds.observe(seconds);
                // The clock of a generation starts with its first token.
                let timed = tokens - 1;
                if timed > 0 {
                    self.token_seconds.observe(seconds / f64::from(timed));
                    self.recent_decode.add(timed, seconds, at);
                }
                self.last_at = Some(at);
            }
            RequestLine::SlotBusy(key) => {
                if key.slot < SLOT_LIMIT && self.busy.len() < BUSY_LIMIT {
                    self.busy.insert(key);
                }
            }
            RequestLine::SlotReleased(key) => {
                self.busy.remove(&key);
            }
        }
    }

    /// The text for the next daemon, without `prints`. It lists the first [`TOLD_SLOTS`] busy slots.
    pub(crate) fn totals(&self) -> RequestTotals {
        RequestTotals {
            prints: false,
            requests: self.requests,
            prompt_tokens: self.prompt_tokens,
            decode_tokens: self.decode_tokens,
            prompt_seconds: self.prompt_seconds.totals(),
            decode_seconds: self.decode_seconds.totals(),
            token_seconds: self.token_seconds.totals(),
            last_at: self.last_at,
            recent_prompt: self.recent_prompt.totals(),
            recent_decode: self.recent_decode.totals(),
            busy: self.busy.iter().take(TOLD_SLOTS).map(|key| (key.child, key.slot)).collect(),
        }
    }

    /// Goes on with what an earlier daemon has counted.
    pub(crate) fn restored(totals: RequestTotals) -> Self {
        let restored = |bounds, totals: Option<HistogramTotals>| {
            totals.and_then(|totals| Histogram::restored(bounds, &totals)).unwrap_or_else(|| Histogram::new(bounds))
        };
        let mut record = Self {
            requests: totals.requests,
            prompt_tokens: totals.prompt_tokens,
            decode_tokens: totals.decode_tokens,
            prompt_seconds: restored(PROMPT_SECONDS, totals.prompt_seconds),
            decode_seconds: restored(DECODE_SECONDS, totals.decode_seconds),
            token_seconds: restored(TOKEN_SECONDS, totals.token_seconds),
            last_at: totals.last_at,
            recent_prompt: RecentTokens::restored(totals.recent_prompt),
            recent_decode: RecentTokens::restored(totals.recent_decode),
            busy: BTreeSet::new(),
        };
        for (child, slot) in totals.busy {
            record.note(RequestLine::SlotBusy(SlotKey { child, slot }), Timestamp::from_unix_microseconds(0));
        }
        record
    }

    /// Frees every slot: the process that had them is gone.
    pub(crate) fn free_slots(&mut self) {
        self.busy.clear();
    }

    /// Generations that ended by themselves.
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Tokens of prompts that were read, without those in the cache.
    pub const fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// Tokens that were generated.
    pub const fn decode_tokens(&self) -> u64 {
        self.decode_tokens
    }

    /// Times to read a prompt, in seconds.
    pub const fn prompt_seconds(&self) -> &Histogram {
        &self.prompt_seconds
    }

    /// Times from the first token of a generation to its last one, in seconds.
    pub const fn decode_seconds(&self) -> &Histogram {
        &self.decode_seconds
    }

    /// Times of one token after the first, in seconds: the mean of each generation.
    pub const fn token_seconds(&self) -> &Histogram {
        &self.token_seconds
    }

    /// When the latest generation ended.
    pub const fn last_at(&self) -> Option<Timestamp> {
        self.last_at
    }

    /// How many slots work.
    pub fn busy_slots(&self) -> usize {
        self.busy.len()
    }

    /// The speed of the minute before `now`.
    pub fn rates(&self, now: Timestamp) -> TokenRates {
        TokenRates { prompt: self.recent_prompt.per_second(now), decode: self.recent_decode.per_second(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_microseconds((1_795_000_000 + seconds) * 1_000_000)
    }

    fn noted(lines: &[RequestLine]) -> RequestRecord {
        let mut record = RequestRecord::default();
        lines.iter().for_each(|line| record.note(*line, at(0)));
        record
    }

    fn timing(tokens: u32, milliseconds: f64) -> TokenTiming {
        TokenTiming { tokens, milliseconds }
    }

    const fn slot(child: Option<u16>, slot: u32) -> SlotKey {
        SlotKey { child, slot }
    }

    #[test]
    fn a_request_is_a_generation_that_ended() {
        let record = noted(&[RequestLine::Prompt(timing(6, 30.0)), RequestLine::Decode(timing(9, 40.0))]);
        assert_eq!((record.requests(), record.prompt_tokens(), record.decode_tokens()), (1, 6, 9));
        assert_eq!((record.prompt_seconds().sum(), record.decode_seconds().sum()), (0.03, 0.04));
        // The first token comes with the prompt.
        assert_eq!(record.token_seconds().sum(), 0.005);
        assert_eq!(record.rates(at(1)), TokenRates { prompt: Some(200.0), decode: Some(200.0) });
        assert_eq!(record.last_at(), Some(at(0)));
    }

    #[test]
    fn a_line_without_tokens_is_no_observation() {
        let record = noted(&[RequestLine::Prompt(timing(0, 0.0)), RequestLine::Decode(timing(0, 7.0))]);
        assert_eq!((record.requests(), record.prompt_seconds().count(), record.decode_seconds().count()), (0, 0, 0));
        assert_eq!(record.last_at(), None);
    }

    #[test]
    fn one_token_has_no_time_per_token() {
        let record = noted(&[RequestLine::Decode(timing(1, 0.0))]);
        assert_eq!((record.requests(), record.decode_seconds().count(), record.token_seconds().count()), (1, 1, 0));
        assert_eq!(record.rates(at(0)).decode, None);
    }

    #[test]
    fn busy_slots_are_a_set_by_child_and_number() {
        let record = noted(&[
            RequestLine::SlotBusy(slot(None, 0)),
            RequestLine::SlotBusy(slot(None, 0)),
            RequestLine::SlotBusy(slot(Some(8001), 0)),
            RequestLine::SlotReleased(slot(None, 1)),
            RequestLine::SlotReleased(slot(Some(8001), 0)),
            RequestLine::SlotReleased(slot(Some(8001), 0)),
        ]);
        assert_eq!(record.busy_slots(), 1);
    }

    #[test]
    fn the_next_daemon_goes_on_with_everything() {
        let mut record = noted(&[
            RequestLine::Prompt(timing(6, 30.0)),
            RequestLine::Decode(timing(9, 40.0)),
            RequestLine::Decode(timing(3, 1e9)),
            RequestLine::SlotBusy(slot(Some(8001), 2)),
        ]);
        let told = serde_json::to_string(&record.totals()).expect("serializes");
        let mut next = RequestRecord::restored(serde_json::from_str(&told).expect("the same"));
        let more = RequestLine::Decode(timing(2, 5.0));
        record.note(more, at(9));
        next.note(more, at(9));
        assert_eq!((next.totals(), next.requests(), next.busy_slots()), (record.totals(), 3, 1));
        assert_eq!((next.rates(at(10)), next.last_at()), (record.rates(at(10)), Some(at(9))));
    }

    #[test]
    fn slots_that_a_client_made_up_do_not_fill_the_memory() {
        let children = (1..=u16::MAX).map(|child| RequestLine::SlotBusy(slot(Some(child), 3)));
        let numbers = (SLOT_LIMIT..1 << 20).map(|number| RequestLine::SlotBusy(slot(None, number)));
        assert_eq!(noted(&numbers.collect::<Vec<_>>()).busy_slots(), 0);
        assert_eq!(noted(&children.collect::<Vec<_>>()).busy_slots(), BUSY_LIMIT);
    }
}
