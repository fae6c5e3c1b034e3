//! The event log holds what the bus said.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use llama_warden_bus::EventDraft;
use llama_warden_component_kit::{TestBus, server};
use llama_warden_event_log::{EventLog, replay};
use llama_warden_events::{
    Event, FailureReason, Incarnation, ProcessEnd, ReadyVia, Rung, ServerId, Signal, StopReason, Warning,
};
use llama_warden_state::Snapshot;

const LIMIT: u64 = 1 << 20;

fn open(directory: &Path, name: &str) -> File {
    File::open(directory.join(name)).expect("is there")
}

/// A snapshot with times as precise as they are written.
fn written(snapshot: &Snapshot) -> serde_json::Value {
    serde_json::to_value(snapshot).expect("serializes")
}

/// A life with fractions, texts and lists of every kind.
async fn publish_a_life(bus: &TestBus, server: &ServerId, incarnation: Incarnation) {
    let rung = Rung { index: 0, signal: Signal::TERM };
    let life = [
        Event::LaunchBegan { binary: "/bin/llama-server".into() },
        Event::ServerSpawned { pid: 7, start_ticks: 9, argv: ["a", "\"b\"\n"].into(), port: 8001 },
        Event::LoadProgressed { ratio: Some(0.1 + 0.2) },
        Event::ServerWarned { warning: Warning::ModelUnverified, detail: "why".into() },
        Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 1.0 / 3.0 },
        Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 },
        Event::SignalDelivered { signal: Signal::TERM, rung },
        Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 },
        Event::ServerStopped { reason: StopReason::Requested, forced: false, stop_seconds: 0.123_456_789 },
        Event::ServerFailed { reason: FailureReason::Unknown, detail: "late".into(), lines: vec!["x".into()] },
    ];
    for event in life {
        bus.publish(EventDraft::incarnation(server.clone(), incarnation, event)).await;
    }
}

#[tokio::test]
async fn the_log_replays_to_the_same_snapshot() {
    let directory = tempfile::tempdir().expect("is made");
    let mut bus = TestBus::new();
    let log = bus.run(EventLog::new(directory.path(), LIMIT));
    let server = server("a");
    bus.configure(&server).await;
    for incarnation in 1..=20 {
        publish_a_life(&bus, &server, Incarnation::new(incarnation)).await;
    }
    log.end().await;
    let replayed = replay(BufReader::new(open(directory.path(), "events.jsonl"))).expect("replays");
    assert_eq!(written(&replayed), written(&bus.bus().snapshot()));
}

#[tokio::test]
async fn a_rotated_log_replays_from_both_files() {
    let directory = tempfile::tempdir().expect("is made");
    let mut bus = TestBus::new();
    let log = bus.run(EventLog::new(directory.path(), 2500));
    let server = server("a");
    bus.configure(&server).await;
    publish_a_life(&bus, &server, Incarnation::new(1)).await;
    publish_a_life(&bus, &server, Incarnation::new(2)).await;
    log.end().await;
    let [former, latest] = ["events.jsonl.1", "events.jsonl"].map(|name| open(directory.path(), name));
    assert!((2500..3000).contains(&former.metadata().expect("readable").len()));
    let both = BufReader::new(former.chain(latest));
    assert_eq!(written(&replay(both).expect("replays")), written(&bus.bus().snapshot()));
}

#[tokio::test]
async fn a_new_run_goes_on_behind_the_one_before_and_each_can_be_read() {
    let directory = tempfile::tempdir().expect("is made");
    for _ in 0..2 {
        let mut bus = TestBus::new();
        let log = bus.run(EventLog::new(directory.path(), LIMIT));
        bus.publish(EventDraft::daemon(Event::DaemonStopping { trigger: "t".into() })).await;
        log.end().await;
    }
    let text = fs::read_to_string(directory.path().join("events.jsonl")).expect("readable");
    assert_eq!(text.lines().count(), 2);
    assert!(!directory.path().join("events.jsonl.1").exists());
}

#[tokio::test]
async fn on_request_the_log_gives_up_a_file_that_was_moved_away() {
    let directory = tempfile::tempdir().expect("is made");
    let path = directory.path().join("events.jsonl");
    let mut bus = TestBus::new();
    let log = EventLog::new(directory.path(), LIMIT);
    let reopener = log.reopener();
    let log = bus.run(log);
    bus.publish(EventDraft::daemon(Event::DaemonStopping { trigger: "before".into() })).await;
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    fs::rename(&path, directory.path().join("moved")).expect("moves");
    reopener.reopen();
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    log.end().await;
    assert!(fs::read_to_string(directory.path().join("moved")).expect("readable").contains("before"));
    assert_eq!(fs::read_to_string(&path).expect("readable"), "");
}

#[tokio::test]
async fn a_disk_that_takes_nothing_stops_nothing() {
    let directory = tempfile::tempdir().expect("is made");
    let mut bus = TestBus::new();
    let log = bus.run(EventLog::new(directory.path().join("missing"), LIMIT));
    for _ in 0..5000 {
        bus.publish(EventDraft::daemon(Event::DaemonStopping { trigger: "lost".into() })).await;
    }
    log.end().await;
    assert_eq!(bus.bus().snapshot().events["DaemonStopping"], 5000);
}
