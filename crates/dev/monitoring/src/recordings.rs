//! The recording rules: what alerts compare with its own history, and sums that dashboards of many machines read.

use crate::expression::SERVER;

/// Mean time to ready of the launches of the last hour.
pub(crate) const READY_SECONDS_1H: &str = "server:llama_warden_server_ready_seconds:mean1h";
/// The same of the week before that hour.
pub(crate) const READY_SECONDS_1W: &str = "server:llama_warden_server_ready_seconds:mean1w";
/// Tokens that a request gets per second, over the last ten minutes.
pub(crate) const DECODE_SPEED_10M: &str = "server:llama_warden_request_decode_tokens:per_second10m";
/// The same of the week before the last hour.
pub(crate) const DECODE_SPEED_1W: &str = "server:llama_warden_request_decode_tokens:per_second1w";

/// A recording rule.
#[derive(Debug)]
pub(crate) struct RecordingRule {
    /// The name of the new series: level, metric, operation.
    pub(crate) name: &'static str,
    /// What it records, in PromQL.
    pub(crate) expression: String,
}

/// Every recording rule.
pub(crate) fn all() -> Vec<RecordingRule> {
    let record = |name, expression| RecordingRule { name, expression };
    let quotient =
        |sum: &str, count: &str, window: &str| format!("increase({sum}[{window}) / (increase({count}[{window}) > 0)");
    let ready =
        |window| quotient("llama_warden_server_ready_seconds_sum", "llama_warden_server_ready_seconds_count", window);
    let decode = |window| {
        quotient("llama_warden_request_decode_tokens_total", "llama_warden_request_decode_seconds_sum", window)
    };
    let of_fleet = |metric: &str| format!("sum by (job, instance) ({metric})");
    vec![
        record(READY_SECONDS_1H, ready("1h]")),
        record(READY_SECONDS_1W, ready("1w] offset 1h")),
        record(DECODE_SPEED_10M, decode("10m]")),
        record(DECODE_SPEED_1W, decode("1w] offset 1h")),
        record("instance:llama_warden_server_ready:sum", of_fleet("llama_warden_server_ready")),
        record("instance:llama_warden_server_running:sum", of_fleet("llama_warden_server_running")),
        record("instance:llama_warden_server_slots_busy:sum", of_fleet("llama_warden_server_slots_busy")),
        record(
            "instance:llama_warden_request_decode_tokens:rate5m",
            of_fleet("rate(llama_warden_request_decode_tokens_total[5m])"),
        ),
        record("instance:llama_warden_requests:rate5m", of_fleet("rate(llama_warden_requests_total[5m])")),
        record(
            "server:llama_warden_server_failures:increase1h",
            format!("sum by ({SERVER}) (increase(llama_warden_server_failures_total[1h]))"),
        ),
    ]
}
