//! The endpoint `/metrics`: the families of llama-server, all with the value 0.

use std::fmt::Write;

use crate::{connection::HttpResponse, eras::Era, state::Server};

/// The families of every era that has metrics.
const ALWAYS: [(&str, &str); 8] = [
    ("prompt_tokens_total", "counter"),
    ("prompt_seconds_total", "counter"),
    ("tokens_predicted_total", "counter"),
    ("tokens_predicted_seconds_total", "counter"),
    ("prompt_tokens_seconds", "gauge"),
    ("predicted_tokens_seconds", "gauge"),
    ("requests_processing", "gauge"),
    ("requests_deferred", "gauge"),
];
const SINCE_LATE_2024: [(&str, &str); 2] = [("n_decode_total", "counter"), ("n_busy_slots_per_decode", "gauge")];
const UNTIL_LATE_2024: [(&str, &str); 2] = [("kv_cache_usage_ratio", "gauge"), ("kv_cache_tokens", "gauge")];
const TODAY: [(&str, &str); 2] = [("prompt_tokens_cached_total", "counter"), ("n_tokens_max", "counter")];

/// The response with the families of the era; 501 without `--metrics`.
pub(crate) fn answer(server: &Server) -> HttpResponse {
    if !server.settings.metrics {
        let message = "This server does not support metrics endpoint. Start it with `--metrics`";
        return HttpResponse::error(501, message, "not_supported_error");
    }
    let era = server.script.era;
    let mut families = ALWAYS.to_vec();
    if era >= Era::November2024 {
        families.extend(SINCE_LATE_2024);
    }
    if era <= Era::November2024 {
        families.extend(UNTIL_LATE_2024);
    }
    if era == Era::B11669 {
        families.extend(TODAY);
    }
    let mut body = String::new();
    for (name, kind) in families {
        // Writing to a `String` cannot fail.
        let _ = write!(body, "# HELP llamacpp:{name} {name}\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} 0\n");
    }
    HttpResponse { status: 200, content_type: "text/plain; version=0.0.4", body }
}
