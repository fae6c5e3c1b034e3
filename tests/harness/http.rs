//! An HTTP client for one request at a time, over TCP or a unix socket.

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

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A port on the loopback address.
    Tcp(u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// A request that is yet to be sent.
#[derive(Debug, Clone)]
pub struct TestRequest {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct TestResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum RequestFailure {
    /// Nobody took the connection.
    Connect(std::io::Error),
    /// The connection broke.
    Broken(hyper::Error),
    /// It took longer than [`WAIT_LIMIT`].
    TooSlow,
}

impl TestRequest {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST without a body.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    fn new(method: Method, path: impl Into<String>) -> Self {
        let headers = HeaderMap::from_iter([(header::HOST, header::HeaderValue::from_static("localhost"))]);
        Self { method, path: path.into(), headers, body: Bytes::new() }
    }

    /// Sets a header, in place of one of that name.
    ///
    /// # Panics
    /// When it is none.
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

    /// Sends it and reads the answer whole.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(self, endpoint: &Endpoint) -> Result<TestResponse, RequestFailure> {
        let exchange = async {
            let response = self.open(endpoint).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(RequestFailure::Broken)?.to_bytes();
            Ok(TestResponse { status: parts.status, headers: parts.headers, body })
        };
        timeout(WAIT_LIMIT, exchange).await.unwrap_or(Err(RequestFailure::TooSlow))
    }

    /// Sends it and leaves the body to be read as it comes.
    ///
    /// # Errors
    /// When no head of an answer comes.
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
    // It ends with the answer, or with the runtime of the test.
    tokio::spawn(connection);
    sender.send_request(request).await
}

impl TestResponse {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the status, showing the answer when it is another one.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }
}

impl Endpoint {
    /// Whether somebody answers a GET of `path` with 200 within a second.
    pub async fn answers(&self, path: &str) -> bool {
        let answer = timeout(Duration::from_secs(1), TestRequest::get(path).send(self)).await;
        matches!(answer, Ok(Ok(answer)) if answer.status == StatusCode::OK)
    }
}
