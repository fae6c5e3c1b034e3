//! Reads the output of a child to its end, for ever: a server whose pipe is full stops answering (measured).
//!
//! A reader waits for its pipe and for the one order to give up; nothing that it hands lines to can make it wait.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use crate::lines::{LineSplitter, Redactor};

/// As much as a pipe holds by default.
const BUFFER: usize = 64 * 1024;

/// Reads in a row after which everybody else gets a turn: half a megabyte, some 2 ms of work.
const READS_IN_A_ROW: u32 = 8;

thread_local! {
    /// Bytes on their way from a pipe into lines. One per thread and not per pipe: nothing stays in it, and a server that
    /// says nothing costs no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Reads `pipe` to its end, or until `give_up`, and hands every line to `on_line`, secrets replaced.
///
/// # Errors
/// If the descriptor is no pipe, or cannot be read.
pub(crate) async fn read_lines(
    pipe: OwnedFd,
    redactor: &Redactor,
    give_up: &CancellationToken,
    mut on_line: impl FnMut(&[u8]),
) -> io::Result<()> {
    let receiver = Receiver::from_owned_fd(pipe)?;
    let mut splitter = LineSplitter::default();
    let mut on_line = |line: &[u8]| on_line(&redactor.redact(line));
    let mut reads = 0;
    let ended = loop {
        // Waiting for a pipe that is never empty does not count against the task's budget: without this, a server that
        // floods would keep the thread from everybody else.
        reads = (reads + 1) % READS_IN_A_ROW;
        if reads == 0 {
            yield_now().await;
        }
        let given_up = tokio::select! {
            ready = receiver.readable() => match ready {
                Ok(()) => false,
                Err(error) => break Err(error),
            },
            () = give_up.cancelled() => true,
        };
        let read = SCRATCH.with_borrow_mut(|buffer| {
            // What the pipe holds is still read once when it is given up: somebody who escaped may go on filling it, and
            // the runtime may not have heard yet that there is something, so it is asked of the kernel.
            let read = if given_up { nix::unistd::read(&receiver, buffer)? } else { receiver.try_read(buffer)? };
            splitter.feed(&buffer[..read], &mut on_line);
            Ok::<_, io::Error>(read)
        });
        match read {
            _ if given_up => break Ok(()),
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => break Err(error),
        }
    };
    splitter.finish(&mut on_line);
    ended
}

/// Reads `pipe` to its end, but no more than `limit` bytes; what follows is left in the pipe.
pub(crate) async fn read_bounded(pipe: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Receiver::from_owned_fd(pipe)?.take(limit).read_to_end(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn reading_ends_when_it_is_given_up_and_what_was_written_by_then_is_kept() {
        let (reader, mut writer) = io::pipe().expect("pipe");
        writer.write_all(b"one\nkey sk-12345\nhalf").expect("fits");
        let give_up = CancellationToken::new();
        give_up.cancel();
        let mut lines = Vec::new();
        let redactor = Redactor::new(["sk-12345"]);
        let reading = read_lines(reader.into(), &redactor, &give_up, |line| lines.push(line.to_vec()));
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("ends").expect("reads");
        assert_eq!(lines, [&b"one"[..], b"key [redacted]", b"half"]);
        writer.write_all(b"late").expect_err("nobody reads any more");
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
