//! Bodies of requests, bounded in size and time. No endpoint needs one, so a body must be empty and is dropped.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use llama_warden_api_types::ApiProblem;

/// Longest body in bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Longest time until a body has arrived completely.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the head announces a body.
pub(super) fn is_announced(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) || length(headers).is_some_and(|length| length > 0)
}

/// Refuses a body whose announced length is too long, before a byte of it is read.
pub(super) fn check_length(headers: &HeaderMap) -> Result<(), ApiProblem> {
    match length(headers) {
        Some(length) if length > BODY_LIMIT as u64 => Err(too_long()),
        _ => Ok(()),
    }
}

/// Reads a body to its end and checks that it is empty, or an empty JSON object as some clients send it.
pub(crate) async fn read_empty_body(body: Body) -> Result<(), ApiProblem> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect());
    let bytes = match read.await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_long()),
        Ok(Err(error)) => {
            return Err(ApiProblem::new(StatusCode::BAD_REQUEST, "bad-body", "body not readable", error.to_string()));
        }
        Err(_) => {
            let detail = format!("the body did not arrive within {BODY_TIMEOUT:?}");
            return Err(ApiProblem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "body too slow", detail));
        }
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(());
    }
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) {
        Ok(object) if object.is_empty() => Ok(()),
        _ => Err(ApiProblem::new(
            StatusCode::BAD_REQUEST,
            "bad-body",
            "body not understood",
            "the body is neither empty nor an empty JSON object",
        )
        .next_step("send no body: options go into the query")),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_long() -> ApiProblem {
    let detail = format!("the body is longer than {BODY_LIMIT} bytes");
    ApiProblem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "body too large", detail)
        .next_step("send no body: options go into the query")
}
