//! The client: a method per endpoint.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use llama_warden_api_types::{
    ActiveProfileReport, AllStatusReport, ApiProblem, CommandAnswer, ConfigurationPlace, EventRecord, LogRecord,
    MachineMemory, PeerReport, ProfileReport, ServerDetail, ShutdownAnswer, StatusReport, SwitchAnswer, TargetGroup,
};
use llama_warden_events::{CanaryReport, ServerId};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    CanaryOptions, ClientError, CommandOptions, DaemonAddress, EventRange, LogOptions, Records, ReloadOptions,
    ServerAction, ShutdownMode, SwitchMode,
};

/// Longest time until a connection is established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without an answer after which the daemon has to give another sign of life.
const SILENCE: Duration = Duration::from_secs(2);

/// Longest time until the daemon gives a sign of life. It has one thread, which a heavy load may keep busy for a moment.
const LIFE_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest time until an answer is complete, or a stream begins, beyond the time that a living daemon was asked to wait.
/// Longer than the daemon takes to accept a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The same for an answer before which the daemon reads files: the configuration, and the headers of all models.
const FILES_TIMEOUT: Duration = Duration::from_secs(90);

/// Longest time for the trial of a build: it loads a model twice, and is watched for as long as the user says.
const CANARY_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest answer other than a stream, in bytes.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// A client of one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    address: DaemonAddress,
    token: Option<BearerToken>,
    /// Where to connect; `None` looks the host up.
    addresses: Option<Arc<[SocketAddr]>>,
    /// The latest sign of life. Locked by the request that asks for the next one, so that of many that wait only one asks.
    life: Arc<Mutex<Instant>>,
}

/// The value of the `Authorization` header, which `Debug` does not show.
#[derive(Clone)]
struct BearerToken(String);

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

impl Client {
    /// A client of the daemon at `address`, which it connects to at the first request. The control socket ignores `token`.
    pub fn new(address: DaemonAddress, token: Option<String>) -> Self {
        let token = token.map(|token| BearerToken(format!("Bearer {token}")));
        Self { address, token, addresses: None, life: Arc::new(Mutex::new(Instant::now())) }
    }

    /// The same at these addresses, which the caller has looked up.
    #[must_use]
    pub fn connecting_to(self, addresses: Vec<SocketAddr>) -> Self {
        Self { addresses: Some(addresses.into()), ..self }
    }

    /// Connects once and closes the connection again.
    ///
    /// # Errors
    /// Nothing listens on the address, or the kernel does not connect in time.
    pub async fn reach(&self) -> Result<(), ClientError> {
        match &self.address {
            DaemonAddress::Tcp { host, port } => self.connected(self.connect(host, *port)).await.map(drop),
            DaemonAddress::Unix(path) => self.connected(UnixStream::connect(path)).await.map(drop),
        }
    }

    /// The address of the daemon.
    pub const fn address(&self) -> &DaemonAddress {
        &self.address
    }

    /// Reports all servers at a glance.
    pub async fn status(&self) -> Result<StatusReport, ClientError> {
        self.request(Method::GET, "/api/v1/status", ANSWER_TIMEOUT).await
    }

    /// The same as JSON, which a daemon of another version gives too.
    pub async fn status_json(&self) -> Result<serde_json::Value, ClientError> {
        self.request(Method::GET, "/api/v1/status", ANSWER_TIMEOUT).await
    }

    /// Reports all servers at a glance, and those of the daemon's peers.
    pub async fn status_of_all(&self) -> Result<AllStatusReport, ClientError> {
        self.request(Method::GET, "/api/v1/status?all=1", ANSWER_TIMEOUT).await
    }

    /// Reports the servers of the daemon's peers, which it asks.
    pub async fn peers(&self) -> Result<Vec<PeerReport>, ClientError> {
        self.request(Method::GET, "/api/v1/peers", ANSWER_TIMEOUT).await
    }

    /// The memory of the machine, and what each running server holds.
    pub async fn memory(&self) -> Result<MachineMemory, ClientError> {
        self.request(Method::GET, "/api/v1/memory", ANSWER_TIMEOUT).await
    }

    /// The targets for Prometheus.
    pub async fn targets(&self) -> Result<Vec<TargetGroup>, ClientError> {
        self.request(Method::GET, "/api/v1/sd", ANSWER_TIMEOUT).await
    }

    /// Says where the daemon's configuration is.
    pub async fn configuration(&self) -> Result<ConfigurationPlace, ClientError> {
        self.request(Method::GET, "/api/v1/configuration", ANSWER_TIMEOUT).await
    }

    /// Reports one server in full.
    pub async fn server(&self, id: &ServerId) -> Result<ServerDetail, ClientError> {
        self.request(Method::GET, &format!("/api/v1/servers/{id}"), ANSWER_TIMEOUT).await
    }

    /// Starts, stops or restarts a server. An answer without an outcome means that the command is still under way.
    ///
    /// # Errors
    /// If the server fails, a [`ClientError::Problem`] with the failure's reason.
    pub async fn command(
        &self,
        action: ServerAction,
        id: &ServerId,
        options: CommandOptions,
    ) -> Result<CommandAnswer, ClientError> {
        let query = query([
            ("wait", options.wait.map(millis)),
            ("grace", options.grace.map(millis)),
            ("force", flag(options.force)),
        ]);
        let path = format!("/api/v1/servers/{id}/{}{query}", action.as_str());
        self.request(Method::POST, &path, ANSWER_TIMEOUT + options.wait.unwrap_or_default()).await
    }

    /// Runs another build beside a server and returns what came of it, once that is over. Dropping the future cancels the trial,
    /// unless it has begun to replace the server's build.
    pub async fn canary(&self, id: &ServerId, options: &CanaryOptions) -> Result<CanaryReport, ClientError> {
        let binary = escape_bytes(options.binary.as_os_str().as_encoded_bytes());
        let query = query([
            ("binary", Some(binary)),
            ("prompt", options.prompt.as_deref().map(escape_segment)),
            ("switch", flag(options.switch)),
        ]);
        self.request(Method::POST, &format!("/api/v1/servers/{id}/canary{query}"), CANARY_TIMEOUT).await
    }

    /// Lists the configured profiles.
    pub async fn profiles(&self) -> Result<Vec<ProfileReport>, ClientError> {
        self.request(Method::GET, "/api/v1/profiles", ANSWER_TIMEOUT).await
    }

    /// Reports the active profile: which servers should be ready, and which of them are not.
    pub async fn active_profile(&self) -> Result<ActiveProfileReport, ClientError> {
        self.request(Method::GET, "/api/v1/profiles/active", ANSWER_TIMEOUT).await
    }

    /// Brings the fleet to the servers of a profile; `None` is every enabled server.
    pub async fn activate(&self, profile: Option<&str>, mode: SwitchMode) -> Result<SwitchAnswer, ClientError> {
        let (method, path) = match profile {
            Some(name) => (Method::POST, format!("/api/v1/profiles/{}/activate", escape_segment(name))),
            None => (Method::DELETE, "/api/v1/profiles/active".to_owned()),
        };
        self.switch(method, &path, mode).await
    }

    /// Makes the daemon read its configuration again. With `wait`, returns when every server is up or down as planned, at
    /// most this much later. Whole milliseconds, at most 24 h.
    ///
    /// # Errors
    /// If the configuration is invalid, or looks half written and `force` is not set, a [`ClientError::Problem`] that lists
    /// all its problems.
    pub async fn reload(&self, options: ReloadOptions) -> Result<SwitchAnswer, ClientError> {
        let query = query([("wait", options.wait.map(millis)), ("force", flag(options.force))]);
        let limit = FILES_TIMEOUT + options.wait.unwrap_or_default();
        self.request(Method::POST, &format!("/api/v1/reload{query}"), limit).await
    }

    async fn switch(&self, method: Method, path: &str, mode: SwitchMode) -> Result<SwitchAnswer, ClientError> {
        let wait = match mode {
            SwitchMode::Wait(wait) => Some(wait),
            SwitchMode::Begin | SwitchMode::DryRun => None,
        };
        let query = query([("wait", wait.map(millis)), ("dry_run", flag(mode == SwitchMode::DryRun))]);
        let limit = FILES_TIMEOUT + wait.unwrap_or_default();
        self.request(method, &format!("{path}{query}"), limit).await
    }

    /// Stops the daemon and, unless it hands them over, every server. The answer comes at once; the daemon has ended when a stream of it ends.
    pub async fn shut_down(&self, mode: ShutdownMode) -> Result<ShutdownAnswer, ClientError> {
        let query =
            query([("force", flag(mode == ShutdownMode::Forced)), ("hand_over", flag(mode == ShutdownMode::HandOver))]);
        self.request(Method::POST, &format!("/api/v1/shutdown{query}"), ANSWER_TIMEOUT).await
    }

    /// Streams the output of a server.
    pub async fn logs(&self, id: &ServerId, options: LogOptions) -> Result<Records<LogRecord>, ClientError> {
        let query = query([
            ("tail", options.tail.map(|tail| tail.to_string())),
            ("follow", flag(options.follow)),
            ("stream", options.stream.map(|stream| stream.to_string())),
            ("after_stderr", options.after.stderr.map(|number| number.to_string())),
            ("after_stdout", options.after.stdout.map(|number| number.to_string())),
        ]);
        self.stream(&format!("/api/v1/servers/{id}/logs{query}")).await
    }

    /// Streams events.
    pub async fn events(&self, range: EventRange) -> Result<Records<EventRecord>, ClientError> {
        let (since, follow) = match range {
            EventRange::Kept(since) => (Some(since.to_string()), "0"),
            EventRange::After(since) => (Some(since.to_string()), "1"),
            EventRange::New => (None, "1"),
        };
        let query = query([("since", since), ("follow", Some(follow.to_owned()))]);
        self.stream(&format!("/api/v1/events{query}")).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let answer = async {
            let response = self.send(method, path, "application/json").await?;
            let bytes = self.collect(response).await?;
            serde_json::from_slice(&bytes).map_err(|error| self.protocol(format!("{path}: {error}")))
        };
        self.while_alive(limit, answer).await
    }

    /// Waits for an answer, but neither longer than `limit` nor for a daemon that shows no sign of life: within
    /// seconds, a frozen daemon is distinguished from one whose server loads a model.
    async fn while_alive<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let began = Instant::now();
        tokio::select! {
            biased;
            answer = timeout(limit, answer) => answer.unwrap_or_else(|_| Err(self.no_answer(limit))),
            error = self.silence(began) => Err(error),
        }
    }

    /// Completes when the daemon accepts connections and does nothing else. Safe to cancel.
    pub async fn falls_silent(&self) -> ClientError {
        self.silence(Instant::now()).await
    }

    /// As [`Self::falls_silent`], for a request that began at `began`.
    async fn silence(&self, began: Instant) -> ClientError {
        let mut alive = began;
        loop {
            sleep_until(alive + SILENCE).await;
            let mut latest = self.life.lock().await;
            if latest.elapsed() >= SILENCE {
                // An answer of any kind will do. If the connection fails, so does the request that waits.
                if timeout(LIFE_TIMEOUT, self.send(Method::GET, "/livez", "*/*")).await.is_err() {
                    return self.no_answer(SILENCE + LIFE_TIMEOUT);
                }
                *latest = Instant::now();
            }
            alive = *latest;
        }
    }

    async fn stream<T>(&self, path: &str) -> Result<Records<T>, ClientError> {
        let response = self.while_alive(ANSWER_TIMEOUT, self.send(Method::GET, path, "application/x-ndjson")).await?;
        Ok(Records::new(self.address.clone(), response.into_body()))
    }

    /// Sends a request and returns its response, which is a success.
    async fn send(&self, method: Method, path: &str, accept: &str) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, self.address.host_header()).header(header::ACCEPT, accept);
        if let Some(BearerToken(authorization)) = &self.token {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| self.protocol(error.to_string()))?;
        let response = match &self.address {
            DaemonAddress::Tcp { host, port } => self.exchange(self.connect(host, *port), request).await,
            DaemonAddress::Unix(path) => self.exchange(UnixStream::connect(path), request).await,
        }?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.collect(response).await?;
        Err(match serde_json::from_slice::<ApiProblem>(&bytes) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => self.protocol(format!("status {status} without a problem")),
        })
    }

    async fn exchange<S>(
        &self,
        connect: impl Future<Output = io::Result<S>>,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = self.connected(connect).await?;
        let failed = |error: hyper::Error| self.protocol(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // The task ends with the response's body, which reports its errors too.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(failed)
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        match &self.addresses {
            Some(addresses) => TcpStream::connect(&**addresses).await,
            None => TcpStream::connect((host, port)).await,
        }
    }

    async fn connected<S>(&self, connect: impl Future<Output = io::Result<S>>) -> Result<S, ClientError> {
        let connected = timeout(CONNECT_TIMEOUT, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map_err(|source| ClientError::Unreachable { address: self.address.clone(), source })
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let collected = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        Ok(collected.map_err(|error| self.protocol(error.to_string()))?.to_bytes())
    }

    fn no_answer(&self, limit: Duration) -> ClientError {
        ClientError::NoAnswer { address: self.address.clone(), limit }
    }

    fn protocol(&self, detail: String) -> ClientError {
        ClientError::Protocol { address: self.address.clone(), detail }
    }
}

fn millis(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

fn flag(on: bool) -> Option<String> {
    on.then(|| "1".to_owned())
}

/// `?a=1&b=2` of the parameters that have a value. Values other than numbers and words are escaped by the caller.
fn query<const N: usize>(parameters: [(&str, Option<String>); N]) -> String {
    let given = parameters.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    let joined = given.collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

/// Escapes `text` as one segment of a path, or as the value of a parameter.
fn escape_segment(text: &str) -> String {
    escape_bytes(text.as_bytes())
}

fn escape_bytes(bytes: &[u8]) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    bytes.iter().copied().map(escape).collect()
}
