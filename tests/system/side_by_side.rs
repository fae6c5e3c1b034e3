//! Several servers of one daemon do not delay each other.

use std::time::Duration;

use llama_warden_events::{Event, FailureReason};
use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase, TermScript};
use llama_warden_state::PhaseName;
use llama_warden_tests::{action_at, sample, sandbox};
use nix::sys::signal::Signal;
use tokio::time::Instant;

#[test]
fn one_server_that_fails_does_not_hold_up_the_others() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let fails = Script {
            actions: vec![action_at(ScriptPhase::Loading, ScriptAction::Exit { code: 1, last_words: None })],
            load_ms: 60_000,
            ..Script::default()
        };
        fleet
            .server("good", Script::default())
            .server("bad", fails)
            .server("slow", Script { load_ms: 700, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("good").await;
        daemon.ready("slow").await;
        let (reason, ..) = daemon.failure("bad").await;
        assert_eq!(reason, FailureReason::ExitedBeforeReady);
        daemon.exited("bad").await;
        let status = daemon.status().await;
        assert_eq!((status.total_servers, status.ready_servers, status.running_servers), (3, 2, 2));
        let phases: Vec<_> = status.servers.iter().map(|server| (server.model_id.as_str(), server.phase)).collect();
        assert_eq!(phases, [("bad", PhaseName::Failed), ("good", PhaseName::Ready), ("slow", PhaseName::Ready)]);
        let readyz = daemon.get("/readyz").await.expect(503);
        assert!(readyz.text().contains("bad") && !readyz.text().contains("good"), "{}", readyz.text());
        let metrics = daemon.metrics().await;
        for (server, ready) in [("good", 1.0), ("bad", 0.0), ("slow", 1.0)] {
            assert_eq!(sample(&metrics, "llama_warden_server_ready", &[("server", server)]), Some(ready), "{server}");
        }
    });
}

#[test]
fn servers_are_stopped_side_by_side() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let stubborn = || Script { term: TermScript::Ignore, ..Script::default() };
        for id in ["a", "b", "c"] {
            fleet.server_with(id, stubborn(), "stop = { grace = \"4s\" }");
        }
        let daemon = sandbox.up(&fleet).await;
        for id in ["a", "b", "c"] {
            daemon.ready(id).await;
        }
        let asked = Instant::now();
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        let took = asked.elapsed();
        assert!(took >= Duration::from_secs(4), "the grace was cut short: {took:?}");
        assert!(took < Duration::from_secs(10), "one grace each instead of one for all: {took:?}");
    });
}

#[test]
fn what_is_ready_is_counted_and_named() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        fleet.server_with("off", Script::default(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        let ready = daemon.ready("a").await;
        assert!(matches!(ready.event, Event::ReadyReached { .. }));
        daemon.get("/readyz").await.expect(200);
        let status = daemon.status().await;
        assert_eq!((status.total_servers, status.ready_servers), (2, 1));
        let off = daemon.report("off").await;
        assert_eq!((off.phase, off.pid, off.uptime_seconds), (PhaseName::Idle, None, 0));
    });
}
