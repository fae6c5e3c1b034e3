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
