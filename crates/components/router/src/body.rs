//! Request bodies: read whole, with a limit and a deadline, and looked through for the model while they come.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use llama_warden_body_scan::{Scanner, edited, multipart};
use llama_warden_config::JsonObject;
use llama_warden_traffic::{Counted, RouterTraffic};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::answers::{Fault, RouteFaultCode};

/// Longest pause of a client that sends a body.
const PAUSE: Duration = Duration::from_secs(30);

/// Longest wait for room in the memory of all bodies.
const ROOM: Duration = Duration::from_secs(10);

/// The unit in which memory of bodies is counted.
const UNIT: u64 = 4096;

/// What is reserved at a time for a body of unknown length.
const STEP: u64 = 1 << 20;

/// The limits of bodies.
#[derive(Debug, Clone)]
pub(crate) struct BodyLimits {
    most: u64,
    memory: Arc<Semaphore>,
    traffic: Arc<RouterTraffic>,
}

/// Room that a body takes.
#[derive(Debug)]
struct BodyRoom {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

impl BodyLimits {
    pub(crate) fn new(most: u64, memory: u64, traffic: Arc<RouterTraffic>) -> Self {
        let units = usize::try_from(memory / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { most, memory: Arc::new(Semaphore::new(units)), traffic }
    }

    async fn reserve(&self, bytes: u64) -> Result<BodyRoom, Fault> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        match timeout(ROOM, self.memory.clone().acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(BodyRoom { _permit: permit, _counted: self.traffic.hold_body(bytes) }),
            _ => Err(Fault::new(RouteFaultCode::Overloaded, "the memory for bodies of requests is taken: try again")
                .retry_after(5)),
        }
    }
}

/// A whole body, as its chunks came.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldBody {
    chunks: VecDeque<Bytes>,
    length: u64,
    /// The room that it takes, given back with the last copy.
    _room: Option<Arc<Vec<BodyRoom>>>,
}

/// What a body says about where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BodyFacts {
    pub(crate) model: Option<String>,
    pub(crate) is_json: bool,
}

impl HeldBody {
    /// Reads a body to its end and finds the model in it.
    pub(crate) async fn read(
        mut body: Incoming,
        headers: &HeaderMap,
        limits: &BodyLimits,
    ) -> Result<(Self, BodyFacts), Fault> {
        let too_large =
            || Fault::new(RouteFaultCode::BodyTooLarge, format!("the body is longer than {} bytes", limits.most));
        let announced = body.size_hint().exact();
        if announced.is_some_and(|length| length > limits.most) {
            return Err(too_large());
        }
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let message = "the body is compressed, and neither the router nor llama-server reads it: send it plain";
            return Err(Fault::new(RouteFaultCode::UnsupportedEncoding, message));
        }
        let mut room = Vec::new();
        let mut reserved = announced.unwrap_or(0);
        if reserved > 0 {
            room.push(limits.reserve(reserved).await?);
        }
        let boundary = multipart::boundary(headers);
        let (mut held, mut scanner) = (Self::default(), Scanner::default());
        loop {
            let frame = match timeout(PAUSE, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(Fault::new(RouteFaultCode::BadBody, format!("the body ended early: {error}")));
                }
                Err(_) => {
                    return Err(Fault::new(
                        RouteFaultCode::BodyTooSlow,
                        format!("no byte of the body came within {PAUSE:?}"),
                    ));
                }
            };
            let Ok(chunk) = frame.into_data() else { continue };
            held.length += chunk.len() as u64;
            if held.length > limits.most {
                return Err(too_large());
            }
            while held.length > reserved {
                room.push(limits.reserve(STEP).await?);
                reserved += STEP;
            }
            if boundary.is_none() {
                scanner.feed(&chunk);
            }
            held.chunks.push_back(chunk);
        }
        held._room = Some(Arc::new(room));
        let facts = match boundary {
            Some(boundary) => {
                BodyFacts { model: multipart::field(&held.concatenated(), &boundary, "model"), is_json: false }
            }
            None => BodyFacts { model: scanner.model(), is_json: scanner.is_object() },
        };
        Ok((held, facts))
    }

    /// A body of the router's own.
    pub(crate) fn whole(text: String) -> Self {
        Self { length: text.len() as u64, chunks: VecDeque::from([text.into()]), _room: None }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn concatenated(&self) -> Bytes {
        if let [only] = self.chunks.as_slices().0 {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(usize::try_from(self.length).unwrap_or_default());
        self.chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
        whole.freeze()
    }

    /// With members of its top level removed and set.
    pub(crate) fn edited(self, strip: &[String], set: &JsonObject) -> Self {
        let body = edited(&self.concatenated(), strip, set);
        Self { length: body.len() as u64, chunks: VecDeque::from([body]), _room: self._room }
    }
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.pop_front();
        if let Some(chunk) = &chunk {
            self.length -= chunk.len() as u64;
        }
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
