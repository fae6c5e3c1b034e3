//! The HTTP API on its sockets: whatever bytes come, what is answered is HTTP, the next request is answered, and over TCP
//! nothing is commanded without the token.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use llama_warden_api::{Api, ApiResources, Listeners, Token};
use llama_warden_bus::{CommandReceiver, EventDraft, OutputKey, Publisher, wall_time};
use llama_warden_component::Component;
use llama_warden_component_kit::{TestBus, card, server};
use llama_warden_events::{
    CommandOutcome, CommandSummary, Event, Incarnation, ServerCard, StreamName, SuperviseCommand,
};
use llama_warden_memory::SystemMemoryProbe;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// The token of the API.
const TOKEN: &str = "s3cret-t0ken";

/// How long nothing comes after which nothing more is awaited: client and server share a thread, so that this is a long time.
const QUIET: Duration = Duration::from_millis(50);

thread_local! {
    static API: RunningApi = RunningApi::start();
}

/// Sends the input over TCP and over the control socket, then a probe.
pub(crate) fn check(input: &[u8]) {
    API.with(|api| {
        api.runtime.block_on(async {
            let before = api.commands.load(Ordering::Relaxed);
            let answer = exchange(TcpStream::connect(api.tcp).await.expect("connects"), input).await;
            check_answer(input, &answer);
            let has_token = input.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
            let commands = api.commands.load(Ordering::Relaxed) - before;
            assert!(commands == 0 || has_token, "{commands} commands without the token");

            let answer = exchange(UnixStream::connect(&api.socket).await.expect("connects"), input).await;
            check_answer(input, &answer);

            let probe = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let answer = exchange(UnixStream::connect(&api.socket).await.expect("connects"), probe).await;
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{:?}", answer.escape_ascii().to_string());
        });
    });
}

/// Sends bytes, says that no more come, and reads at the same time what is answered: to its end, or until nothing more comes, as
/// from a stream of events.
async fn exchange(stream: impl AsyncRead + AsyncWrite, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut answer = Vec::new();
    // An answer may come, and the connection end, before all bytes are out.
    let write = async {
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let read = async { while let Ok(Ok(1..)) = tokio::time::timeout(QUIET, reader.read_buf(&mut answer)).await {} };
    tokio::join!(write, read);
    answer
}

/// An answer is HTTP, and a refusal is a problem in JSON that has the same status.
fn check_answer(input: &[u8], answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer).expect("an answer is HTTP");
    let (httparse::Status::Complete(head), Some(status)) = (parsed, response.code) else {
        panic!("half an answer: {:?}", answer.escape_ascii().to_string());
    };
    assert!((100..600).contains(&status), "{status}");
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let body = value("content-length").and_then(|length| answer.get(head..head + length.parse::<usize>().ok()?));
    if let (Some("application/problem+json"), Some(body)) = (value("content-type"), body)
        && !input.starts_with(b"HEAD")
    {
        let problem: serde_json::Value = serde_json::from_slice(body).expect("a problem is JSON");
        assert_eq!(problem["status"], status, "{problem}");
        for key in ["type", "title", "detail", "reason"] {
            assert!(problem[key].is_string(), "{key} is missing in {problem}");
        }
    }
}

/// The API with two servers, and an owner of its commands that completes each at once.
struct RunningApi {
    runtime: Runtime,
    tcp: SocketAddr,
    socket: PathBuf,
    commands: Arc<AtomicU64>,
    _bus: TestBus,
    _folder: TempDir,
}

impl RunningApi {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a temporary directory");
        let socket = folder.path().join("control.sock");
        let commands = Arc::new(AtomicU64::new(0));
        let (tcp, bus) = runtime.block_on(async {
            // A program that libFuzzer starts does not ignore it, unlike every other one, and a peer may close its end.
            let _ = signal(SignalKind::pipe());
            let listeners = Listeners::bind(Some(("127.0.0.1", 0)), &socket, Vec::new()).expect("binds");
            let tcp = listeners.tcp_address().expect("is bound");
            let mut bus = TestBus::keeping(256);
            tokio::spawn(own(bus.own::<SuperviseCommand>(), bus.publisher().clone(), Arc::clone(&commands)));
            let resources = ApiResources {
                listeners,
                token: Token::new(TOKEN).expect("is one").into(),
                routes: Vec::new(),
                peers: Default::default(),
                models: Arc::new(|| serde_json::json!({ "models": [] })),
                memory: Arc::new(SystemMemoryProbe::new()),
                configuration: Default::default(),
                description: "{}",
            };
            let api = Api::build(&bus.context(""), resources);
            let ports = bus.ports(Api::NAME);
            tokio::spawn(api.run(ports));
            for id in ["good", "other"] {
                let card = ServerCard { enabled: true, ..card(&server(id)) };
                bus.publish(EventDraft::server(server(id), Event::ServerConfigured { card: card.into() })).await;
            }
            bus.publish(EventDraft::daemon(Event::ProfilesConfigured { profiles: Vec::new() })).await;
            bus.publish(EventDraft::daemon(Event::DaemonStarted {
                version: "0.0.0".into(),
                pid: 1,
                profile: None,
                router: None,
            }))
            .await;
            (tcp, bus)
        });
        let stream = StreamName::Stderr;
        let mut sink =
            bus.lane().open(&OutputKey { server: server("good"), incarnation: Incarnation::new(1), stream }, 4096);
        sink.push(wall_time(), b"a line");
        Self { runtime, tcp, socket, commands, _bus: bus, _folder: folder }
    }
}

/// Counts commands, and accepts and completes them, so that no request waits.
async fn own(mut inbox: CommandReceiver<SuperviseCommand>, events: Publisher, commands: Arc<AtomicU64>) {
    loop {
        let request = inbox.recv().await;
        commands.fetch_add(1, Ordering::Relaxed);
        let accepted = Event::CommandAccepted { command: CommandSummary::ShutDown, trace: None };
        let Ok(command) = events.publish_acked(EventDraft::daemon(accepted)).await else { return };
        request.accept(Some(command));
        let completed = Event::CommandCompleted { outcome: CommandOutcome::Stopped };
        let _ = events.publish_acked(EventDraft::daemon(completed).because(command)).await;
    }
}
