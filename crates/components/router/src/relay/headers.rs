//! The heads: what of a client's request goes to llama-server, and what of its answer to the client.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use super::Upstream;
use llama_warden_held_body::HeldBody;

/// Headers that concern one connection (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that are for the router: keys of its clients, and what its checks read.
const OURS: [HeaderName; 8] = [
    HeaderName::from_static("keep-alive"),
    header::EXPECT,
    header::ORIGIN,
    header::COOKIE,
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    header::HOST,
];

/// The request for a launch: its own `Host` and key, its prefix before the path.
pub(crate) fn to_server(
    upstream: &Upstream,
    (method, path_and_query): (&Method, &str),
    headers: &HeaderMap,
    body: HeldBody,
) -> Request<HeldBody> {
    let mut request = Request::new(body);
    let target = format!("{}{path_and_query}", upstream.prefix);
    *request.uri_mut() = Uri::try_from(target).unwrap_or(Uri::from_static("/"));
    *request.method_mut() = method.clone();
    let named = named_by_connection(headers);
    let is_passed = |name: &HeaderName| {
        *name != header::CONTENT_LENGTH && !HOP_BY_HOP.contains(name) && !OURS.contains(name) && !named.contains(name)
    };
    // Room for those of our own too.
    let mut passed = HeaderMap::with_capacity(headers.len() + 3);
    passed
        .extend(headers.iter().filter(|(name, _)| is_passed(name)).map(|(name, value)| (name.clone(), value.clone())));
    passed.insert(header::HOST, upstream.host.clone());
    if let Some(authorization) = &upstream.authorization {
        passed.insert(header::AUTHORIZATION, authorization.clone());
    }
    // Where the length is not known, the body goes in chunks, as it came.
    if let Some(length) = request.body().length().filter(|length| *length > 0 || *method == Method::POST) {
        passed.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *request.headers_mut() = passed;
    request
}

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
    drop_connection_headers(headers);
    remove_where(headers, |name| name == "keep-alive" || name.as_str().starts_with("access-control-"));
    headers.insert("x-request-id", told.request.clone());
    if let Ok(server) = HeaderValue::from_str(told.server) {
        headers.insert("x-llama-warden-server", server);
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let mut timing = format!("queue;dur={:.3}", milliseconds(told.queued));
    if let Some(loaded) = told.loaded {
        timing += &format!(", load;dur={:.3}", milliseconds(loaded));
    }
    if let Ok(timing) = HeaderValue::try_from(timing) {
        headers.append("server-timing", timing);
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

/// The headers that are for one connection because it says so.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

fn drop_connection_headers(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    remove_where(headers, |name| HOP_BY_HOP.contains(name) || named.contains(name));
}

/// Most of the names are absent, and a removal hashes its name all the same: so those that are there are looked for first.
fn remove_where(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    let removed: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name)).cloned().collect();
    removed.iter().for_each(|name| drop(headers.remove(name)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use llama_warden_events::Incarnation;
    use llama_warden_probe::{ProbeAddress, Target};

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_dropped() {
        let mut given =
            headers(&[("connection", "close, X-Secret"), ("x-secret", "1"), ("te", "trailers"), ("accept", "*/*")]);
        drop_connection_headers(&mut given);
        assert_eq!(given, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn a_server_gets_its_own_key_and_host_and_nothing_that_is_for_the_router() {
        let target = Target {
            address: ProbeAddress::Tcp { host: "127.0.0.1".into(), port: 8001 },
            prefix: "/p".to_owned(),
            key: None,
            encrypted: false,
        };
        let launch = ("a".parse().expect("an id"), Incarnation::new(1));
        let upstream = Upstream::new(launch, &target, Some("own".to_owned()), Arc::default());
        let given = headers(&[
            ("host", "router"),
            ("connection", "keep-alive, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("expect", "100-continue"),
            ("origin", "https://app.example"),
            ("cookie", "session=1"),
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("api-key", "client"),
            ("content-length", "99"),
            ("transfer-encoding", "chunked"),
            ("traceparent", "00-1-2-01"),
            ("x-conversation-id", "c"),
        ]);
        let sent = to_server(&upstream, (&Method::POST, "/v1/x?y=1"), &given, HeldBody::whole("{}".to_owned()));
        assert_eq!(sent.uri(), "/p/v1/x?y=1");
        let expected = headers(&[
            ("host", "127.0.0.1:8001"),
            ("authorization", "Bearer own"),
            ("content-length", "2"),
            ("traceparent", "00-1-2-01"),
            ("x-conversation-id", "c"),
        ]);
        assert_eq!(*sent.headers(), expected);
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
