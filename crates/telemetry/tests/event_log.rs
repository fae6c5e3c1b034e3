//! The event log holds what the bus said.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use llama_warden_bus::Fact;
use llama_warden_component_kit::{Stage, server};
use llama_warden_events::{
    Event, FailureReason, Incarnation, ProcessEnd, ReadyVia, Rung, ServerId, Signal, StopReason, Warning,
};
use llama_warden_telemetry::{EventLog, ReplayError, replay};

const LIMIT: u64 = 1 << 20;

fn open(directory: &Path, name: &str) -> File {
    File::open(directory.join(name)).expect("is there")
}

/// A life with fractions, texts and lists of every kind.
async fn tell_a_life(stage: &Stage, server: &ServerId, incarnation: Incarnation) {
    let rung = Rung { index: 0, signal: Signal::TERM };
    let life = [
        Event::LaunchBegan { binary: "/bin/llama-server".into() },
        Event::ServerSpawned { pid: 7, start_ticks: 9, argv: vec!["a".into(), "\"b\"\n".into()], port: 8001 },
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
        stage.publish(Fact::incarnation(server.clone(), incarnation, event)).await;
    }
}

#[tokio::test]
async fn the_log_replays_to_the_same_snapshot() {
    let directory = tempfile::tempdir().expect("is made");
    let mut stage = Stage::new();
    let log = stage.run(EventLog::new(directory.path(), LIMIT));
    let server = server("a");
    stage.configure(&server).await;
    for incarnation in 1..=20 {
        tell_a_life(&stage, &server, Incarnation(incarnation)).await;
    }
    log.end().await;
    let replayed = replay(BufReader::new(open(directory.path(), "events.jsonl"))).expect("replays");
    assert_eq!(replayed, *stage.bus().snapshot());
}

#[tokio::test]
async fn a_rotated_log_replays_from_both_files() {
    let directory = tempfile::tempdir().expect("is made");
    let mut stage = Stage::new();
    let log = stage.run(EventLog::new(directory.path(), 4000));
    let server = server("a");
    stage.configure(&server).await;
    tell_a_life(&stage, &server, Incarnation(1)).await;
    tell_a_life(&stage, &server, Incarnation(2)).await;
    log.end().await;
    let [former, latest] = ["events.jsonl.1", "events.jsonl"].map(|name| open(directory.path(), name));
    assert!(former.metadata().expect("readable").len() <= 4000);
    let both = BufReader::new(former.chain(latest));
    assert_eq!(replay(both).expect("replays"), *stage.bus().snapshot());
}

#[tokio::test]
async fn a_new_run_keeps_the_log_of_the_one_before() {
    let directory = tempfile::tempdir().expect("is made");
    for run in ["first", "second"] {
        let mut stage = Stage::new();
        let log = stage.run(EventLog::new(directory.path(), LIMIT));
        stage.publish(Fact::daemon(Event::DaemonStopping { trigger: run.into() })).await;
        log.end().await;
    }
    let text = |name| fs::read_to_string(directory.path().join(name)).expect("readable");
    assert!(text("events.jsonl").contains("second") && !text("events.jsonl").contains("first"));
    assert!(text("events.jsonl.1").contains("first"));
}

#[tokio::test]
async fn a_disk_that_takes_nothing_costs_facts_and_nothing_else() {
    let directory = tempfile::tempdir().expect("is made");
    let missing = directory.path().join("not-yet");
    let mut stage = Stage::new();
    let log = stage.run(EventLog::new(&missing, LIMIT));
    for _ in 0..5000 {
        stage.publish(Fact::daemon(Event::DaemonStopping { trigger: "lost".into() })).await;
    }
    fs::create_dir(&missing).expect("is made");
    let last = stage.publish(Fact::daemon(Event::DaemonStopping { trigger: "kept".into() })).await;
    log.end().await;
    let text = fs::read_to_string(missing.join("events.jsonl")).expect("readable");
    assert!(text.lines().last().is_some_and(|line| line.contains("kept")), "{text}");
    let replayed = replay(text.as_bytes());
    assert!(matches!(replayed, Err(ReplayError::Hole { next, .. }) if next <= last), "{replayed:?}");
}
