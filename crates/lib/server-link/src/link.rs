//! The connection.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use hyper::body::Frame;
use llama_warden_held_body::{HeldBody, RestFailed};
use llama_warden_probe::ProbeAddress;

use crate::framing::{BodyStep, Framing, NotHttp};
use crate::head::{AnswerHead, take_head};
use crate::outgoing::Outgoing;
use crate::stream::ServerStream;

/// Room for a read at first: an event of a stream takes 200 to 400 bytes.
const SHORT_READ: usize = 4 << 10;

/// Room for a read of an answer that has filled its room each time.
const LONG_READ: usize = 64 << 10;

/// A request did not get to its answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection came about.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection was closed before the server has read the request, so that the request cannot be why.
    #[error("the connection was closed before the request was taken")]
    NotTaken,
    /// The server left HTTP, which nobody has asked for.
    #[error("the server switched to another protocol")]
    Switched,
    /// It ended after that.
    #[error("the connection ended: {0}")]
    Lost(#[from] LinkBroken),
}

/// A connection that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkBroken {
    /// The server has closed it before the end of its answer.
    #[error("it was closed before the answer was whole")]
    Closed,
    /// The kernel ended it.
    #[error(transparent)]
    Io(io::Error),
    /// What came is no answer.
    #[error(transparent)]
    NotHttp(#[from] NotHttp),
    /// The client does not send the rest of its request.
    #[error(transparent)]
    Rest(#[from] RestFailed),
}

/// A connection to a server, for one request after the other. Dropping it closes it.
#[derive(Debug)]
pub struct ServerLink {
    stream: ServerStream,
    outgoing: Outgoing,
    /// What came and is not passed on yet.
    came: BytesMut,
    /// Room for the next read.
    room: usize,
    /// What is left of the answer.
    framing: Framing,
    /// The latest answer allows another request.
    is_kept: bool,
    requests: u32,
}

impl ServerLink {
    /// Connects to a server.
    ///
    /// # Errors
    /// If nobody takes the connection.
    pub async fn connect(address: &ProbeAddress) -> Result<Self, SendError> {
        Ok(Self {
            stream: ServerStream::connect(address).await.map_err(SendError::Connect)?,
            outgoing: Outgoing::default(),
            came: BytesMut::new(),
            room: SHORT_READ,
            framing: Framing::EMPTY,
            is_kept: true,
            requests: 0,
        })
    }

    /// How many requests it was used for.
    pub const fn requests(&self) -> u32 {
        self.requests
    }

    /// Whether the answer to the latest request is read, so that another one can be sent.
    pub fn is_reusable(&self) -> bool {
        self.is_kept && self.framing.is_over() && self.came.is_empty() && self.outgoing.is_sent()
    }

    /// Whether the server has neither closed it nor said anything that nobody has asked for, as far as the runtime knows.
    pub fn is_silent(&self) -> bool {
        self.stream.is_silent()
    }

    /// Gives back the memory that only long answers need.
    pub fn shrink(&mut self) {
        if std::mem::replace(&mut self.room, SHORT_READ) > SHORT_READ {
            self.came = BytesMut::new();
        }
    }

    /// Sends a request, with the head that `write` writes, up to the empty line; and waits for the head of its answer. The head has to
    /// name the length of the body, or that it goes in chunks where that is not known.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        body: HeldBody,
        asks_for_head: bool,
    ) -> Result<Response<()>, SendError> {
        self.requests += 1;
        let is_whole = body.is_whole();
        self.outgoing.begin(write, body);
        match poll_fn(|context| self.poll_head(context, asks_for_head)).await {
            Err(SendError::Lost(lost)) if is_whole && self.was_unread(&lost) => Err(SendError::NotTaken),
            answered => answered,
        }
    }

    /// Whether a request that was lost was never read. Linux resets a connection where the process ends, or closes it, before it has read
    /// all that came (`tcp_close`), and where something comes after that; what ends after the last byte is read ends without (`FIN`).
    fn was_unread(&self, lost: &LinkBroken) -> bool {
        self.came.is_empty()
            && match lost {
                LinkBroken::Closed => self.stream.was_reset(),
                LinkBroken::Io(error) => error.kind() == io::ErrorKind::ConnectionReset,
                LinkBroken::NotHttp(_) | LinkBroken::Rest(_) => false,
            }
    }

    fn poll_head(&mut self, context: &mut Context<'_>, asks_for_head: bool) -> Poll<Result<Response<()>, SendError>> {
        self.outgoing.poll(&mut self.stream, context).map_err(LinkBroken::from)?;
        if self.outgoing.is_refused() {
            return Poll::Ready(Err(SendError::NotTaken));
        }
        loop {
            if let Some(head) = take_head(&mut self.came, asks_for_head).map_err(LinkBroken::from)? {
                let AnswerHead { answer, framing, keeps_connection } = head;
                (self.framing, self.is_kept) = (framing, keeps_connection);
                let has_switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
                return Poll::Ready(if has_switched { Err(SendError::Switched) } else { Ok(answer) });
            }
            if ready!(self.poll_read(context))? == 0 {
                return Poll::Ready(Err(LinkBroken::Closed.into()));
            }
        }
    }

    /// Whether the answer is read to its end.
    pub fn is_at_end(&self) -> bool {
        self.framing.is_over()
    }

    /// How much of the answer's body is left, where that is known.
    pub const fn left(&self) -> Option<u64> {
        self.framing.left()
    }

    /// The next part of the answer's body. After an error, nothing more comes.
    ///
    /// # Errors
    /// If it is not whole.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LinkBroken>>> {
        loop {
            match self.framing.step(&mut self.came)? {
                BodyStep::Bytes(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                BodyStep::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                BodyStep::End => return Poll::Ready(None),
                BodyStep::Partial => {}
            }
            // It may have answered before it has read all.
            self.outgoing.poll(&mut self.stream, context)?;
            if ready!(self.poll_read(context))? == 0 {
                if self.framing == Framing::ToEnd {
                    self.framing = Framing::EMPTY;
                    return Poll::Ready(None);
                }
                return Poll::Ready(Some(Err(LinkBroken::Closed)));
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, LinkBroken>> {
        // Where nothing of the buffer is in use any more, this takes it from its beginning again.
        self.came.reserve(self.room);
        let room = self.came.capacity() - self.came.len();
        let read = ready!(self.stream.poll_read(context, &mut self.came)).map_err(LinkBroken::Io)?;
        self.room = if read == room { (self.room * 2).min(LONG_READ) } else { self.room };
        Poll::Ready(Ok(read))
    }
}

#[cfg(test)]
mod tests;
