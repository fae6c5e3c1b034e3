//! Endless bodies: Server-Sent Events, NDJSON, plain lines.
//!
//! The connection pulls from a [`RecordSource`] only as fast as the client reads, so a client that does not read costs one
//! connection and no memory. While a source is silent, keep-alives detect a client that has gone. At shutdown each stream
//! still sends what its source has, up to the daemon's last event, and ends; the connection bounds the time that this takes.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderMap, header};
use llama_warden_events::EventPosition;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Media type of Server-Sent Events.
pub(crate) const SSE: &str = "text/event-stream";

/// Media type of newline-delimited JSON.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// Longest silence before a keep-alive: what tells a reader that the daemon is not stuck.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The format of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `text/event-stream`.
    EventStream,
    /// `application/x-ndjson`: one record per line.
    JsonLines,
    /// `text/plain`: one line of output per line.
    PlainLines,
}

impl Encoding {
    /// The first known encoding in the `Accept` headers, else `default`. Quality values are ignored.
    pub(crate) fn negotiate(headers: &HeaderMap, default: Self) -> Self {
        let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
        let ranges = accept.flat_map(|accept| accept.split(','));
        let essences = ranges.map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        essences.into_iter().find_map(|essence| Self::from_media_type(&essence)).unwrap_or(default)
    }

    fn from_media_type(essence: &str) -> Option<Self> {
        match essence {
            SSE => Some(Self::EventStream),
            NDJSON | "application/ndjson" | "application/jsonl" => Some(Self::JsonLines),
            "text/plain" => Some(Self::PlainLines),
            _ => None,
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::EventStream => SSE,
            Self::JsonLines => NDJSON,
            Self::PlainLines => "text/plain; charset=utf-8",
        }
    }

    /// Bytes that a reader of the format ignores; `None` for plain lines, where every byte counts.
    const fn keep_alive(self) -> Option<Bytes> {
        match self {
            Self::EventStream => Some(Bytes::from_static(b": keep-alive\n\n")),
            Self::JsonLines => Some(Bytes::from_static(b"\n")),
            Self::PlainLines => None,
        }
    }
}

/// One Server-Sent Event. `data` becomes JSON, which contains no line end that could break the frame.
pub(crate) fn sse_frame(event: &str, id: Option<EventPosition>, data: &impl Serialize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(256);
    if let Some(id) = id {
        frame.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    frame.extend_from_slice(format!("event: {event}\ndata: ").as_bytes());
    frame.extend_from_slice(&json_text(data));
    frame.extend_from_slice(b"\n\n");
    frame
}

/// One line of NDJSON.
pub(crate) fn json_line(record: &impl Serialize) -> Vec<u8> {
    let mut line = json_text(record);
    line.push(b'\n');
    line
}

/// Serializing cannot fail: the records have strings for keys, and finite numbers.
fn json_text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}

/// Produces the encoded records of a stream.
pub(crate) trait RecordSource: Send + 'static {
    /// The next records, or `None` at the end. Safe to cancel.
    fn next(&mut self) -> impl Future<Output = Option<Vec<u8>>> + Send;

    /// The next records if they are there already.
    fn try_next(&mut self) -> Option<Vec<u8>>;
}

/// A response whose body is `source`: until it ends, or, once `cancel` is cancelled, until it has no more records ready.
pub(crate) fn respond(source: impl RecordSource, encoding: Encoding, cancel: CancellationToken) -> Response {
    let pieces = unfold((source, cancel), move |(mut source, cancel)| async move {
        loop {
            let piece = tokio::select! {
                () = cancel.cancelled() => Bytes::from(source.try_next()?),
                piece = source.next() => Bytes::from(piece?),
                () = tokio::time::sleep(KEEP_ALIVE) => match encoding.keep_alive() {
                    Some(keep_alive) => keep_alive,
                    None => continue,
                },
            };
            return Some((Ok::<_, std::convert::Infallible>(piece), (source, cancel)));
        }
    });
    // Proxies must not buffer a stream.
    let headers = [(header::CONTENT_TYPE, encoding.content_type()), (X_ACCEL_BUFFERING, "no")];
    (headers, Body::from_stream(pieces)).into_response()
}

/// nginx buffers responses that lack it.
const X_ACCEL_BUFFERING: header::HeaderName = header::HeaderName::from_static("x-accel-buffering");

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use llama_warden_events::Seq;

    use super::*;

    #[test]
    fn the_client_chooses_the_encoding() {
        let default = Encoding::PlainLines;
        for (accept, expected) in [
            ("*/*", default),
            ("text/html, application/json", default),
            ("text/event-stream", Encoding::EventStream),
            ("Text/Event-Stream; q=0.9, */*", Encoding::EventStream),
            ("application/x-ndjson", Encoding::JsonLines),
            ("text/plain, text/event-stream", Encoding::PlainLines),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Encoding::negotiate(&headers, default), expected, "{accept}");
        }
    }

    #[test]
    fn a_frame_cannot_be_broken_by_its_data() {
        let frame = sse_frame("line", Some(Seq::new(7).into()), &"a\r\nevent: ready\n\ndata: x");
        assert_eq!(frame, b"id: 7\nevent: line\ndata: \"a\\r\\nevent: ready\\n\\ndata: x\"\n\n");
    }
}
