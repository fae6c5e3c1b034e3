//! A connection of either kind.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use llama_warden_probe::ProbeAddress;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::net::{TcpStream, UnixStream};

#[derive(Debug)]
pub(crate) enum ServerStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl ServerStream {
    pub(crate) async fn connect(address: &ProbeAddress) -> io::Result<Self> {
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

    /// Reads into the room behind what has come. 0 is the end.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>, came: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => pin!(stream.read_buf(came)).poll(context),
            Self::Unix(stream) => pin!(stream.read_buf(came)).poll(context),
        }
    }

    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    /// Whether the server has reset the connection: its process was gone, or it left what was sent unread.
    pub(crate) fn was_reset(&self) -> bool {
        let error = match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
        };
        error.is_ok_and(|error| error.is_some())
    }

    /// Whether nothing came, not even the end, as far as the runtime has been told.
    pub(crate) fn is_silent(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
        };
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}
