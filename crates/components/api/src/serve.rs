//! The loop around hyper: accept, serve, end in order.
//!
//! Bounds: [`CONNECTIONS`] at a time per entrance, [`HEAD_TIMEOUT`] for the head of a request (also the longest pause
//! between two), [`DRAIN`] for requests in flight at the end. A connection that is stuck holds up only itself.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::http_security::Transport;
use crate::listen::{PeerPolicy, SocketPath};

/// Connections at a time per entrance. Further ones wait in the kernel's queue.
const CONNECTIONS: usize = 512;

/// Longest time from the end of one request (or the connection) to the end of the next one's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest head, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// Longest time for requests in flight once the end has come.
const DRAIN: Duration = Duration::from_secs(1);

/// Longest time that a closed connection is kept to let its answer arrive.
const LINGER: Duration = Duration::from_millis(500);

/// Pause after the process ran out of file descriptors: only time can tell when there are some again.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A way in.
pub(crate) trait ConnectionListener: Send {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    const TRANSPORT: Transport;

    /// The next connection. Safe to cancel.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl ConnectionListener for TcpListener {
    type Stream = TcpStream;

    const TRANSPORT: Transport = Transport::Tcp;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        // Events are small and should not wait for company.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The control socket. Its place in the file system is given up together with it.
pub(crate) struct ControlListener {
    pub(crate) listener: UnixListener,
    pub(crate) peers: PeerPolicy,
    pub(crate) _place: SocketPath,
}

impl ConnectionListener for ControlListener {
    type Stream = UnixStream;

    const TRANSPORT: Transport = Transport::Unix;

    async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if self.peers.admits(peer) {
                return Ok(stream);
            }
            tracing::warn!(peer, "a connection of another user to the control socket was closed");
        }
    }
}

/// Serves an entrance until `cancel`; returns when its last connection is over.
pub(crate) async fn serve<E: ConnectionListener>(entrance: E, router: Router, cancel: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, entrance.accept().await)
        };
        tokio::select! {
            () = cancel.cancelled() => break,
            (slot, accepted) = next => match accepted {
                Ok(stream) => {
                    let serving = serve_connection(stream, E::TRANSPORT, router.clone(), cancel.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(slot);
                    });
                }
                Err(error) if is_of_the_connection(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::select! {
                        () = cancel.cancelled() => break,
                        () = tokio::time::sleep(EXHAUSTED_PAUSE) => {}
                    }
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the task of a connection failed");
                }
            }
        }
    }
    drop(entrance);
    let ended = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::debug!(connections = connections.len(), "connections dropped at the end");
        connections.shutdown().await;
    }
}

/// Whether `accept` failed for the one connection only (accept(2), "Error handling").
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected | InvalidInput)
}

async fn serve_connection<S>(stream: S, transport: Transport, router: Router, cancel: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(transport);
        Box::pin(router.clone().oneshot(request))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
        () = cancel.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    let too_slow = ended.as_ref().is_err_and(hyper::Error::is_timeout) && !parts.read_buf.is_empty();
    if too_slow {
        let _ = timeout(LINGER, stream.write_all(TOO_SLOW)).await;
    }
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
    // At the end of the daemon nothing is waited for that no request waits for.
    if !cancel.is_cancelled() {
        linger(stream).await;
    }
}

/// The answer to a head that does not end. Its sender is told once and need not be able to read it.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Closes our side and drops what still arrives for a moment: a socket that is closed with unread bytes is reset, and
/// the reset can overtake the answer that says why.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let close = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether the peer closed, failed or went on: the connection is over either way.
    let _ = timeout(LINGER, close).await;
}
