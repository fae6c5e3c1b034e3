//! The endpoint `/metrics`: the families of llama-server, all with the value 0.

use std::{fmt::Write, ops::RangeInclusive};

use crate::{
    connection::HttpResponse,
    eras::{ALL, Era, SINCE_LATE_2024, TODAY, UNTIL_LATE_2024},
    state::Server,
};

/// Name and type of each family, with the eras that have it.
static FAMILIES: [(RangeInclusive<Era>, &str, &str); 14] = [
    (ALL, "prompt_tokens_total", "counter"),
    (ALL, "prompt_seconds_total", "counter"),
    (ALL, "tokens_predicted_total", "counter"),
    (ALL, "tokens_predicted_seconds_total", "counter"),
    (ALL, "prompt_tokens_seconds", "gauge"),
    (ALL, "predicted_tokens_seconds", "gauge"),
    (ALL, "requests_processing", "gauge"),
    (ALL, "requests_deferred", "gauge"),
    (SINCE_LATE_2024, "n_decode_total", "counter"),
    (SINCE_LATE_2024, "n_busy_slots_per_decode", "gauge"),
    (UNTIL_LATE_2024, "kv_cache_usage_ratio", "gauge"),
    (UNTIL_LATE_2024, "kv_cache_tokens", "gauge"),
    (TODAY, "prompt_tokens_cached_total", "counter"),
    (TODAY, "n_tokens_max", "counter"),
];

/// The response with the families of the era; 501 without `--metrics`.
pub(crate) fn answer(server: &Server) -> HttpResponse {
    if !server.settings.metrics {
        let message = "This server does not support metrics endpoint. Start it with `--metrics`";
        return HttpResponse::error(501, message, "not_supported_error");
    }
    let mut body = String::new();
    for (_, name, kind) in FAMILIES.iter().filter(|(eras, ..)| eras.contains(&server.script.era)) {
        // Writing to a `String` cannot fail.
        let _ = write!(body, "# HELP llamacpp:{name} {name}\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} 0\n");
    }
    HttpResponse { status: 200, content_type: "text/plain; version=0.0.4", body }
}
