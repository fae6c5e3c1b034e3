//! A request on its way out.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::Body;
use llama_warden_held_body::{HeldBody, RestFailed};

use crate::stream::ServerStream;

/// Parts that are handed to the kernel at a time.
const PARTS: usize = 16;

/// What is left to send.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Goes first. Its memory is used for the next one.
    head: Vec<u8>,
    /// How much of it is sent.
    sent: usize,
    /// Goes next.
    parts: VecDeque<Bytes>,
    /// Where the next parts come from.
    body: Option<HeldBody>,
    /// The length is not known: each part goes with its own.
    is_chunked: bool,
    /// The server takes no more, and not all was sent.
    is_broken: bool,
}

impl Outgoing {
    /// A request, with the head that `write` writes.
    pub(crate) fn begin(&mut self, write: impl FnOnce(&mut Vec<u8>), body: HeldBody) {
        self.head.clear();
        self.parts.clear();
        write(&mut self.head);
        (self.sent, self.is_chunked, self.is_broken) = (0, body.length().is_none(), false);
        self.body = Some(body).filter(|body| !body.is_end_stream());
    }

    /// Whether all of it is sent.
    pub(crate) fn is_sent(&self) -> bool {
        !self.is_broken && self.sent == self.head.len() && self.parts.is_empty() && self.body.is_none()
    }

    /// Whether the server has taken none of it and takes none.
    pub(crate) const fn is_refused(&self) -> bool {
        self.is_broken && self.sent == 0
    }

    /// Sends as much as can be sent.
    ///
    /// A write that fails is no error here: whoever closes a connection amid a request may have answered it before, and then the answer
    /// is still to be read. Behind it, or in its place, the read fails too, or comes to the end.
    pub(crate) fn poll(&mut self, stream: &mut ServerStream, context: &mut Context<'_>) -> Result<(), RestFailed> {
        while !self.is_broken {
            self.fill(context)?;
            if self.sent == self.head.len() && self.parts.is_empty() {
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); PARTS + 1];
            let mut count = 0;
            let head = self.head.get(self.sent..).filter(|head| !head.is_empty());
            for (slice, part) in slices.iter_mut().zip(head.into_iter().chain(self.parts.iter().map(|part| &**part))) {
                *slice = IoSlice::new(part);
                count += 1;
            }
            match stream.poll_write(context, &slices[..count]) {
                Poll::Ready(Ok(written)) => self.advance(written),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "llama-server takes no more of a request");
                    self.is_broken = true;
                }
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes the next parts of the body, where they are there.
    fn fill(&mut self, context: &mut Context<'_>) -> Result<(), RestFailed> {
        while self.parts.len() + 3 <= PARTS {
            let Some(body) = &mut self.body else { return Ok(()) };
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(frame)) => {
                    // A body that is held has no trailers.
                    let part = frame?.into_data().unwrap_or_default();
                    let is_last = !self.is_chunked && body.is_end_stream();
                    if self.is_chunked && !part.is_empty() {
                        self.parts.push_back(format!("{:x}\r\n", part.len()).into());
                    }
                    let has_end = self.is_chunked && !part.is_empty();
                    self.parts.extend(Some(part).filter(|part| !part.is_empty()));
                    self.parts.extend(has_end.then_some(Bytes::from_static(b"\r\n")));
                    if is_last {
                        self.body = None;
                    }
                }
                Poll::Ready(None) => {
                    self.body = None;
                    self.parts.extend(self.is_chunked.then_some(Bytes::from_static(b"0\r\n\r\n")));
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        let of_head = written.min(self.head.len() - self.sent);
        self.sent += of_head;
        written -= of_head;
        while let Some(part) = self.parts.front_mut().filter(|_| written > 0) {
            let of_part = written.min(part.len());
            part.advance(of_part);
            written -= of_part;
            if part.is_empty() {
                self.parts.pop_front();
            }
        }
    }
}
