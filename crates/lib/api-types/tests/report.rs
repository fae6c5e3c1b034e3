//! Reports of a stop, of a held launch, and of a server without a process.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::sync::Arc;
use std::time::Duration;

use llama_warden_api_types::{ServerReport, StatusReport, base_url};
use llama_warden_events::{
    BootId, CommandSummary, Envelope, Event, FailureReason, Incarnation, ProcessEnd, ReadyVia, Rung, ServerCard,
    ServerId, Signal, StopReason, Timestamp, Uptime,
};
use llama_warden_state::Snapshot;

/// The snapshot after `events` of server `a`, one second apart; each event comes with its launch, 0 for none.
fn snapshot_after(events: &[(u64, Event)]) -> Snapshot {
    let boot = BootId::from_random(1);
    let mut snapshot = Snapshot::new(boot);
    let card = ServerCard {
        display_name: "A".to_owned(),
        model: None,
        port: 8001,
        host: "127.0.0.1".to_owned(),
        tier: None,
        thinking: false,
        enabled: true,
    };
    let configured = (0, Event::ServerConfigured { card: Arc::new(card) });
    for (launch, event) in std::iter::once(&configured).chain(events) {
        let seq = snapshot.seq.next();
        snapshot.apply(&Envelope {
            seq,
            boot,
            at: Timestamp::new("2026-01-01T00:00:00Z".parse().expect("valid")),
            elapsed: Uptime::new(Duration::from_secs(seq.get())),
            server: Some(ServerId::new("a").expect("valid")),
            incarnation: (*launch > 0).then_some(Incarnation::new(*launch)),
            cause: None,
            event: event.clone(),
        });
    }
    snapshot
}

fn report(snapshot: &Snapshot, seconds: u64) -> (StatusReport, ServerReport) {
    let status = StatusReport::of(snapshot, Uptime::new(Duration::from_secs(seconds)));
    let server = status.servers[0].clone();
    (status, server)
}

#[test]
fn the_report_says_what_a_stop_waits_for_and_shows_no_uptime_of_an_exited_server() {
    let mut events = vec![
        (1, Event::LaunchBegan { binary: "llama-server".into() }),
        (1, Event::ServerSpawned { pid: 42, start_ticks: 7, argv: ["llama-server"].into(), port: 8001 }),
        (1, Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 2.0 }),
        (1, Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 }),
        (1, Event::SignalDelivered { signal: Signal::TERM, rung: Rung { index: 0, signal: Signal::TERM } }),
    ];
    let (_, server) = report(&snapshot_after(&events), 8);
    assert_eq!(server.waiting_for.as_deref(), Some("its end after TERM; KILL in 7.0 s"));
    assert_eq!((server.uptime_seconds, server.pid), (5, Some(42)));
    events.push((1, Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 }));
    let (status, server) = report(&snapshot_after(&events), 8);
    assert_eq!((server.uptime_seconds, server.pid), (0, None));
    assert_eq!((status.total_servers, status.ready_servers, status.running_servers), (1, 0, 0));
}

#[test]
fn the_report_says_what_a_held_launch_waits_for() {
    let held = (0, Event::LaunchHeld { because: "needs 2 GiB".to_owned() });
    let (_, server) = report(&snapshot_after(std::slice::from_ref(&held)), 3);
    assert_eq!(server.waiting_for.as_deref(), Some("memory: needs 2 GiB"));
    let (_, server) = report(&snapshot_after(&[held, (0, Event::LaunchReleased)]), 3);
    assert_eq!(server.waiting_for, None);
}

#[test]
fn a_failed_server_whose_start_was_accepted_waits_for_its_launch() {
    let failed = Event::ServerFailed {
        reason: FailureReason::ModelInvalid,
        detail: "no such file".to_owned(),
        lines: Vec::new(),
    };
    let accepted = Event::CommandAccepted { command: CommandSummary::Start, trace: None };
    let events = [(1, Event::LaunchBegan { binary: "llama-server".into() }), (1, failed), (0, accepted)];
    let (_, server) = report(&snapshot_after(&events), 4);
    assert_eq!(server.waiting_for.as_deref(), Some("its launch"));
    let (_, server) = report(&snapshot_after(&events[..2]), 4);
    assert_eq!(server.waiting_for, None);
}

#[test]
fn the_report_shows_the_path_of_a_unix_socket_where_no_port_listens() {
    let mut snapshot = snapshot_after(&[]);
    for (host, port, url) in [
        ("127.0.0.1", Some(8001), "http://127.0.0.1:8001"),
        ("127.0.0.1, /run/a.sock", Some(8001), "http://127.0.0.1:8001"),
        ("[::1],127.0.0.1", Some(8001), "http://[::1]:8001"),
        ("/run/a.sock", None, "unix:/run/a.sock"),
    ] {
        for server in snapshot.servers.values_mut() {
            let server = Arc::make_mut(server);
            server.card = ServerCard { host: host.to_owned(), ..ServerCard::clone(&server.card) }.into();
        }
        let (_, server) = report(&snapshot, 1);
        assert_eq!((server.port, base_url(host, 8001).as_str()), (port, url));
    }
}
