//! The client: what the command line and tests speak to the daemon with.
//!
//! One connection per request; a stream keeps its connection. The daemon's answers are decoded into the types that it
//! made them from.

mod address;
mod error;
mod records;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use llama_warden_api_types::{
    ActiveProfileReport, ApiProblem, CommandAnswer, EventRecord, LogRecord, ProfileReport, ServerDetail,
    ShutdownAnswer, StatusReport, SwitchAnswer,
};
use llama_warden_events::{Seq, ServerId, StreamName};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

pub use address::{DaemonAddress, InvalidDaemonAddress};
pub use error::ClientError;
pub use records::Records;

/// Longest time until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time until an answer begins, beyond the time that the daemon was asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The same for an answer before which the daemon reads files: the configuration, and the headers of all models.
const FILES_TIMEOUT: Duration = Duration::from_secs(90);

/// Longest answer that is no stream, in bytes.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// Speaks to one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    address: DaemonAddress,
    token: Option<Secret>,
}

/// The value of the `Authorization` header.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What to do with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAction {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop it if it runs, then start it.
    Restart,
}

impl ServerAction {
    /// The action as it stands in the path.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// How to do it. The daemon refuses `grace` and `force` for a start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandOptions {
    /// Wait this long for the end; `None` returns once the command is accepted. To the millisecond, at most 24 h.
    pub wait: Option<Duration>,
    /// Time before KILL, instead of the configured one. To the millisecond, at most 24 h.
    pub grace: Option<Duration>,
    /// Kill at once.
    pub force: bool,
}

/// How the fleet is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SwitchMode {
    /// The answer comes once the change is accepted.
    #[default]
    Begin,
    /// The answer comes when every server has arrived, at most this much later. To the millisecond, at most 24 h.
    Wait(Duration),
    /// Nothing is touched; the answer is the plan.
    DryRun,
}

/// How servers are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownMode {
    /// By the ladder.
    Graceful,
    /// By KILL at once.
    Forced,
}

/// Which lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The latest lines only; `None` for all that are kept.
    pub tail: Option<usize>,
    /// Go on with what comes.
    pub follow: bool,
    /// One stream only.
    pub stream: Option<StreamName>,
}

/// Which events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventRange {
    /// Those after this one that are kept, then the end. 0 for all.
    Kept(Seq),
    /// Those after this one, and those that come.
    After(Seq),
    /// Those that come.
    New,
}

impl Client {
    /// A client of the daemon at `address`; connects at the first request.
    pub fn new(address: DaemonAddress, token: Option<String>) -> Self {
        Self { address, token: token.map(|token| Secret(format!("Bearer {token}"))) }
    }

    /// Where it speaks to.
    pub const fn address(&self) -> &DaemonAddress {
        &self.address
    }

    /// All servers at a glance.
    pub async fn status(&self) -> Result<StatusReport, ClientError> {
        self.ask(Method::GET, "/api/v1/status", ANSWER_TIMEOUT).await
    }

    /// One server whole.
    pub async fn server(&self, id: &ServerId) -> Result<ServerDetail, ClientError> {
        self.ask(Method::GET, &format!("/api/v1/servers/{id}"), ANSWER_TIMEOUT).await
    }

    /// Starts, stops or restarts a server. Without an outcome the command is still under way. A failed server is a
    /// [`ClientError::Problem`] with the failure's reason.
    pub async fn command(
        &self,
        action: ServerAction,
        id: &ServerId,
        options: CommandOptions,
    ) -> Result<CommandAnswer, ClientError> {
        let millis = |duration: Duration| format!("{}ms", duration.as_millis());
        let query = query([
            ("wait", options.wait.map(millis)),
            ("grace", options.grace.map(millis)),
            ("force", options.force.then(|| "1".to_owned())),
        ]);
        let path = format!("/api/v1/servers/{id}/{}{query}", action.as_str());
        self.ask(Method::POST, &path, ANSWER_TIMEOUT + options.wait.unwrap_or_default()).await
    }

    /// Every configured profile.
    pub async fn profiles(&self) -> Result<Vec<ProfileReport>, ClientError> {
        self.ask(Method::GET, "/api/v1/profiles", ANSWER_TIMEOUT).await
    }

    /// What should run at this moment.
    pub async fn active_profile(&self) -> Result<ActiveProfileReport, ClientError> {
        self.ask(Method::GET, "/api/v1/profiles/active", ANSWER_TIMEOUT).await
    }

    /// Brings the fleet to what a profile says; `None` is every enabled server.
    pub async fn activate(&self, profile: Option<&str>, mode: SwitchMode) -> Result<SwitchAnswer, ClientError> {
        let (method, path) = match profile {
            Some(name) => (Method::POST, format!("/api/v1/profiles/{}/activate", escaped(name))),
            None => (Method::DELETE, "/api/v1/profiles/active".to_owned()),
        };
        self.switch(method, &path, mode).await
    }

    /// Has the configuration read again. One with problems is a [`ClientError::Problem`] that names them all. With `wait`
    /// the answer comes when every server has arrived, at most this much later. To the millisecond, at most 24 h.
    pub async fn reload(&self, wait: Option<Duration>) -> Result<SwitchAnswer, ClientError> {
        self.switch(Method::POST, "/api/v1/reload", wait.map_or(SwitchMode::Begin, SwitchMode::Wait)).await
    }

    async fn switch(&self, method: Method, path: &str, mode: SwitchMode) -> Result<SwitchAnswer, ClientError> {
        let (wait, dry_run) = match mode {
            SwitchMode::Begin => (None, None),
            SwitchMode::Wait(wait) => (Some(wait), None),
            SwitchMode::DryRun => (None, Some("1".to_owned())),
        };
        let query = query([("wait", wait.map(|wait| format!("{}ms", wait.as_millis()))), ("dry_run", dry_run)]);
        let limit = FILES_TIMEOUT + wait.unwrap_or_default();
        self.ask(method, &format!("{path}{query}"), limit).await
    }

    /// Stops every server and the daemon. The daemon is gone when a stream of it ends.
    pub async fn shut_down(&self, mode: ShutdownMode) -> Result<ShutdownAnswer, ClientError> {
        let query = query([("force", (mode == ShutdownMode::Forced).then(|| "1".to_owned()))]);
        self.ask(Method::POST, &format!("/api/v1/shutdown{query}"), ANSWER_TIMEOUT).await
    }

    /// The output of a server.
    pub async fn logs(&self, id: &ServerId, options: LogOptions) -> Result<Records<LogRecord>, ClientError> {
        let query = query([
            ("tail", options.tail.map(|tail| tail.to_string())),
            ("follow", options.follow.then(|| "1".to_owned())),
            ("stream", options.stream.map(|stream| stream.to_string())),
        ]);
        self.records(&format!("/api/v1/servers/{id}/logs{query}")).await
    }

    /// The events.
    pub async fn events(&self, range: EventRange) -> Result<Records<EventRecord>, ClientError> {
        let (since, follow) = match range {
            EventRange::Kept(since) => (Some(since.to_string()), "0"),
            EventRange::After(since) => (Some(since.to_string()), "1"),
            EventRange::New => (None, "1"),
        };
        let query = query([("since", since), ("follow", Some(follow.to_owned()))]);
        self.records(&format!("/api/v1/events{query}")).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, wait: Duration) -> Result<T, ClientError> {
        let answer = async {
            let response = self.send(method, path, "application/json").await?;
            let bytes = self.collect(response).await?;
            serde_json::from_slice(&bytes).map_err(|error| self.protocol(format!("{path}: {error}")))
        };
        timeout(wait, answer).await.unwrap_or_else(|_| Err(self.protocol(format!("{path}: no answer within {wait:?}"))))
    }

    async fn records<T>(&self, path: &str) -> Result<Records<T>, ClientError> {
        let response = timeout(ANSWER_TIMEOUT, self.send(Method::GET, path, "application/x-ndjson")).await;
        let response = response.unwrap_or_else(|_| Err(self.protocol(format!("{path}: no answer"))))?;
        Ok(Records::new(self.address.clone(), response.into_body()))
    }

    /// Sends a request and returns a response that is a success.
    async fn send(&self, method: Method, path: &str, accept: &str) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, self.address.host_header()).header(header::ACCEPT, accept);
        if let Some(Secret(authorization)) = &self.token {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| self.protocol(error.to_string()))?;
        let response = match &self.address {
            DaemonAddress::Tcp { host, port } => {
                self.exchange(TcpStream::connect((host.as_str(), *port)), request).await
            }
            DaemonAddress::Unix(path) => self.exchange(UnixStream::connect(path), request).await,
        }?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.collect(response).await?;
        Err(self.problem(status, &bytes))
    }

    async fn exchange<S>(
        &self,
        connect: impl Future<Output = std::io::Result<S>>,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let unreachable = |source| ClientError::Unreachable { address: self.address.clone(), source };
        let connected = timeout(CONNECT_TIMEOUT, connect).await;
        let stream = connected.unwrap_or_else(|late| Err(late.into())).map_err(unreachable)?;
        let failed = |error: hyper::Error| self.protocol(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // It ends with the response's body; its errors come out of that body as well.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(failed)
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let collected = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        Ok(collected.map_err(|error| self.protocol(error.to_string()))?.to_bytes())
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<ApiProblem>(body) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => self.protocol(format!("status {status} without a problem")),
        }
    }

    fn protocol(&self, detail: String) -> ClientError {
        ClientError::Protocol { address: self.address.clone(), detail }
    }
}

/// `?a=1&b=2` of the parameters that have a value. Values are numbers and words: nothing needs an escape.
fn query<const N: usize>(parameters: [(&str, Option<String>); N]) -> String {
    let given = parameters.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    let joined = given.collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

/// A text as one segment of a path.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}
