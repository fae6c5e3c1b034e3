//! The body of an answer: the router's own text, or llama-server's bytes as they come.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame, SizeHint};
use llama_warden_held_body::HeldBody;
use llama_warden_server_link::{LinkBroken, SendError};
use llama_warden_upstream::{PooledLink, Upstream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use super::early_body::EarlyBody;
use super::head::is_event_stream;
use crate::shared::Permit;

/// Answers of a known length up to this one are whole before the client gets their head.
const LONGEST_AWAITED: u64 = 64 << 10;

/// Bytes for the client.
#[derive(Debug)]
pub(crate) struct AnswerBody(Content);

/// An answer to a client.
pub(crate) type RouterAnswer = Response<AnswerBody>;

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    /// The router's own events, as they come.
    Told(mpsc::Receiver<Bytes>),
    Relayed(Box<RelayedBody>),
    Early(Box<EarlyBody<AnswerBody>>),
}

/// The answer ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutShort {
    #[error("llama-server ended the answer early: {0}")]
    Lost(#[source] LinkBroken),
    #[error("the answer took longer than a request may")]
    TooLong,
}

/// The events that tell the client of a stream that it ended early, and why.
pub(crate) type StreamFault = Box<dyn FnOnce(&CutShort) -> Bytes + Send>;

/// Makes them for an answer that is a stream.
pub(crate) type StreamFaults<'a> = dyn Fn() -> StreamFault + Sync + 'a;

struct RelayedBody {
    /// Until the answer is read to its end, or has broken off.
    link: Option<PooledLink>,
    /// The body has a known length.
    is_sized: bool,
    upstream: Arc<Upstream>,
    /// Made where the answer is a stream of events; taken by its early end.
    fault: Option<StreamFault>,
    /// The early end was told.
    is_over: bool,
    /// What came while the request could still be sent again.
    first: VecDeque<Frame<Bytes>>,
    /// When the answer has to be at its end.
    until: Option<Pin<Box<Sleep>>>,
    /// llama-server goes on without the client: the stream can be resumed.
    goes_on: bool,
    /// The place at the gate, where it has one, given back when the body is dropped.
    permit: Option<Permit>,
}

impl std::fmt::Debug for RelayedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayedBody").field("upstream", &self.upstream.server).finish_non_exhaustive()
    }
}

impl AnswerBody {
    pub(crate) fn whole(text: impl Into<Bytes>) -> Self {
        Self(Content::Whole(Some(text.into())))
    }

    pub(crate) const fn empty() -> Self {
        Self(Content::Whole(None))
    }

    pub(crate) const fn told(events: mpsc::Receiver<Bytes>) -> Self {
        Self(Content::Told(events))
    }

    /// A stream whose head goes out before its request has an answer.
    pub(crate) fn early(body: EarlyBody<Self>) -> Self {
        Self(Content::Early(Box::new(body)))
    }

    fn relayed(
        answer: Response<()>,
        link: PooledLink,
        upstream: Arc<Upstream>,
        place: Option<(Permit, &StreamFaults<'_>)>,
    ) -> Response<Self> {
        let (permit, faults) = place.unzip();
        let fault = faults.filter(|_| is_event_stream(answer.headers())).map(|faults| faults());
        let is_sized = link.link.left().is_some();
        let mut relayed = RelayedBody {
            link: Some(link),
            is_sized,
            upstream,
            fault,
            is_over: false,
            first: VecDeque::new(),
            until: None,
            goes_on: false,
            permit,
        };
        relayed.keep_at_end();
        answer.map(|()| Self(Content::Relayed(Box::new(relayed))))
    }

    /// Sends a request to a launch; its answer has the body that goes on to read. `place` is that at the gate, which is given back where
    /// no answer comes; the router's own questions have none.
    pub(crate) async fn relay(
        upstream: Arc<Upstream>,
        (method, target): (&http::Method, &str),
        headers: &HeaderMap,
        body: &HeldBody,
        place: Option<(Permit, &StreamFaults<'_>)>,
    ) -> Result<Response<Self>, (SendError, Option<Permit>)> {
        match upstream.send((method, target), headers, body).await {
            Ok((answer, link)) => {
                let can_resume = headers.contains_key("x-conversation-id") && is_event_stream(answer.headers());
                let mut answer = Self::relayed(answer, link, upstream.clone(), place);
                if let Content::Relayed(relayed) = &mut answer.body_mut().0 {
                    relayed.goes_on = can_resume;
                }
                Ok(answer)
            }
            Err(error) => Err((error, place.map(|(permit, _)| permit))),
        }
    }

    /// Ends the answer at this time, whatever is left of it.
    pub(crate) fn end_at(&mut self, time: Instant) {
        if let Content::Relayed(relayed) = &mut self.0 {
            relayed.until = Some(Box::pin(sleep_until(time)));
        }
    }

    /// Waits for the first bytes, until which the request can be sent again elsewhere: llama-server sends the head of a stream long
    /// before it has anything to say. A short answer that is no stream is waited for to its end: it comes at once, and one that is cut
    /// could not be told from a whole one by a client that does not count.
    pub(crate) async fn begin(&mut self) -> Result<(), (SendError, Option<Permit>)> {
        let Content::Relayed(relayed) = &mut self.0 else { return Ok(()) };
        let is_short = relayed.left().is_some_and(|length| length <= LONGEST_AWAITED);
        while relayed.link.is_some() {
            match poll_fn(|context| relayed.poll_server(context)).await {
                Some(Ok(frame)) => relayed.first.push_back(frame),
                Some(Err(error)) => return Err((SendError::Lost(error), relayed.permit.take())),
                None => break,
            }
            if !is_short {
                break;
            }
        }
        if let Some(permit) = &mut relayed.permit {
            permit.answer_began();
        }
        Ok(())
    }
}

impl RelayedBody {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        if let Some(first) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.until.as_mut().is_some_and(|until| until.as_mut().poll(context).is_ready()) {
            self.link = None;
            return Poll::Ready(Some(self.cut_short(CutShort::TooLong)));
        }
        Poll::Ready(match ready!(self.poll_server(context)) {
            Some(Err(error)) => Some(self.cut_short(CutShort::Lost(error))),
            Some(Ok(frame)) => Some(Ok(frame)),
            None => None,
        })
    }

    fn cut_short(&mut self, why: CutShort) -> Result<Frame<Bytes>, CutShort> {
        // A client takes an end without an error for success.
        self.is_over = true;
        match self.fault.take() {
            Some(fault) => Ok(Frame::data(fault(&why))),
            None => Err(why),
        }
    }

    /// What llama-server sends.
    fn poll_server(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LinkBroken>>> {
        let Some(link) = &mut self.link else { return Poll::Ready(None) };
        let frame = ready!(link.link.poll_frame(context));
        match &frame {
            Some(Err(_)) => self.link = None,
            Some(Ok(_)) | None => self.keep_at_end(),
        }
        Poll::Ready(frame)
    }

    /// Gives the connection back as soon as the answer is read. Any other is dropped with this body: the client has left.
    fn keep_at_end(&mut self) {
        if let Some(link) = self.link.take_if(|link| link.link.is_at_end()) {
            self.is_over = true;
            self.upstream.keep(link);
        }
    }

    /// How much is to come, where that is known.
    fn left(&self) -> Option<u64> {
        self.is_sized.then(|| self.link.as_ref().and_then(|link| link.link.left()).unwrap_or_default())
    }
}

impl RelayedBody {
    /// Reads the rest for nobody, so that the request stays in flight as long as its server works on it.
    async fn discard(mut self: Box<Self>) {
        let _detached = self.upstream.traffic.server(&self.upstream.server).detach();
        while let Some(Ok(_)) = poll_fn(|context| self.poll(context)).await {}
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let goes_on = match &self.0 {
            Content::Relayed(relayed) => relayed.goes_on && relayed.link.is_some(),
            Content::Whole(_) | Content::Told(_) | Content::Early(_) => false,
        };
        if !goes_on {
            return;
        }
        // No runtime: the daemon has ended.
        let runtime = tokio::runtime::Handle::try_current();
        if let (Content::Relayed(relayed), Ok(runtime)) =
            (std::mem::replace(&mut self.0, Content::Whole(None)), runtime)
        {
            runtime.spawn(relayed.discard());
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match &mut self.0 {
            Content::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Content::Told(events) => events.poll_recv(context).map(|text| text.map(|text| Ok(Frame::data(text)))),
            Content::Relayed(relayed) => relayed.poll(context),
            Content::Early(early) => early.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(text) => text.is_none(),
            Content::Told(_) => false,
            Content::Early(early) => early.is_over(),
            Content::Relayed(relayed) => relayed.first.is_empty() && relayed.is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Content::Told(_) => SizeHint::default(),
            Content::Early(_) => SizeHint::default(),
            Content::Relayed(relayed) => {
                let first: usize = relayed.first.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
                relayed.left().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + first as u64))
            }
        }
    }
}
