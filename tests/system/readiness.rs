//! When a server counts as ready.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use llama_warden_events::{Event, FailureReason, ReadyVia};
use llama_warden_stand_in::{
    HealthScript, LineStyle, LoadProgress, ReadyLine, ScheduledAction, Script, ScriptAction, ScriptPhase, Stream,
};
use llama_warden_state::PhaseName;
use llama_warden_tests::{TestDaemon, WAIT_LIMIT, eventually, sandbox};

const FAIL_SOON: &str = "readiness = { timeout = \"2s\", on-timeout = \"fail\" }";

async fn assert_failed(daemon: &TestDaemon, id: &str, expected: FailureReason) {
    let (reason, detail, _) = daemon.failure(id).await;
    assert_eq!(reason, expected, "{id}: {detail}");
    daemon.exited(id).await;
    assert_eq!(daemon.count(id, "ReadyReached").await, 0, "{id}");
    let report = daemon.report(id).await;
    assert_eq!((report.phase, report.pid), (PhaseName::Failed, None), "{id}");
}

/// Faults C6 and C8.
#[test]
fn a_server_without_a_sign_of_life_is_stalled() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let keys = "readiness = { timeout = \"60s\", on-timeout = \"fail\", stall-timeout = \"1s\" }";
        let mute = Script { silent: true, ready_line: ReadyLine::Never, ..Script::default() };
        fleet.server_with("unbound", Script { never_bind: true, ..mute.clone() }, keys);
        fleet.server_with(
            "busy",
            Script { health: HealthScript::Status(503), load_progress: LoadProgress::None, ..mute },
            keys,
        );
        let daemon = sandbox.up(&fleet).await;
        for id in ["unbound", "busy"] {
            assert_failed(&daemon, id, FailureReason::Stalled).await;
        }
    });
}

/// Fault C6.
#[test]
fn a_stalled_server_is_stopped_and_started_again_by_the_policy() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"20ms\"\nmax-delay = \"50ms\"\nmax-attempts = 5");
        let keys = "readiness = { timeout = \"60s\", on-timeout = \"fail\", stall-timeout = \"1s\" }";
        let mute = Script { silent: true, ready_line: ReadyLine::Never, never_bind: true, ..Script::default() };
        fleet.server_with("a", mute, keys);
        let daemon = sandbox.up(&fleet).await;
        let (reason, ..) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::Stalled);
        fleet.rewrite("a", &Script::default());
        daemon.ready("a").await;
        let events = daemon.events_of("a").await;
        let at = |kind: &str| events.iter().position(|event| event.event.kind() == kind);
        let order = ["ServerFailed", "StopBegan", "ServerExited", "RestartScheduled", "ReadyReached"].map(at);
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
    });
}

/// Fault C6: a progress bar, and the dots of mid 2024, complete no line.
#[test]
fn bytes_without_a_line_end_are_a_sign_of_life() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let keys = "readiness = { timeout = \"60s\", on-timeout = \"fail\", stall-timeout = \"1500ms\" }";
        for (id, bytes) in [("bar", "\r 10 %"), ("dots", ".")] {
            let writes = |step: u64| ScheduledAction {
                at: ScriptPhase::Loading,
                after_ms: if step == 0 { 0 } else { 500 },
                action: ScriptAction::Bytes { bytes: bytes.as_bytes().to_vec(), stream: Stream::Stderr },
            };
            let script = Script {
                silent: true,
                load_ms: 4_000,
                never_bind: false,
                health: HealthScript::Status(503),
                load_progress: LoadProgress::None,
                ready_line: ReadyLine::Never,
                actions: (0..8).map(writes).collect(),
                ..Script::default()
            };
            fleet.server_with(id, script, keys);
        }
        let daemon = sandbox.up(&fleet).await;
        for id in ["bar", "dots"] {
            let failed = daemon.event("it is silent in the end", |event| {
                event.server.as_ref().is_some_and(|server| server.as_str() == id)
                    && event.event.kind() == "ServerFailed"
            });
            let (failed, spawned) = (
                failed.await,
                daemon
                    .event("it runs", |event| {
                        event.server.as_ref().is_some_and(|server| server.as_str() == id)
                            && event.event.kind() == "ServerSpawned"
                    })
                    .await,
            );
            // Eight writes, 500 ms apart, put the stall off.
            assert!(failed.elapsed.since(spawned.elapsed).as_millis() > 4000, "{id}: {failed:?}");
        }
    });
}

/// Fault C7.
#[test]
fn a_server_that_answers_503_is_never_assumed_ready() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let loads = || Script {
            health: HealthScript::Status(503),
            load_ms: 60_000,
            load_progress: LoadProgress::Lines,
            ready_line: ReadyLine::Never,
            ..Script::default()
        };
        fleet.server_with("unhurried", loads(), "readiness = { timeout = \"1s\" }");
        fleet.server_with("strict", loads(), FAIL_SOON);
        let daemon = sandbox.up(&fleet).await;
        let warned = daemon.event(
            "unhurried is warned of",
            |event| matches!(&event.event, Event::ServerWarned { warning, .. } if warning.as_str() == "loading-past-cap"),
        );
        assert_eq!(warned.await.server.expect("of a server").as_str(), "unhurried");
        assert_failed(&daemon, "strict", FailureReason::ReadyTimeout).await;
        assert_eq!(daemon.report("unhurried").await.phase, PhaseName::Loading);
        assert_eq!(daemon.count("unhurried", "ReadyReached").await, 0);
        assert_eq!(daemon.count("unhurried", "ServerFailed").await, 0);
    });
}

/// Fault C9, after ready.
#[test]
fn a_server_is_not_killed_for_a_503_after_it_was_ready() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let spoken = ScheduledAction {
            at: ScriptPhase::Ready,
            after_ms: 5000,
            action: ScriptAction::Say { text: "still here".into(), stream: Stream::Stderr },
        };
        let health = HealthScript::Flap(vec![(0, 200), (3000, 503), (3400, 200), (3800, 503)]);
        fleet.server_with(
            "a",
            Script { health, actions: vec![spoken], ..Script::default() },
            "health = { interval = \"100ms\", failures = 1000 }",
        );
        let health = HealthScript::Flap(vec![(0, 200), (3000, 503)]);
        fleet.server_with(
            "lost",
            Script { health, ..Script::default() },
            "health = { interval = \"100ms\", failures = 2 }",
        );
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let pid = daemon.report("a").await.pid;
        daemon.event("readiness is lost", |event| matches!(event.event, Event::ReadyLost { .. })).await;
        let lost = daemon.report("lost").await;
        assert_eq!((lost.phase, lost.is_ready, lost.is_running), (PhaseName::Unready, false, true));
        eventually("it speaks", WAIT_LIMIT, async || daemon.output("a").await.contains("still here")).await;
        let report = daemon.report("a").await;
        assert_eq!((report.pid, report.is_running, report.incarnation.get()), (pid, true, 1));
        for id in ["a", "lost"] {
            assert_eq!(daemon.count(id, "SignalDelivered").await, 0, "{id}");
            assert_eq!(daemon.count(id, "ServerFailed").await, 0, "{id}");
        }
    });
}

/// Fault C9, before ready: a single 200 is enough, even if a 503 follows it.
#[test]
fn a_health_endpoint_that_flaps_while_starting_ends_in_ready() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let health = HealthScript::Flap(vec![(0, 503), (300, 200), (310, 503), (700, 200)]);
        fleet.server("a", Script { health, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        assert_eq!(daemon.count("a", "ReadyReached").await, 1);
    });
}

/// Fault C10.
#[test]
fn a_ready_line_of_a_server_that_does_not_serve_proves_nothing() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("strict", Script { never_bind: true, ..Script::default() }, FAIL_SOON);
        // Nothing listens on its port, so that it is not assumed ready either.
        let assuming = "readiness = { timeout = \"2s\" }";
        fleet.server_with("assuming", Script { never_bind: true, silent: true, ..Script::default() }, assuming);
        fleet.server_with("talking", Script { never_bind: true, ..Script::default() }, assuming);
        let early = Script { load_ms: 2000, ready_line: ReadyLine::Early, ..Script::default() };
        fleet.server("early", early);
        let daemon = sandbox.up(&fleet).await;
        // Progress before a ready line does not prove that the server still loads.
        for id in ["strict", "assuming", "talking"] {
            assert_failed(&daemon, id, FailureReason::ReadyTimeout).await;
        }
        for id in ["strict", "talking"] {
            assert!(daemon.count(id, "ReadyHinted").await >= 1, "{id}: the line was seen");
            assert_eq!(daemon.count(id, "ReadyReached").await, 0, "{id}");
        }
        match daemon.ready("early").await.event {
            Event::ReadyReached { startup_seconds, .. } => assert!(startup_seconds >= 1.0, "{startup_seconds}"),
            _ => unreachable!("a ready was waited for"),
        }
    });
}

/// Fault C11.
#[test]
fn a_server_becomes_ready_once_however_often_it_says_so() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("twice", Script { ready_line: ReadyLine::Twice, ..Script::default() });
        let again = Script { ready_line: ReadyLine::AgainWhenStopping, ..Script::default() };
        fleet.server("again", again);
        let daemon = sandbox.up(&fleet).await;
        for id in ["twice", "again"] {
            daemon.ready(id).await;
            daemon.command(id, "stop?wait=50s").await.expect(200);
            assert_eq!(daemon.count(id, "ReadyReached").await, 1, "{id}");
            assert_eq!(daemon.report(id).await.phase, PhaseName::Exited, "{id}");
        }
        daemon.command("again", "start?wait=50s").await.expect(200);
        let events = daemon.events_of("again").await;
        let ready: Vec<_> = events
            .iter()
            .filter(|event| event.event.kind() == "ReadyReached")
            .map(|event| event.incarnation.unwrap().get())
            .collect();
        assert_eq!(ready, [1, 2], "each launch has its own");
    });
}

/// Fault C13. `/health` turns 200 a second after the line, so that the line is seen first.
#[test]
fn the_ready_line_is_recognised_however_it_is_written() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let dresses = [
            ("plain", LineStyle::Plain),
            ("bytes", LineStyle::Bytes),
            ("ansi", LineStyle::Ansi),
            ("crlf", LineStyle::CarriageReturn),
            ("nul", LineStyle::Nul),
            ("not-utf8", LineStyle::NotUtf8),
        ];
        for (id, ready_style) in dresses {
            let health = HealthScript::Flap(vec![(0, 503), (1000, 200)]);
            fleet.server(id, Script { ready_style, health, ..Script::default() });
        }
        let daemon = sandbox.up(&fleet).await;
        for (id, _) in dresses {
            match daemon.ready(id).await.event {
                Event::ReadyReached { via, .. } => assert_eq!(via, ReadyVia::Stderr, "{id}"),
                _ => unreachable!("a ready was waited for"),
            }
            let port = fleet.port(id).to_string();
            let events = daemon.events_of(id).await;
            let seen = events
                .iter()
                .any(|event| matches!(&event.event, Event::ReadyHinted { line, .. } if line.contains(&port)));
            assert!(seen, "{id}: no hint names the port");
        }
    });
}

/// Fault C34.
#[test]
fn an_endpoint_that_misbehaves_holds_up_its_own_server_only() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let ways = [
            ("hang", HealthScript::Hang),
            ("trickle", HealthScript::Trickle),
            ("endless", HealthScript::EndlessBody),
            ("header", HealthScript::HugeHeader(10)),
            ("redirect", HealthScript::Redirect("http://127.0.0.1:1/health".into())),
            ("error", HealthScript::Status(500)),
        ];
        let keys = "readiness = { timeout = \"4s\", on-timeout = \"fail\" }";
        for (id, health) in &ways {
            fleet.server_with(id, Script { health: health.clone(), ..Script::default() }, keys);
        }
        fleet.server("good", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("good").await;
        let before = daemon.resident_bytes();
        for (id, _) in &ways {
            let (reason, detail, _) = daemon.failure(id).await;
            // The endless body begins with a 200, and still does not count as an answer.
            assert_eq!(reason, FailureReason::ReadyTimeout, "{id}: {detail}");
            assert_eq!(daemon.count(id, "ReadyReached").await, 0, "{id}");
        }
        let grown = daemon.resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "bodies and headers are bounded, yet memory grew by {grown} bytes");
        assert!(daemon.report("good").await.is_ready);
    });
}

/// A probe that is answered after 900 ms counts.
#[test]
fn a_slow_health_endpoint_becomes_ready() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script { health: HealthScript::Delay(900), ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        // The first probe begins after the spawn and takes 900 ms.
        assert!(daemon.report("a").await.startup_seconds.expect("it is ready") >= 0.9);
    });
}

/// Without a ready line, the probe alone proves that a server is ready.
#[test]
fn readiness_needs_no_lines() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("disabled", Script::default(), "flags = { log-disable = true }");
        fleet.server("mute", Script { silent: true, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        for id in ["disabled", "mute"] {
            match daemon.ready(id).await.event {
                Event::ReadyReached { via, .. } => assert_eq!(via, ReadyVia::Health, "{id}"),
                _ => unreachable!("a ready was waited for"),
            }
        }
    });
}
