//! The heads: what of a client's request goes to llama-server, and what of its answer is for the connection alone.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use llama_warden_probe::{ProbeAddress, Target};

/// Headers that concern one connection (RFC 9110, 7.6.1). `Trailer` is none: without it, the trailers that it names would not be sent.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What the head of each request to a launch has of the launch's own.
#[derive(Debug)]
pub(crate) struct LaunchHead {
    /// Put before every path.
    prefix: String,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl LaunchHead {
    pub(crate) fn new(target: &Target, key: Option<String>) -> Self {
        let host = match &target.address {
            ProbeAddress::Tcp { host, port } => format!("{host}:{port}"),
            ProbeAddress::Unix(_) => "localhost".to_owned(),
        };
        Self {
            prefix: target.prefix.clone(),
            host: HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static("localhost")),
            authorization: key.and_then(|key| HeaderValue::try_from(format!("Bearer {key}")).ok()),
        }
    }

    /// Writes the head of a request: `Host` and key of the launch, its prefix before the path. `length` is that of the body, where it is
    /// known; else it goes in chunks, as it came.
    pub(crate) fn write(
        &self,
        head: &mut Vec<u8>,
        (method, target): (&Method, &str),
        headers: &HeaderMap,
        length: Option<u64>,
    ) {
        let line = |head: &mut Vec<u8>, name: &[u8], value: &[u8]| {
            for part in [name, b": ", value, b"\r\n"] {
                head.extend_from_slice(part);
            }
        };
        head.extend_from_slice(method.as_str().as_bytes());
        head.push(b' ');
        let begin = head.len();
        head.extend_from_slice(self.prefix.as_bytes());
        head.extend_from_slice(target.as_bytes());
        // A path comes from a request that was read, or from a configuration: nothing in it may end the line.
        if head[begin..].iter().any(|byte| *byte <= b' ' || *byte == 0x7F) {
            head.truncate(begin);
            head.push(b'/');
        }
        head.extend_from_slice(b" HTTP/1.1\r\n");
        line(head, b"host", self.host.as_bytes());
        if let Some(authorization) = &self.authorization {
            line(head, b"authorization", authorization.as_bytes());
        }
        match length {
            None => line(head, b"transfer-encoding", b"chunked"),
            Some(0) if *method != Method::POST => {}
            Some(length) => line(head, b"content-length", length.to_string().as_bytes()),
        }
        let named = named_by_connection(headers);
        for (name, value) in headers {
            if !is_kept_back(name) && !named.contains(name) {
                line(head, name.as_str().as_bytes(), value.as_bytes());
            }
        }
        head.extend_from_slice(b"\r\n");
    }
}

/// Whether a header concerns the connection of the client (RFC 9110, 7.6.1), or is for the router: keys of its clients, and what its
/// checks read.
fn is_kept_back(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
        || matches!(
            name.as_str(),
            "content-length"
                | "keep-alive"
                | "trailer"
                | "expect"
                | "origin"
                | "cookie"
                | "authorization"
                | "x-api-key"
                | "api-key"
                | "host"
        )
}

/// The headers that are for one connection because it says so.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// Drops what concerned the connection to llama-server.
pub(crate) fn drop_connection_headers(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    let is_dropped = |name: &&HeaderName| HOP_BY_HOP.contains(name) || **name == "keep-alive" || named.contains(name);
    // Most of the names are absent, and a removal hashes its name all the same: so those that are there are looked for first.
    let dropped: Vec<HeaderName> = headers.keys().filter(is_dropped).cloned().collect();
    dropped.iter().for_each(|name| drop(headers.remove(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_dropped() {
        let mut given = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ]);
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
        let own_head = LaunchHead::new(&target, Some("own".to_owned()));
        let given = headers(&[
            ("host", "router"),
            ("connection", "keep-alive, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("trailer", "x-sum"),
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
        let written = |target: &str, length| {
            let mut head = Vec::new();
            own_head.write(&mut head, (&Method::POST, target), &given, length);
            String::from_utf8(head).expect("text")
        };
        let own = "host: 127.0.0.1:8001\r\nauthorization: Bearer own\r\n";
        let passed = "traceparent: 00-1-2-01\r\nx-conversation-id: c\r\n\r\n";
        let expected = format!("POST /p/v1/x?y=1 HTTP/1.1\r\n{own}content-length: 2\r\n{passed}");
        assert_eq!(written("/v1/x?y=1", Some(2)), expected);
        let expected = format!("POST / HTTP/1.1\r\n{own}transfer-encoding: chunked\r\n{passed}");
        assert_eq!(written("/x HTTP/1.1\r\nx-more: 1", None), expected, "nothing of a path is a header");
    }
}
