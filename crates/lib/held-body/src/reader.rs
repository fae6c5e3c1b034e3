//! Reads a body, and the body as it is sent.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use hyper::body::{Body, Frame, SizeHint};
use llama_warden_body_scan::{BodyFault, BodyScanner, edited};
use serde_json::{Map, Value};

use crate::chunks::Chunks;
use crate::coming::{ClientBody, ComingBody};
use crate::limits::BodyLimits;
use crate::refused::{BodyRefusal, BodyRefused};
use crate::rest::{RestFailed, SharedRest};
use crate::room::BodyRoom;

/// Bodies up to this length are read whole before they are sent, and can be sent again. So are those that do not announce theirs: one
/// without an end would have a server started, and another one stopped for it.
const LONGEST_HELD: u64 = 16 << 20;

/// What is reserved at a time for a long body, and for one of unknown length.
const STEP: u64 = 1 << 20;

/// A body as it is sent to a server: its chunks, and for a long one the rest that the client is still sending.
#[derive(Debug, Clone, Default)]
pub struct HeldBody {
    chunks: Chunks,
    rest: Option<SharedRest>,
    /// The room that it takes, given back with the last copy.
    _room: Option<Arc<BodyRoom>>,
}

/// What a body says about where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// The model that it names.
    pub model: Option<String>,
    /// Whether it is an object of JSON.
    pub is_json: bool,
}

/// How far a long body is read before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadUntil {
    /// Its model is known.
    Named,
    /// It has begun: its model is known from elsewhere.
    Begun,
    /// Its end, as others.
    End,
}

/// A body that is being read.
#[derive(Debug)]
pub struct BodyReader<B> {
    coming: ComingBody<B>,
    announced: Option<u64>,
    limits: BodyLimits,
    room: BodyRoom,
    reserved: u64,
    scanner: BodyScanner,
    /// What llama-server would refuse whatever it asks for is refused.
    is_strict: bool,
    chunks: Chunks,
    is_at_end: bool,
}

impl<B: ClientBody + 'static> BodyReader<B> {
    /// A reader of a body with these headers of its request.
    ///
    /// # Errors
    /// It is announced to be too long, or is compressed.
    pub fn new(incoming: B, headers: &HeaderMap, limits: &BodyLimits) -> Result<Self, BodyRefused> {
        let announced = incoming.size_hint().exact();
        if announced.is_some_and(|length| length > limits.most) {
            return Err(limits.exceeded());
        }
        if is_encoded(headers) {
            let message = "the body is compressed, and neither the router nor llama-server reads it: send it plain";
            return Err(BodyRefused::new(BodyRefusal::Encoded, message));
        }
        Ok(Self {
            announced,
            is_at_end: incoming.is_end_stream(),
            coming: incoming.into(),
            limits: limits.clone(),
            room: limits.memory.room(),
            reserved: 0,
            scanner: BodyScanner::new(headers),
            is_strict: false,
            chunks: Chunks::default(),
        })
    }

    /// Refuses what llama-server would refuse whatever it asks for: for a request that would start or wake a server.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { is_strict: true, ..self }
    }

    /// Reads to the end, or so far that the rest can be passed through.
    ///
    /// # Errors
    /// What came is no body for a server, or nothing comes.
    pub async fn read(&mut self, until: ReadUntil) -> Result<(), BodyRefused> {
        // The announced length is reserved at once, so that bodies which fit one by one do not wait for one another halfway.
        if let Some(length) = self.announced.filter(|length| (1..=LONGEST_HELD).contains(length) && self.reserved == 0)
        {
            self.reserve(length).await?;
        }
        while !self.is_at_end && !self.passes_through(until) {
            let Some(chunk) = poll_fn(|context| self.coming.poll(context)).await else {
                self.is_at_end = true;
                break;
            };
            let chunk = chunk?;
            let length = self.chunks.len() + chunk.len() as u64;
            if length > self.limits.most {
                return Err(self.limits.exceeded());
            }
            while length > self.reserved {
                self.reserve(STEP).await?;
            }
            self.scanner.feed(&chunk);
            self.chunks.push(chunk);
            self.is_at_end = self.coming.is_over();
            self.check(self.scanner.broken())?;
        }
        self.check(if self.is_at_end { self.scanner.fault() } else { None })
    }

    fn check(&self, fault: Option<BodyFault>) -> Result<(), BodyRefused> {
        let Some(fault) = fault.filter(|_| self.is_strict) else { return Ok(()) };
        let message = format!("llama-server does not read this body: {fault}; no server was asked");
        Err(BodyRefused::new(BodyRefusal::Broken, message))
    }

    /// Whether what is read suffices: the body is long and will end, and what has to be known of it is known.
    fn passes_through(&self, until: ReadUntil) -> bool {
        self.announced.is_some_and(|length| length > LONGEST_HELD)
            && match until {
                ReadUntil::Named => self.scanner.model().is_some(),
                ReadUntil::Begun => true,
                ReadUntil::End => false,
            }
    }

    async fn reserve(&mut self, bytes: u64) -> Result<(), BodyRefused> {
        self.room.grow(bytes).await?;
        self.reserved += bytes;
        Ok(())
    }

    /// The model, if what is read names one.
    pub fn model(&self) -> Option<&str> {
        self.scanner.model()
    }

    /// Whether all of it has come.
    pub const fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// How much has come, or will come where that was announced.
    pub fn length(&self) -> u64 {
        self.announced.unwrap_or(self.chunks.len())
    }

    /// The body, and what it says.
    pub fn finish(self) -> (HeldBody, BodyFacts) {
        let Self { coming, announced, limits, room, scanner, mut chunks, is_at_end, .. } = self;
        room.is_read();
        chunks.end_last();
        let facts = BodyFacts { model: scanner.model().map(str::to_owned), is_json: scanner.is_object() };
        let rest = (!is_at_end).then(|| SharedRest::new(coming, (announced, chunks.len()), limits));
        (HeldBody { chunks, rest, _room: Some(Arc::new(room)) }, facts)
    }
}

/// Whether a body is anything else than its own bytes, whole or in chunks.
fn is_encoded(headers: &HeaderMap) -> bool {
    let is_plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    let mut transfer = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    !headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain)
        || !transfer.next().is_none_or(is_chunked)
        || transfer.next().is_some()
}

impl HeldBody {
    /// A body of the router's own.
    pub fn whole(text: String) -> Self {
        Self { chunks: Chunks::from(Bytes::from(text)), rest: None, _room: None }
    }

    /// Whether all of it is here, so that it can be sent again.
    pub const fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// What is left to send, where that is known.
    pub fn length(&self) -> Option<u64> {
        match &self.rest {
            None => Some(self.chunks.len()),
            Some(rest) => rest.left().map(|rest| rest + self.chunks.len()),
        }
    }

    /// What is here of it, as one.
    pub fn concatenated(&self) -> Bytes {
        self.chunks.clone().concatenated()
    }

    /// Why the client has not sent the rest.
    pub fn rest_fault(&self) -> Option<BodyRefused> {
        self.rest.as_ref().and_then(SharedRest::fault)
    }

    /// With members of its top level removed and set. For a whole one.
    pub fn edited(self, strip: &[String], set: &Map<String, Value>) -> Self {
        match edited(self.chunks.iter(), strip, set) {
            Some(parts) => Self { chunks: self.chunks.changed(parts), ..self },
            None => self,
        }
    }
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = RestFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RestFailed>>> {
        match (self.chunks.pop(), &self.rest) {
            (Some(chunk), _) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            (None, None) => Poll::Ready(None),
            (None, Some(rest)) => rest.poll(context).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.len() == 0 && self.rest.as_ref().is_none_or(SharedRest::is_over)
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests;
