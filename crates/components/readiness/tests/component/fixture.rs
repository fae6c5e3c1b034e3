//! A server, a launcher and an output that the tests play.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use llama_warden_bus::{BusClosed, EventDraft, OutputKey, OutputSink, Publisher};
use llama_warden_component_kit::{RunningComponent, TestBus};
use llama_warden_config::{Confirm, Fleet, ListenerPolicy, OnTimeout, ReadinessSpec, ServerSpec};
use llama_warden_detectors::PackSet;
use llama_warden_events::{
    BinaryIdentity, Event, FailureReason, Incarnation, LaunchCommand, ListenerOwner, ProcessEnd, ReadyVia, ServerId,
    StopReason, StreamName,
};
use llama_warden_readiness::Readiness;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub const FIRST: Incarnation = Incarnation::new(1);
pub const MODEL: &str = "/models/tiny.gguf";

/// A server whose answers the test sets. Status 0 never answers.
pub struct AnsweringServer {
    pub port: u16,
    pub health: Arc<AtomicU16>,
}

impl AnsweringServer {
    pub async fn start(health: u16, model: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("has an address").port();
        let health = Arc::new(AtomicU16::new(health));
        let status = health.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let status = status.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let (status, body) = if head.starts_with(b"GET /health ") {
                        (status.load(Ordering::SeqCst), "{}".to_owned())
                    } else if head.starts_with(b"GET /v1/models ") {
                        (200, format!("{{\"data\":[{{\"id\":\"{model}\"}}]}}"))
                    } else {
                        (404, String::new())
                    };
                    if status == 0 {
                        // Until the client gives up.
                        let _ = stream.read_u8().await;
                        return;
                    }
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    // The client may be gone.
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { port, health }
    }

    pub fn answer(&self, status: u16) {
        self.health.store(status, Ordering::SeqCst);
    }
}

pub fn spec(id: &ServerId, readiness: ReadinessSpec) -> ServerSpec {
    ServerSpec {
        model: if id.as_str() == "hub" { "hf:org/repo" } else { MODEL }.into(),
        port: 1,
        binary: Path::new("/bin/llama-server").into(),
        readiness: readiness.into(),
        log_ring_bytes: 4096,
        ..ServerSpec::clone(&llama_warden_component_kit::spec(id.as_str(), ""))
    }
}

pub fn readiness() -> ReadinessSpec {
    ReadinessSpec {
        timeout: Duration::from_secs(60),
        on_timeout: OnTimeout::Fail,
        stall_timeout: None,
        detector: None,
        confirm: Confirm::Health,
        listener: ListenerPolicy::Own,
    }
}

/// The component on a test bus, with a launcher that answers `owner` whenever it is asked who listens.
pub struct Fixture {
    pub bus: TestBus,
    pub component: Option<Readiness>,
    pub running: Option<RunningComponent<BusClosed>>,
}

impl Fixture {
    pub async fn new(bus: TestBus, servers: &[&ServerId], readiness: ReadinessSpec, owner: ListenerOwner) -> Self {
        Self::with_packs(bus, servers, readiness, owner, PackSet::built_in()).await
    }

    pub async fn with_packs(
        mut bus: TestBus,
        servers: &[&ServerId],
        readiness: ReadinessSpec,
        owner: ListenerOwner,
        packs: PackSet,
    ) -> Self {
        let fleet = Fleet::new(servers.iter().map(|id| spec(id, readiness.clone())));
        // The last value stays readable when its sender is gone.
        let (_, fleet) = watch::channel(fleet);
        let component = Readiness::new(fleet, packs, bus.lane());
        for id in servers {
            bus.configure(id).await;
        }
        let mut inbox = bus.own::<LaunchCommand>();
        let publisher = bus.publisher().clone();
        tokio::spawn(async move {
            loop {
                let request = inbox.recv().await;
                if let LaunchCommand::IdentifyListener { server, incarnation } = request.command.clone() {
                    let listener = owner.clone();
                    request.accept(None);
                    publish(&publisher, &server, incarnation, Event::ListenerIdentified { listener }).await;
                }
            }
        });
        Self { bus, component: Some(component), running: None }
    }

    pub async fn one(id: &ServerId) -> Self {
        let mut fixture = Self::new(TestBus::new(), &[id], readiness(), ListenerOwner::Own).await;
        fixture.run();
        fixture
    }

    pub fn run(&mut self) {
        let component = self.component.take().expect("not yet running");
        self.running = Some(self.bus.run(component));
    }

    pub async fn launch(&self, id: &ServerId, incarnation: Incarnation, port: u16) -> OutputSink {
        let publisher = self.bus.publisher();
        publish(publisher, id, incarnation, Event::LaunchBegan { binary: "llama-server".into() }).await;
        publish(publisher, id, incarnation, identified()).await;
        publish(publisher, id, incarnation, spawned(port)).await;
        self.open(id, incarnation, StreamName::Stderr)
    }

    pub fn open(&self, id: &ServerId, incarnation: Incarnation, stream: StreamName) -> OutputSink {
        self.bus.lane().open(&OutputKey { server: id.clone(), incarnation, stream }, 4096)
    }

    pub async fn publish(&self, id: &ServerId, event: Event) {
        publish(self.bus.publisher(), id, FIRST, event).await;
    }

    pub async fn exit(&self, id: &ServerId, end: ProcessEnd) {
        self.publish(id, Event::ServerExited { end, swept: 0 }).await;
    }

    pub async fn via(&mut self) -> ReadyVia {
        match &self.bus.wait_for(|event| matches!(event, Event::ReadyReached { .. })).await.event {
            Event::ReadyReached { via, .. } => *via,
            other => panic!("{other:?}"),
        }
    }

    pub async fn failure(&mut self) -> (FailureReason, String, Vec<String>) {
        match &self.bus.wait_for(|event| matches!(event, Event::ServerFailed { .. })).await.event {
            Event::ServerFailed { reason, detail, lines } => (*reason, detail.clone(), lines.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Ends the component and returns every event, in order.
    pub async fn end(mut self) -> String {
        self.running.take().expect("runs").end().await;
        self.bus.log()
    }
}

pub async fn publish(publisher: &Publisher, id: &ServerId, incarnation: Incarnation, event: Event) {
    publisher.publish_acked(EventDraft::incarnation(id.clone(), incarnation, event)).await.expect("the bus is open");
}

pub fn identified() -> Event {
    let identity = BinaryIdentity {
        binary: Path::new("/bin/llama-server").into(),
        version: Some("b11669".into()),
        build: Some(11_669),
        options: ["load-mode", "models-dir"].map(String::from).into(),
    };
    Event::BinaryIdentified(identity.into())
}

pub fn spawned(port: u16) -> Event {
    Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port }
}

pub fn stopped() -> Event {
    Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 }
}

pub fn ready_line(port: u16) -> String {
    format!("0.02.299.853 I srv  llama_server: listening on http://127.0.0.1:{port}")
}
