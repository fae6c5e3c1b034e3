//! The requests of a server, in the form in which one daemon hands them to the next.

use llama_warden_events::{HistogramTotals, Timestamp};
use serde::{Deserialize, Serialize};

/// The requests of a server. A daemon of another version ignores what it does not know, and begins anew with what is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestTotals {
    /// Whether the latest launch prints lines about requests.
    pub prints: bool,
    /// Generations that ended by themselves.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub decode_tokens: u64,
    /// Times of prompts.
    pub prompt_seconds: Option<HistogramTotals>,
    /// Times of generations.
    pub decode_seconds: Option<HistogramTotals>,
    /// Times of tokens.
    pub token_seconds: Option<HistogramTotals>,
    /// When the latest generation ended.
    pub last_at: Option<Timestamp>,
    /// Tokens of prompts in the last minute: the number of a span of time, tokens, and seconds of work.
    pub recent_prompt: Vec<(i64, f64, f64)>,
    /// The same of generations.
    pub recent_decode: Vec<(i64, f64, f64)>,
    /// The slots that work: the port of a child, and the number.
    pub busy: Vec<(Option<u16>, u32)>,
}
