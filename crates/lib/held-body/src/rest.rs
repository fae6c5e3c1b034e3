//! The rest of a long body: it passes from the client to the server, and is in memory only on the way.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use llama_warden_support::lock;

use crate::coming::{ClientBody, ComingBody};
use crate::limits::BodyLimits;
use crate::refused::BodyRefused;

/// The client did not send the rest of a body. Why is told by the body itself.
#[derive(Debug, thiserror::Error)]
#[error("the client has not sent the rest of the body")]
pub struct RestFailed;

/// The rest of a body, for whichever copy of the body is sent.
#[derive(Debug, Clone)]
pub(crate) struct SharedRest(Arc<Mutex<Rest<dyn ClientBody>>>);

#[derive(Debug)]
struct Rest<B: ?Sized> {
    /// Bytes to come, where their number was announced.
    left: Option<u64>,
    /// Bytes that came, and the most that may.
    length: u64,
    limits: BodyLimits,
    fault: Option<BodyRefused>,
    is_over: bool,
    coming: ComingBody<B>,
}

impl SharedRest {
    pub(crate) fn new<B: ClientBody + 'static>(
        coming: ComingBody<B>,
        (announced, length): (Option<u64>, u64),
        limits: BodyLimits,
    ) -> Self {
        let left = announced.map(|announced| announced.saturating_sub(length));
        let is_over = coming.is_over();
        Self(Arc::new(Mutex::new(Rest { left, length, limits, fault: None, is_over, coming })))
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

impl<B: ClientBody + ?Sized> Rest<B> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, RestFailed>>> {
        if self.fault.is_some() {
            return Poll::Ready(Some(Err(RestFailed)));
        }
        let chunk = match ready!(self.coming.poll(context)) {
            Some(Ok(chunk)) => chunk,
            Some(Err(fault)) => return self.fails(fault),
            None => {
                self.is_over = true;
                return Poll::Ready(None);
            }
        };
        self.length += chunk.len() as u64;
        self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
        self.is_over = self.coming.is_over();
        if self.length > self.limits.most {
            return self.fails(self.limits.exceeded());
        }
        Poll::Ready(Some(Ok(chunk)))
    }

    fn fails(&mut self, fault: BodyRefused) -> Poll<Option<Result<Bytes, RestFailed>>> {
        self.fault = Some(fault);
        Poll::Ready(Some(Err(RestFailed)))
    }
}
