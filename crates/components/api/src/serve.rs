//! The accept loop around hyper: accepts, serves, and shuts down in order.
//!
//! Limits: [`CONNECTIONS`] at a time per listener, [`HEAD_TIMEOUT`] for the head of a request (also the longest pause between
//! two requests), [`DRAIN`] for requests in flight at shutdown. Each connection has a task, so a stuck one delays no other.

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
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::http_security::Transport;
use crate::listen::{ControlSocket, admits};

/// Connections at a time per listener. Further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 512;

/// Longest time from the end of one request, or from the connection, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest head in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// Longest time for requests in flight at shutdown.
const DRAIN: Duration = Duration::from_secs(1);

/// Longest time that a connection is kept after its last answer, so that the answer arrives.
const LINGER: Duration = Duration::from_millis(500);

/// Pause after the process ran out of file descriptors. Nothing signals that one is free again.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A listener whose connections are served.
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
        // Nagle's algorithm would delay small events until the client acknowledges earlier ones.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl ConnectionListener for ControlSocket {
    type Stream = UnixStream;

    const TRANSPORT: Transport = Transport::Unix;

    async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if admits(self.user, peer) {
                return Ok(stream);
            }
            tracing::warn!(peer, "a connection of another user to the control socket was closed");
        }
    }
}

/// Serves a listener until `cancel`; returns when its last connection has ended.
pub(crate) async fn serve<L: ConnectionListener>(listener: L, router: Router, cancel: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        tokio::select! {
            () = cancel.cancelled() => break,
            (slot, accepted) = next => match accepted {
                Ok(stream) => {
                    let serving = serve_connection(stream, L::TRANSPORT, router.clone(), cancel.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(slot);
                    });
                }
                Err(error) if concerns_one_connection(&error) => {
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
    // Closes the socket now, so that clients are refused instead of waiting in the backlog while requests drain.
    drop(listener);
    let ended = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::debug!(connections = connections.len(), "connections dropped at the end");
        connections.shutdown().await;
    }
}

/// Whether `accept` failed for one connection only, so that the next call may succeed (accept(2), "Error handling").
fn concerns_one_connection(error: &io::Error) -> bool {
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
    // Without hyper's shutdown, which would close the socket before `linger` can keep it.
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
    // At shutdown the daemon waits only for requests in flight.
    if !cancel.is_cancelled() {
        linger(stream).await;
    }
}

/// The answer to a head that did not arrive in time. hyper closes such a connection without an answer.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Closes our side and drops what still arrives, for [`LINGER`] at most. The kernel resets a socket that is closed with
/// unread bytes, and the reset can overtake the answer.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let close = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Whatever the peer did, the connection ends here.
    let _ = timeout(LINGER, close).await;
}
