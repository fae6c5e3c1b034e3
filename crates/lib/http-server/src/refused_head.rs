//! Heads that hyper refuses. It answers them by itself, with a status and no body: [`WatchedStream`] holds that answer back, so that the
//! service can say what is wrong in the way that its clients read.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{Method, Response, StatusCode, Uri};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::places::ConnectionPlace;

/// What is wrong with the head of a request that no service has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFault {
    /// It is not HTTP/1, or says in two ways where its body ends.
    Malformed,
    /// It has more than 64 KiB, or too many fields.
    TooLong,
    /// The rest of it did not come in time.
    TooSlow,
}

impl HeadFault {
    /// The status of its answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// What is wrong, for the client.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Malformed => {
                "the head of the request is not HTTP/1.1: its first line, a field, or what says how long its body is"
            }
            Self::TooLong => "the head of the request has more than 64 KiB, or more than 100 fields",
            Self::TooSlow => "the rest of the request's head did not come in time",
        }
    }
}

/// The first line of a head that is refused, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLine {
    /// Its method; `None` where there is none.
    pub method: Option<Method>,
    /// Its path; empty where there is none.
    pub path: String,
}

/// Most bytes of a head that are kept: its method and the beginning of its path.
const KEPT: usize = 96;

/// The stream of a connection, which knows whether what is written answers a request that its service has seen.
pub(crate) struct WatchedStream<'a, S> {
    stream: S,
    /// Whether the service has seen a request whose answer is not written yet. It says so itself.
    is_asked: &'a AtomicBool,
    place: &'a ConnectionPlace,
    /// The beginning of the head that comes.
    begun: [u8; KEPT],
    kept: usize,
    refused: Option<HeadFault>,
}

impl<'a, S> WatchedStream<'a, S> {
    pub(crate) const fn new(stream: S, is_asked: &'a AtomicBool, place: &'a ConnectionPlace) -> Self {
        Self { stream, is_asked, place, begun: [0; KEPT], kept: 0, refused: None }
    }

    /// The stream, the fault of a head whose answer was held back, and the line of the head that came last.
    pub(crate) fn into_parts(self) -> (S, Option<HeadFault>, RefusedLine) {
        (self.stream, self.refused, RefusedLine::read(&self.begun[..self.kept]))
    }

    /// Keeps hyper's own answer back.
    fn hold_back(&mut self, answer: &[u8]) {
        self.refused.get_or_insert(match answer.get(9..12) {
            Some(b"431" | b"414") => HeadFault::TooLong,
            _ => HeadFault::Malformed,
        });
    }

    fn answers_no_request(&self) -> bool {
        !self.is_asked.load(Ordering::Relaxed)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let this = &mut *self;
        if this.kept < KEPT && this.answers_no_request() {
            let read = &into.filled()[before..];
            let kept = read.len().min(KEPT - this.kept);
            this.begun[this.kept..][..kept].copy_from_slice(&read[..kept]);
            this.kept += kept;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.answers_no_request() {
            self.hold_back(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.answers_no_request() {
            self.hold_back(slices.first().map_or(&[], |first| first));
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when all that hyper had to write is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if !self.place.is_busy() && self.is_asked.swap(false, Ordering::Relaxed) {
            self.kept = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl RefusedLine {
    fn read(head: &[u8]) -> Self {
        let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().and_then(|word| Method::from_bytes(word).ok());
        let target = words.next().and_then(|word| Uri::try_from(word).ok());
        Self { method, path: target.map_or_else(String::new, |target| target.path().to_owned()) }
    }
}

/// An answer as it is written, by hand, on a connection that ends with it.
pub(crate) async fn written<B: Body + Unpin>(answer: Response<B>) -> Vec<u8> {
    let (head, mut body) = answer.into_parts();
    let mut text = Vec::new();
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(mut data) = frame.into_data() {
            text.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
    }
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in head.headers.iter().filter(|(name, _)| ![CONNECTION, CONTENT_LENGTH].contains(name)) {
        bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend_from_slice(format!("connection: close\r\ncontent-length: {}\r\n\r\n", text.len()).as_bytes());
    bytes.extend_from_slice(&text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_head_is_read_as_far_as_it_is_one() {
        for (head, method, path) in [
            ("POST /v1/messages?x=1 HTTP/1.1\r\nHost: x\r\n", Some(Method::POST), "/v1/messages"),
            ("POST http://a/v1/messages HTTP/1.1\n", Some(Method::POST), "/v1/messages"),
            ("GET /cut", Some(Method::GET), "/cut"),
            ("GET", Some(Method::GET), ""),
            ("", None, ""),
            ("\u{16}\u{3} \u{1}\r\n", None, ""),
        ] {
            assert_eq!(RefusedLine::read(head.as_bytes()), RefusedLine { method, path: path.to_owned() }, "{head:?}");
        }
    }
}
