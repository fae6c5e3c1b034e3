//! Reads the output of a child to its end, for ever: a server whose pipe is full stops answering (measured).
//!
//! One task reads both pipes of a child. It waits for them and for the one order to give up; nothing that it hands lines to
//! can make it wait. Polled by hand, since it lives for months: between two reads it keeps nothing but its fields.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use llama_warden_events::StreamName;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::lines::{LineSplitter, Redactor};

/// As much as a pipe holds by default.
const BUFFER: usize = 64 * 1024;

/// Reads in a row, of both pipes together, after which everybody else gets a turn: half a megabyte, some 2 ms of work.
const READS_IN_A_ROW: usize = 8;

thread_local! {
    /// Bytes on their way from a pipe into lines. One per thread and not per pipe: nothing stays in it, and a server that
    /// says nothing costs no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Both pipes of a child, of which every line is handed on, secrets replaced.
pub(crate) struct ServerOutput<L> {
    pipes: [OutputPipe<L>; 2],
    redactor: Redactor,
}

/// One pipe, on its way into lines.
pub(crate) struct OutputPipe<L> {
    stream: StreamName,
    /// None once it is read to its end.
    receiver: Option<Receiver>,
    splitter: LineSplitter,
    on_line: L,
}

/// The order to give up, which is given by dropping it.
pub(crate) type ReadCancel = oneshot::Sender<Infallible>;

/// The end at which that order arrives.
pub(crate) type ReadCancelled = oneshot::Receiver<Infallible>;

/// Why a poll of the output returns.
enum Pause {
    /// Both pipes are at their end.
    Ended,
    /// Everybody else gets a turn.
    Turn,
}

impl<L: FnMut(&[u8])> ServerOutput<L> {
    pub(crate) fn new(pipes: [OutputPipe<L>; 2], redactor: Redactor) -> Self {
        Self { pipes, redactor }
    }

    /// Reads both pipes to their end, or until it is given up.
    #[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice, and this one lives for months")]
    pub(crate) fn read(mut self, mut given_up: ReadCancelled) -> impl Future<Output = ()> {
        async move {
            while let Pause::Turn = poll_fn(|context| self.poll(&mut given_up, context)).await {
                // Unlike a wake of our own, this lets the runtime hear of other pipes and connections too.
                yield_now().await;
            }
        }
    }

    fn poll(&mut self, given_up: &mut ReadCancelled, context: &mut Context<'_>) -> Poll<Pause> {
        if Pin::new(given_up).poll(context).is_ready() {
            self.pipes.iter_mut().for_each(|pipe| pipe.read_rest(&self.redactor));
            return Poll::Ready(Pause::Ended);
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
        Poll::Ready(Pause::Turn)
    }
}

impl<L: FnMut(&[u8])> OutputPipe<L> {
    /// A pipe that cannot be read counts as ended.
    pub(crate) fn new(stream: StreamName, pipe: OwnedFd, on_line: L) -> Self {
        let receiver = Receiver::from_owned_fd(pipe).inspect_err(|error| warn_unreadable(stream, error)).ok();
        Self { stream, receiver, splitter: LineSplitter::default(), on_line }
    }

    /// A panic of whoever takes the lines ends this pipe and not the other one.
    fn poll_guarded(&mut self, redactor: &Redactor, context: &mut Context<'_>) -> Poll<()> {
        let read = catch_unwind(AssertUnwindSafe(|| self.poll_read(redactor, context)));
        read.unwrap_or_else(|_| {
            self.receiver = None;
            Poll::Ready(())
        })
    }

    /// Reads once; pending where there is nothing to read, or never will be.
    fn poll_read(&mut self, redactor: &Redactor, context: &mut Context<'_>) -> Poll<()> {
        let Some(receiver) = &mut self.receiver else { return Poll::Pending };
        let (splitter, on_line) = (&mut self.splitter, &mut self.on_line);
        let read = SCRATCH.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            let read = Pin::new(receiver).poll_read(context, &mut buffer);
            splitter.feed(buffer.filled(), |line| on_line(&redactor.redact(line)));
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

    /// What a pipe holds is still read once when it is given up: somebody who escaped may go on filling it, and the runtime
    /// may not have heard yet that there is something, so it is asked of the kernel.
    fn read_rest(&mut self, redactor: &Redactor) {
        let Some(receiver) = &self.receiver else { return };
        let (splitter, on_line) = (&mut self.splitter, &mut self.on_line);
        SCRATCH.with_borrow_mut(|buffer| {
            // An error is that it is empty, or that there is nothing to be had.
            let read = nix::unistd::read(receiver, buffer).unwrap_or(0);
            splitter.feed(&buffer[..read], |line| on_line(&redactor.redact(line)));
        });
        self.finish(redactor);
    }

    fn finish(&mut self, redactor: &Redactor) {
        self.receiver = None;
        let on_line = &mut self.on_line;
        self.splitter.finish(|line| on_line(&redactor.redact(line)));
    }
}

fn warn_unreadable(stream: StreamName, error: &io::Error) {
    tracing::warn!(%stream, %error, "the output of a server cannot be read");
}

/// Reads `pipe` to its end, but no more than `limit` bytes; what follows is left in the pipe.
pub(crate) async fn read_bounded(pipe: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Receiver::from_owned_fd(pipe)?.take(limit).read_to_end(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Lines of both streams, as they were handed on.
    type Heard = Arc<Mutex<Vec<(StreamName, Vec<u8>)>>>;

    type Listener = Box<dyn FnMut(&[u8]) + Send>;

    /// An output whose lines are heard, with the other ends of its pipes: of standard error and of standard output.
    fn output(redactor: Redactor) -> (ServerOutput<Listener>, Heard, [PipeWriter; 2]) {
        let heard = Heard::default();
        let [(error, error_writer), (out, out_writer)] = StreamName::ALL.map(|stream| {
            let (reader, writer) = io::pipe().expect("pipe");
            let heard = Arc::clone(&heard);
            let on_line = move |line: &[u8]| {
                assert_ne!(line, b"panic");
                heard.lock().expect("whole").push((stream, line.to_vec()));
            };
            (OutputPipe::new(stream, reader.into(), Box::new(on_line) as Listener), writer)
        });
        (ServerOutput::new([error, out], redactor), heard, [error_writer, out_writer])
    }

    fn lines(heard: &Heard, stream: StreamName) -> Vec<Vec<u8>> {
        let heard = heard.lock().expect("whole");
        heard.iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.clone()).collect()
    }

    #[tokio::test]
    async fn reading_ends_when_it_is_given_up_and_what_was_written_by_then_is_kept() {
        let (output, heard, [mut error, _out]) = output(Redactor::new(["sk-12345"]));
        error.write_all(b"one\nkey sk-12345\nhalf").expect("fits");
        let (give_up, given_up) = oneshot::channel();
        drop(give_up);
        tokio::time::timeout(PATIENCE, output.read(given_up)).await.expect("ends");
        assert_eq!(lines(&heard, StreamName::Stderr), [&b"one"[..], b"key [redacted]", b"half"]);
        error.write_all(b"late").expect_err("nobody reads any more");
    }

    #[tokio::test]
    async fn each_stream_is_read_to_its_own_end() {
        let (output, heard, [mut error, mut out]) = output(Redactor::default());
        let (_give_up, given_up) = oneshot::channel();
        let reading = tokio::spawn(output.read(given_up));
        error.write_all(b"error\n").expect("fits");
        drop(error);
        yield_now().await;
        out.write_all(b"out\nlast").expect("fits");
        drop(out);
        tokio::time::timeout(PATIENCE, reading).await.expect("ends").expect("no panic");
        assert_eq!(lines(&heard, StreamName::Stderr), [b"error"]);
        assert_eq!(lines(&heard, StreamName::Stdout), [&b"out"[..], b"last"]);
    }

    #[tokio::test]
    async fn a_panic_over_a_line_ends_its_stream_and_not_the_other() {
        let (output, heard, [mut error, mut out]) = output(Redactor::default());
        let (_give_up, given_up) = oneshot::channel();
        error.write_all(b"one\npanic\ntwo\n").expect("fits");
        out.write_all(b"out\n").expect("fits");
        drop(out);
        tokio::time::timeout(PATIENCE, output.read(given_up)).await.expect("ends");
        assert_eq!(lines(&heard, StreamName::Stderr), [b"one"]);
        assert_eq!(lines(&heard, StreamName::Stdout), [b"out"]);
        error.write_all(b"late").expect_err("nobody reads it any more");
    }

    #[tokio::test]
    async fn a_flood_on_both_streams_lets_everybody_else_have_a_turn_after_half_a_megabyte() {
        const LINE: [u8; 1024] = [b'\n'; 1024];
        let read = Arc::new(AtomicUsize::new(0));
        let (pipes, floods) = StreamName::ALL
            .map(|stream| {
                let (reader, mut writer) = io::pipe().expect("pipe");
                let flood = move || (0..16 * 1024).try_for_each(|_| writer.write_all(&LINE)).expect("is read");
                let read = Arc::clone(&read);
                let on_line = move |_: &[u8]| {
                    read.fetch_add(1, Ordering::Relaxed);
                };
                (OutputPipe::new(stream, reader.into(), on_line), std::thread::spawn(flood))
            })
            .into_iter()
            .collect::<(Vec<_>, Vec<_>)>();
        let Ok(pipes) = pipes.try_into() else { unreachable!("there are two streams") };
        let (_give_up, given_up) = oneshot::channel();
        let reading = tokio::spawn(ServerOutput::new(pipes, Redactor::default()).read(given_up));
        let (mut before, mut longest) = (0, 0);
        while !reading.is_finished() {
            yield_now().await;
            let now = read.load(Ordering::Relaxed);
            longest = longest.max(now - before);
            before = now;
        }
        floods.into_iter().for_each(|flood| flood.join().expect("no panic"));
        assert_eq!(before, 2 * 16 * 1024 * LINE.len());
        assert!(longest <= READS_IN_A_ROW * BUFFER, "{longest} bytes at once");
    }

    #[tokio::test]
    async fn no_more_than_the_bound_is_read() {
        let (reader, mut writer) = io::pipe().expect("pipe");
        writer.write_all(&[b'x'; 5000]).expect("fits");
        let text = read_bounded(reader.into(), 1000).await.expect("reads");
        assert_eq!(text.len(), 1000);
    }

    #[tokio::test]
    async fn what_is_no_pipe_is_an_error() {
        let file = std::fs::File::open("/dev/null").expect("opens");
        assert!(read_bounded(file.into(), 1).await.is_err());
    }
}
