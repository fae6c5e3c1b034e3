//! One question: a fresh connection, a bound in time and size, no redirects.
//!
//! The connection is closed by us, never by the server: whoever closes first keeps the port busy for a minute (TIME_WAIT), and a
//! build of another year than the one that ran before cannot bind a port that is busy in this way.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use tokio::net::{TcpStream, UnixStream};

use crate::exchange::exchange;
use crate::reply::{AskError, Reply};
use crate::{ProbeAddress, Target};

#[cfg(test)]
mod tests;

/// A request and its time limit.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    path: &'a str,
    timeout: Duration,
    key: Option<&'a str>,
    json: Option<&'a str>,
    limit: usize,
}

impl<'a> Question<'a> {
    /// Most bytes of a body that are read, unless [`Self::with_limit`] sets another limit.
    pub const BODY_LIMIT: usize = 64 * 1024;

    /// GETs a path, from its slash on. The timeout covers everything from the connection to the last byte.
    pub const fn get(path: &'a str, timeout: Duration) -> Self {
        Self { path, timeout, key: None, json: None, limit: Self::BODY_LIMIT }
    }

    /// POSTs a JSON text to a path.
    pub const fn post(path: &'a str, json: &'a str, timeout: Duration) -> Self {
        Self { json: Some(json), ..Self::get(path, timeout) }
    }

    /// Sends a bearer token along, where there is one.
    #[must_use]
    pub const fn with_key(self, key: Option<&'a str>) -> Self {
        Self { key, ..self }
    }

    /// Reads a body of this many bytes at most.
    #[must_use]
    pub const fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

/// The result of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// No process listens, or the address cannot be reached.
    Refused,
    /// 503: the server listens and is not ready.
    NotReady,
    /// 200.
    Ok,
    /// 404: this build has no such path.
    NotFound,
    /// Another status.
    Other(u16),
    /// The connection was taken, and nothing or not all of an answer came in time.
    NoAnswer,
    /// The answer is not HTTP, or exceeds the size limits.
    Garbage,
}

/// Asks whether the server is ready.
pub async fn probe(target: &Target, path: &str, timeout: Duration) -> ProbeAnswer {
    match ask(target, Question::get(path, timeout)).await {
        Ok(reply) => match reply.status {
            StatusCode::OK => ProbeAnswer::Ok,
            StatusCode::SERVICE_UNAVAILABLE => ProbeAnswer::NotReady,
            StatusCode::NOT_FOUND => ProbeAnswer::NotFound,
            other => ProbeAnswer::Other(other.as_u16()),
        },
        Err(AskError::Refused(_)) => ProbeAnswer::Refused,
        Err(AskError::TimedOut(_) | AskError::BrokenOff(_)) => ProbeAnswer::NoAnswer,
        Err(AskError::NotHttp(_) | AskError::TooLarge(_) | AskError::BadPath(_)) => ProbeAnswer::Garbage,
    }
}

/// Connects and sends nothing: `Ok` if the server accepts. For servers that speak TLS, which this client does not.
pub async fn connect(target: &Target, timeout: Duration) -> ProbeAnswer {
    let connected = async {
        match &target.address {
            ProbeAddress::Tcp { host, port } => TcpStream::connect((&**host, *port)).await.map(drop),
            ProbeAddress::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    };
    match tokio::time::timeout(timeout, connected).await {
        Ok(Ok(())) => ProbeAnswer::Ok,
        Ok(Err(_)) => ProbeAnswer::Refused,
        Err(_) => ProbeAnswer::NoAnswer,
    }
}

/// Asks a question.
///
/// # Errors
/// Where no whole answer comes in time and size. An answer of any status is one.
pub async fn ask(target: &Target, question: Question<'_>) -> Result<Reply, AskError> {
    let request = request(target, question)?;
    let asked = async {
        match &target.address {
            ProbeAddress::Tcp { host, port } => {
                let stream = TcpStream::connect((&**host, *port)).await.map_err(AskError::Refused)?;
                exchange(stream, &request, question.limit).await
            }
            ProbeAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(AskError::Refused)?;
                exchange(stream, &request, question.limit).await
            }
        }
    };
    tokio::time::timeout(question.timeout, asked).await.unwrap_or(Err(AskError::TimedOut(question.timeout)))
}

fn request<'a>(target: &Target, question: Question<'a>) -> Result<Request<&'a str>, AskError> {
    let host = match &target.address {
        ProbeAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        ProbeAddress::Tcp { host, port } => format!("{host}:{port}"),
        ProbeAddress::Unix(_) => "localhost".into(),
    };
    let path = format!("{}{}", target.prefix, question.path);
    let method = if question.json.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder().method(method).uri(&path).header(HOST, host);
    if let Some(key) = question.key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    if let Some(json) = question.json {
        request = request.header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, json.len());
    }
    request.body(question.json.unwrap_or_default()).map_err(|_| AskError::BadPath(path))
}
