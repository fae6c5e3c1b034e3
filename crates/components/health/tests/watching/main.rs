//! The component on a real bus, against real sockets and processes, in real time.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod fake;
mod fixture;

use std::time::{Duration, Instant};

use fake::{FakeProcess, FakeServer, Reaction};
use fixture::{FIRST, HealthFixture, spec, terms};
use llama_warden_bus::{EventDraft, OutputKey, wall_time};
use llama_warden_component_kit::{TestBus, server};
use llama_warden_config::{Fleet, HealthSpec};
use llama_warden_events::{Event, FailureReason, ServerId, StopReason, StreamName};

fn with_inference() -> HealthSpec {
    HealthSpec { inference: Some(Duration::from_millis(100)), ..terms() }
}

async fn failure(fixture: &mut HealthFixture) -> (FailureReason, String, Vec<String>) {
    match &fixture.bus.wait_for(|event| matches!(event, Event::ServerFailed { .. })).await.event {
        Event::ServerFailed { reason, detail, lines } => (*reason, detail.clone(), lines.clone()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_ready_server_is_looked_at_and_told_of_once() {
    let a = server("a");
    let (fake, process) = (FakeServer::healthy().await, FakeProcess::idle());
    let fixture = HealthFixture::one(&a, terms()).await;
    fixture.make_ready(&a, fake.port, &process).await;
    fake.asked("GET /health", 5).await;
    let snapshot = fixture.bus.see(|snapshot| snapshot.servers["a"].health.is_some()).await;
    let health = snapshot.servers["a"].health.expect("seen");
    assert!(health.ok && health.failures == 0 && health.latency_ms > 0.0, "{health:?}");
    assert_eq!(fixture.count("HealthProbed"), 1);
    fixture.end().await;
}

#[tokio::test]
async fn a_server_that_neither_answers_nor_computes_is_lost_and_then_unresponsive() {
    let a = server("a");
    let fake = FakeServer::start(&[("GET /health", Reaction::Hang)]).await;
    let process = FakeProcess::idle();
    let mut fixture = HealthFixture::one(&a, terms()).await;
    let key = OutputKey { server: a.clone(), incarnation: FIRST, stream: StreamName::Stderr };
    let mut sink = fixture.bus.lane().open(&key, 4096);
    sink.push(wall_time(), b"the last line");
    fixture.make_ready(&a, fake.port, &process).await;
    fixture.bus.wait_for(|event| matches!(event, Event::ReadyLost { .. })).await;
    let (reason, detail, lines) = failure(&mut fixture).await;
    assert_eq!(reason, FailureReason::Unresponsive);
    assert_eq!(detail, "4 looks in a row: no answer within 0.3 s, and it computes nothing");
    assert_eq!(lines, ["the last line"]);
    fixture.end().await;
}

#[tokio::test]
async fn a_stopped_process_is_named() {
    let a = server("a");
    let fake = FakeServer::start(&[("GET /health", Reaction::Hang)]).await;
    let process = FakeProcess::idle();
    process.stop();
    let mut fixture = HealthFixture::one(&a, terms()).await;
    fixture.make_ready(&a, fake.port, &process).await;
    let (reason, detail, _) = failure(&mut fixture).await;
    assert_eq!(reason, FailureReason::Unresponsive);
    assert!(detail.ends_with("its process is stopped by a signal or a debugger"), "{detail}");
    fixture.end().await;
}

#[tokio::test]
async fn nobody_at_the_port_is_a_failure_too() {
    let a = server("a");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("has an address").port();
    drop(listener);
    let process = FakeProcess::idle();
    let mut fixture = HealthFixture::one(&a, terms()).await;
    fixture.make_ready(&a, port, &process).await;
    let (reason, detail, _) = failure(&mut fixture).await;
    assert_eq!(reason, FailureReason::Unresponsive);
    assert!(detail.contains("nobody listens"), "{detail}");
    fixture.end().await;
}

/// Fault C39.
#[tokio::test]
async fn a_server_that_computes_is_left_alone_however_long_it_is_silent() {
    let a = server("a");
    let fake = FakeServer::start(&[("GET /health", Reaction::Hang)]).await;
    let process = FakeProcess::busy();
    // Long enough for it to be seen computing, also on a loaded machine.
    let fixture = HealthFixture::one(&a, HealthSpec { timeout: Duration::from_secs(1), ..terms() }).await;
    fixture.make_ready(&a, fake.port, &process).await;
    fake.asked("GET /health", 6).await;
    let snapshot = fixture.bus.see(|snapshot| snapshot.servers["a"].health.is_some()).await;
    let record = &snapshot.servers["a"];
    assert!(record.is_ready() && record.health.is_some_and(|health| !health.ok && health.failures == 0), "{record:?}");
    assert_eq!((fixture.count("ReadyLost"), fixture.count("HealthProbed")), (0, 1));
    fixture.end().await;
}

/// Fault C9.
#[tokio::test]
async fn a_server_that_says_that_it_is_not_ready_is_lost_lives_and_regains_it() {
    let a = server("a");
    let fake = FakeServer::start(&[("GET /health", Reaction::Say(503, "{}"))]).await;
    let process = FakeProcess::idle();
    let mut fixture = HealthFixture::one(&a, terms()).await;
    fixture.make_ready(&a, fake.port, &process).await;
    let lost = fixture.bus.wait_for(|event| matches!(event, Event::ReadyLost { .. })).await;
    assert!(matches!(&lost.event, Event::ReadyLost { detail } if detail.contains("503")), "{lost:?}");
    fake.asked("GET /health", 6).await;
    fake.set("GET /health", Reaction::Say(200, "{}"));
    fixture.bus.wait_for(|event| matches!(event, Event::ReadyRegained)).await;
    assert_eq!(fixture.count("ServerFailed"), 0);
    fixture.end().await;
}

#[tokio::test]
async fn a_build_without_a_health_path_is_alive_when_it_answers() {
    let a = server("a");
    let (fake, process) = (FakeServer::start(&[]).await, FakeProcess::idle());
    let fixture = HealthFixture::one(&a, terms()).await;
    fixture.make_ready(&a, fake.port, &process).await;
    fake.asked("GET /health", 5).await;
    let snapshot = fixture.bus.see(|snapshot| snapshot.servers["a"].health.is_some()).await;
    assert!(snapshot.servers["a"].health.is_some_and(|health| health.ok));
    fixture.end().await;
}

#[tokio::test]
async fn a_server_that_speaks_tls_is_alive_when_it_takes_connections() {
    let a = server("a");
    let (fake, process) = (FakeServer::start(&[]).await, FakeProcess::idle());
    let mut spec = spec(&a, terms());
    spec.args = ["--ssl-cert-file", "cert.pem"].map(String::from).to_vec();
    let mut fixture = HealthFixture::of(TestBus::new(), vec![spec]).await;
    fixture.raise();
    fixture.make_ready(&a, fake.port, &process).await;
    fake.asked("connection", 3).await;
    assert_eq!((fake.times("GET /health"), fixture.count("ReadyLost")), (0, 0));
    fixture.end().await;
}

/// Fault C38.
#[tokio::test]
async fn a_server_that_answers_and_does_not_work_is_wedged() {
    let a = server("a");
    let slots = r#"[{"id":0,"is_processing":true,"n_decoded":7}]"#;
    let fake = FakeServer::start(&[
        ("GET /health", Reaction::Say(200, "{}")),
        ("GET /props", Reaction::Say(200, r#"{"is_sleeping":false}"#)),
        ("POST /completion", Reaction::Hang),
        ("GET /slots", Reaction::Say(200, slots)),
    ])
    .await;
    let process = FakeProcess::idle();
    let mut fixture = HealthFixture::one(&a, with_inference()).await;
    fixture.make_ready(&a, fake.port, &process).await;
    let (reason, detail, _) = failure(&mut fixture).await;
    assert_eq!(reason, FailureReason::Wedged);
    assert!(detail.contains("a request for one token got no answer within 0.3 s"), "{detail}");
    fixture.end().await;
}

#[tokio::test]
async fn a_server_whose_slots_move_on_is_not_wedged() {
    let a = server("a");
    let slots = [r#"[{"n_decoded":1}]"#, r#"[{"n_decoded":2}]"#];
    let fake = FakeServer::start(&[
        ("GET /health", Reaction::Say(200, "{}")),
        ("POST /completion", Reaction::Hang),
        ("GET /slots", Reaction::Say(200, slots[0])),
    ])
    .await;
    let process = FakeProcess::idle();
    let fixture = HealthFixture::one(&a, with_inference()).await;
    fixture.make_ready(&a, fake.port, &process).await;
    for round in 1..8 {
        fake.asked("GET /slots", 1).await;
        fake.set("GET /slots", Reaction::Say(200, slots[round % 2]));
    }
    assert_eq!((fixture.count("ReadyLost"), fixture.count("ServerFailed")), (0, 0));
    fixture.end().await;
}

#[tokio::test]
async fn a_sleeping_server_is_never_woken() {
    let a = server("a");
    let fake = FakeServer::start(&[
        ("GET /health", Reaction::Say(200, "{}")),
        ("GET /props", Reaction::Say(200, r#"{"is_sleeping":true}"#)),
    ])
    .await;
    let process = FakeProcess::idle();
    let fixture = HealthFixture::one(&a, with_inference()).await;
    fixture.make_ready(&a, fake.port, &process).await;
    fake.asked("GET /props", 4).await;
    for wakes in ["POST /completion", "GET /slots", "GET /metrics"] {
        assert_eq!(fake.times(wakes), 0, "{wakes}");
    }
    assert_eq!(fixture.count("ReadyLost"), 0);
    // Awake again, it is asked.
    fake.set("GET /props", Reaction::Say(200, r#"{"is_sleeping":false}"#));
    fake.asked("POST /completion", 1).await;
    fixture.end().await;
}

#[tokio::test]
async fn a_server_that_may_sleep_is_asked_whether_it_does_and_no_other() {
    let (a, b) = (server("a"), server("b"));
    let health = ("GET /health", Reaction::Say(200, "{}"));
    let (asleep, awake) = (r#"{"is_sleeping":true}"#, r#"{"is_sleeping":false}"#);
    let dozer = FakeServer::start(&[health, ("GET /props", Reaction::Say(200, asleep))]).await;
    let other = FakeServer::start(&[health, ("GET /props", Reaction::Say(200, asleep))]).await;
    let process = FakeProcess::idle();
    let mut may_sleep = spec(&a, terms());
    may_sleep.args = ["--sleep-idle-seconds", "60"].map(String::from).to_vec();
    let mut fixture = HealthFixture::of(TestBus::new(), vec![may_sleep, spec(&b, terms())]).await;
    fixture.raise();
    fixture.make_ready(&a, dozer.port, &process).await;
    fixture.make_ready(&b, other.port, &process).await;
    let sleeps = |id: &'static str, expected: bool| {
        fixture
            .bus
            .see(move |snapshot| snapshot.servers[id].health.is_some_and(|health| health.is_sleeping == expected))
    };
    let snapshot = sleeps("a", true).await;
    assert!(snapshot.servers["a"].is_ready(), "a request wakes it");
    dozer.set("GET /props", Reaction::Say(200, awake));
    sleeps("a", false).await;
    other.asked("GET /health", 3).await;
    assert_eq!(other.times("GET /props"), 0);
    sleeps("b", false).await;
    fixture.end().await;
}

#[tokio::test]
async fn a_server_of_which_nobody_knows_whether_it_sleeps_is_not_asked_for_tokens() {
    let a = server("a");
    let fake =
        FakeServer::start(&[("GET /health", Reaction::Say(200, "{}")), ("GET /props", Reaction::Say(401, "{}"))]).await;
    let process = FakeProcess::idle();
    let fixture = HealthFixture::one(&a, with_inference()).await;
    fixture.make_ready(&a, fake.port, &process).await;
    fake.asked("GET /props", 3).await;
    assert_eq!((fake.times("POST /completion"), fixture.count("ReadyLost")), (0, 0));
    fixture.end().await;
}

#[tokio::test]
async fn a_server_with_real_traffic_is_not_asked_for_tokens() {
    let a = server("a");
    let fake = FakeServer::start(&[("GET /health", Reaction::Say(200, "{}"))]).await;
    let process = FakeProcess::busy();
    // Long enough for a busy process to be seen as such, also on a loaded machine.
    let often = Duration::from_millis(400);
    let fixture = HealthFixture::one(&a, HealthSpec { interval: often, inference: Some(often), ..terms() }).await;
    fixture.make_ready(&a, fake.port, &process).await;
    // The first one has nothing to compare with.
    fake.asked("POST /completion", 1).await;
    fake.asked("GET /health", 4).await;
    assert_eq!(fake.times("POST /completion"), 1);
    fixture.end().await;
}

#[tokio::test]
async fn a_slow_server_delays_no_other() {
    let ids: Vec<ServerId> = (0..21).map(|number| server(&format!("s{number}"))).collect();
    let unhurried = HealthSpec { timeout: Duration::from_secs(30), ..terms() };
    let specs = ids.iter().map(|id| spec(id, unhurried.clone())).collect();
    let mut fixture = HealthFixture::of(TestBus::new(), specs).await;
    fixture.raise();
    let (good, slow) = (FakeServer::healthy().await, FakeServer::start(&[("GET /health", Reaction::Hang)]).await);
    let process = FakeProcess::idle();
    for id in &ids[1..] {
        fixture.make_ready(id, slow.port, &process).await;
    }
    slow.asked("GET /health", 1).await;
    fixture.make_ready(&ids[0], good.port, &process).await;
    let began = Instant::now();
    good.asked("GET /health", 10).await;
    assert!(began.elapsed() < Duration::from_secs(5), "ten looks took {:?}", began.elapsed());
    assert!(slow.times("GET /health") <= 20, "one look at a time each");
    fixture.end().await;
}

#[tokio::test]
async fn a_server_that_is_asked_to_stop_is_left_alone() {
    let (a, b) = (server("a"), server("b"));
    let mut fixture = HealthFixture::of(TestBus::new(), vec![spec(&a, terms()), spec(&b, terms())]).await;
    fixture.raise();
    let (first, second, process) = (FakeServer::healthy().await, FakeServer::healthy().await, FakeProcess::idle());
    fixture.make_ready(&a, first.port, &process).await;
    fixture.make_ready(&b, second.port, &process).await;
    first.asked("GET /health", 1).await;
    fixture.say(&a, Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 }).await;
    // The component reads events in order: once it checks b again, it has read the stop. A check may still be under way.
    second.asked("GET /health", 2).await;
    let before = first.times("GET /health");
    second.asked("GET /health", 4).await;
    assert!(first.times("GET /health") <= before + 1, "it was still looked at");
    fixture.end().await;
}

#[tokio::test]
async fn what_a_gap_swallowed_is_found_in_the_snapshot() {
    let (a, b) = (server("a"), server("b"));
    let mut fixture = HealthFixture::of(TestBus::keeping(2), vec![spec(&a, terms()), spec(&b, terms())]).await;
    let (first, second, process) = (FakeServer::healthy().await, FakeServer::healthy().await, FakeProcess::idle());
    // Before the component runs, and so many events at once that it cannot read each.
    fixture.make_ready(&a, first.port, &process).await;
    fixture.raise();
    let publisher = fixture.bus.publisher().clone();
    let events = [
        Event::LaunchBegan { binary: "x".into() },
        Event::ServerSpawned {
            pid: process.pid(),
            start_ticks: process.start_ticks(),
            argv: [].into(),
            port: second.port,
        },
        Event::ReadyReached { via: llama_warden_events::ReadyVia::Health, startup_seconds: 0.1 },
    ];
    for event in events {
        publisher.publish(EventDraft::incarnation(b.clone(), FIRST, event)).await.expect("open");
    }
    for _ in 0..8 {
        publisher.publish(EventDraft::daemon(Event::DaemonStopping { trigger: "noise".into() })).await.expect("open");
    }
    first.asked("GET /health", 2).await;
    second.asked("GET /health", 2).await;
    fixture.end().await;
}

#[tokio::test]
async fn changed_terms_take_effect_without_a_restart() {
    let a = server("a");
    let never = HealthSpec { interval: Duration::from_secs(3600), ..terms() };
    let (fake, process) = (FakeServer::healthy().await, FakeProcess::idle());
    let fixture = HealthFixture::one(&a, never).await;
    fixture.make_ready(&a, fake.port, &process).await;
    fixture.fleet.send_replace(Fleet::new([spec(&a, terms())]));
    fake.asked("GET /health", 3).await;
    fixture.end().await;
}
