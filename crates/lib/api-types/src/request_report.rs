//! The requests of a server, as status shows them.

use llama_warden_events::{ServerId, Timestamp};
use llama_warden_requests::{RequestLog, RequestRecord, TokenRates};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The requests of a server in this run of the daemon, from the lines that it prints about them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestReport {
    /// Generations that ended by themselves.
    pub count: u64,
    /// Tokens of prompts that were read, without those in the cache.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub decode_tokens: u64,
    /// Tokens of prompts per second of reading, over the last minute; null without one.
    pub prompt_tokens_per_second: Option<f64>,
    /// Generated tokens per second of each request, over the last minute; null without one.
    pub decode_tokens_per_second: Option<f64>,
    /// Slots that work now.
    pub slots_busy: usize,
    /// When the latest generation ended; null before the first.
    pub last_at: Option<Timestamp>,
}

impl RequestReport {
    /// Reports the requests of a server at the time `now`; `None` if its latest launch prints no lines about them.
    pub fn of(server: &ServerId, requests: &RequestLog, now: Timestamp) -> Option<Self> {
        let report = |record: &RequestRecord| {
            let TokenRates { prompt, decode } = record.rates(now);
            // More digits than the milliseconds of a line have would be those of a division.
            let rounded = |rate: Option<f64>| rate.map(|rate| (rate * 100.0).round() / 100.0);
            Self {
                count: record.requests(),
                prompt_tokens: record.prompt_tokens(),
                decode_tokens: record.decode_tokens(),
                prompt_tokens_per_second: rounded(prompt),
                decode_tokens_per_second: rounded(decode),
                slots_busy: record.busy_slots(),
                last_at: record.last_at(),
            }
        };
        let before_the_first = || report(&RequestRecord::default());
        requests.prints(server).then(|| requests.read(server, report).unwrap_or_else(before_the_first))
    }
}
