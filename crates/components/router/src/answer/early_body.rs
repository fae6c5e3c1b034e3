//! The body of a stream whose head went out before its request had an answer: comments, then the answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

/// What a client that waits is told, if anything, at each look.
type NextComment = Box<dyn FnMut() -> Option<Bytes> + Send>;

/// Comments, then the body of the answer, or the events that end the stream.
pub(crate) struct EarlyBody<B> {
    /// Told before anything else.
    first: Option<Bytes>,
    rest: RestState<B>,
    comment: NextComment,
    every: Duration,
    look: Pin<Box<Sleep>>,
}

enum RestState<B> {
    Awaited(Pin<Box<dyn Future<Output = Result<B, Bytes>> + Send>>),
    Relayed(B),
    Ends(Option<Bytes>),
}

impl<B> std::fmt::Debug for EarlyBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EarlyBody").field("every", &self.every).finish_non_exhaustive()
    }
}

impl<B: Body<Data = Bytes> + Unpin> EarlyBody<B> {
    pub(crate) fn new(
        first: Bytes,
        (comment, every): (NextComment, Duration),
        rest: impl Future<Output = Result<B, Bytes>> + Send + 'static,
    ) -> Self {
        let look = Box::pin(sleep(every));
        Self { first: Some(first), rest: RestState::Awaited(Box::pin(rest)), comment, every, look }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            self.rest = match &mut self.rest {
                RestState::Relayed(body) => return Pin::new(body).poll_frame(context),
                RestState::Ends(events) => return Poll::Ready(events.take().map(|events| Ok(Frame::data(events)))),
                RestState::Awaited(rest) => match rest.as_mut().poll(context) {
                    Poll::Ready(Ok(body)) => RestState::Relayed(body),
                    Poll::Ready(Err(events)) => RestState::Ends(Some(events)),
                    Poll::Pending => {
                        ready!(self.look.as_mut().poll(context));
                        self.look.as_mut().reset(Instant::now() + self.every);
                        if let Some(comment) = (self.comment)() {
                            return Poll::Ready(Some(Ok(Frame::data(comment))));
                        }
                        continue;
                    }
                },
            };
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.first.is_none()
            && match &self.rest {
                RestState::Awaited(_) => false,
                RestState::Relayed(body) => body.is_end_stream(),
                RestState::Ends(events) => events.is_none(),
            }
    }
}
