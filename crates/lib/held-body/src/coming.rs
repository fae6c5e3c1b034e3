//! A body as it comes from its client.

use std::fmt::Debug;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use tokio::time::{Sleep, sleep};

use crate::refused::{BodyRefusal, BodyRefused};

/// Longest pause of a client that sends a body.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);

/// A body as a connection reads it.
pub trait ClientBody: Body<Data = Bytes, Error = hyper::Error> + Debug + Send + Unpin {}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Debug + Send + Unpin> ClientBody for B {}

/// What a client still sends.
#[derive(Debug)]
pub(crate) struct ComingBody<B: ?Sized> {
    /// The first look at the next bytes found none.
    has_looked: bool,
    /// Since the last byte came. Made only where the next one is waited for: most bodies are there when they are read.
    pause: Option<Pin<Box<Sleep>>>,
    incoming: B,
}

impl<B> From<B> for ComingBody<B> {
    fn from(incoming: B) -> Self {
        Self { has_looked: false, pause: None, incoming }
    }
}

impl<B: ClientBody + ?Sized> ComingBody<B> {
    /// Whether all of it has come. Of one whose length was not announced it is known when its end is read.
    pub(crate) fn is_over(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// The next bytes; `None` at the end.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyRefused>>> {
        loop {
            // First the bytes: while the server takes none, nobody looks whether the client sends some.
            let frame = match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Ready(frame) => frame,
                // The first look tells the connection that the body is wanted. The second one finds a body that came with its head.
                Poll::Pending if !self.has_looked => {
                    self.has_looked = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => {
                    ready!(self.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE))).as_mut().poll(context));
                    let message = format!("no byte of the body came within {PAUSE:?}");
                    return Poll::Ready(Some(Err(BodyRefused::new(BodyRefusal::TooSlow, message))));
                }
            };
            (self.has_looked, self.pause) = (false, None);
            return Poll::Ready(match frame {
                None => None,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => Some(Ok(chunk)),
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    let message = format!("the body ended early: {error}");
                    Some(Err(BodyRefused::new(BodyRefusal::Broken, message)))
                }
            });
        }
    }
}
