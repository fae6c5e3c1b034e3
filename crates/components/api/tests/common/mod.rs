//! A daemon without processes: a real bus and output lane, the API on real sockets, and a scripted command owner that publishes
//! the events of a supervisor.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use llama_warden_api::{Api, ApiResources, Listeners, Token, UnusablePath, openapi_document};
use llama_warden_api_types::{Access, ExtraRoute, ExtraRouteSpec, RouteFuture, RouteHandler};
use llama_warden_bus::{CommandReceiver, EventDraft, OutputKey, Publisher, ReceivedCommand, wall_time};
use llama_warden_client::{Client, DaemonAddress};
use llama_warden_component::Component;
pub use llama_warden_component_kit::server as id;
use llama_warden_component_kit::{PATIENCE, TestBus, card};
use llama_warden_events::{
    CommandOutcome, CommandSummary, Event, FailureReason, Incarnation, ProfileCard, ReadyVia, RefusalReason, Refused,
    Seq, ServerCard, ServerId, StreamName, SuperviseCommand, SwitchPlan,
};
use llama_warden_memory::SystemMemoryProbe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "s3cret-t0ken";

/// The document of the present types, whatever the generated file contains.
static DESCRIPTION: LazyLock<String> = LazyLock::new(|| openapi_document(&[&METRICS]).to_string());

/// A route of another component, as metrics adds it.
pub const METRICS: ExtraRouteSpec = ExtraRouteSpec {
    operation: "getMetrics",
    path: "/metrics",
    access: Access::Open,
    summary: "Metrics",
    parameters: &[],
    answer: "As text.",
    content_types: &["text/plain"],
};

/// Answers with the `Accept` header of the request.
#[derive(Debug)]
pub struct EchoAccept;

impl RouteHandler for EchoAccept {
    fn respond(&self, request: &http::request::Parts) -> RouteFuture {
        let accept = request.headers.get("accept").map(|accept| accept.to_str().expect("text").to_owned());
        let response = http::Response::builder().header("content-type", "text/plain; version=0.0.4");
        // As much as `?lines=` says, so that there is something to compress.
        let lines = request.uri.query().and_then(|query| query.strip_prefix("lines=")?.parse().ok()).unwrap_or(1);
        let response = response.body(format!("# {accept:?}\n").repeat(lines).into_bytes()).expect("valid");
        Box::pin(async { Ok(response) })
    }
}

pub fn one_model() -> serde_json::Value {
    serde_json::json!({ "models": [{ "id": "found" }], "problems": [] })
}

/// Settings of a test.
pub struct Setup {
    pub host: &'static str,
    pub token: bool,
    pub events_kept: usize,
    /// Whether `DaemonStarted` is published.
    pub started: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { host: "127.0.0.1", token: false, events_kept: 1024, started: true }
    }
}

pub struct ApiFixture {
    pub bus: TestBus,
    pub tcp: SocketAddr,
    pub socket: PathBuf,
    /// Commands that reached their owner.
    pub commands: mpsc::UnboundedReceiver<SuperviseCommand>,
    cancel: CancellationToken,
    run: JoinHandle<Result<(), UnusablePath>>,
    _directory: tempfile::TempDir,
}

impl ApiFixture {
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    /// Starts with the servers `good`, `broken`, `slow` and `locked`; [`run_owner`] says what each does.
    pub async fn start_with(setup: Setup) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("control.sock");
        let listeners = Listeners::bind(Some((setup.host, 0)), &socket, Vec::new()).expect("binds");
        let tcp = SocketAddr::from(([127, 0, 0, 1], listeners.tcp_address().expect("tcp").port()));
        let mut bus = TestBus::keeping(setup.events_kept);
        let (seen, commands) = mpsc::unbounded_channel();
        let inbox = bus.own::<SuperviseCommand>();
        let resources = ApiResources {
            listeners,
            token: if setup.token { Token::new(TOKEN).expect("valid").into() } else { Default::default() },
            routes: vec![ExtraRoute::new(&METRICS, EchoAccept)],
            peers: Default::default(),
            models: Arc::new(one_model),
            memory: Arc::new(SystemMemoryProbe::new()),
            configuration: Default::default(),
            description: &DESCRIPTION,
        };
        let api = Api::build(&bus.context(""), resources);
        let ports = bus.ports(Api::NAME);
        let cancel = ports.cancel.clone();
        tokio::spawn(run_owner(inbox, bus.publisher().clone(), seen, cancel.clone()));
        let run = tokio::spawn(api.run(ports));
        let daemon = Self { bus, tcp, socket, cancel, commands, run, _directory: directory };
        for server in ["broken", "good", "locked", "slow"] {
            let enabled = matches!(server, "good" | "slow");
            let card = ServerCard { enabled, ..card(&id(server)) };
            daemon.publish(EventDraft::server(id(server), Event::ServerConfigured { card: card.into() })).await;
        }
        daemon.publish(EventDraft::daemon(Event::ProfilesConfigured { profiles: Vec::new() })).await;
        if setup.started {
            daemon.publish(EventDraft::daemon(started())).await;
        }
        daemon
    }

    /// Publishes the profiles `all` and `night`.
    pub async fn configure_profiles(&self) {
        let profiles = ["all", "night"].map(|name| ProfileCard {
            name: name.to_owned(),
            description: format!("for {name}"),
            servers: vec![id("good"), id("slow")],
        });
        self.publish(EventDraft::daemon(Event::ProfilesConfigured { profiles: profiles.to_vec() })).await;
    }

    pub async fn publish(&self, event: EventDraft) {
        self.bus.publish(event).await;
    }

    pub async fn make_ready(&self, server: &str) {
        launch(self.bus.publisher(), &id(server)).await;
        let event = Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 0.5 };
        self.publish(EventDraft::incarnation(id(server), Incarnation::new(1), event)).await;
    }

    /// Writes lines as the server would.
    pub fn write(&self, server: &str, stream: StreamName, lines: &[&[u8]]) {
        let key = OutputKey { server: id(server), incarnation: Incarnation::new(1), stream };
        let mut sink = self.bus.lane().open(&key, 4096);
        lines.iter().for_each(|line| sink.push(wall_time(), line));
    }

    pub fn over_tcp(&self) -> Client {
        let address = DaemonAddress::Tcp { host: self.tcp.ip().to_string(), port: self.tcp.port() };
        Client::new(address, Some(TOKEN.to_owned()))
    }

    pub fn over_socket(&self) -> Client {
        Client::new(DaemonAddress::Unix(self.socket.clone()), None)
    }

    /// Sends a request line and headers (`Host` and `Connection` are added) and returns the whole answer.
    pub async fn ask(&self, request: &str, headers: &[&str]) -> RawResponse {
        self.ask_with_body(request, headers, b"").await
    }

    pub async fn ask_with_body(&self, request: &str, headers: &[&str], body: &[u8]) -> RawResponse {
        let mut head = format!("{request} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
            head.push_str(&format!("Host: {}\r\n", self.tcp));
        }
        headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
        head.push_str("\r\n");
        let mut stream = TcpStream::connect(self.tcp).await.expect("connects");
        stream.write_all(head.as_bytes()).await.expect("written");
        // The answer may come, and the connection end, before the body is out.
        let _ = stream.write_all(body).await;
        RawResponse::read(stream).await
    }

    /// Cancels the component and waits for its end, which must be without an error.
    pub async fn end(self) {
        self.begin_end();
        within(self.run).await.expect("no panic").expect("no error");
    }

    /// Cancels the component, which ends as soon as it can.
    pub fn begin_end(&self) {
        self.cancel.cancel();
    }
}

/// A response as text, its body decompressed.
fn decoded(mut bytes: Vec<u8>) -> String {
    let ends = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    let body = bytes.split_off(ends);
    let head = String::from_utf8(bytes).expect("text");
    // The answer to HEAD has the head of the answer to GET.
    let body = match head.contains("content-encoding: gzip") && !body.is_empty() {
        true => std::io::read_to_string(flate2::read::GzDecoder::new(&*body)).expect("gzip of text"),
        false => String::from_utf8(body).expect("text"),
    };
    head + &body
}

/// A complete response.
#[derive(Debug)]
pub struct RawResponse {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl RawResponse {
    pub async fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        within(stream.read_to_end(&mut bytes)).await.expect("readable to its end");
        let text = decoded(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Self { status, head: head.to_ascii_lowercase(), body: dechunk(head, body) }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The value of a header, lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn dechunk(head: &str, body: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let mut rest = body;
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        whole.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    whole
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

fn own_user() -> u32 {
    std::fs::metadata("/proc/self").expect("readable").uid()
}

fn started() -> Event {
    Event::DaemonStarted { version: "0.0.0".into(), pid: 1, profile: None, router: None }
}

async fn launch(events: &Publisher, server: &ServerId) {
    let one = Incarnation::new(1);
    for event in [
        Event::LaunchBegan { binary: "llama-server".into() },
        Event::ServerSpawned { pid: 42, start_ticks: 1, argv: ["llama-server"].into(), port: 8001 },
    ] {
        events.publish_acked(EventDraft::incarnation(server.clone(), one, event)).await.expect("open");
    }
}

/// Runs the command owner: `good` becomes ready, `broken` fails, `slow` is never done, `locked` is refused; a forced shutdown ends the api.
async fn run_owner(
    mut inbox: CommandReceiver<SuperviseCommand>,
    events: Publisher,
    seen: mpsc::UnboundedSender<SuperviseCommand>,
    cancel: CancellationToken,
) {
    loop {
        let request = inbox.recv().await;
        let _ = seen.send(request.command.clone());
        let forced = matches!(request.command, SuperviseCommand::ShutDown { force: true, .. });
        if let SuperviseCommand::ActivateProfile { .. } | SuperviseCommand::Reload { .. } = request.command {
            switch(request, &events).await;
            continue;
        }
        let (server, summary) = (request.command.server().cloned(), request.command.summary());
        if server.as_ref().is_some_and(|server| server.as_str() == "locked") {
            request.refuse(Refused::new(RefusalReason::WrongPhase, "it is locked"));
            continue;
        }
        let accepted = Event::CommandAccepted { command: summary.clone(), trace: request.trace.map(Box::new) };
        let accepted = EventDraft { server: server.clone(), ..EventDraft::daemon(accepted) };
        let command = events.publish_acked(accepted).await.expect("open");
        request.accept(Some(command));
        let Some(server) = server else {
            if forced {
                cancel.cancel();
            }
            continue;
        };
        let outcome = match (server.as_str(), summary) {
            ("slow", _) => continue,
            ("good", CommandSummary::Stop { .. }) => CommandOutcome::Stopped,
            ("good", _) => {
                launch(&events, &server).await;
                let event = Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 0.1 };
                let ready = EventDraft::incarnation(server.clone(), Incarnation::new(1), event);
                events.publish_acked(ready).await.expect("open");
                CommandOutcome::Ready
            }
            _ => CommandOutcome::Failed { reason: FailureReason::ModelInvalid, detail: "no GGUF".to_owned() },
        };
        let completed = EventDraft::server(server, Event::CommandCompleted { outcome }).because(command);
        events.publish_acked(completed).await.expect("open");
    }
}

/// Answers a switch: `night` is done at once, `all` is never done, other profiles are unknown, and the configuration is always invalid.
async fn switch(request: ReceivedCommand<SuperviseCommand>, events: &Publisher) {
    let (profile, dry_run) = match &request.command {
        SuperviseCommand::ActivateProfile { profile, dry_run } => (profile.clone(), *dry_run),
        _ => {
            let detail = "warden.toml:2:1: unknown key `a`\nwarden.toml:3:1: unknown key `b`";
            return request.refuse(Refused::new(RefusalReason::InvalidConfiguration, detail));
        }
    };
    if !matches!(profile.as_deref(), None | Some("night" | "all")) {
        return request.refuse(Refused::new(RefusalReason::UnknownProfile, "there is no such profile"));
    }
    let command = CommandSummary::ActivateProfile { profile: profile.clone() };
    let command =
        events.publish_acked(EventDraft::daemon(Event::CommandAccepted { command, trace: None })).await.expect("open");
    request.accept(Some(command));
    let lists = SwitchPlan { start: vec![id("slow")], keep: vec![id("good")], ..SwitchPlan::default() };
    let plan = SwitchPlan { profile: profile.clone(), ..lists };
    publish_because(events, command, Event::SwitchPlanned { plan: plan.into() }).await;
    if !dry_run {
        publish_because(events, command, Event::ProfileActivated { profile: profile.clone() }).await;
    }
    if dry_run || profile.as_deref() != Some("all") {
        publish_because(events, command, Event::CommandCompleted { outcome: CommandOutcome::Ready }).await;
    }
}

async fn publish_because(events: &Publisher, cause: Seq, event: Event) {
    events.publish_acked(EventDraft::daemon(event).because(cause)).await.expect("open");
}
