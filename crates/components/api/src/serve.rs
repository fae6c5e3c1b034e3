//! The accept loop around hyper: accepts, serves, and shuts down in order.
//!
//! Limits: [`CONNECTIONS`] at a time per listener and [`KEPT_FOR_PROBES`] more for a single probe each, [`HEAD_TIMEOUT`] for the head of
//! a request (also the longest pause between two requests), [`DRAIN`] for requests in flight at shutdown, [`WRITE_TIMEOUT`] for a
//! write over TCP; on the control socket the daemon's own user may read as late as it likes. A new connection never waits: it takes the
//! place of one that says nothing. Each connection has a task, so a stuck one delays no other.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use llama_warden_api_types::ApiProblem;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::endpoints::is_probe;
use crate::http_security::{TcpEnds, Transport};
use crate::listen::{ControlSocket, admits};
use crate::places::{ConnectionPlace, ConnectionPlaces};
use crate::problem::ProblemResponse;

/// Connections at a time per listener; half as many as the process may have descriptors, if that is less.
const CONNECTIONS: usize = 512;

/// Connections at a time per listener beyond [`CONNECTIONS`], each for one probe. What watches the daemon would end it, and with it
/// every server, if followers that never read could keep it from an answer. An eighth of the descriptors, if that is less.
const KEPT_FOR_PROBES: usize = 64;

/// Longest time from the end of one request, or from the connection, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest head in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// Longest time for requests in flight at shutdown.
const DRAIN: Duration = Duration::from_secs(1);

/// Longest time that a connection is kept after its last answer, so that the answer arrives.
const LINGER: Duration = Duration::from_millis(500);

/// Longest time in which a peer takes nothing of what waits for it, in milliseconds. Then the kernel ends the connection and frees its
/// buffers, which hold up to 4 MB. Without it, peers that never read would keep their places for ever.
const WRITE_TIMEOUT: u32 = 30_000;

/// Pause after the process ran out of file descriptors. Nothing signals that one is free again.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A listener whose connections are served.
pub(crate) trait ConnectionListener: Send {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection. Safe to cancel.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Transport)>> + Send;
}

impl ConnectionListener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Transport)> {
        let (stream, peer) = Self::accept(self).await?;
        // Nagle's algorithm would delay small events until the client acknowledges earlier ones.
        stream.set_nodelay(true)?;
        if let Err(error) = set_tcp_user_timeout(&stream, WRITE_TIMEOUT) {
            // The places that are kept for probes hold without it.
            tracing::debug!(%error, "the kernel does not bound writes");
        }
        let ends = TcpEnds { local: stream.local_addr()?, peer };
        Ok((stream, Transport::Tcp(ends)))
    }
}

impl ConnectionListener for ControlSocket {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Transport)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if admits(self.user, peer) {
                return Ok((stream, Transport::Unix));
            }
            tracing::warn!(peer, "a connection of another user to the control socket was closed");
        }
    }
}

/// Serves a listener until `cancel`; returns when its last connection has ended.
pub(crate) async fn serve<L: ConnectionListener>(listener: L, router: Router, cancel: CancellationToken) {
    let descriptors = usize::try_from(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let places = ConnectionPlaces::new(CONNECTIONS.min(descriptors / 2));
    let kept_places = ConnectionPlaces::new(KEPT_FOR_PROBES.min(descriptors / 8));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, transport)) => {
                    let place = places.take().map(|place| (place, Serves::Everything));
                    // Each answer to a probe takes a moment, so that a place of theirs is busy for a moment only.
                    let Some((place, serves)) = place.or_else(|| Some((kept_places.take()?, Serves::OneProbe))) else {
                        tracing::debug!("a connection was closed: every place is busy");
                        continue;
                    };
                    let serving =
                        serve_connection(stream, transport, (place.clone(), serves), router.clone(), cancel.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            // First, so that a connection which has lost its place takes no request any more.
                            biased;
                            () = place.given_up() => {}
                            () = serving => {}
                        }
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

/// What a connection is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    Everything,
    /// One request, which has to be a probe.
    OneProbe,
}

async fn serve_connection<S>(
    stream: S,
    transport: Transport,
    (place, serves): (Arc<ConnectionPlace>, Serves),
    router: Router,
    cancel: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let asked = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(transport);
        let refused = serves == Serves::OneProbe && !is_probe(request.uri().path());
        let (router, answering) = (router.clone(), place.answer());
        Box::pin(async move {
            if refused {
                return Ok(too_many_connections());
            }
            // The body is dropped once all of it is handed to the connection. A peer that then takes nothing of it only waits.
            let hold = move |frame| {
                let _ = &answering;
                frame
            };
            router.oneshot(request).await.map(|answer| answer.map(|body| Body::new(body.map_frame(hold))))
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(serves == Serves::Everything)
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
    let timed_out = ended.as_ref().is_err_and(hyper::Error::is_timeout);
    let too_slow = timed_out && !parts.read_buf.is_empty();
    let said_nothing = timed_out && !too_slow && !asked.into_inner();
    if too_slow {
        let _ = timeout(LINGER, stream.write_all(TOO_SLOW)).await;
    }
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
    // At shutdown the daemon waits only for requests in flight. A peer that said nothing gets no answer that could be lost.
    if !cancel.is_cancelled() && !said_nothing {
        linger(stream).await;
    }
}

/// The answer where only a probe is served.
fn too_many_connections() -> Response {
    let detail = format!("{CONNECTIONS} connections are open, and only /livez and /readyz are answered beyond them");
    let problem =
        ApiProblem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", "too many connections", detail);
    ProblemResponse(problem.next_step("end clients that follow events or logs, or try again later")).into_response()
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

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::tcp_user_timeout;

    use super::*;

    /// Fault S27.
    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up_by_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let _peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (stream, _) = ConnectionListener::accept(&listener).await.expect("waits");
        assert_eq!(tcp_user_timeout(&stream).expect("readable"), WRITE_TIMEOUT);
    }
}
