//! The families about requests: what the lines of a server said.
//!
//! A server that prints no such lines has one series, which says so: a zero would read as "no traffic". The histograms, the
//! longest families of all, come with the first observation.

use llama_warden_requests::RequestRecord;
use llama_warden_state::Histogram;

use crate::Family;
use crate::catalogue::{
    REQUEST_DECODE_SECONDS, REQUEST_DECODE_TOKENS, REQUEST_PROMPT_SECONDS, REQUEST_PROMPT_TOKENS,
    REQUEST_TOKEN_SECONDS, REQUESTS, SERVER_LAST_REQUEST, SERVER_REQUEST_METRICS, SERVER_SLOTS_BUSY,
};
use crate::server_families::ServerFamilies;

/// Adds the requests of every server.
pub(crate) fn add(all: &mut ServerFamilies<'_>) {
    all.of_launched(&SERVER_REQUEST_METRICS, |server| server.prints_requests.into());
    let mut value = |family: &Family, value: fn(&RequestRecord) -> Option<f64>| {
        all.value(family, |server| value(server.requests.as_ref()?));
    };
    value(&REQUESTS, |record| Some(record.requests() as f64));
    value(&REQUEST_PROMPT_TOKENS, |record| Some(record.prompt_tokens() as f64));
    value(&REQUEST_DECODE_TOKENS, |record| Some(record.decode_tokens() as f64));
    value(&SERVER_SLOTS_BUSY, |record| Some(record.busy_slots() as f64));
    value(&SERVER_LAST_REQUEST, |record| Some(record.last_at()?.as_unix_seconds()));
    let mut histogram = |family: &Family, histogram: fn(&RequestRecord) -> &Histogram| {
        all.histogram(family, |server| server.requests.as_ref().map(histogram));
    };
    histogram(&REQUEST_PROMPT_SECONDS, RequestRecord::prompt_seconds);
    histogram(&REQUEST_DECODE_SECONDS, RequestRecord::decode_seconds);
    histogram(&REQUEST_TOKEN_SECONDS, RequestRecord::token_seconds);
}

#[cfg(test)]
mod tests {
    use llama_warden_bus::OutputLane;
    use llama_warden_events::{Incarnation, ServerId, Timestamp};
    use llama_warden_requests::{RequestLine, SlotKey, TokenTiming};

    use crate::accept::Format;
    use crate::builder::SnapshotBuilder;
    use crate::servers;
    use crate::text::Page;

    const LAUNCH: Incarnation = Incarnation::new(1);

    fn server() -> ServerId {
        ServerId::new("a").expect("valid")
    }

    /// The samples, without `llama_warden_` and without buckets.
    fn samples(lane: &OutputLane) -> Vec<String> {
        let mut builder = SnapshotBuilder::default();
        builder.configure("a");
        builder.launch("a", 1);
        let mut page = Page::new(Format::Text, 0);
        let moment = servers::Moment { now: builder.snapshot.elapsed, exemplars: crate::Exemplars::None };
        servers::add(&mut page, &builder.snapshot, lane, moment);
        let text = page.finish();
        let is_about_requests = |line: &&str| line.contains("request") || line.contains("slots");
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
        let names = samples.filter(is_about_requests).map(|line| line.strip_prefix("llama_warden_").expect("our own"));
        let mut names: Vec<_> = names.map(|line| line.replace("{server=\"a\"}", "")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_server_that_prints_nothing_about_requests_says_so_and_has_no_zeros() {
        assert_eq!(samples(&OutputLane::default()), ["server_request_metrics 0"]);
    }

    #[test]
    fn a_server_before_its_first_request_has_counters_at_zero() {
        let lane = OutputLane::default();
        lane.requests().set_prints(&server(), LAUNCH, true);
        let expected = [
            "request_decode_tokens_total 0",
            "request_prompt_tokens_total 0",
            "requests_total 0",
            "server_request_metrics 1",
            "server_slots_busy 0",
        ];
        assert_eq!(samples(&lane), expected);
    }

    #[test]
    fn requests_have_the_documented_names() {
        let lane = OutputLane::default();
        let at = Timestamp::from_unix_microseconds(1_795_000_000_500_000);
        let lines = [
            RequestLine::SlotBusy(SlotKey { child: None, slot: 0 }),
            RequestLine::Prompt(TokenTiming { tokens: 6, milliseconds: 1500.0 }),
            RequestLine::Decode(TokenTiming { tokens: 9, milliseconds: 2000.0 }),
        ];
        lines.into_iter().for_each(|line| lane.requests().note(&server(), LAUNCH, line, at));
        let expected = [
            "request_decode_seconds_count 1",
            "request_decode_seconds_sum 2",
            "request_decode_tokens_total 9",
            "request_prompt_seconds_count 1",
            "request_prompt_seconds_sum 1.5",
            "request_prompt_tokens_total 6",
            "request_time_per_output_token_seconds_count 1",
            "request_time_per_output_token_seconds_sum 0.25",
            "requests_total 1",
            "server_last_request_timestamp_seconds 1795000000.5",
            "server_request_metrics 1",
            "server_slots_busy 1",
        ];
        assert_eq!(samples(&lane), expected);
    }
}
