//! The accept loop around hyper: accepts, serves, and shuts down in order.
//!
//! [`ServeLimits`] bound the number of connections per listener, the time of a head (also the longest pause between two requests),
//! and the time that requests in flight get at shutdown; [`WRITE_TIMEOUT`] bounds a write over TCP. On a unix socket the daemon's own
//! user may read as late as it likes. A new connection never waits: it takes the place of one that says nothing. Each connection has
//! a task, so a stuck one delays no other.

use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::listen::{ControlSocket, admits};
use crate::places::{Answering, ConnectionPlace, ConnectionPlaces};
use crate::refused_head::{HeadFault, RefusedLine, WatchedStream, written};
use crate::request_body::RequestBody;

/// The limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Connections at a time; half as many as the process may have descriptors, if that is less.
    pub connections: usize,
    /// Connections at a time beyond those, each for one probe. What watches the daemon would end it if clients that never read could
    /// keep it from an answer. An eighth of the descriptors, if that is less.
    pub kept_for_probes: usize,
    /// Longest time from the end of one request, or from the connection, to the end of the next request's head.
    pub head_timeout: Duration,
    /// Longest time for requests in flight at shutdown.
    pub drain: Duration,
}

/// What answers the requests of a listener. Cloned for each connection.
pub trait HttpService: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static;

    /// Answers a request. Dropped when the client leaves before the answer begins.
    fn answer(
        &self,
        request: Request<RequestBody>,
        transport: Transport,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Called once for each connection, at its beginning. What it returns is dropped when the connection has ended.
    fn connected(&self) -> Option<Box<dyn Any + Send>> {
        None
    }

    /// Whether the path is one that is also answered beyond the limit of connections.
    fn is_probe(&self, path: &str) -> bool;

    /// The answer to everything else there.
    fn too_many_connections(&self, limit: usize) -> Response<Self::Body>;

    /// The answer to a head that cannot be read.
    fn refused_head(&self, fault: HeadFault, line: &RefusedLine) -> Response<Self::Body>;
}

/// How the connection of a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP, which any process that can reach the address may use.
    Tcp(TcpEnds),
    /// A unix socket, where the kernel reports the user of the peer.
    Unix,
}

/// The addresses of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpEnds {
    /// Our own.
    pub local: SocketAddr,
    /// The client's.
    pub peer: SocketAddr,
}

impl Transport {
    /// The address under which another machine reached us; `None` if this machine asks.
    pub fn reached_from_afar(self) -> Option<IpAddr> {
        let Self::Tcp(TcpEnds { local, peer }) = self else { return None };
        let [local, peer] = [local, peer].map(|end| end.ip().to_canonical());
        (!peer.is_loopback() && peer != local).then_some(local)
    }
}

/// The body of an answer, which keeps the place of its connection until all of it is handed to the connection. A peer that then
/// takes nothing of it only waits.
#[derive(Debug)]
pub struct AnsweredBody<B> {
    body: B,
    _answering: Answering,
}

impl<B: Body + Unpin> Body for AnsweredBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Longest head in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// Most bytes of one read: a body of 64 KiB with its head comes in one. hyper begins with 8 KiB, and doubles it as long as a read fills
/// it. From 128 KiB on, glibc would map each buffer anew.
const READ_LIMIT: usize = 96 * 1024;

/// Longest time that a connection is kept after its last answer, so that the answer arrives.
const LINGER: Duration = Duration::from_millis(500);

/// Longest time in which a peer takes nothing of what waits for it, in milliseconds. Then the kernel ends the connection and frees its
/// buffers, which hold up to 4 MB. Without it, peers that never read would keep their places for ever.
const WRITE_TIMEOUT: u32 = 30_000;

/// Pause after the process ran out of file descriptors. Nothing signals that one is free again.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A listener whose connections are served.
pub trait ConnectionListener: Send {
    /// A connection.
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
pub async fn serve<L: ConnectionListener, S: HttpService>(
    listener: L,
    service: S,
    limits: ServeLimits,
    cancel: CancellationToken,
) {
    let descriptors = usize::try_from(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let places = ConnectionPlaces::new(limits.connections.min(descriptors / 2));
    let kept_places = ConnectionPlaces::new(limits.kept_for_probes.min(descriptors / 8));
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
                    let client = ServedClient { transport, place: place.clone(), serves };
                    // In a box, since a future that a task moves into its `select!` takes its memory twice.
                    let serving =
                        Box::pin(serve_connection(stream, client, service.clone(), limits, cancel.clone()));
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
    let ended = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
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

/// The other end of a connection, and what it is served.
struct ServedClient {
    transport: Transport,
    place: Arc<ConnectionPlace>,
    serves: Serves,
}

async fn serve_connection<C, S>(
    stream: C,
    client: ServedClient,
    service: S,
    limits: ServeLimits,
    cancel: CancellationToken,
) where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: HttpService,
{
    let _connected = service.connected();
    // Whether anything was asked, and whether it is asked now.
    let (asked, is_asked) = (AtomicBool::new(false), AtomicBool::new(false));
    let ServedClient { transport, place, serves } = client;
    let answer = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        is_asked.store(true, Ordering::Relaxed);
        let refused = serves == Serves::OneProbe && !service.is_probe(request.uri().path());
        let (service, answering) = (service.clone(), place.answer());
        Box::pin(async move {
            let (head, incoming) = request.into_parts();
            let (body, unread) = RequestBody::new(incoming, &head.headers);
            let mut answer = match refused {
                true => {
                    drop(body);
                    service.too_many_connections(limits.connections)
                }
                false => service.answer(Request::from_parts(head, body), transport).await,
            };
            if let Some(unread) = unread
                && unread.ends_connection().await
            {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| AnsweredBody { body, _answering: answering }))
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(serves == Serves::Everything)
        .header_read_timeout(limits.head_timeout)
        .max_header_size(HEAD_LIMIT)
        .max_buf_size(READ_LIMIT)
        .serve_connection(TokioIo::new(WatchedStream::new(stream, &is_asked, &place)), answer);
    // Without hyper's shutdown, which would close the socket before `linger` can keep it.
    let ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
        () = cancel.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    let parts = connection.into_parts();
    let (mut stream, refused, line) = parts.io.into_inner().into_parts();
    let timed_out = ended.as_ref().is_err_and(hyper::Error::is_timeout);
    let too_slow = timed_out && !parts.read_buf.is_empty();
    let said_nothing = timed_out && !too_slow && !asked.load(Ordering::Relaxed);
    // hyper closes the connection without an answer where the head comes too slowly.
    if let Some(fault) = if too_slow { Some(HeadFault::TooSlow) } else { refused } {
        let answer = written(service.refused_head(fault, &line)).await;
        let _ = timeout(LINGER, stream.write_all(&answer)).await;
    }
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
    // At shutdown the daemon waits only for requests in flight. A peer that said nothing gets no answer that could be lost.
    if !cancel.is_cancelled() && !said_nothing {
        linger(stream).await;
    }
}

/// Closes our side and drops what still arrives, for [`LINGER`] at most. The kernel resets a socket that is closed with
/// unread bytes, and the reset can overtake the answer.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let close = async {
        stream.shutdown().await?;
        // Not in the future, which takes its memory from the beginning of the connection on.
        let mut rest = vec![0; 4096];
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
