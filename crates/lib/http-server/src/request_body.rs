//! The body of a request, which comes back when whoever answers has not read all of it.
//!
//! An answer amid a body ends the connection: what still comes would be the next request. hyper closes it without a word, so that a client
//! that keeps connections sends its next request into nothing. Here such an answer says `Connection: close` (RFC 9112, 9.6).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use llama_warden_support::lock;

/// Most bytes that are read in place of whoever answered, so that the connection can stay.
const MOST_SKIPPED: usize = 64 << 10;

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    /// Taken when it is dropped.
    incoming: Option<Incoming>,
    is_over: bool,
    /// Its client sends it once the first look at it has answered 100.
    awaits_continue: bool,
    /// Where it goes when it is dropped; without a body, nowhere.
    unread: Option<UnreadBody>,
}

/// A body of which nobody reads the rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnreadBody(Arc<Mutex<UnreadRest>>);

#[derive(Debug, Default)]
enum UnreadRest {
    #[default]
    None,
    Coming(Incoming),
    /// To look at it would have the client send it.
    NotSent,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, headers: &HeaderMap) -> (Self, Option<UnreadBody>) {
        let is_over = incoming.is_end_stream();
        let unread = (!is_over).then(UnreadBody::default);
        let awaits_continue = headers.contains_key(EXPECT);
        (Self { incoming: Some(incoming), is_over, awaits_continue, unread: unread.clone() }, unread)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.awaits_continue = false;
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(incoming).poll_frame(context);
        self.is_over |= matches!(polled, Poll::Ready(None)) || self.is_end_stream();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let (false, Some(unread), Some(incoming)) = (self.is_over, &self.unread, self.incoming.take()) {
            *lock(&unread.0) = if self.awaits_continue { UnreadRest::NotSent } else { UnreadRest::Coming(incoming) };
        }
    }
}

impl UnreadBody {
    /// Whether the connection has to end with the answer: a rest is left that does not come at once, or is long.
    pub(crate) async fn ends_connection(self) -> bool {
        let mut incoming = match std::mem::take(&mut *lock(&self.0)) {
            UnreadRest::None => return false,
            UnreadRest::NotSent => return true,
            UnreadRest::Coming(incoming) => incoming,
        };
        let (mut skipped, mut has_looked) = (0, false);
        poll_fn(|context| {
            loop {
                match Pin::new(&mut incoming).poll_frame(context) {
                    Poll::Ready(None) => return Poll::Ready(false),
                    Poll::Ready(Some(Ok(frame))) => {
                        skipped += frame.data_ref().map_or(0, Bytes::len);
                        has_looked = false;
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(true),
                    // The first look tells the connection that the body is wanted. The second one finds what came with its head.
                    Poll::Pending if !has_looked => {
                        has_looked = true;
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Pending => return Poll::Ready(true),
                }
                if skipped > MOST_SKIPPED {
                    return Poll::Ready(true);
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Request, Response};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{HeadFault, HttpService, RefusedLine, ServeLimits, Transport, serve};

    const LONGEST: Duration = Duration::from_secs(20);

    const LIMITS: ServeLimits =
        ServeLimits { connections: 64, kept_for_probes: 8, head_timeout: LONGEST, drain: Duration::from_secs(1) };

    /// Answers `/read` when it has read the body, and everything else at once.
    #[derive(Clone)]
    struct Answers;

    impl HttpService for Answers {
        type Body = String;

        async fn answer(&self, request: Request<RequestBody>, _: Transport) -> Response<String> {
            let is_read = request.uri().path() == "/read";
            let mut body = request.into_body();
            while is_read && poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.is_some() {}
            Response::new("ok".to_owned())
        }

        fn is_probe(&self, _: &str) -> bool {
            true
        }

        fn too_many_connections(&self, _: usize) -> Response<String> {
            Response::default()
        }

        fn refused_head(&self, _: HeadFault, _: &RefusedLine) -> Response<String> {
            Response::default()
        }
    }

    /// The answer to a request whose body is sent so far, and whether the connection ended with it.
    async fn ask(stream: &mut TcpStream, path: &str, length: &str, sent: usize) -> (String, bool) {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{length}\r\n");
        stream.write_all(&[head.as_bytes(), &vec![b'x'; sent]].concat()).await.expect("taken");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            let count = timeout(LONGEST, stream.read_buf(&mut answer)).await.expect("in time").expect("readable");
            assert!(count > 0, "{}", answer.escape_ascii());
        }
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let says_close = answer.contains("connection: close\r\n");
        if says_close {
            let ended = timeout(LONGEST, stream.read_buf(&mut Vec::new())).await.expect("in time");
            assert!(matches!(ended, Ok(0)), "{ended:?}");
        }
        (answer, says_close)
    }

    #[tokio::test]
    async fn a_connection_ends_with_an_answer_amid_a_body_which_says_so_and_goes_on_after_any_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Answers, LIMITS, cancel.clone()));
        for (path, length, sent, ends) in [
            ("/", "", 0, false),
            ("/read", "content-length: 200000\r\n", 200_000, false),
            // Little that is there already is read, so that the connection can stay.
            ("/", "content-length: 200\r\n", 200, false),
            ("/", "content-length: 200\r\n", 1, true),
            ("/", "content-length: 200000\r\n", 200_000, true),
            ("/", "transfer-encoding: chunked\r\n", 0, true),
            // It is not asked for what nobody reads.
            ("/", "content-length: 200\r\nexpect: 100-continue\r\n", 0, true),
        ] {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            let (answer, ended) = ask(&mut stream, path, length, sent).await;
            assert_eq!(ended, ends, "{path} {length:?} {sent}: {answer}");
            if !ends {
                assert!(!ask(&mut stream, "/", "", 0).await.1, "{path} {length:?} {sent}");
            }
        }
        cancel.cancel();
        serving.await.expect("ends");
    }
}
