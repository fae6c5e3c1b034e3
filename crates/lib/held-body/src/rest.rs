//! The rest of a long body: it passes from the client to the server, and is in memory only on the way.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use llama_warden_support::lock;
use tokio::time::{Sleep, sleep};

use crate::limits::{BodyLimits, PAUSE, broke_off, too_slow};
use crate::refused::BodyRefused;

/// The client did not send the rest of a body. Why is told by the body itself.
#[derive(Debug, thiserror::Error)]
#[error("the client has not sent the rest of the body")]
pub struct RestFailed;

/// The rest of a body, for whichever copy of the body is sent.
#[derive(Debug, Clone)]
pub(crate) struct SharedRest(Arc<Mutex<Rest>>);

#[derive(Debug)]
struct Rest {
    incoming: Incoming,
    /// Bytes to come, where their number was announced.
    left: Option<u64>,
    /// Bytes that came, and the most that may.
    length: u64,
    limits: BodyLimits,
    /// Since the last byte came.
    pause: Option<Pin<Box<Sleep>>>,
    fault: Option<BodyRefused>,
    is_over: bool,
}

impl SharedRest {
    pub(crate) fn new(incoming: Incoming, (announced, length): (Option<u64>, u64), limits: BodyLimits) -> Self {
        let left = announced.map(|announced| announced.saturating_sub(length));
        let is_over = incoming.is_end_stream();
        Self(Arc::new(Mutex::new(Rest { incoming, left, length, limits, pause: None, fault: None, is_over })))
    }

    pub(crate) fn left(&self) -> Option<u64> {
        lock(&self.0).left
    }

    pub(crate) fn fault(&self) -> Option<BodyRefused> {
        lock(&self.0).fault.clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        lock(&self.0).is_over
    }

    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, RestFailed>>> {
        lock(&self.0).poll(context)
    }
}

impl Rest {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, RestFailed>>> {
        if self.fault.is_some() {
            return Poll::Ready(Some(Err(RestFailed)));
        }
        loop {
            // First the bytes: while the server takes none, nobody looks whether the client sends some.
            let frame = match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE))).as_mut().poll(context));
                    return self.fails(too_slow());
                }
            };
            self.pause = None;
            let chunk = match frame {
                None => {
                    self.is_over = true;
                    return Poll::Ready(None);
                }
                Some(Ok(frame)) => frame.into_data(),
                Some(Err(error)) => return self.fails(broke_off(&error)),
            };
            let Ok(chunk) = chunk else { continue };
            self.length += chunk.len() as u64;
            self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
            self.is_over = self.incoming.is_end_stream();
            if self.length > self.limits.most {
                return self.fails(self.limits.exceeded());
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
    }

    fn fails(&mut self, fault: BodyRefused) -> Poll<Option<Result<Bytes, RestFailed>>> {
        self.fault = Some(fault);
        Poll::Ready(Some(Err(RestFailed)))
    }
}
