//! The component beside a socket of our own.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use llama_warden_bus::EventDraft;
use llama_warden_component_kit::{PATIENCE, TestBus, compliance, server};
use llama_warden_events::{CommandSummary, Event};
use llama_warden_systemd::{Systemd, SystemdEnvironment};
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// systemd's end of the socket.
struct Manager {
    socket: UnixDatagram,
    root: TempDir,
}

impl Manager {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("directory");
        Self { socket: UnixDatagram::bind(root.path().join("notify")).expect("bound"), root }
    }

    fn component(&self, bus: &TestBus) -> Systemd {
        let path = self.root.path().join("notify");
        let environment = SystemdEnvironment::read(|name| (name == "NOTIFY_SOCKET").then(|| path.clone().into()));
        Systemd::build(&bus.context(""), environment.expect("read").expect("a socket"), None)
    }

    async fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = timeout(PATIENCE, self.socket.recv(&mut buffer)).await.expect("a message").expect("received");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    async fn until(&self, wanted: &str) {
        while self.next().await != wanted {}
    }
}

fn started() -> EventDraft {
    EventDraft::daemon(Event::DaemonStarted { version: "1".into(), pid: 1, profile: None, router: None })
}

#[tokio::test(start_paused = true)]
async fn systemd_complies() {
    let manager = Manager::new();
    compliance::check(|bus| manager.component(bus)).await;
}

#[tokio::test]
async fn readiness_arrives_though_systemd_had_no_room_for_it() {
    let manager = Manager::new();
    let flood = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    flood.set_nonblocking(true).expect("set");
    while flood.send_to(b"noise", manager.root.path().join("notify")).is_ok() {}
    let mut bus = TestBus::new();
    let component = bus.run(manager.component(&bus));
    bus.publish(started()).await;
    bus.configure(&server("a")).await;
    manager.until("READY=1").await;
    component.end().await;
}

#[tokio::test]
async fn start_reload_and_stop_are_told_in_order() {
    let manager = Manager::new();
    let mut bus = TestBus::new();
    let component = bus.run(manager.component(&bus));
    bus.publish(started()).await;
    manager.until("READY=1").await;
    bus.configure(&server("a")).await;
    manager.until("STATUS=0 of 1 servers ready").await;
    bus.publish(EventDraft::daemon(Event::CommandAccepted { command: CommandSummary::Reload, trace: None })).await;
    assert!(manager.next().await.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    bus.publish(EventDraft::daemon(Event::ConfigurationReloaded { trigger: "HUP".to_owned() })).await;
    manager.until("READY=1").await;
    bus.publish(EventDraft::daemon(Event::DaemonStopping { trigger: "TERM".to_owned() })).await;
    manager.until("STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000").await;
    component.end().await;
}
