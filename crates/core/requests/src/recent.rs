//! The tokens of the last minute, in a ring of spans of five seconds.
//!
//! By the time of day, because that is what a line comes with. A clock that is set makes the figures of one minute wrong.

use llama_warden_events::Timestamp;

/// Length of a span in microseconds.
const SPAN: i64 = 5_000_000;
/// Spans of a minute; the latest is not over yet.
const SPANS: usize = 12;

/// The tokens of the last minute.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentTokens {
    spans: [Span; SPANS],
}

/// The tokens of five seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    /// Its beginning, in spans since the Unix epoch.
    number: i64,
    sum: TokenSum,
}

/// Tokens, and the seconds that they took.
#[derive(Debug, Clone, Copy, Default)]
struct TokenSum {
    tokens: f64,
    seconds: f64,
}

impl RecentTokens {
    pub(crate) fn add(&mut self, tokens: u32, seconds: f64, at: Timestamp) {
        let number = number(at);
        let span = &mut self.spans[number.rem_euclid(SPANS as i64) as usize];
        if span.number != number {
            *span = Span { number, sum: TokenSum::default() };
        }
        span.sum.tokens += f64::from(tokens);
        span.sum.seconds += seconds;
    }

    /// The spans that have something: number, tokens, seconds.
    pub(crate) fn totals(&self) -> Vec<(i64, f64, f64)> {
        let used = self.spans.iter().filter(|span| span.sum.tokens > 0.0);
        used.map(|span| (span.number, span.sum.tokens, span.sum.seconds)).collect()
    }

    pub(crate) fn restored(spans: Vec<(i64, f64, f64)>) -> Self {
        let mut recent = Self::default();
        for (number, tokens, seconds) in spans {
            let sum = TokenSum { tokens, seconds };
            recent.spans[number.rem_euclid(SPANS as i64) as usize] = Span { number, sum };
        }
        recent
    }

    /// Tokens per second of work in the minute before `now`; `None` if there was none that took a measurable time.
    pub(crate) fn per_second(&self, now: Timestamp) -> Option<f64> {
        let latest = number(now);
        let is_recent = |span: &&Span| (latest - SPANS as i64 + 1..=latest).contains(&span.number);
        let sum = self.spans.iter().filter(is_recent).fold(TokenSum::default(), |sum, span| TokenSum {
            tokens: sum.tokens + span.sum.tokens,
            seconds: sum.seconds + span.sum.seconds,
        });
        (sum.seconds > 0.0).then(|| sum.tokens / sum.seconds)
    }
}

const fn number(at: Timestamp) -> i64 {
    at.as_unix_microseconds().div_euclid(SPAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_microseconds((1_795_000_000 + seconds) * 1_000_000)
    }

    #[test]
    fn a_minute_later_a_request_no_longer_counts() {
        let mut recent = RecentTokens::default();
        recent.add(100, 2.0, at(0));
        recent.add(50, 0.5, at(30));
        assert_eq!(recent.per_second(at(31)), Some(60.0));
        assert_eq!(recent.per_second(at(61)), Some(100.0));
        assert_eq!(recent.per_second(at(95)), None);
        recent.add(10, 1.0, at(600));
        assert_eq!(recent.per_second(at(600)), Some(10.0));
    }

    #[test]
    fn tokens_that_took_no_measurable_time_have_no_speed() {
        let mut recent = RecentTokens::default();
        recent.add(1, 0.0, at(0));
        assert_eq!(recent.per_second(at(0)), None);
    }
}
