//! The families about requests: what the lines of a server said.
//!
//! A server that prints no such lines has one series, which says so: a zero would read as "no traffic". The histograms, the
//! longest families of all, come with the first observation.

use llama_warden_events::ServerId;
use llama_warden_requests::{RequestLog, RequestRecord};

use crate::catalogue::{
    REQUEST_DECODE_SECONDS, REQUEST_DECODE_TOKENS, REQUEST_PROMPT_SECONDS, REQUEST_PROMPT_TOKENS,
    REQUEST_TOKEN_SECONDS, REQUESTS, SERVER_LAST_REQUEST, SERVER_REQUEST_METRICS, SERVER_SLOTS_BUSY,
};
use crate::page::Page;

/// Adds the requests of a server.
pub(crate) fn add(page: &mut Page, id: &ServerId, requests: &RequestLog) {
    let prints = requests.prints(id);
    page.value(&SERVER_REQUEST_METRICS, &[id.as_str()], prints.into());
    let is_counted = requests.read(id, |record| add_record(page, id.as_str(), record)).is_some();
    if prints && !is_counted {
        add_record(page, id.as_str(), &RequestRecord::default());
    }
}

fn add_record(page: &mut Page, server: &str, record: &RequestRecord) {
    page.value(&REQUESTS, &[server], record.requests() as f64);
    page.value(&REQUEST_PROMPT_TOKENS, &[server], record.prompt_tokens() as f64);
    page.value(&REQUEST_DECODE_TOKENS, &[server], record.decode_tokens() as f64);
    page.value(&SERVER_SLOTS_BUSY, &[server], record.busy_slots() as f64);
    if let Some(at) = record.last_at() {
        page.value(&SERVER_LAST_REQUEST, &[server], at.as_unix_seconds());
    }
    let histograms = [
        (&REQUEST_PROMPT_SECONDS, record.prompt_seconds()),
        (&REQUEST_DECODE_SECONDS, record.decode_seconds()),
        (&REQUEST_TOKEN_SECONDS, record.token_seconds()),
    ];
    for (family, histogram) in histograms.into_iter().filter(|(_, histogram)| histogram.count() > 0) {
        page.histogram(family, &[server], histogram);
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_events::{Incarnation, Timestamp};
    use llama_warden_requests::{RequestLine, SlotKey, TokenTiming};
    use prometheus::TextEncoder;

    use super::*;

    const LAUNCH: Incarnation = Incarnation::new(1);

    fn server() -> ServerId {
        ServerId::new("a").expect("valid")
    }

    /// The samples, without `llama_warden_` and without buckets.
    fn samples(requests: &RequestLog) -> Vec<String> {
        let mut page = Page::default();
        add(&mut page, &server(), requests);
        let text = TextEncoder::new().encode_to_string(&page.into_families()).expect("encodes");
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
        samples.map(|line| line.strip_prefix("llama_warden_").expect("our own").replace("{server=\"a\"}", "")).collect()
    }

    #[test]
    fn a_server_that_prints_nothing_about_requests_says_so_and_has_no_zeros() {
        assert_eq!(samples(&RequestLog::default()), ["server_request_metrics 0"]);
    }

    #[test]
    fn a_server_before_its_first_request_has_counters_at_zero() {
        let requests = RequestLog::default();
        requests.set_prints(&server(), LAUNCH, true);
        let expected = [
            "request_decode_tokens_total 0",
            "request_prompt_tokens_total 0",
            "requests_total 0",
            "server_request_metrics 1",
            "server_slots_busy 0",
        ];
        assert_eq!(samples(&requests), expected);
    }

    #[test]
    fn requests_have_the_documented_names() {
        let requests = RequestLog::default();
        let at = Timestamp::from_unix_microseconds(1_795_000_000_500_000);
        let lines = [
            RequestLine::SlotBusy(SlotKey { child: None, slot: 0 }),
            RequestLine::Prompt(TokenTiming { tokens: 6, milliseconds: 1500.0 }),
            RequestLine::Decode(TokenTiming { tokens: 9, milliseconds: 2000.0 }),
        ];
        lines.into_iter().for_each(|line| requests.note(&server(), LAUNCH, line, at));
        let expected = [
            "request_decode_seconds_sum 2",
            "request_decode_seconds_count 1",
            "request_decode_tokens_total 9",
            "request_prompt_seconds_sum 1.5",
            "request_prompt_seconds_count 1",
            "request_prompt_tokens_total 6",
            "request_time_per_output_token_seconds_sum 0.25",
            "request_time_per_output_token_seconds_count 1",
            "requests_total 1",
            "server_last_request_timestamp_seconds 1795000000.5",
            "server_request_metrics 1",
            "server_slots_busy 1",
        ];
        assert_eq!(samples(&requests), expected);
    }
}
