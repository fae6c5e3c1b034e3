//! What the client is told in the head of an answer.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVER: HeaderName = HeaderName::from_static("x-llama-warden-server");
const TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What the client is told beside llama-server's own headers.
#[derive(Debug)]
pub(crate) struct ModelServer<'a> {
    pub(crate) server: &'a str,
    pub(crate) request: &'a HeaderValue,
    /// From its head until it was sent, but for the next.
    pub(crate) queued: Duration,
    /// For a launch, where it waited for one.
    pub(crate) loaded: Option<Duration>,
}

/// The answer's headers for the client. llama-server mirrors any origin with credentials, so its permissions are dropped.
pub(crate) fn to_client(headers: &mut HeaderMap, told: &ModelServer<'_>) {
    let is_permission = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    let permissions: Vec<HeaderName> = headers.keys().filter(is_permission).cloned().collect();
    permissions.iter().for_each(|name| drop(headers.remove(name)));
    headers.insert(REQUEST_ID, told.request.clone());
    if let Ok(server) = HeaderValue::from_str(told.server) {
        headers.insert(SERVER, server);
    }
    let milliseconds = |time: Duration| (time.as_millis(), time.subsec_micros() % 1000);
    let (whole, rest) = milliseconds(told.queued);
    let mut timing = format!("queue;dur={whole}.{rest:03}");
    if let Some(loaded) = told.loaded {
        let (whole, rest) = milliseconds(loaded);
        timing += &format!(", load;dur={whole}.{rest:03}");
    }
    if let Ok(timing) = HeaderValue::try_from(timing) {
        headers.append(TIMING, timing);
    }
    if is_event_stream(headers) {
        // Without it, nginx collects a stream before it passes it on.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
}

pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    media_type.get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn permissions_for_other_origins_do_not_reach_the_client() {
        let mut given = headers(&[
            ("access-control-allow-origin", "https://evil.example"),
            ("access-control-allow-credentials", "true"),
            ("content-type", "text/event-stream; charset=utf-8"),
            ("content-encoding", "gzip"),
        ]);
        let request = HeaderValue::from_static("r1");
        let (queued, loaded) = (Duration::from_micros(1500), Some(Duration::from_secs(2)));
        to_client(&mut given, &ModelServer { server: "a", request: &request, queued, loaded });
        let expected = headers(&[
            ("content-type", "text/event-stream; charset=utf-8"),
            ("content-encoding", "gzip"),
            ("x-request-id", "r1"),
            ("x-llama-warden-server", "a"),
            ("server-timing", "queue;dur=1.500, load;dur=2000.000"),
            ("x-accel-buffering", "no"),
        ]);
        assert_eq!(given, expected);
    }
}
