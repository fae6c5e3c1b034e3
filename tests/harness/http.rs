//! An HTTP client over TCP or a unix socket. Every request has a connection of its own.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::WAIT_LIMIT;

/// An address on which a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A port of 127.0.0.1.
    Tcp(u16),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// A request that has not been sent yet.
#[derive(Debug, Clone)]
pub struct TestRequest {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A response whose body has been read to its end.
#[derive(Debug)]
pub struct TestResponse {
    /// The status code.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// The reason why a request got no response.
#[derive(Debug)]
pub enum RequestFailure {
    /// The connection was refused.
    Connect(std::io::Error),
    /// The connection was closed or sent invalid HTTP.
    Broken(hyper::Error),
    /// The response took longer than [`WAIT_LIMIT`].
    TooSlow,
}

impl TestRequest {
    /// A GET request with the host `localhost`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST request with the host `localhost` and without a body.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// A DELETE request with the host `localhost`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// An OPTIONS request with the host `localhost`.
    pub fn options(path: impl Into<String>) -> Self {
        Self::new(Method::OPTIONS, path)
    }

    fn new(method: Method, path: impl Into<String>) -> Self {
        let headers = HeaderMap::from_iter([(header::HOST, header::HeaderValue::from_static("localhost"))]);
        Self { method, path: path.into(), headers, body: Bytes::new() }
    }

    /// Sets a header field, replacing one of the same name.
    ///
    /// # Panics
    /// If `value` is not a valid header value.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().expect("a header's value"));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sends the request and reads the whole response.
    ///
    /// # Errors
    /// If there is no response within [`WAIT_LIMIT`].
    pub async fn send(self, endpoint: &Endpoint) -> Result<TestResponse, RequestFailure> {
        let exchange = async {
            let response = self.open(endpoint).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(RequestFailure::Broken)?.to_bytes();
            Ok(TestResponse { status: parts.status, headers: parts.headers, body })
        };
        timeout(WAIT_LIMIT, exchange).await.unwrap_or(Err(RequestFailure::TooSlow))
    }

    /// Sends the request and returns when the head of the response has come, so that the caller reads the body as a stream.
    ///
    /// # Errors
    /// If the connection fails before that. There is no time limit.
    pub async fn open(self, endpoint: &Endpoint) -> Result<http::Response<Incoming>, RequestFailure> {
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.parse().expect("a path");
        *request.headers_mut() = self.headers;
        let answered = match endpoint {
            Endpoint::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port)).await.map_err(RequestFailure::Connect)?;
                exchange(stream, request).await
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(RequestFailure::Connect)?;
                exchange(stream, request).await
            }
        };
        answered.map_err(RequestFailure::Broken)
    }
}

async fn exchange<S>(stream: S, request: http::Request<Full<Bytes>>) -> hyper::Result<http::Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The connection task ends with the response, or with the runtime of the test.
    tokio::spawn(connection);
    sender.send_request(request).await
}

impl TestResponse {
    /// The body as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the status code.
    ///
    /// # Panics
    /// With the body, if it is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }
}

impl Endpoint {
    /// Whether a GET of `path` is answered with 200 within a second.
    pub async fn answers(&self, path: &str) -> bool {
        let answer = timeout(Duration::from_secs(1), TestRequest::get(path).send(self)).await;
        matches!(answer, Ok(Ok(answer)) if answer.status == StatusCode::OK)
    }
}
