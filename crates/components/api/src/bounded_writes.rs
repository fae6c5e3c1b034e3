//! A connection whose writes fail when its peer takes nothing for [`WRITE_TIMEOUT`].
//!
//! The kernel takes what is written until its buffers are full. From then on a peer that never reads would keep its connection, and
//! the place that it has, for ever.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Longest time in which a peer must take at least one byte of what it asked for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The connection, and the timer of a write that waits.
#[derive(Debug)]
pub(crate) struct BoundedWrites<S> {
    stream: S,
    /// Runs only while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> BoundedWrites<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, stalled: None }
    }

    fn poll_bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), context);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT))).as_mut().poll(context));
        let nothing = format!("the peer took nothing for {WRITE_TIMEOUT:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, nothing)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundedWrites<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundedWrites<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_bounded(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_bounded(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_ends_the_write() {
        let (ours, _peer) = duplex(8);
        let error = BoundedWrites::new(ours).write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_gets_everything() {
        let (ours, mut peer) = duplex(8);
        let reading = tokio::spawn(async move {
            let mut bytes = Vec::new();
            while bytes.len() < 64 {
                sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
                bytes.push(peer.read_u8().await.expect("more comes"));
            }
            bytes.len()
        });
        BoundedWrites::new(ours).write_all(&[0; 64]).await.expect("it reads");
        assert_eq!(reading.await.expect("no panic"), 64);
    }
}
