//! Reads the output of a child to its end, however long it lives: a server whose pipe is full stops answering (measured).
//!
//! One task reads both pipes of a child. It waits for them and for the order to stop, and for nothing else: the receivers of
//! lines cannot make it wait. Polled by hand, because the task lives for months: between two reads it keeps only its fields.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use llama_warden_bus::wall_time;
use llama_warden_events::{StreamName, Timestamp};
use llama_warden_support::{LineSplitter, Redactor};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// Size of the read buffer in bytes: the default capacity of a pipe.
const BUFFER: usize = 64 * 1024;

/// Reads in a row, of both pipes together, before other tasks get a turn: half a megabyte, some 2 ms of work.
const READS_IN_A_ROW: usize = 8;

thread_local! {
    /// The read buffer. One per thread instead of one per pipe, because it is empty between two polls: a silent server costs no
    /// buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Both pipes of a child. Each line is passed on with its secrets replaced.
pub(crate) struct ServerOutput<L> {
    pipes: [OutputPipe<L>; 2],
    redactor: Redactor,
}

/// One pipe, its line splitter and its receiver.
pub(crate) struct OutputPipe<L> {
    stream: StreamName,
    /// `None` once the pipe is read to its end.
    receiver: Option<Receiver>,
    splitter: LineSplitter,
    on_piece: L,
}

/// What a pipe gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputPiece<'a> {
    /// A line, secrets replaced, and when it was read.
    Line(Timestamp, &'a [u8]),
    /// Bytes that complete no line, from a progress bar for example.
    PartialLine,
    /// The lines so far are all that was there to read.
    Pause,
}

/// Stops the reading when it is dropped; leaves the rest to another reader when it is sent.
pub(crate) type ReadCancel = oneshot::Sender<()>;

/// Completes when its [`ReadCancel`] is dropped or sent.
pub(crate) type ReadCancelled = oneshot::Receiver<()>;

/// The line of each pipe that had not ended when its reading was left to another reader.
pub(crate) type UnreadOutput = [Vec<u8>; 2];

/// The reason for which a poll of the output returns.
enum Pause {
    /// Both pipes are read to their end.
    Ended,
    /// Another reader takes over.
    Left,
    /// It is the turn of other tasks.
    Yield,
}

impl<L: FnMut(OutputPiece<'_>)> ServerOutput<L> {
    pub(crate) fn new(pipes: [OutputPipe<L>; 2], redactor: Redactor) -> Self {
        Self { pipes, redactor }
    }

    /// Takes what was read from each pipe before, and by somebody else.
    pub(crate) fn begin_with(&mut self, missed: [&[u8]; 2]) {
        let now = wall_time();
        for (pipe, bytes) in self.pipes.iter_mut().zip(missed) {
            let (splitter, on_piece) = (&mut pipe.splitter, &mut pipe.on_piece);
            splitter.feed(bytes, |line| on_piece(OutputPiece::Line(now, &self.redactor.redact(line))));
        }
    }

    /// Reads both pipes to their end, or until `cancelled` completes.
    #[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice, and this one lives for months")]
    pub(crate) fn read(mut self, mut cancelled: ReadCancelled) -> impl Future<Output = UnreadOutput> {
        async move {
            loop {
                match poll_fn(|context| self.poll(&mut cancelled, context)).await {
                    // Waking ourselves would not do: yielding also lets the runtime poll other pipes and connections.
                    Pause::Yield => yield_now().await,
                    Pause::Ended => return UnreadOutput::default(),
                    Pause::Left => return self.pipes.map(|mut pipe| pipe.splitter.take_partial()),
                }
            }
        }
    }

    fn poll(&mut self, cancelled: &mut ReadCancelled, context: &mut Context<'_>) -> Poll<Pause> {
        match Pin::new(cancelled).poll(context) {
            Poll::Ready(Ok(())) => return Poll::Ready(Pause::Left),
            Poll::Ready(Err(_)) => {
                self.pipes.iter_mut().for_each(|pipe| pipe.read_rest(&self.redactor));
                return Poll::Ready(Pause::Ended);
            }
            Poll::Pending => {}
        }
        for _ in 0..READS_IN_A_ROW / self.pipes.len() {
            let mut has_read = false;
            for pipe in &mut self.pipes {
                has_read |= pipe.poll_guarded(&self.redactor, context).is_ready();
            }
            if self.pipes.iter().all(|pipe| pipe.receiver.is_none()) {
                return Poll::Ready(Pause::Ended);
            }
            if !has_read {
                return Poll::Pending;
            }
        }
        Poll::Ready(Pause::Yield)
    }
}

impl<L: FnMut(OutputPiece<'_>)> OutputPipe<L> {
    /// A pipe that cannot be read counts as read to its end.
    pub(crate) fn new(stream: StreamName, pipe: OwnedFd, on_piece: L) -> Self {
        let receiver = Receiver::from_owned_fd(pipe).inspect_err(|error| warn_unreadable(stream, error)).ok();
        Self { stream, receiver, splitter: LineSplitter::default(), on_piece }
    }

    /// Polls once. A panic of the receiver of lines ends this pipe, and not the other one.
    fn poll_guarded(&mut self, redactor: &Redactor, context: &mut Context<'_>) -> Poll<()> {
        let read = catch_unwind(AssertUnwindSafe(|| self.poll_read(redactor, context)));
        read.unwrap_or_else(|_| {
            self.receiver = None;
            Poll::Ready(())
        })
    }

    /// Reads once. Pending if there is nothing to read now, or the pipe is read to its end.
    fn poll_read(&mut self, redactor: &Redactor, context: &mut Context<'_>) -> Poll<()> {
        let Some(receiver) = &mut self.receiver else { return Poll::Pending };
        let (splitter, on_piece) = (&mut self.splitter, &mut self.on_piece);
        let read = SCRATCH.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            let read = Pin::new(receiver).poll_read(context, &mut buffer);
            let mut has_line = false;
            // Once for all lines of a read, which were there before it.
            let at = wall_time();
            splitter.feed(buffer.filled(), |line| {
                has_line = true;
                on_piece(OutputPiece::Line(at, &redactor.redact(line)));
            });
            if !buffer.filled().is_empty() {
                on_piece(if has_line { OutputPiece::Pause } else { OutputPiece::PartialLine });
            }
            read.map_ok(|()| buffer.filled().len())
        });
        match read {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => self.finish(redactor),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => {
                warn_unreadable(self.stream, &error);
                self.finish(redactor);
            }
        }
        Poll::Ready(())
    }

    /// Reads once what the pipe holds, when the reading is stopped. Once, because an escaped descendant may keep filling it; by a
    /// direct read, because the runtime may not have seen yet that there is something.
    fn read_rest(&mut self, redactor: &Redactor) {
        let Some(receiver) = &self.receiver else { return };
        let (splitter, on_piece) = (&mut self.splitter, &mut self.on_piece);
        SCRATCH.with_borrow_mut(|buffer| {
            // An error means that the pipe is empty or unreadable.
            let read = nix::unistd::read(receiver, buffer).unwrap_or(0);
            let at = wall_time();
            splitter.feed(&buffer[..read], |line| on_piece(OutputPiece::Line(at, &redactor.redact(line))));
        });
        self.finish(redactor);
    }

    fn finish(&mut self, redactor: &Redactor) {
        self.receiver = None;
        let on_piece = &mut self.on_piece;
        self.splitter.finish(|line| on_piece(OutputPiece::Line(wall_time(), &redactor.redact(line))));
    }
}

fn warn_unreadable(stream: StreamName, error: &io::Error) {
    tracing::warn!(%stream, %error, "the output of a server cannot be read");
}

/// Reads `pipe` to its end, but at most `limit` bytes; the rest stays in the pipe.
pub(crate) async fn read_bounded(pipe: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Receiver::from_owned_fd(pipe)?.take(limit).read_to_end(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
mod tests;
