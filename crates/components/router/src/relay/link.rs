//! One connection to a llama-server, driven by whoever uses it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use llama_warden_probe::ProbeAddress;
use llama_warden_traffic::Counted;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use llama_warden_held_body::HeldBody;

/// A request did not get to its answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// No connection came about.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection was closed before the request was taken.
    #[error("the connection was closed before the request was taken")]
    NotTaken,
    /// The server left HTTP, which nobody has asked for.
    #[error("the server switched to another protocol")]
    Switched,
    /// It ended after that.
    #[error("the connection ended: {0}")]
    Lost(#[source] hyper::Error),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    sender: SendRequest<HeldBody>,
    connection: Connection<TokioIo<ServerStream>, HeldBody>,
    /// It has ended and must not be polled again.
    is_over: bool,
    pub(super) uses: u32,
    pub(super) idle_since: Instant,
    _counted: (Counted, Arc<()>),
}

impl Link {
    pub(super) async fn connect(address: &ProbeAddress, counted: (Counted, Arc<()>)) -> Result<Self, RelayError> {
        let stream = ServerStream::connect(address).await.map_err(RelayError::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(RelayError::Lost)?;
        Ok(Self { sender, connection, is_over: false, uses: 0, idle_since: Instant::now(), _counted: counted })
    }

    /// Lets the connection read and write.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) {
        if !self.is_over && Pin::new(&mut self.connection).poll(context).is_ready() {
            self.is_over = true;
        }
    }

    /// Whether it can take another request.
    pub(super) fn is_fresh(&mut self) -> bool {
        // Sees a connection that the server has closed; nobody has to be woken for it.
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.is_over && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) async fn send(&mut self, request: Request<HeldBody>) -> Result<Response<Incoming>, RelayError> {
        self.uses += 1;
        let Self { sender, connection, is_over, .. } = self;
        let mut answer = pin!(sender.try_send_request(request));
        let answered = poll_fn(|context| {
            if let Poll::Ready(answered) = answer.as_mut().poll(context) {
                return Poll::Ready(answered);
            }
            if !*is_over && Pin::new(&mut *connection).poll(context).is_ready() {
                *is_over = true;
            }
            answer.as_mut().poll(context)
        });
        let answer = answered.await.map_err(|mut error| match error.take_message() {
            Some(_) => RelayError::NotTaken,
            None => RelayError::Lost(error.into_error()),
        })?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS { Err(RelayError::Switched) } else { Ok(answer) }
    }
}

/// A connection of either kind.
#[derive(Debug)]
enum ServerStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl ServerStream {
    async fn connect(address: &ProbeAddress) -> io::Result<Self> {
        match address {
            ProbeAddress::Tcp { host, port } => {
                let host: Arc<str> = host.clone();
                let stream = TcpStream::connect((&*host, *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            ProbeAddress::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

/// A write that fails is one that waits: whoever closes a connection amid a request may have answered it before, and then the answer is
/// still to be read. Behind it, or in its place, the read fails too, or comes to the end.
fn written(result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    match result {
        Poll::Ready(Err(error)) => {
            tracing::debug!(%error, "llama-server takes no more of a request");
            Poll::Pending
        }
        other => other,
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        written(match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        written(match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
