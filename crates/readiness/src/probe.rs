//! Asking a server over HTTP: a fresh connection for each question, bounded in time and size, no redirects.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::target::{Address, Target};

#[cfg(test)]
mod tests;

/// Longest wait for an answer. Builds of mid 2024 take up to a second while they generate; until the model is loaded they
/// accept and say nothing.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of a body that are read.
const BODY_LIMIT: usize = 64 * 1024;
/// Most bytes of an answer's head.
const HEAD_LIMIT: usize = 32 * 1024;

/// What came back from a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nobody listens, or nobody can be reached.
    Refused,
    /// 503: somebody listens and says that it is not ready.
    NotReady,
    /// 200.
    Ok,
    /// 404: this build has no such path.
    NotFound,
    /// Another status.
    Other(u16),
    /// The connection was taken, and nothing or not all of an answer came in time.
    NoAnswer,
    /// What came is no HTTP, or larger than any honest answer.
    Garbage,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("nobody listens there: {0}")]
    Refused(io::Error),
    #[error("no answer within {PROBE_TIMEOUT:?}")]
    TimedOut,
    #[error("the connection broke off: {0}")]
    BrokenOff(hyper::Error),
    #[error("the answer is no HTTP: {0}")]
    NotHttp(hyper::Error),
    #[error("the answer is larger than {BODY_LIMIT} bytes")]
    TooLarge,
    #[error("`{0}` cannot be asked for")]
    BadPath(String),
}

/// Asks whether the server is ready.
pub(crate) async fn probe(target: &Target, path: &str) -> Answer {
    match ask(target, path, None).await {
        Ok(reply) => match reply.status {
            StatusCode::OK => Answer::Ok,
            StatusCode::SERVICE_UNAVAILABLE => Answer::NotReady,
            StatusCode::NOT_FOUND => Answer::NotFound,
            other => Answer::Other(other.as_u16()),
        },
        Err(AskError::Refused(_)) => Answer::Refused,
        Err(AskError::TimedOut | AskError::BrokenOff(_)) => Answer::NoAnswer,
        Err(AskError::NotHttp(_) | AskError::TooLarge | AskError::BadPath(_)) => Answer::Garbage,
    }
}

/// GETs a path, with a bearer token where one is given.
pub(crate) async fn ask(target: &Target, path: &str, key: Option<&str>) -> Result<Reply, AskError> {
    let request = request(target, path, key)?;
    let asked = async {
        match &target.address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(AskError::Refused)?;
                exchange(stream, request).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(AskError::Refused)?;
                exchange(stream, request).await
            }
        }
    };
    tokio::time::timeout(PROBE_TIMEOUT, asked).await.unwrap_or(Err(AskError::TimedOut))
}

fn request(target: &Target, path: &str, key: Option<&str>) -> Result<Request<Empty<Bytes>>, AskError> {
    let host = match &target.address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix(_) => "localhost".into(),
    };
    let path = format!("{}{path}", target.prefix);
    let mut request = Request::builder().method(Method::GET).uri(&path).header(HOST, host).header(CONNECTION, "close");
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    request.body(Empty::new()).map_err(|_| AskError::BadPath(path))
}

/// One request and its answer. The connection is driven here rather than in a task, so that dropping the future, as a
/// timeout does, leaves nothing behind.
async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Reply, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(HEAD_LIMIT).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(classify)?;
    let mut connection = pin!(connection);
    let mut answered = pin!(async move {
        let response = sender.send_request(request).await.map_err(classify)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await.map_err(|error| match error
            .downcast::<hyper::Error>(
        ) {
            Ok(error) => classify(*error),
            Err(other) if other.is::<LengthLimitError>() => AskError::TooLarge,
            Err(_) => AskError::TimedOut,
        })?;
        Ok(Reply { status, body: body.to_bytes() })
    });
    // The connection may be over before the answer was taken out of it; the answer decides.
    let mut open = true;
    loop {
        tokio::select! {
            reply = &mut answered => return reply,
            _ = &mut connection, if open => open = false,
        }
    }
}

fn classify(error: hyper::Error) -> AskError {
    if error.is_parse() { AskError::NotHttp(error) } else { AskError::BrokenOff(error) }
}
