//! The component on a real bus and with real sockets. The test acts as the launcher, the output and the server.
#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod fixture;

use fixture::*;
use std::path::Path;
use std::time::Duration;

use llama_warden_bus::{EventDraft, wall_time};
use llama_warden_component_kit::{TestBus, server};
use llama_warden_config::{Confirm, ReadinessSpec};
use llama_warden_detectors::{Matcher, PackSet, Verdict};
use llama_warden_events::{
    Event, FailureReason, Incarnation, ListenerOwner, ProcessEnd, ReadyVia, ServerId, Signal, StopReason, StreamName,
    Warning,
};

#[tokio::test]
async fn a_server_that_loads_and_says_so_is_ready_by_its_line() {
    let id = server("qwen");
    let fake = AnsweringServer::start(503, "qwen").await;
    let mut fixture = Fixture::one(&id).await;
    let mut stderr = fixture.launch(&id, FIRST, fake.port).await;
    let chosen = fixture.bus.wait_for(|event| matches!(event, Event::DetectorChosen { .. })).await;
    assert!(matches!(&chosen.event, Event::DetectorChosen { detector, .. } if &**detector == "llama-server-b11xxx"));
    assert!(chosen.cause.is_some());
    stderr.push(wall_time(), b"0.00.013.600 I srv    load_model: loading model '/models/tiny.gguf'");
    fixture.bus.wait_for(|event| matches!(event, Event::LoadProgressed { .. })).await;
    stderr.push(wall_time(), ready_line(fake.port).as_bytes());
    fake.answer(200);
    assert_eq!(fixture.via().await, ReadyVia::Stderr);
    let log = fixture.end().await;
    assert_eq!(log.matches("ReadyHinted").count(), 1, "{log}");
}

#[tokio::test]
async fn a_silent_server_is_found_by_the_probe_alone() {
    let id = server("qwen");
    let fake = AnsweringServer::start(503, MODEL).await;
    let mut fixture = Fixture::one(&id).await;
    let _stderr = fixture.launch(&id, FIRST, fake.port).await;
    fixture.bus.wait_for(|event| matches!(event, Event::LoadProgressed { ratio: None })).await;
    fake.answer(200);
    assert_eq!(fixture.via().await, ReadyVia::Health);
    fixture.end().await;
}

#[tokio::test]
async fn a_ready_line_that_came_before_the_component_knew_the_server_counts() {
    let id = server("qwen");
    let fake = AnsweringServer::start(200, "qwen").await;
    let mut fixture = Fixture::new(TestBus::new(), &[&id], readiness(), ListenerOwner::Own).await;
    // The component does not even run yet.
    fixture.open(&id, FIRST, StreamName::Stdout).push(wall_time(), ready_line(fake.port).as_bytes());
    fixture.publish(&id, Event::LaunchBegan { binary: "llama-server".into() }).await;
    fixture.publish(&id, identified()).await;
    fixture.publish(&id, spawned(fake.port)).await;
    fixture.run();
    assert_eq!(fixture.via().await, ReadyVia::Stdout);
    fixture.end().await;
}

#[tokio::test]
async fn a_line_without_an_answer_never_makes_a_server_ready() {
    let id = server("qwen");
    let short = ReadinessSpec { timeout: Duration::from_millis(400), ..readiness() };
    let mut fixture = Fixture::new(TestBus::new(), &[&id], short, ListenerOwner::Own).await;
    fixture.run();
    let fake = AnsweringServer::start(503, "qwen").await;
    let mut stderr = fixture.launch(&id, FIRST, fake.port).await;
    stderr.push(wall_time(), ready_line(fake.port).as_bytes());
    stderr.push(wall_time(), b"some last line");
    let (reason, detail, lines) = fixture.failure().await;
    assert_eq!((reason, lines.len()), (FailureReason::ReadyTimeout, 2), "{detail}");
    let log = fixture.end().await;
    assert!(!log.contains("ReadyReached"), "{log}");
}

#[tokio::test]
async fn a_stranger_on_the_port_is_port_in_use() {
    let id = server("qwen");
    let fake = AnsweringServer::start(200, "qwen").await;
    let stranger = ListenerOwner::Foreign { pid: Some(4), program: Some("nginx".into()) };
    let mut fixture = Fixture::new(TestBus::new(), &[&id], readiness(), stranger).await;
    fixture.run();
    let _stderr = fixture.launch(&id, FIRST, fake.port).await;
    let (reason, detail, _) = fixture.failure().await;
    assert_eq!(reason, FailureReason::PortInUse);
    assert!(detail.contains("`nginx` (pid 4)"), "{detail}");
    fixture.end().await;
}

#[tokio::test]
async fn another_model_is_an_identity_mismatch() {
    let id = server("qwen");
    let fake = AnsweringServer::start(200, "other").await;
    let mut fixture = Fixture::one(&id).await;
    let _stderr = fixture.launch(&id, FIRST, fake.port).await;
    assert_eq!(fixture.failure().await.0, FailureReason::IdentityMismatch);
    fixture.end().await;
}

/// Builds without --alias call it by the name of the file, which only they know.
#[tokio::test]
async fn a_model_that_was_downloaded_may_be_called_as_the_server_likes() {
    let id = server("hub");
    let fake = AnsweringServer::start(200, "models/repo-q4.gguf").await;
    let mut fixture = Fixture::one(&id).await;
    let _stderr = fixture.launch(&id, FIRST, fake.port).await;
    assert_eq!(fixture.via().await, ReadyVia::Health);
    fixture.end().await;
}

#[tokio::test]
async fn a_server_that_ends_while_it_loads_fails_for_the_reason_that_it_wrote() {
    let id = server("qwen");
    let mut fixture = Fixture::one(&id).await;
    let mut stderr = fixture.launch(&id, FIRST, 1).await;
    stderr
        .push(wall_time(), b"0.00.067.740 E gguf_init_from_reader: invalid magic characters: 'GGML', expected 'GGUF'");
    stderr.push(wall_time(), b"0.00.068.353 E srv    load_model: failed to load model, '/models/tiny.gguf'");
    fixture.exit(&id, ProcessEnd::Exited { code: 1 }).await;
    let (reason, detail, lines) = fixture.failure().await;
    assert_eq!((reason, lines.len()), (FailureReason::ModelInvalid, 2));
    assert!(detail.contains("invalid magic characters") && detail.contains("exit code 1"), "{detail}");
    fixture.end().await;
}

/// Fault C12.
#[tokio::test]
async fn ready_then_a_crash_are_two_events_in_order() {
    let id = server("qwen");
    let fake = AnsweringServer::start(200, "qwen").await;
    let mut fixture = Fixture::one(&id).await;
    let _stderr = fixture.launch(&id, FIRST, fake.port).await;
    fixture.via().await;
    fixture.exit(&id, ProcessEnd::Signaled { signal: Signal::ABRT, core_dumped: false }).await;
    assert_eq!(fixture.failure().await.0, FailureReason::Crashed);
    let log = fixture.end().await;
    assert_eq!((log.matches("ReadyReached").count(), log.matches("ServerFailed").count()), (1, 1), "{log}");
}

#[tokio::test]
async fn an_end_that_was_asked_for_is_no_failure_whenever_it_was_asked() {
    // Before the process exists, while it loads, and when it is ready.
    for when in 0..3 {
        let id = server("qwen");
        let fake = AnsweringServer::start(if when == 2 { 200 } else { 503 }, "qwen").await;
        let mut fixture = Fixture::one(&id).await;
        if when == 0 {
            fixture.publish(&id, Event::LaunchBegan { binary: "llama-server".into() }).await;
            fixture.publish(&id, stopped()).await;
            fixture.publish(&id, spawned(fake.port)).await;
        } else {
            fixture.launch(&id, FIRST, fake.port).await;
            let reached = if when == 1 { "LoadProgressed" } else { "ReadyReached" };
            fixture.bus.wait_for(|event| event.kind() == reached).await;
            fixture.publish(&id, stopped()).await;
        }
        fixture.exit(&id, ProcessEnd::Signaled { signal: Signal::TERM, core_dumped: false }).await;
        // The next launch is watched as if nothing had been.
        fake.answer(200);
        fixture.launch(&id, Incarnation::new(2), fake.port).await;
        fixture.bus.see(|snapshot| snapshot.ready_servers() == 1).await;
        let log = fixture.end().await;
        assert!(!log.contains("ServerFailed"), "{log}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_delays_no_other() {
    let (slow, quick) = (server("slow"), server("quick"));
    let hanging = AnsweringServer::start(0, "slow").await;
    let fake = AnsweringServer::start(200, "quick").await;
    let mut fixture = Fixture::new(TestBus::new(), &[&slow, &quick], readiness(), ListenerOwner::Own).await;
    fixture.run();
    let _slow = fixture.launch(&slow, FIRST, hanging.port).await;
    let _quick = fixture.launch(&quick, FIRST, fake.port).await;
    let ready = fixture.bus.wait_for(|event| matches!(event, Event::ReadyReached { .. })).await;
    assert_eq!(ready.server, Some(quick));
    let Event::ReadyReached { startup_seconds, .. } = ready.event else { panic!("{ready:?}") };
    assert!(startup_seconds < 1.0, "{startup_seconds} s, the time limit of a probe being 2 s");
    fixture.end().await;
}

#[tokio::test]
async fn a_component_that_comes_late_knows_what_is_ready_and_what_is_not() {
    let (old, new) = (server("old"), server("new"));
    let fake = AnsweringServer::start(200, "new").await;
    let mut fixture = Fixture::new(TestBus::new(), &[&old, &new], readiness(), ListenerOwner::Own).await;
    let _old = fixture.launch(&old, FIRST, 1).await;
    let ready = Event::ReadyReached { via: ReadyVia::Adopted, startup_seconds: 0.0 };
    publish(fixture.bus.publisher(), &old, FIRST, ready).await;
    let _new = fixture.launch(&new, FIRST, fake.port).await;
    fixture.run();
    fixture.bus.see(|snapshot| snapshot.ready_servers() == 2).await;
    fixture.exit(&old, ProcessEnd::Exited { code: 0 }).await;
    assert_eq!(fixture.failure().await.0, FailureReason::Ended);
    fixture.end().await;
}

#[tokio::test]
async fn events_that_were_missed_are_made_up_for() {
    let [gone, new, unseen, served, stopped] = ["gone", "new", "unseen", "served", "stopped"].map(server);
    let fake = AnsweringServer::start(200, "new").await;
    let bus = TestBus::keeping(4);
    let all = [&gone, &new, &unseen, &served, &stopped];
    let mut fixture = Fixture::new(bus, &all, readiness(), ListenerOwner::Own).await;
    fixture.run();
    let _gone = fixture.launch(&gone, FIRST, 1).await;
    // Without a pause in between: the sequencer takes them all before the component gets to read one.
    let exited = |code| Event::ServerExited { end: ProcessEnd::Exited { code }, swept: 0 };
    let launched = || Event::LaunchBegan { binary: "llama-server".into() };
    let ready = Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 0.0 };
    let stop = Event::StopBegan { reason: StopReason::Requested, grace_seconds: 1.0 };
    let noise = Event::ServerWarned { warning: Warning::OptionDropped, detail: String::new() };
    let lives = [
        (&gone, vec![exited(1)]),
        (&unseen, vec![launched(), spawned(1), exited(1)]),
        (&served, vec![launched(), spawned(1), ready, exited(0)]),
        (&stopped, vec![launched(), spawned(1), stop, exited(0)]),
        (&new, vec![launched(), spawned(fake.port)]),
    ];
    let of = |(id, life): (&ServerId, Vec<Event>)| {
        life.into_iter().map(|event| EventDraft::incarnation(id.clone(), FIRST, event)).collect::<Vec<_>>()
    };
    let mut events: Vec<EventDraft> = lives.into_iter().flat_map(of).collect();
    events.extend(std::iter::repeat_n(EventDraft::incarnation(new.clone(), FIRST, noise), 30));
    for event in events {
        fixture.bus.publisher().publish(event).await.expect("the bus is open");
    }
    let seen = fixture.bus.see(|snapshot| {
        let failures = snapshot.servers.values().filter(|record| record.failure.is_some());
        snapshot.ready_servers() == 1 && failures.count() == 3
    });
    let seen = seen.await;
    let reason = |id| seen.servers[id].failure.as_ref().map(|failure| failure.reason);
    assert_eq!([&gone, &unseen].map(reason), [Some(FailureReason::ExitedBeforeReady); 2]);
    assert_eq!([&served, &stopped].map(reason), [Some(FailureReason::Ended), None]);
    assert!(fixture.bus.bus().gaps().contains_key("readiness"), "no gap was provoked");
    fixture.end().await;
}

#[tokio::test]
async fn a_build_without_a_health_path_is_ready_by_its_line() {
    let id = server("qwen");
    let fake = AnsweringServer::start(404, "qwen").await;
    let forced = ReadinessSpec { detector: Some("llama-server-2023-12".into()), ..readiness() };
    let mut fixture = Fixture::new(TestBus::new(), &[&id], forced, ListenerOwner::Own).await;
    fixture.run();
    let mut stderr = fixture.launch(&id, FIRST, fake.port).await;
    stderr.push(wall_time(), format!("llama server listening at http://127.0.0.1:{}", fake.port).as_bytes());
    assert_eq!(fixture.via().await, ReadyVia::Stderr);
    fixture.end().await;
}

#[tokio::test]
async fn a_pack_of_the_users_own_is_followed() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let text = "name = 'mine'\nbuilds = { min = 11669 }\nprobe = 'none'\n[[pattern]]\nverdict = 'ready'\nregex = '^up (?P<port>\\d+)$'\n[[pattern]]\nverdict = 'progress'\nregex = '^at (?P<percent>\\d+)'";
    std::fs::write(Path::new(directory.path()).join("mine.toml"), text).expect("writes");
    let packs = PackSet::load(directory.path()).expect("loads");
    let id = server("qwen");
    let mut fixture = Fixture::with_packs(TestBus::new(), &[&id], readiness(), ListenerOwner::Own, packs).await;
    fixture.run();
    let mut stderr = fixture.launch(&id, FIRST, 4711).await;
    stderr.push(wall_time(), b"at 50");
    fixture.bus.wait_for(|event| *event == Event::LoadProgressed { ratio: Some(0.5) }).await;
    stderr.push(wall_time(), b"up 4712");
    stderr.push(wall_time(), b"up 4711");
    assert_eq!(fixture.via().await, ReadyVia::Stderr);
    let log = fixture.end().await;
    assert!(!log.contains("up 4712") && log.contains("detector: \"mine\""), "{log}");
}

#[tokio::test]
async fn a_matcher_of_ones_own_is_asked_instead_of_the_pack() {
    struct Horn;

    impl Matcher for Horn {
        fn on_line(&mut self, _: StreamName, line: &[u8]) -> Verdict {
            if line == b"toot" { Verdict::Ready } else { Verdict::Nothing }
        }
    }

    let id = server("qwen");
    let trusting = ReadinessSpec { confirm: Confirm::None, ..readiness() };
    let mut fixture = Fixture::new(TestBus::new(), &[&id], trusting, ListenerOwner::Own).await;
    fixture.component =
        fixture.component.map(|component| component.with_matchers(Box::new(|_, _| Some(Box::new(Horn)))));
    fixture.run();
    let mut stderr = fixture.launch(&id, FIRST, 1).await;
    stderr.push(wall_time(), b"toot");
    assert_eq!(fixture.via().await, ReadyVia::Stderr);
    fixture.end().await;
}
