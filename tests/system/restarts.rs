//! Restarts by the restart policy.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use llama_warden_events::{Event, FailureReason};
use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase};
use llama_warden_state::PhaseName;
use llama_warden_tests::{Sandbox, action_at, sample, sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A fleet with short restart delays.
fn fast_restarts(sandbox: &Sandbox) -> llama_warden_tests::TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.section("[restart]\ninitial-delay = \"20ms\"\nmax-delay = \"50ms\"\nmax-attempts = 5");
    fleet
}

/// Fault C35: a SIGKILL from outside counts as a crash, and the policy applies.
#[test]
fn a_killed_server_comes_back() {
    sandbox(async |sandbox| {
        let mut fleet = fast_restarts(sandbox);
        fleet.server("a", Script::default()).server("b", Script::default());
        let daemon = sandbox.up(&fleet).await;
        let ready = daemon.ready("a").await;
        daemon.ready("b").await;
        let (pid, other) = (daemon.report("a").await.pid.expect("it runs"), daemon.report("b").await.pid);
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
        let again = |event: &llama_warden_events::Envelope| {
            event.server == ready.server && matches!(event.event, Event::ReadyReached { .. })
        };
        daemon.event_after(ready.seq, "it is ready again", again).await;
        let report = daemon.report("a").await;
        assert_eq!((report.restarts, report.phase, report.is_ready), (1, PhaseName::Ready, true));
        assert_ne!(report.pid, Some(pid));
        assert_eq!(report.last_failure.map(|failure| failure.reason), Some(FailureReason::Crashed));
        let restarts = [("server", "a"), ("reason", "crashed")];
        assert_eq!(sample(&daemon.metrics().await, "llama_warden_server_restarts_total", &restarts), Some(1.0));
        assert_eq!(daemon.report("b").await.pid, other);
    });
}

/// Fault C53: TERM and INT from outside end a server with 0.
#[test]
fn a_ready_server_that_ends_with_0_comes_back_and_nobody_is_said_to_have_crashed() {
    sandbox(async |sandbox| {
        let mut fleet = fast_restarts(sandbox);
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        let mut ready = daemon.ready("a").await;
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let pid = daemon.report("a").await.pid.expect("it runs");
            kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
            let again = |event: &llama_warden_events::Envelope| matches!(event.event, Event::ReadyReached { .. });
            ready = daemon.event_after(ready.seq, "it is ready again", again).await;
            let report = daemon.report("a").await;
            let failure = report.last_failure.expect("it ended");
            assert_eq!((failure.reason, &*failure.detail), (FailureReason::Ended, "ended by itself with exit code 0"));
            assert_eq!(report.note.as_deref(), Some("started again after it ended by itself with exit code 0"));
        }
        let metrics = daemon.metrics().await;
        let ended = [("server", "a"), ("outcome", "ended")];
        assert_eq!(sample(&metrics, "llama_warden_server_exits_total", &ended), Some(2.0));
        let restarts = [("server", "a"), ("reason", "ended")];
        assert_eq!(sample(&metrics, "llama_warden_server_restarts_total", &restarts), Some(2.0));
        daemon.command("a", "stop?wait=50s").await.expect(200);
        assert_eq!(daemon.report("a").await.note.as_deref(), Some("stopped by hand"));
    });
}

/// Fault C23: the server fails as unresponsive, is stopped by TERM and CONT, and is restarted although it exits with 0.
#[test]
fn a_stopped_server_is_found_and_comes_back() {
    sandbox(async |sandbox| {
        let mut fleet = fast_restarts(sandbox);
        fleet.section("[health]\ninterval = \"200ms\"\ntimeout = \"200ms\"\nfailures = 2");
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        let ready = daemon.ready("a").await;
        let pid = daemon.report("a").await.pid.expect("it runs");
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGSTOP).unwrap();
        let again = |event: &llama_warden_events::Envelope| matches!(event.event, Event::ReadyReached { .. });
        daemon.event_after(ready.seq, "it is ready again", again).await;
        let report = daemon.report("a").await;
        assert_eq!(report.last_failure.map(|failure| failure.reason), Some(FailureReason::Unresponsive));
        assert_eq!((report.restarts, report.is_ready), (1, true));
        assert_ne!(report.pid, Some(pid));
    });
}

/// Fault C40.
#[test]
fn a_crash_loop_is_given_up_and_says_why_until_a_person_starts_it() {
    sandbox(async |sandbox| {
        let mut fleet = fast_restarts(sandbox);
        let crash = action_at(ScriptPhase::Loading, ScriptAction::Exit { code: 7, last_words: None });
        fleet.server("a", Script { load_ms: 60_000, actions: vec![crash], ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        let abandoned =
            daemon.event("it is given up", |event| matches!(event.event, Event::RestartAbandoned { .. })).await;
        assert!(
            matches!(&abandoned.event, Event::RestartAbandoned { attempts: 6, because } if because.contains("max-attempts is 5"))
        );
        let report = daemon.report("a").await;
        assert_eq!((report.phase, report.restarts), (PhaseName::Failed, 5));
        assert!(report.restart_abandoned.is_some_and(|why| why.contains("6 consecutive failures")));
        let reason = report.last_failure.expect("it failed").reason.as_str();
        let metrics = daemon.metrics().await;
        let labels = [("server", "a"), ("reason", reason)];
        assert_eq!(sample(&metrics, "llama_warden_server_restarts_abandoned_total", &labels), Some(1.0), "{metrics}");
        assert_eq!(sample(&metrics, "llama_warden_server_launches_total", &labels[..1]), Some(6.0));
        let shown = sandbox.run(daemon.config(), ["status"]).await.expect(0).stdout;
        assert!(shown.contains("given up: 6 consecutive failures"), "{shown}");
        fleet.rewrite("a", &Script::default());
        daemon.command("a", "start?wait=50s").await.expect(200);
        let report = daemon.report("a").await;
        assert_eq!((report.phase, report.restart_abandoned), (PhaseName::Ready, None));
    });
}

/// Fault C40.
/// The next daemon continues the count of failures.
#[test]
fn a_crash_loop_survives_a_restart_of_the_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = fast_restarts(sandbox);
        let crash = action_at(ScriptPhase::Loading, ScriptAction::Exit { code: 7, last_words: None });
        fleet.server("a", Script { load_ms: 60_000, actions: vec![crash], ..Script::default() });
        for launches in [6, 1] {
            let daemon = sandbox.up(&fleet).await;
            daemon.event("it is given up", |event| matches!(event.event, Event::RestartAbandoned { .. })).await;
            assert_eq!(daemon.count("a", "LaunchBegan").await, launches);
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.exit_code().await, 0);
        }
    });
}

/// Fault C37: another listener stands for a port that is released late.
#[test]
fn a_restart_waits_for_a_port_that_is_released_late() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"100ms\"\nmax-delay = \"200ms\"\nmax-attempts = 100");
        fleet.server("a", Script::default());
        let port = fleet.port("a");
        let daemon = sandbox.up(&fleet).await;
        let ready = daemon.ready("a").await;
        daemon.command("a", "stop?wait=30s").await.expect(200);
        let late = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("it is free");
        daemon.command("a", "start").await.expect(202);
        let refused = |event: &llama_warden_events::Envelope| {
            matches!(event.event, Event::ServerFailed { reason: FailureReason::PortInUse, .. })
        };
        let first = daemon.event("the port is found taken", refused).await;
        daemon.event_after(first.seq, "it is tried again", refused).await;
        drop(late);
        let again = |event: &llama_warden_events::Envelope| matches!(event.event, Event::ReadyReached { .. });
        daemon.event_after(ready.seq, "it is ready again", again).await;
        let report = daemon.report("a").await;
        assert!(report.is_ready && report.restart_abandoned.is_none(), "{report:?}");
    });
}
