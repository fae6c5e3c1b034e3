//! A finished request of the router as one log line, never with its body.
//!
//! The target is `llama_warden::access`, so that a filter can pick these lines.

use std::time::Duration;

use llama_warden_events::ServerId;
use llama_warden_traffic::FinishedRequest;

/// Logs a finished request.
pub(crate) fn log_request(request: &FinishedRequest) {
    let tokens = request.tokens;
    tracing::info!(
        target: "llama_warden::access",
        id = request.id,
        client = request.client.map(tracing::field::display),
        key = request.key.as_deref(),
        method = request.method.as_str(),
        path = request.path,
        model = request.model,
        server = request.server.as_ref().map(ServerId::as_str),
        incarnation = request.incarnation.map(|incarnation| incarnation.get()),
        status = request.status,
        outcome = request.outcome.as_str(),
        code = request.code,
        ms = milliseconds(request.took),
        wait_ms = Some(request.waited).filter(|waited| !waited.is_zero()).map(milliseconds),
        first_token_ms = request.first_token.map(milliseconds),
        bytes_in = request.bytes_in,
        bytes_out = request.bytes_out,
        input = tokens.map(|tokens| tokens.input),
        cached = tokens.map(|tokens| tokens.cached),
        output = tokens.map(|tokens| tokens.output),
        retries = Some(request.retries).filter(|retries| *retries > 0),
        "request finished"
    );
}

/// Milliseconds with three digits behind the point.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
